"""One person's voice out of a recording, chosen by a photo of the face, through the served ensemble `facefilter`.

    with SpeechSeparator() as separator:
        separator.separate("talk.wav", "anna.jpg").save("voice.wav")  # held in memory
        separator.separate_file("evening.mp4", "voice.wav")           # hours, in flat memory
        for block in separator.separate_stream(microphone, "anna.jpg", sample_rate_hz=16_000, live=True):
            play(block.speech)
        separator.enroll("anna.jpg").save("anna.identity")            # in place of the photo from now on

`clients.separator_aio` has the same for asyncio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.client import ServedClient
from clients.contract import ServedModel
from clients.media.picture import Picture
from clients.media.sound import Samples, open_sound
from clients.outputs import lack_of_room_explained, require_places, staging_in
from clients.separation.files import PLOT, VIDEO, VOICE, FileJob, Tell, Wanted, moved, tell_nobody
from clients.separation.identity import FaceIdentity, probe_picture
from clients.separation.job import Job, MemoryJob, Recording, Speaker, SpeakerChoice, model_of
from clients.separation.live import Blocks, live_stream
from clients.separation.result import SeparatedFile, SeparatedSpeech, SeparatedVoice
from clients.separation.served import FACE_NETWORK, OUTPUTS, SeparationModel, separation_model
from clients.separation.speaker import Portrait, Source, find_faces, find_portrait
from clients.separation.stream import SpeechBlock, VoiceStream
from clients.transport.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, IN_FLIGHT
from clients.transport.options import SHARED_MEMORY, require_in_flight
from clients.transport.shared_regions import SharedMemory
from clients.transport.tls import Tls

__all__ = [
    "FaceIdentity",
    "Portrait",
    "SeparatedFile",
    "SeparatedSpeech",
    "SeparatedVoice",
    "SpeechBlock",
    "SpeechSeparator",
    "Wanted",
    "find_faces",
]


class SpeechSeparator(ServedClient):
    """Client of the served FaceFilter; one may be used by several threads at once.

    Args:
        url: where the server is, or several that serve the same; see `clients.transport.connection.Connection`.
        timeout_s: the most that one request (up to eight seconds of sound) may take.
        in_flight: most requests of one recording on the way at once.
        tls: certificates.
        shared_memory: whether tensors go to a server on this machine through shared memory.
    """

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        in_flight: int = IN_FLIGHT,
        tls: Tls | None = None,
        shared_memory: SharedMemory = SHARED_MEMORY,
    ) -> None:
        super().__init__(url, timeout_s=timeout_s, tls=tls, shared_memory=shared_memory)
        require_in_flight(in_flight)
        self._in_flight = in_flight

    def check(self, identity: FaceIdentity | None = None) -> ServedModel:
        """See that the server answers, is ready, and serves what this client needs.

        Args:
            identity: see too that it is of the served face network.

        Raises:
            ServerUnavailable, ContractMismatch, Timeout: it does not.
        """
        return self._model(identity).served

    def separate(
        self,
        mixture: Source,
        face: Source | Portrait | None = None,
        *,
        identity: FaceIdentity | None = None,
        sample_rate_hz: int | None = None,
        face_index: int | None = None,
        face_crop: bool = False,
    ) -> SeparatedSpeech:
        """Separate the voice of the person whose face is given, and hold it in memory.

        Args:
            mixture: recording or video, up to 30 minutes; or an array (N,) or (N, channels) with its `sample_rate_hz`.
            face: photo or video, or RGB array (H, W, 3), or one of `find_faces`. May be left out when the mixture is a
                video.
            identity: of an enrolled face, in place of `face`.
            sample_rate_hz: of an array.
            face_index: which face, where there are several, from left to right, counted from 0.
            face_crop: the photo is cut to the face already and is only resized.

        Returns:
            the voice, at the length and rate of the recording; what it holds above 8 kHz is lost.

        Raises:
            BadInput: a recording or photo that nothing can be done with.
            BadSetting: a face and an identity.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
        """
        job = MemoryJob(mixture, sample_rate_hz, SpeakerChoice(face, identity, face_index, face_crop))
        self._carry_out(job)
        return job.result()

    def separate_file(
        self,
        recording: str | Path,
        voice: str | Path,
        face: Source | Portrait | None = None,
        *,
        plot: str | Path | None = None,
        video: str | Path | None = None,
        identity: FaceIdentity | None = None,
        face_index: int | None = None,
        face_crop: bool = False,
        float32: bool = False,
    ) -> SeparatedFile:
        """Separate a recording of up to 24 hours from file to file, in memory that does not depend on its length.

        The recording is read twice: for its level, then for the voice, which is what `separate` gives.

        Args:
            recording: recording or video.
            voice: the mono WAV to write, whole or not at all, as are the others; what is there is replaced.
            face: as of `separate`, as are the arguments that are not said here.
            plot: PNG for the spectrograms before and after, on the voice's file system.
            video: file for the video with no other sound than the voice, on the same file system too.
            identity: of an enrolled face, in place of `face`.
            face_index: which face, where there are several.
            face_crop: the photo is cut to the face already.
            float32: write 32-bit floats, which hold peaks above full scale.

        Raises:
            BadInput: a recording or photo that nothing can be done with.
            BadSetting: a face and an identity.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
            OutputFailed: it cannot be written; where the places already show it, before any work.
        """
        targets = {
            kind: Path(path) for kind, path in ((VOICE, voice), (PLOT, plot), (VIDEO, video)) if path is not None
        }
        require_places(targets.values())
        speaker = SpeakerChoice(face, identity, face_index, face_crop).find(recording)
        wanted = Wanted(float32=float32, plot=PLOT in targets, video=VIDEO in targets)
        folder = targets[VOICE].parent
        with staging_in(folder) as staging, lack_of_room_explained(folder):
            return moved(self.separate_into(staging, recording, speaker, wanted), targets, staging)

    def separate_stream(
        self,
        source: Source | Iterable[NDArray[Any]],
        face: Source | Portrait | None = None,
        *,
        identity: FaceIdentity | None = None,
        sample_rate_hz: int | None = None,
        face_index: int | None = None,
        face_crop: bool = False,
        level_rms: float | None = None,
        live: bool = False,
    ) -> Iterator[SpeechBlock]:
        """Separate sound block by block, in flat memory; of live input while it comes, and without an end.

        A file is read twice, for its level and for the voice, and gives what `separate` gives. The level of blocks is
        not known beforehand: a running level follows them and is undone exactly, which gives nearly the same
        (`clients.separation.level` has the figures).

        Args:
            source: recording or video of up to 24 hours; or blocks as they come, each (n,) or (n, channels), of any
                length, with their `sample_rate_hz`.
            face: as of `separate`, as are the arguments that are not said here.
            identity: of an enrolled face, in place of `face`.
            sample_rate_hz: of blocks.
            face_index: which face, where there are several.
            face_crop: the photo is cut to the face already.
            level_rms: RMS of all blocks, where it is known; there is no running level then.
            live: take no block before the voice that is ready is given, and use the shortest windows: what was said
                comes out at most 2 s and the server's time later. Else windows have 8 s, and several are on the way.

        Returns:
            blocks of the voice, in order; together they have the length and rate of the source.

        Raises:
            BadInput: sound or photo that nothing can be done with; what was given before stays right.
            BadSetting: a face and an identity, or a level that is no number above 0.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
        """
        choice = SpeakerChoice(face, identity, face_index, face_crop)
        in_flight = 1 if live else self._in_flight
        if isinstance(source, (str, Path)):
            job = Job(Recording.of_file(open_sound(source)), choice.find(source))
            stream = job.start(self._model(job.speaker, live=live))
            return self._voice(stream, job.blocks(), in_flight)
        blocks, speaker = Blocks(sample_rate_hz), choice.find(None)
        stream = live_stream(self._model(speaker, live=live), speaker, blocks.rate_hz, level_rms)
        return self._voice(stream, blocks.all_of([source] if isinstance(source, np.ndarray) else source), in_flight)

    def separate_into(
        self, staging: Path, recording: str | Path, speaker: Speaker, wanted: Wanted, tell: Tell = tell_nobody
    ) -> SeparatedFile:
        """`separate_file` for callers that move the files into place themselves.

        Args:
            staging: empty folder, to be removed by the caller whatever happens.
            recording: recording or video.
            speaker: a face of `find_faces` or `find_portrait`, or an identity.
            wanted: which files.
            tell: called with how many samples are done, of how many.

        Returns:
            what is known of the voice, with the files in the staging folder.
        """
        with open_sound(recording) as reader:
            job = FileJob(Path(recording), reader, speaker, staging, wanted, tell)
            self._carry_out(job)
            return job.result()

    def enroll(
        self, photo: Source | Portrait, *, face_index: int | None = None, face_crop: bool = False
    ) -> FaceIdentity:
        """Make a face's identity, with which its voice can be separated without the photo; nothing is stored.

        Args:
            photo: as `face` of `separate`.
            face_index: which face, where there are several.
            face_crop: the photo is cut to the face already.

        Raises:
            BadInput: no face, or several and none chosen.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
        """
        portrait = find_portrait(None, photo, face_index, face_crop)
        model = self._model(None)
        network = self._connection.described(FACE_NETWORK)
        values = self._identify(portrait.crop(model.face_size))
        probe = self._identify(probe_picture(model.face_size))
        return FaceIdentity.of(values, probe, model.served, ", ".join(network.versions))

    def _carry_out(self, job: Job) -> None:
        """All of a recording."""
        stream = job.start(self._model(job.speaker))
        for block in self._voice(stream, job.blocks(), self._in_flight):
            job.take(block)

    def _model(self, speaker: Speaker | None, *, live: bool = False) -> SeparationModel:
        """The served ensemble for a speaker, checked; an identity must be of its own network."""
        model = separation_model(self._connection.served(model_of(speaker)), live=live)
        if isinstance(speaker, FaceIdentity):
            speaker.require_contract(model.served, model.identity_size)
            speaker.require_network(self._identify(probe_picture(model.face_size)))
        return model

    def _identify(self, crop: Picture) -> NDArray[np.float32]:
        """What the served face network makes of a picture now; it may be another one by the next recording."""
        return self._connection.infer(FACE_NETWORK, {"face": crop}, ("identity",))["identity"]

    def _voice(self, stream: VoiceStream, blocks: Iterable[Samples], in_flight: int) -> Iterator[SpeechBlock]:
        """Blocks of the voice, in order, with blocks of the recording in."""
        for answer in self._connection.infer_stream(stream.model.name, stream.requests(blocks), OUTPUTS, in_flight):
            yield stream.take(answer)
        yield stream.rest()

"""One person's voice out of a recording, chosen by a photo of the face, through the served ensemble `facefilter`.

    with SpeechSeparator() as separator:
        separator.separate("talk.wav", "anna.jpg").save("voice.wav")                    # in memory
        separator.separate_file("evening.mp4", "voice.wav")                             # hours, in flat memory
        for block in separator.separate_stream(microphone, "anna.jpg", sample_rate_hz=16_000):
            play(block.speech)                                                          # live
        separator.enroll("anna.jpg").save("anna.identity")                              # without the photo from now on

`clients.separator_aio` has the same for asyncio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.client import ServedClient
from clients.contract import ServedModel
from clients.media.picture import Picture
from clients.media.sound import Samples
from clients.separation.identity import FaceIdentity, probe_picture
from clients.separation.job import MemoryJob, Speaker, SpeakerChoice, model_of
from clients.separation.live import Blocks, live_stream
from clients.separation.result import SeparatedSpeech, SeparatedVoice
from clients.separation.served import BY_FACE, FACE_NETWORK, OUTPUTS, SeparationModel, separation_model
from clients.separation.speaker import Portrait, Source, find_portrait
from clients.separation.stream import SpeechBlock, VoiceStream
from clients.transport.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, IN_FLIGHT

__all__ = [
    "FaceIdentity",
    "Portrait",
    "SeparatedSpeech",
    "SeparatedVoice",
    "SpeechBlock",
    "SpeechSeparator",
]


class SpeechSeparator(ServedClient):
    """Client of the served FaceFilter.

    Args:
        url: host and port of the server's gRPC front end.
        timeout_s: the most that one request (up to eight seconds of sound) may take.
        in_flight: most requests of one recording on the way at once.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, timeout_s: float = DEFAULT_TIMEOUT_S, in_flight: int = IN_FLIGHT
    ) -> None:
        super().__init__(url, timeout_s=timeout_s)
        self._in_flight = in_flight
        self._probe: NDArray[np.float32] | None = None

    def check(self) -> ServedModel:
        """See that the server answers, is ready, and serves what this client needs.

        Raises:
            ServerUnavailable, ContractMismatch, Timeout: it does not.
        """
        return separation_model(self._connection.served(BY_FACE)).served

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
        """Separate the voice of the person whose face is given.

        Args:
            mixture: recording or video; or an array (N,) or (N, channels) with its `sample_rate_hz`.
            face: photo, or RGB array (H, W, 3), or a portrait that `find_faces` gave; a video gives one of its frames.
                May be left out when the mixture is a video.
            identity: of an enrolled face, in place of `face`.
            sample_rate_hz: of an array.
            face_index: which face, where the photo shows several, from left to right, counted from 0.
            face_crop: the photo is cut to the face already and is only resized.

        Returns:
            the voice, at the length and rate of the recording; what it holds above 8 kHz is lost.

        Raises:
            BadInput: a recording or photo that nothing can be done with.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
        """
        job = MemoryJob(mixture, sample_rate_hz, SpeakerChoice(face, identity, face_index, face_crop))
        stream = job.start(self._model(job.speaker))
        for block in self._voice(stream, job.recording.blocks(), self._in_flight):
            job.take(block)
        return job.result()

    def separate_stream(
        self,
        blocks: Iterable[NDArray[Any]],
        face: Source | Portrait | None = None,
        *,
        sample_rate_hz: int,
        identity: FaceIdentity | None = None,
        face_index: int | None = None,
        face_crop: bool = False,
        level_rms: float | None = None,
        longest_wait_s: float | None = None,
        in_flight: int = 1,
    ) -> Iterator[SpeechBlock]:
        """Separate sound while it comes, in flat memory and without an end.

        A block of the voice follows its sound by at most one window (8 s) and the server's time for it.
        """
        choice = SpeakerChoice(face, identity, face_index, face_crop)
        checked = Blocks(sample_rate_hz)
        speaker = choice.find(None)
        model = self._model(speaker, longest_wait_s)
        stream = live_stream(model, speaker, checked.rate_hz, level_rms)
        return self._voice(stream, checked.all_of(blocks), in_flight)

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
        portrait = photo if isinstance(photo, Portrait) else find_portrait(None, photo, face_index, face_crop)
        model = separation_model(self._connection.served(BY_FACE))
        network = self._connection.described(FACE_NETWORK)
        values = self._identify(portrait.crop(model.face_size))
        return FaceIdentity.of(values, self._probed(model.face_size), model.served, network.versions[-1])

    def _model(self, speaker: Speaker, longest_wait_s: float | None = None) -> SeparationModel:
        """The served ensemble for a speaker, checked; an identity must be of its own network."""
        model = separation_model(self._connection.served(model_of(speaker)), longest_wait_s)
        if isinstance(speaker, FaceIdentity):
            speaker.require_contract(model.served, model.identity_size)
            speaker.require_network(self._probed(model.face_size))
        return model

    def _probed(self, size: int) -> NDArray[np.float32]:
        """What the served face network makes of the picture that never changes; asked once."""
        if self._probe is None:
            self._probe = self._identify(probe_picture(size))
        return self._probe

    def _identify(self, crop: Picture) -> NDArray[np.float32]:
        return self._connection.infer(FACE_NETWORK, {"face": crop}, ("identity",))["identity"]

    def _voice(self, stream: VoiceStream, blocks: Iterable[Samples], in_flight: int) -> Iterator[SpeechBlock]:
        """Blocks of the voice, in order, with blocks of the recording in."""
        for answer in self._connection.infer_stream(stream.model.name, stream.requests(blocks), OUTPUTS, in_flight):
            yield stream.take(answer)
        yield stream.rest()

"""One person's voice out of a file into files, in memory that does not depend on how long the recording is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clients.errors import BadInput, printable
from clients.extras import cv2, require
from clients.media.picture import Picture
from clients.media.sound import Samples, SoundReader, WavWriter, finish_wav
from clients.outputs import move_together
from clients.separation.job import Job, Recording, Speaker
from clients.separation.result import SeparatedFile
from clients.separation.served import SeparationModel
from clients.separation.stream import SpeechBlock, VoiceStream

if TYPE_CHECKING:  # matplotlib takes a second to load
    from clients.spectrograms import VoicePicture

VOICE, PLOT, VIDEO, FACE = "voice", "plot", "video", "face"
_MATROSKA = b"\x1aE\xdf\xa3"  # MKV and WebM, whose codings MP4 may not know
Tell = Callable[[float, float], None]  # how much is done, of how much


def tell_nobody(done: float, total: float) -> None:
    """Where nobody wants to know how much is done."""


@dataclass(frozen=True)
class Wanted:
    """What an answer is to consist of, beside the voice."""

    float32: bool = False  # the voice as 32-bit floats, which no peak lowers
    plot: bool = False  # spectrograms before and after
    video: bool = False  # the video with no other sound than the voice
    face: bool = False  # the crop that chose the voice


class FileJob(Job):
    """A job that reads a file and writes files, block by block.

    Args:
        path: recording or video.
        reader: of the same, open.
        speaker: whose voice is wanted.
        staging: folder that the files are made in; it has to be removed with all that is in it if anything fails.
        wanted: which of them.
        tell: called with how much is done.

    Raises:
        BadInput: a video is wanted of what has no pictures.
    """

    def __init__(
        self, path: Path, reader: SoundReader, speaker: Speaker, staging: Path, wanted: Wanted, tell: Tell
    ) -> None:
        super().__init__(Recording.of_file(reader), speaker)
        if wanted.video:
            _require_pictures(path)  # before any work
        self._path, self._staging, self._wanted, self._tell = path, staging, wanted, tell
        self._picture: VoicePicture | None = None
        self._scratch_path = staging / "scratch.wav"
        self._given = 0

    def start(self, model: SeparationModel) -> VoiceStream:
        """Read the file for the first time, for its level, and begin to write."""
        stream = super().start(model)
        if self._wanted.plot:
            require("matplotlib")
            from clients.spectrograms import VoicePicture

            self._picture = VoicePicture(self.heard.samples, self.recording.rate_hz, model.frame_s)
        self._scratch = WavWriter(self._scratch_path, self.recording.rate_hz, float32=True)
        return stream

    def blocks(self) -> Iterator[Samples]:
        """The recording once more, for the voice."""
        for block in self.recording.blocks():
            if self._picture:
                self._picture.hear(block)
            yield block

    def take(self, block: SpeechBlock) -> SpeechBlock:
        """Write the next block of the voice."""
        super().take(block)
        if self._picture:
            self._picture.speak(block.speech, block.attention)
        self._scratch.write(block.speech)
        self._given += len(block.speech)
        self._tell(self._given, self.heard.samples)
        return block

    def result(self) -> SeparatedFile:
        """Finish the files, after the last block; they lie in the staging folder, under the names of their kinds."""
        facts = self.facts(is_integer=not self._wanted.float32)
        self._scratch.close()
        files = {VOICE: self._finished_voice()}
        if self._picture:
            files[PLOT] = self._staging / "plot.png"
            self._picture.draw(files[PLOT])
        if self._wanted.face and self.face is not None:
            files[FACE] = self._staging / "face.png"
            _write_picture(files[FACE], self.face)
        if self._wanted.video:
            files[VIDEO] = self._finished_video()
        return SeparatedFile(files=files, **facts)

    def _finished_voice(self) -> Path:
        """The voice at the level that its format can hold, which is known only now."""
        if self._wanted.float32:
            return self._scratch_path
        voice = self._staging / "voice.wav"
        finish_wav(self._scratch_path, voice, peak=self._scratch.peak)
        self._scratch_path.unlink()
        return voice

    def _finished_video(self) -> Path:
        """The pictures with the voice; where it has to be lowered for that, also when the voice's own file is not."""
        from clients.media.video import replace_sound  # FFmpeg

        video, sound = self._staging / f"video{video_ending(self._path)}", self._staging / "sound.wav"
        if self._wanted.float32:
            finish_wav(self._scratch_path, sound, peak=self._scratch.peak)
        else:
            sound = self._staging / "voice.wav"
        replace_sound(self._path, sound, video)
        return video


def _require_pictures(path: Path) -> None:
    from clients.media.video import has_pictures  # FFmpeg

    if not has_pictures(path):
        raise BadInput(
            f"{printable(path)} has no pictures",
            "a video",
            "a video with the voice was asked for, and its pictures are copied",
            "ask for the sound alone",
        )


def video_ending(path: Path) -> str:
    """The container that surely holds the pictures of a video as they are."""
    with path.open("rb") as file:
        return ".mkv" if file.read(len(_MATROSKA)) == _MATROSKA else ".mp4"


def moved(result: SeparatedFile, targets: Mapping[str, Path], staging: Path) -> SeparatedFile:
    """The result with its files in their places: all of them, or none.

    Raises:
        OutputFailed: they cannot be moved there.
    """
    move_together({target: result.files[kind] for kind, target in targets.items()}, staging)
    return replace(result, files=dict(targets))


def _write_picture(path: Path, picture: Picture) -> None:
    """A PNG of an RGB picture.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())

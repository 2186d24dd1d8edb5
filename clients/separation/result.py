"""One person's voice as it is given back, in memory or as files, and what is known of it.

N: samples of the recording; T: frames of 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.contract import ServedModel
from clients.extras import require
from clients.media.faces import FaceBox
from clients.media.picture import Picture
from clients.media.sound import Samples, write_wav
from clients.outputs import write_whole
from clients.separation.measure import RecordingMeasure, VoiceMeasure

_CLIPPED_SHARE = 1e-3
_SILENT_DB = -50.0  # of the voice against the recording


@dataclass(frozen=True, eq=False, kw_only=True)
class SeparatedVoice:
    """What is known of a voice beside its samples."""

    sample_rate_hz: int
    samples: int  # of the recording and of the voice
    level_change_db: float | None  # of the voice against the recording; None for a silent voice
    attention_mean: float  # 0..1: how much of the face went into the answer
    frame_s: float  # seconds from one value of the attention to the next
    face: Picture | None = field(repr=False)  # the crop that was sent; None where an identity was
    face_box: FaceBox | None  # where it was in the photo or video; None for a given crop and for an identity
    face_time_s: float | None  # when it was there, of a video
    windows: int  # requests that the recording was cut into
    model: ServedModel = field(repr=False)
    timings_s: dict[str, float]
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / self.sample_rate_hz

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: no samples, no pixels and no identity."""
        return {
            "sample_rate_hz": self.sample_rate_hz,
            "samples": self.samples,
            "seconds": round(self.seconds, 6),
            "level_change_db": self.level_change_db,
            "attention_mean": round(self.attention_mean, 6),
            "chosen_by": "identity" if self.face is None else "face",
            "face_box": self.face_box.to_dict() if self.face_box else None,
            "face_time_s": None if self.face_time_s is None else round(self.face_time_s, 3),
            "windows": self.windows,
            "model": self.model.name,
            "model_versions": list(self.model.versions),
            "contract_digest": self.model.digest,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class SeparatedSpeech(SeparatedVoice):
    """One person's voice, in memory."""

    speech: Samples = field(repr=False)  # (N,), of the recording's length, rate and level; may exceed 1
    mixture: Samples = field(repr=False)  # (N,), the recording as it was heard, mono
    attention: NDArray[np.float32] = field(repr=False)  # (T,), 0..1: how much of the face went into each frame

    def save(self, path: str | Path, *, float32: bool = False) -> None:
        """Write a mono WAV of 16-bit integers, or of 32-bit floats.

        Nothing is clipped: a peak above full scale lowers the whole voice in the integer format.

        Raises:
            OutputFailed: it cannot be written.
        """
        write_whole(Path(path), lambda aside: write_wav(aside, self.speech, self.sample_rate_hz, float32=float32))

    def plot(self, path: str | Path) -> None:
        """Draw the spectrograms before and after, with the attention, as a PNG.

        Raises:
            OutputFailed: it cannot be written.
        """
        write_whole(Path(path), self.write_plot)

    def write_plot(self, path: Path) -> None:
        """Draw the same; nobody sees to what stands there."""
        require("matplotlib")
        from clients.spectrograms import VoicePicture  # matplotlib takes a second to load

        picture = VoicePicture(len(self.mixture), self.sample_rate_hz, self.frame_s)
        picture.hear(self.mixture)
        picture.speak(self.speech, self.attention)
        picture.draw(path)


@dataclass(frozen=True, eq=False, kw_only=True)
class SeparatedFile(SeparatedVoice):
    """One person's voice, written while it came."""

    files: dict[str, Path]  # "voice", "plot", "video", "face", as far as they were asked for


def warnings_of(heard: RecordingMeasure, voice: VoiceMeasure, *, is_integer: bool = True) -> tuple[str, ...]:
    """What the reader should know of a result.

    Args:
        heard: the recording.
        voice: what came out of it.
        is_integer: it is written as 16-bit integers.
    """
    found = []
    change_db = level_change_db(heard, voice)
    if change_db is None or change_db < _SILENT_DB:
        level = "digital silence" if change_db is None else f"{change_db:.0f} dB against the recording"
        found.append(
            f"the voice is silent ({level}): the person may not speak in it, or the face chooses nobody; "
            "try another photo of the person"
        )
    if voice.peak > 1 and is_integer:
        found.append(
            f"the voice peaks at {voice.peak:.2f} of full scale; a 16-bit file is lowered by "
            f"{20 * np.log10(voice.peak):.1f} dB, and --float32 keeps it"
        )
    if heard.clipped_share > _CLIPPED_SHARE:
        found.append(
            f"{100 * heard.clipped_share:.1f} % of the recording is at full scale, so it was probably clipped; "
            "what is clipped is torn from every voice in it, so record at a lower level"
        )
    return tuple(found)


def level_change_db(heard: RecordingMeasure, voice: VoiceMeasure) -> float | None:
    """Level of the voice against the recording; None where one of them is silent."""
    if min(heard.power, voice.power) <= 0:
        return None
    return round(10 * float(np.log10(voice.power / heard.power)), 3)

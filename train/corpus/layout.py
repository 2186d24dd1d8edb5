"""The one layout in which training and evaluation find speakers, whatever they were made of.

    <root>/clips.csv                         one row a clip: split, speaker, sex, video, name, samples, faces
    <root>/<speaker>/<video>/<name>.flac     its voice, 16 kHz mono
    <root>/<speaker>/<video>/<name>.jpg      its stills, 224x224 RGB each, side by side

A video is a recording session: its clips share room, clothes and light, and another video of a speaker does not. No
speaker of `val` or `test` is in another split; `seen` holds videos that were withheld of the speakers of `train`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, TextIO

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from train.errors import TrainError
from train.files import write_atomically
from train.settings import FACE_SIZE, SAMPLE_RATE_HZ, TRAINING_SAMPLES

Sex = Literal["F", "M"]
Waveform = NDArray[np.float32]
Picture = NDArray[np.uint8]  # (height, width, 3) RGB
SPLITS = ("train", "seen", "val", "test")
INDEX = "clips.csv"


@dataclass(frozen=True, slots=True)  # a million of them stay small
class Clip:
    """One row of `clips.csv`."""

    split: str
    speaker: str
    sex: Sex
    video: str
    name: str
    samples: int  # at 16 kHz
    faces: int  # stills in its JPEG

    @property
    def voice_file(self) -> str:
        """Its voice, relative to the corpus."""
        return f"{self.speaker}/{self.video}/{self.name}.flac"

    @property
    def stills_file(self) -> str:
        """Its picture, relative to the corpus."""
        return f"{self.speaker}/{self.video}/{self.name}.jpg"

    def voice(self, root: Path) -> Path:
        """Its voice file."""
        return root / self.voice_file

    def stills(self, root: Path) -> Path:
        """Its picture file."""
        return root / self.stills_file


@dataclass(frozen=True)
class Speaker:
    """Somebody's clips in one split."""

    name: str
    sex: Sex
    clips: tuple[Clip, ...]


def write_clips(root: Path, clips: list[Clip]) -> None:
    """Write the index of a corpus, whole or not at all."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [field.name for field in fields(Clip)])
    writer.writeheader()
    writer.writerows(asdict(clip) for clip in clips)
    write_atomically(root / INDEX, table.getvalue().encode())


def read_speakers(root: Path, split: str) -> list[Speaker]:
    """Read the speakers of a split, in the order of the index.

    Raises:
        TrainError: there is no corpus at `root`, its index is damaged, or none of this split is in it.
    """
    grouped: dict[str, list[Clip]] = {}
    with _open_index(root) as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            if row.get("split") not in (split, None):
                continue
            try:
                clip = Clip(**{**row, "samples": int(row["samples"]), "faces": int(row["faces"])})  # type: ignore[arg-type]
            except (KeyError, TypeError, ValueError) as error:
                raise TrainError(f"{root / INDEX}, line {number}: {error!r}; prepare the corpus again.") from error
            grouped.setdefault(clip.speaker, []).append(clip)
    if not grouped:
        raise TrainError(
            f"{root / INDEX} lists no clip of split {split!r}; wanted one of {', '.join(SPLITS)} that it has."
        )
    return [Speaker(name, clips[0].sex, tuple(clips)) for name, clips in grouped.items()]


def _open_index(root: Path) -> TextIO:
    index = root / INDEX
    if not index.is_file():
        raise TrainError(
            f"No {INDEX} in {root}; make synthetic talkers with `avedge synthesize talkers --out {root}`, or bring "
            "recordings into this layout with `avedge prepare`."
        )
    return index.open(newline="", encoding="utf-8")


def splits_of(root: Path) -> list[str]:
    """Which splits a corpus has.

    Raises:
        TrainError: there is no corpus at `root`.
    """
    with _open_index(root) as file:
        found = {row["split"] for row in csv.DictReader(file)}
    return [split for split in SPLITS if split in found]


def read_piece(path: Path, start: int = 0, samples: int = TRAINING_SAMPLES) -> Waveform:
    """Read a piece of a voice file, (samples,) at 16 kHz; a file that ends before is repeated from its beginning.

    Raises:
        TrainError: missing, damaged, empty, or not mono at 16 kHz.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE_HZ or file.channels != 1:
                raise TrainError(
                    f"{path} has {file.samplerate} Hz and {file.channels} channels; wanted mono at 16000 Hz. "
                    "Bring it into the layout with `avedge prepare`."
                )
            file.seek(min(start, max(0, file.frames - samples)))
            piece: Waveform = file.read(samples, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise TrainError(f"{path} is not a sound file that can be read ({error}); fetch or make it again.") from error
    if not len(piece):
        raise TrainError(f"{path} holds no sound; fetch or make it again.")
    repeats = -(-samples // len(piece))
    return np.tile(piece, repeats)[:samples] if repeats > 1 else piece


def write_voice(path: Path, waveform: Waveform) -> None:
    """Store a waveform (N,) at 16 kHz as 16-bit FLAC, whole or not at all; its folder is made."""
    encoded = io.BytesIO()
    soundfile.write(encoded, waveform, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    write_atomically(path, encoded.getvalue())


def write_stills(path: Path, stills: list[Picture]) -> None:
    """Store stills (224, 224, 3) side by side, whole or not at all; their folder is made."""
    strip = np.concatenate(stills, axis=1)  # (224, 224 K, 3)
    _, encoded = cv2.imencode(".jpg", strip[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    write_atomically(path, encoded.tobytes())


def read_stills(path: Path) -> NDArray[np.uint8]:
    """Read the stills of a clip, (K, 224, 224, 3) RGB.

    Raises:
        TrainError: missing, damaged, or not a row of 224x224 pictures.
    """
    strip = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None  # OpenCV would complain on its own
    if strip is None:
        raise TrainError(f"{path} is not a picture that can be read; fetch or make it again.")
    high, wide, _ = strip.shape
    if high != FACE_SIZE or wide % FACE_SIZE:
        raise TrainError(f"{path} is {wide}x{high} pixels; wanted 224x224 stills side by side.")
    parts = strip[..., ::-1].reshape(FACE_SIZE, wide // FACE_SIZE, FACE_SIZE, 3).transpose(1, 0, 2, 3)
    return np.ascontiguousarray(parts)


def count_splits(clips: list[Clip]) -> dict[str, dict[str, float]]:
    """What each split has: speakers, women among them, videos, clips, hours."""
    splits: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        here = [clip for clip in clips if clip.split == split]
        splits[split] = {
            "speakers": len({clip.speaker for clip in here}),
            "women": len({clip.speaker for clip in here if clip.sex == "F"}),
            "videos": len({(clip.speaker, clip.video) for clip in here}),
            "clips": len(here),
            "hours": round(sum(clip.samples for clip in here) / SAMPLE_RATE_HZ / 3600, 3),
        }
    return splits

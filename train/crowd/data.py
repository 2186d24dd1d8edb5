"""Crowd scenes from disk as batches: a folder with an index.csv, as `train.synthetic.scenes` makes them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.batches import share
from train.crowd.ground_truth import density_map, patch_counts
from train.errors import TrainError
from train.settings import PATCH_GRID, PICTURE_HEIGHT, PICTURE_WIDTH, SAMPLE_RATE_HZ, SOUND_SAMPLES

Rng = np.random.Generator


class CrowdBatch(NamedTuple):
    """B scenes, ready for the network and its losses."""

    picture: Tensor  # UINT8 (B, 576, 1024, 3), RGB
    sound: Tensor  # (B, 16000), one second at 16 kHz
    density: Tensor  # (B, 72, 128), people per cell
    patch_counts: Tensor  # (B, 64), people


@dataclass(frozen=True)
class SceneFiles:
    """One row of the index, with its points read."""

    image: Path
    sound: Path
    points: NDArray[np.float32]  # (n, 2)


@dataclass(frozen=True)
class Example:
    """One scene as arrays; fields as in `CrowdBatch`, without the batch."""

    picture: NDArray[np.uint8]
    sound: NDArray[np.float32]
    density: NDArray[np.float32]
    patch_counts: NDArray[np.float32]


def read_index(folder: Path, split: str) -> list[SceneFiles]:
    """The scenes of one split, in the order of the index.

    Raises:
        TrainError: no index, or no scene of that split in it.
    """
    index = folder / "index.csv"
    if not index.is_file():
        raise TrainError(
            f"No {index}; wanted a folder of scenes. Make one with `avedge synthesize scenes --out {folder}`."
        )
    with index.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    if not rows:
        raise TrainError(f"{index} has no scene of the split {split!r}; make the scenes again or name another folder.")
    return [
        SceneFiles(folder / row["image"], folder / row["sound"], _read_points(folder / row["points"])) for row in rows
    ]


def _read_points(path: Path) -> NDArray[np.float32]:
    lines = path.read_text().splitlines()[1:]  # below "x,y"
    return np.array([line.split(",") for line in lines], np.float32).reshape(-1, 2)


def read_example(files: SceneFiles) -> Example:
    """Read one scene and make its ground truth.

    Raises:
        TrainError: a picture or sound that is damaged or of another size or rate.
    """
    return Example(
        _read_picture(files.image), _read_sound(files.sound), density_map(files.points), patch_counts(files.points)
    )


def _read_picture(path: Path) -> NDArray[np.uint8]:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None or bgr.shape != (PICTURE_HEIGHT, PICTURE_WIDTH, 3):
        seen = "nothing readable" if bgr is None else f"{bgr.shape[1]}x{bgr.shape[0]} pixels"
        raise TrainError(
            f"{path} holds {seen}; wanted {PICTURE_WIDTH}x{PICTURE_HEIGHT}, the network's size. Make it again."
        )
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _read_sound(path: Path) -> NDArray[np.float32]:
    sound, rate_hz = soundfile.read(path, dtype="float32")
    if rate_hz != SAMPLE_RATE_HZ or sound.shape != (SOUND_SAMPLES,):
        raise TrainError(
            f"{path} holds {sound.shape} samples at {rate_hz} Hz; wanted one mono second at {SAMPLE_RATE_HZ} Hz, "
            "which the log-mel is defined for. Make it again."
        )
    return np.asarray(sound, np.float32)


def augmented(example: Example, rng: Rng) -> Example:
    """The scene mirrored half of the time, in other light, with some noise, its sound begun elsewhere."""
    picture: NDArray[Any] = example.picture
    density, counts = example.density, example.patch_counts
    if rng.random() < 0.5:
        picture, density = cv2.flip(picture, 1), density[:, ::-1]
        counts = counts.reshape(PATCH_GRID, PATCH_GRID)[:, ::-1].reshape(-1)
    levels = np.arange(256) * rng.uniform(0.7, 1.3) + rng.uniform(-15, 15)
    lit = cv2.LUT(picture, np.clip(np.rint(levels), 0, 255).astype(np.uint8)).astype(np.uint8, copy=False)
    if rng.random() < 0.3:
        grain = rng.integers(0, 16, lit.shape, np.uint8)
        lit = cv2.subtract(cv2.add(lit, grain), np.full_like(grain, 8)).astype(np.uint8, copy=False)
    sound = np.roll(example.sound, int(rng.integers(SOUND_SAMPLES)))
    return Example(lit, sound, density, counts)


def collate(examples: list[Example]) -> CrowdBatch:
    """Stack scenes into a batch."""
    columns = zip(*((e.picture, e.sound, e.density, e.patch_counts) for e in examples), strict=True)
    return CrowdBatch(*(torch.from_numpy(np.ascontiguousarray(np.stack(column))) for column in columns))


def batches(files: list[SceneFiles], size: int) -> Iterator[CrowdBatch]:
    """The scenes once, in order, as they are; the last batch may be smaller."""
    for start in range(0, len(files), size):
        yield collate([read_example(scene) for scene in files[start : start + size]])


class SceneBatches:
    """Augmented training batches: every scene once, in a new order, then again; a `train.fit.Batches`."""

    def __init__(self, files: list[SceneFiles], *, batch_size: int, seed: int) -> None:
        self.files = files
        self.batch_size = batch_size
        self.seed = seed

    def batch(self, step: int, part: int, parts: int) -> CrowdBatch:
        """Share `part` of `parts` of the batch of step `step`."""
        first = step * self.batch_size
        return collate([self._example(first + item) for item in share(self.batch_size, part, parts)])

    def _example(self, number: int) -> Example:
        """The example of that number since the start of the training."""
        round_number, place = divmod(number, len(self.files))
        order = np.random.default_rng([self.seed, 0, round_number]).permutation(len(self.files))
        return augmented(read_example(self.files[order[place]]), np.random.default_rng([self.seed, 1, number]))

"""What can be judged: a trained counter, photos with a second of sound in, densities of the photos out.

A photo goes into the network's frame as the client places it, and what the network sees beyond it is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.checkpoint import read_model
from train.crowd.frame import place, whole
from train.crowd.geometry import Geometry
from train.crowd.ground_truth import block_sums
from train.crowd.models import load_counter
from train.crowd.names import MODELS
from train.crowd.scene import Picture
from train.dsp import CrowdLogMel
from train.errors import TrainError
from train.settings import PICTURE_HEIGHT, PICTURE_WIDTH

Values = NDArray[np.float32]
Tiles = int | Literal["auto"]
Answer = Callable[[list[Picture]], Sequence[Values]]  # frames of 1024x576 to densities of the whole frames

BATCH = 4


@dataclass(frozen=True)
class View:
    """How a photo is looked at; by default whole and once."""

    tiles: Tiles = 1  # per side; "auto": as many as the photo's own resolution needs
    flip: bool = False  # the mean with the mirror image

    @property
    def plain(self) -> bool:
        """Whether one frame shows all."""
        return self == View()


@dataclass(frozen=True)
class Observed:
    """A photo with its sound."""

    photo: Picture
    sound: Values  # (16000,); zeros where there is none


@dataclass(frozen=True)
class Counted:
    """What a system says of a photo. P: patches of the network's frame."""

    density: Values  # (rows, columns), people per cell; the cells that touch the photo, from its top left corner
    covered: tuple[float, float]  # columns and rows of cells that the photo covers, fractions of a cell included
    importance: Values | None = None  # (P,), PIR; None where the network or the view has none
    estimates: Values | None = None  # (P,), PCE, people

    @property
    def people(self) -> float:
        """The count: the sum of the density."""
        return float(self.density.sum(dtype=np.float64))


# The density of a photo seen in several frames, and what it covers as in `Counted`.
Spread = Callable[[Picture, Answer, int, View], tuple[Values, tuple[float, float]]]


class System(Protocol):
    """What `evaluation.evaluate` judges."""

    model: str  # a key of MODELS
    geometry: Geometry
    hears: bool
    view: View

    def count(self, observed: Sequence[Observed]) -> list[Counted]:
        """Count a few photos at once."""

    def describe(self) -> dict[str, Any]:
        """What was judged, for the report: JSON."""


class TorchSystem:
    """A network in torch, in fp32.

    Args:
        weights: the file.
        view: how photos are looked at.
        spread: looks at a photo in several frames (`clients.media.tiles`); needed unless the view is plain.
        device: where the network runs.

    Raises:
        TrainError: a file that is missing, damaged or holds no counter.
    """

    def __init__(
        self, weights: Path, view: View | None = None, spread: Spread | None = None, device: str = "cpu"
    ) -> None:
        self.counter = load_counter(weights).to(device)
        self.model = model_of(weights)
        self.geometry, self.hears = self.counter.geometry, self.counter.audio
        self.view, self._spread = view or View(), spread
        self._log_mel = CrowdLogMel().to(device)
        self._device = torch.device(device)

    def count(self, observed: Sequence[Observed]) -> list[Counted]:
        """Count a few photos at once, plain ones in one batch."""
        if self.view.plain:
            return self._count_whole(observed)
        return [self._count_spread(one) for one in observed]

    def describe(self) -> dict[str, Any]:
        """Kind and device."""
        return {"kind": "torch", "device": self._device.type}

    def _count_whole(self, observed: Sequence[Observed]) -> list[Counted]:
        frames, sounds = [place(one.photo) for one in observed], [one.sound for one in observed]
        densities, importance, estimates = self._answer(frames, sounds)
        counted = []
        for number, (one, density) in enumerate(zip(observed, densities, strict=True)):
            covered = self._covered(one.photo)
            columns, rows = (int(np.ceil(cells)) for cells in covered)
            heads = (None if values is None else values[number] for values in (importance, estimates))
            counted.append(Counted(density[:rows, :columns], covered, *heads))
        return counted

    def _count_spread(self, one: Observed) -> Counted:
        assert self._spread is not None, "a view of several frames was asked for without what makes them"

        def answer(frames: list[Picture]) -> list[Values]:
            densities: list[Values] = []
            for start in range(0, len(frames), BATCH):
                some = frames[start : start + BATCH]
                densities += list(self._answer(some, [one.sound] * len(some))[0])
            return densities

        density, covered = self._spread(one.photo, answer, _cell_pixels(self.geometry), self.view)
        return Counted(density, covered)

    def _covered(self, photo: Picture) -> tuple[float, float]:
        window, cell = whole(photo), _cell_pixels(self.geometry)
        return window.frame_width / cell, window.frame_height / cell

    @torch.no_grad()
    def _answer(
        self, frames: Sequence[Picture], sounds: Sequence[Values]
    ) -> tuple[Values, Values | None, Values | None]:
        """Density (B, rows, columns), PIR and PCE (B, P) of frames of 1024x576."""
        size = self.geometry.width, self.geometry.height
        if size != (PICTURE_WIDTH, PICTURE_HEIGHT):
            frames = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for frame in frames]
        inputs: list[Tensor] = [torch.from_numpy(np.stack(frames)).to(self._device)]
        if self.hears:
            inputs.append(self._log_mel(torch.from_numpy(np.stack(sounds)).to(self._device)))
        density, importance, estimates = self.counter(*inputs)
        heads = (None if values is None else values.float().cpu().numpy() for values in (importance, estimates))
        return density.float().cpu().numpy(), *heads


def patches_of(counted: Counted, geometry: Geometry) -> Values:
    """People in each patch of the network's frame, (P,), row-major, of a photo seen in one frame."""
    frame = np.zeros((geometry.density_height, geometry.density_width))
    rows, columns = counted.density.shape
    frame[:rows, :columns] = counted.density
    return block_sums(frame, geometry.patch_grid, geometry.patch_grid).reshape(-1).astype(np.float32)


def find_weights(weights: Path, model: str | None = None) -> Path:
    """The file of a counter's weights.

    Args:
        weights: a folder such as `train/weights`, or a file.
        model: a key of MODELS; where none is named, CC-V of a folder, or the only one that it holds.

    Raises:
        TrainError: there is no such file, or it holds another model.
    """
    if weights.is_dir():
        return _weights_in(weights, model)
    held = model_of(weights)
    if model is not None and held != model:
        raise TrainError(f"{weights} holds {held}, but --model says {model}; leave it out, or name another file.")
    return weights


def _weights_in(folder: Path, model: str | None) -> Path:
    present = {name: path for name, stored in MODELS.items() if (path := folder / f"{stored}.safetensors").is_file()}
    if model is None:
        model = next(iter(present)) if len(present) == 1 else "cc-v"
    if model not in present:
        held = ", ".join(path.name for path in present.values()) or "none"
        raise TrainError(
            f"No {MODELS[model]}.safetensors in {folder}, which holds {held}; wanted weights to judge. Train them, or "
            "name their file with --weights."
        )
    return present[model]


def model_of(weights: Path) -> str:
    """Which of MODELS a file of weights holds.

    Raises:
        TrainError: none of them, or the file is missing or damaged.
    """
    held = read_model(weights)
    names = [name for name, stored in MODELS.items() if stored == held]
    if not names:
        raise TrainError(
            f"{weights} holds {held or 'no named model'!r}; wanted one of {', '.join(MODELS.values())}, which count "
            "people. Name another file."
        )
    return names[0]


def digest_of(weights: Path) -> dict[str, str]:
    """File and SHA-256, for the report."""
    return {"file": weights.name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def _cell_pixels(geometry: Geometry) -> int:
    """Side of a density cell in pixels of the frame of 1024x576."""
    return PICTURE_HEIGHT // geometry.density_height

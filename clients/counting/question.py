"""What is asked for a picture, and the answer made of the replies: the part that waiting and asyncio clients share.

No call is made here. A client describes the served model, makes a `Question`, sends its requests in any way it likes,
and hands the replies to `Question.finish`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.contract import ServedModel, TensorSpec
from clients.counting.hearing import Fallback, Heard
from clients.counting.regions import Region, count_regions
from clients.crowd_count import CrowdCount
from clients.errors import ContractMismatch
from clients.media.picture import Picture
from clients.media.tiles import CutPhoto, Frame, PhotoDensity, Tiles, cut_photo
from clients.transport.connection import Answer, Tensors

MODEL, MODEL_VISION = "crowd_counting", "crowd_counting_vision"
_PATCH_OUTPUTS = ("patch_counts", "patch_importance", "patch_estimates")
# All of them, always: asked for its density alone, an ensemble never answers (Triton 2.51: "unexpected deadlock").
OUTPUTS = ("count", "density", *_PATCH_OUTPUTS)
_PADDING_SHARE = 0.01  # of the count, in the frame beyond the photo, from which on a warning is due


@dataclass(frozen=True)
class View:
    """How pictures are looked at; see `CrowdCounter.count`."""

    tiles: Tiles | None = None
    flip: bool = False
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Question:
    """One picture on its way to a count."""

    model: ServedModel
    requests: list[Tensors]
    photo: Picture
    heard: Heard | Fallback
    view: View
    cut: CutPhoto
    began: float  # time.monotonic() when reading began
    sent: float = field(default_factory=time.monotonic)

    def finish(self, answers: Sequence[Answer]) -> CrowdCount:
        """The count, from one answer per request, in order."""
        found = self.cut.join([answer["density"] for answer in answers])
        ended = time.monotonic()
        plain = not self.view.flip and len(found.plan.tiles) == 1
        height, width = self.photo.shape[:2]
        return CrowdCount(
            count=found.count,
            interval=_interval(self.model, found.count) if plain else None,
            density=found.density,
            cell_size=found.cell_size,
            **_patches(self.model, answers[0] if plain else None, found, self.photo),
            people_in_padding=found.people_beyond,
            letterbox=found.plan.letterbox,
            tiles=None if self.view.tiles is None else found.plan,
            flip=self.view.flip,
            regions=count_regions(
                self.view.regions, found.density, cell_size=found.cell_size, width=width, height=height
            ),
            picture=self.photo,
            model=self.model,
            fallback=self.heard if isinstance(self.heard, Fallback) else None,
            timings_s={"read": self.sent - self.began, "server": ended - self.sent, "total": ended - self.began},
            warnings=(*(self.heard.warnings if isinstance(self.heard, Heard) else ()), *_warnings(found, self.view)),
        )


def ask(photo: Picture, heard: Heard | Fallback, served: ServedModel, view: View, *, began: float) -> Question:
    """The requests for a picture.

    Args:
        photo: (H, W, 3) RGB.
        heard: what goes with it; decides which of the two models `served` has to be.
        served: the model, checked.
        view: how to look.
        began: time.monotonic() when reading began.

    Raises:
        BadInput: tiles outside 1 to 8.
    """
    cut = cut_photo(photo, frame=_frame_of(served), tiles=1 if view.tiles is None else view.tiles, flip=view.flip)
    sound = {"sound": heard.samples} if isinstance(heard, Heard) else {}
    requests: list[Tensors] = [{"picture": frame, **sound} for frame in cut.frames]
    return Question(served, requests, photo, heard, view, cut, began)


def require_fit(served: ServedModel, *, with_sound: bool) -> None:
    """See that a served model is one of ours.

    Raises:
        ContractMismatch: it takes or gives something else.
    """
    height, width = served.integer("picture_height"), served.integer("picture_width")
    inputs = [TensorSpec("picture", "UINT8", (height, width, 3))]
    if with_sound:
        inputs.append(TensorSpec("sound", "FP32", (served.integer("sound_samples"),)))
    rows, columns = _cells_of(served, height, width)
    patches = (served.integer("patch_grid") ** 2,)
    served.require_tensors(
        tuple(inputs),
        (
            TensorSpec("count", "FP32", (1,)),
            TensorSpec("density", "FP32", (rows, columns)),
            *(TensorSpec(name, "FP32", patches) for name in _PATCH_OUTPUTS),
        ),
    )


def _cells_of(served: ServedModel, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the served density, once its cells are seen to be square and to fill the frame."""
    density = next((spec for spec in served.outputs if spec.name == "density"), None)
    if density is None or len(density.shape) != 2 or min(density.shape) <= 0:
        raise _unfit(served, f"its density is {density}")
    rows, columns = density.shape
    if height % rows or width % columns or height // rows != width // columns:
        raise _unfit(served, f"its density of {rows}x{columns} cells does not fit a frame of {height}x{width} pixels")
    return rows, columns


def _unfit(served: ServedModel, seen: str) -> ContractMismatch:
    return ContractMismatch(
        f"The server's model {served.name} does not fit these clients: {seen}",
        "a density whose square cells fill the frame",
        "people would be shown in the wrong place",
        "export and serve the models again",
    )


def _frame_of(served: ServedModel) -> Frame:
    """What the served network sees at once."""
    height, width = served.integer("picture_height"), served.integer("picture_width")
    return Frame(width, height, height // _cells_of(served, height, width)[0])


def _interval(served: ServedModel, count: float) -> tuple[float, float] | None:
    """Where the true count lies, as often as the served weights' calibration says; None for weights without one."""
    names = ("count_interval_share", "count_interval_relative", "count_interval_absolute")
    numbers = served.numbers_if_any(*names)
    if numbers is None:
        return None
    share, relative, absolute = numbers
    if not 0 < share < 1:
        raise _unfit(served, f"its count_interval_share is {share:g}, and no interval can hold that share")
    half = absolute + relative * max(count, 0.0)
    return max(0.0, count - half), count + half


def _patches(served: ServedModel, answer: Answer | None, found: PhotoDensity, photo: Picture) -> dict[str, Any]:
    """The patches' fields: of the one plain answer, or the sums over the photo's own patches."""
    grid = served.integer("patch_grid")
    if answer is not None:
        return {name: answer[name].reshape(grid, grid) for name in _PATCH_OUTPUTS}  # (P * P,) -> (P, P), row-major
    counts = patch_sums(found, photo.shape[0], photo.shape[1], grid)
    return {"patch_counts": counts, "patch_importance": None, "patch_estimates": None}


def patch_sums(found: PhotoDensity, height: int, width: int, grid: int) -> NDArray[np.float32]:
    """People in each of the photo's patches, (grid, grid); a cell belongs to the patch that its middle lies in."""
    sums = np.zeros((grid, grid), np.float64)
    rows, columns = (
        np.minimum(((np.arange(cells) + 0.5) * size * grid / side).astype(int), grid - 1)
        for cells, size, side in zip(found.density.shape, found.cell_size, (height, width), strict=True)
    )
    np.add.at(sums, np.ix_(rows, columns), found.density)
    return sums.astype(np.float32)


def _warnings(found: PhotoDensity, view: View) -> list[str]:
    """What the reader should know of this density."""
    warnings = []
    if found.people_beyond > max(0.5, _PADDING_SHARE * found.count):
        warnings.append(
            f"{found.people_beyond:.1f} more people were counted in the frame beyond the photo, and are left out"
        )
    scale = found.plan.scale
    if view.tiles == "auto" and scale < 1:
        warnings.append(f"{len(found.plan.tiles)} tiles show the photo at {scale:.2f} of its resolution")
    elif view.tiles not in (None, 1, "auto") and scale > 1:
        warnings.append(f"the tiles magnify the photo {scale:.1f} times, which shows no more than it holds")
    return warnings

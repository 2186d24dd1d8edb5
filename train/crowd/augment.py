"""What training does to photos: crops at other scales, mosaics, mirror images, other light; and pictures of nobody.

The paper states none; AudioCSRNet mirrors only. Each one's gain is in docs/crowd.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.crowd.frame import Window, padded, whole
from train.crowd.geometry import size_in_frame
from train.crowd.scene import Picture
from train.settings import PICTURE_HEIGHT, PICTURE_WIDTH

Rng = np.random.Generator
Points = NDArray[np.float32]

_MOSAIC = 2  # pictures per side
_EMPTY_TRIES = 30
_FRAME = (PICTURE_HEIGHT, PICTURE_WIDTH)
_HEAD_MARGIN = 0.03  # of the photo's longer side: a head reaches so far around its point


@dataclass(frozen=True)
class AugmentSettings:
    """How often, and how far; the defaults change neither scale nor content."""

    zoom: tuple[float, float] | None = None  # scales, relative to the whole photo in the frame; drawn log-uniformly
    zoom_share: float = 1.0  # of the examples; the others show the whole photo
    mosaic_share: float = 0.0  # of the examples; four pictures' parts side by side
    empty_share: float = 0.0  # of the examples; parts of photos without heads, and blank pictures
    grey_share: float = 0.0  # of the examples
    silence_share: float = 0.0  # of the examples with sound; else silence would be learnt to mean nobody
    degraded_share: float = 0.0  # of the examples; `train.crowd.degrade.random_degradation`


PLAIN = AugmentSettings()  # mirror images and light only


def window_at(photo: Picture, zoom: float, rng: Rng, *, width: int, height: int) -> Window:
    """A random part of the photo that fills (at most) `width` x `height` frame pixels at the wanted scale.

    Args:
        photo: any size.
        zoom: 1 is the scale of the whole photo in the whole frame.
        rng: where the part lies.
        width: of the room in the frame, pixels.
        height: likewise.
    """
    full = whole(photo)
    scale = zoom * full.frame_width / full.width
    wide, high = min(full.width, math.ceil(width / scale)), min(full.height, math.ceil(height / scale))
    left, top = int(rng.integers(full.width - wide + 1)), int(rng.integers(full.height - high + 1))
    return Window(
        left, top, wide, high, min(width, max(1, round(wide * scale))), min(height, max(1, round(high * scale)))
    )


def draw_zoom(settings: AugmentSettings, rng: Rng) -> float | None:
    """A scale, or none for the whole photo."""
    if settings.zoom is None or rng.random() >= settings.zoom_share:
        return None
    least, most = settings.zoom
    return float(np.exp(rng.uniform(math.log(least), math.log(most))))


def framed(photo: Picture, points: Points, zoom: float | None, rng: Rng) -> tuple[Picture, Points]:
    """The photo, or a part of it at another scale, in its frame of 1024x576."""
    size = {"width": PICTURE_WIDTH, "height": PICTURE_HEIGHT}
    window = whole(photo) if zoom is None else window_at(photo, zoom, rng, **size)
    return padded(window.cut(photo)), window.move(points)


def mosaic(parts: list[tuple[Picture, Points]], zooms: list[float | None], rng: Rng) -> tuple[Picture, Points]:
    """Parts of four photos in the four quarters of one frame: thin and dense crowds in one picture."""
    wide, high = PICTURE_WIDTH // _MOSAIC, PICTURE_HEIGHT // _MOSAIC
    frame = np.zeros((PICTURE_HEIGHT, PICTURE_WIDTH, 3), np.uint8)
    heads = []
    for place, ((photo, points), zoom) in enumerate(zip(parts, zooms, strict=True)):
        window = window_at(photo, zoom or 1.0, rng, width=wide, height=high)
        row, column = divmod(place, _MOSAIC)
        frame[row * high : row * high + window.frame_height, column * wide : column * wide + window.frame_width] = (
            window.cut(photo)
        )
        heads.append(window.move(points) + np.array((column * wide, row * high), np.float32))
    return frame, np.concatenate(heads)


def without_people(photo: Picture, points: Points, rng: Rng) -> Picture:
    """A part of the photo without heads, filling the frame; where none is found, a blank picture."""
    height, width = photo.shape[:2]
    margin = _HEAD_MARGIN * max(width, height)
    for _ in range(_EMPTY_TRIES):
        share = rng.uniform(0.12, 0.6)
        wide, high = int(width * share), int(height * share)
        left, top = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
        near = (points > (left - margin, top - margin)) & (points < (left + wide + margin, top + high + margin))
        if not near.all(axis=1).any():
            part = photo[top : top + high, left : left + wide]
            return padded(
                cv2.resize(part, size_in_frame(wide, high), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
            )
    return blank(rng)


def blank(rng: Rng) -> Picture:
    """A picture of nothing: one colour, or noise of any strength and grain, in colours or grey."""
    if rng.random() < 0.35:
        return np.full((PICTURE_HEIGHT, PICTURE_WIDTH, 3), rng.choice([0, 255, rng.integers(256)]), np.uint8)
    # A grain of its own in each pixel, as a generator gives it; or coarser than the frame's pixels, or finer
    wide = PICTURE_WIDTH if rng.random() < 0.3 else int(2 ** rng.uniform(1, 11))
    size = max(1, wide * PICTURE_HEIGHT // PICTURE_WIDTH), wide, 1 if rng.random() < 0.4 else 3
    if rng.random() < 0.3:
        noise = rng.integers(0, 256, size, np.uint8)
    else:
        values = rng.uniform(0, 255) + rng.uniform(3, 140) * rng.standard_normal(size, np.float32)
        noise = np.clip(values, 0, 255).astype(np.uint8)
    method = cv2.INTER_AREA if wide > PICTURE_WIDTH else cv2.INTER_LINEAR
    grown = cv2.resize(noise, (PICTURE_WIDTH, PICTURE_HEIGHT), interpolation=method).reshape(*_FRAME, size[2])
    return np.broadcast_to(grown, (*_FRAME, 3)).astype(np.uint8)


def lit(picture: Picture, settings: AugmentSettings, rng: Rng) -> Picture:
    """Other light, sometimes grain, sometimes without colour."""
    levels = np.arange(256) * rng.uniform(0.7, 1.3) + rng.uniform(-15, 15)
    changed: NDArray[Any] = cv2.LUT(picture, np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        grain = rng.integers(0, 16, changed.shape, np.uint8)
        changed = cv2.subtract(cv2.add(changed, grain), np.full_like(grain, 8))
    if rng.random() < settings.grey_share:
        changed = cv2.cvtColor(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return changed.astype(np.uint8, copy=False)

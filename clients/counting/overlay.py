"""A density as colour over its photo: arrays for figures, videos and pages."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from clients.extras import cv2
from clients.media.picture import Picture

STRENGTH = 0.85  # at which the densest places still show the photo
_FULL_PERCENTILE = 99.5  # of the cells, that has the strongest colour; a few heads close by would dim all others
_DARKEST = 64  # of magma's 256 colours: the black ones before it would look like shade
_LEAST_TOP = 1e-3  # people per cell; an empty place stays clear


def size_of(picture: Picture) -> tuple[int, int]:
    """Height and width, pixels."""
    return picture.shape[0], picture.shape[1]


def density_top(density: NDArray[np.float32]) -> float:
    """People per cell that have the strongest colour."""
    return max(float(np.percentile(density, _FULL_PERCENTILE)), _LEAST_TOP)


def heat(
    density: NDArray[np.float32],
    *,
    cell_size: tuple[float, float],
    photo_size: tuple[int, int],
    shown_size: tuple[int, int],
    strength: float = STRENGTH,
    top: float | None = None,
) -> tuple[Picture, NDArray[np.float32]]:
    """A density's colours, and how much of them covers the photo.

    Args:
        density: (rows, columns), people per cell of the photo.
        cell_size: height and width of a cell, pixels of the photo.
        photo_size: height and width of the photo, pixels.
        shown_size: height and width of what it will be laid over, which shows the same in other pixels.
        strength: 0 for nothing to 1 for colour alone where most people are.
        top: people per cell that have the strongest colour; chosen by the density itself if left out.

    Returns:
        (H, W, 3) RGB and (H, W) from 0 to `strength`.
    """
    share = np.clip(density / (top or density_top(density)), 0, 1).astype(np.float32)
    scale_y, scale_x = (
        shown / photo * size for shown, photo, size in zip(shown_size, photo_size, cell_size, strict=True)
    )
    # A pixel's middle in cells, less the half by which a cell's value belongs to its own middle; edges are repeated.
    turn = np.array([[1 / scale_x, 0, 0.5 / scale_x - 0.5], [0, 1 / scale_y, 0.5 / scale_y - 0.5]], np.float64)
    smooth = cv2.warpAffine(
        share,
        turn,
        (shown_size[1], shown_size[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    palette = colours_of_people()
    colours = palette[np.round(smooth * (len(palette) - 1)).astype(np.uint8)]
    return colours, np.asarray(strength * np.sqrt(smooth), np.float32)


def laid_over(picture: Picture, colours: Picture, cover: NDArray[np.float32]) -> Picture:
    """Colours over a picture of the same size, as much as `cover` (H, W) says, 0 to 1."""
    share = cover[..., None]
    return np.asarray(np.round(picture * (1 - share) + colours * share), np.uint8)


def greyed(picture: Picture) -> Picture:
    """A picture without its colours, so that those of the density alone speak."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def shrunk(picture: Picture, longest_side: int) -> Picture:
    """A picture with no side above so many pixels; smaller ones stay as they are."""
    height, width = picture.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


@cache
def colours_of_people() -> Picture:
    """(192, 3) RGB, for few people to many: perceptually even and safe for the colour-blind."""
    levels = np.arange(_DARKEST, 256, dtype=np.uint8)[None]
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)[0], np.uint8)

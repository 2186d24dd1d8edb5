"""Ground truth from head points: the density map in people per cell, and people per patch.

Points are pixels of the 1024x576 picture, (n, 2) as x, y; those outside of it are refused, never silently dropped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.errors import TrainError
from train.settings import (
    CELL_PIXELS,
    DENSITY_HEIGHT,
    DENSITY_WIDTH,
    PATCH_CELLS_HIGH,
    PATCH_CELLS_WIDE,
    PATCH_GRID,
    PATCHES,
    PICTURE_HEIGHT,
    PICTURE_WIDTH,
)

KERNEL_PIXELS = 15  # section 4
KERNEL_SIGMA_PIXELS = 4.0  # "N(0, 4.0)": the deviation, as in all code that the paper's settings come from

Points = NDArray[np.floating]


def _cell_shares(coordinates: NDArray[np.floating], cells: int) -> NDArray[np.float64]:
    """One axis of the kernels, (n, cells): the share of each point in each cell; every row sums to one.

    The kernel is separable, so cutting it at the border and scaling it back to mass one can be done per axis.
    """
    offsets = np.arange(KERNEL_PIXELS) - KERNEL_PIXELS // 2
    pixels = np.floor(coordinates).astype(int)[:, None] + offsets  # (n, 15)
    inside = (pixels >= 0) & (pixels < cells * CELL_PIXELS)
    weights = np.where(inside, np.exp(-0.5 * (offsets / KERNEL_SIGMA_PIXELS) ** 2), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    shares = np.zeros((len(coordinates), cells))
    point, tap = np.nonzero(inside)
    np.add.at(shares, (point, pixels[point, tap] // CELL_PIXELS), weights[point, tap])
    return shares


def density_map(points: Points) -> NDArray[np.float32]:
    """Density of the heads, float32 (72, 128), people per cell of 8x8 pixels; its sum is the number of points.

    Each head is a 15x15 Gaussian of sigma 4 pixels at full resolution (section 4), cut at the border with its mass
    kept, and summed over cells.

    Args:
        points: (n, 2), x in [0, 1024) and y in [0, 576).

    Raises:
        TrainError: a point outside of the picture.
    """
    _require_inside(points)
    rows = _cell_shares(points[:, 1], DENSITY_HEIGHT)  # (n, 72)
    columns = _cell_shares(points[:, 0], DENSITY_WIDTH)  # (n, 128)
    return (rows.T @ columns).astype(np.float32)


def patch_counts(points: Points) -> NDArray[np.float32]:
    """People in each of the 8x8 patches, float32 (64,), row-major.

    A patch holds its left and upper edge but not its right and lower one, so that everyone is counted once.

    Args:
        points: (n, 2), x in [0, 1024) and y in [0, 576).

    Raises:
        TrainError: a point outside of the picture.
    """
    _require_inside(points)
    column = np.floor(points[:, 0] / (PATCH_CELLS_WIDE * CELL_PIXELS)).astype(int)
    row = np.floor(points[:, 1] / (PATCH_CELLS_HIGH * CELL_PIXELS)).astype(int)
    return np.bincount(row * PATCH_GRID + column, minlength=PATCHES).astype(np.float32)


def _require_inside(points: Points) -> None:
    outside = (points < 0).any(axis=1) | (points[:, 0] >= PICTURE_WIDTH) | (points[:, 1] >= PICTURE_HEIGHT)
    if outside.any():
        x, y = points[outside][0]
        raise TrainError(
            f"Saw a head at ({x:g}, {y:g}); wanted 0 <= x < {PICTURE_WIDTH} and 0 <= y < {PICTURE_HEIGHT} pixels, "
            "or the count of the map would not be that of the points. Scale the points with the picture."
        )

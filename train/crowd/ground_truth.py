"""Ground truth from head points or density maps: people per cell, per patch, and per region of a photo's own grid.

For the network, points are pixels of the 1024x576 frame, (n, 2) as x, y; those outside of it are refused, never
silently dropped. A density map covers a photo of any size, and is brought into the frame as the photo is: scaled by one
factor, in the top left corner.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from train.crowd.geometry import size_in_frame
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
Value = TypeVar("Value", np.float32, np.float64)


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


def density_of_map(people: NDArray[np.floating]) -> NDArray[np.float32]:
    """Density of a photo whose truth is a map, float32 (72, 128), people per cell of the frame.

    Every pixel's people are shared out over the cells by area, so the sum stays the map's.

    Args:
        people: (H, W), people per pixel, finite; as large as the photo, or of any size with its aspect.
    """
    height, width = people.shape
    inside_width, inside_height = size_in_frame(width, height)
    rows = _overlaps(np.linspace(0, inside_height, height + 1), np.arange(DENSITY_HEIGHT + 1) * float(CELL_PIXELS))
    columns = _overlaps(np.linspace(0, inside_width, width + 1), np.arange(DENSITY_WIDTH + 1) * float(CELL_PIXELS))
    return (rows @ people.astype(np.float64) @ columns.T).astype(np.float32)


def patch_counts_of(density: NDArray[np.floating]) -> NDArray[np.float32]:
    """People in each of the 8x8 patches of a density (72, 128), float32 (64,), row-major; sums may be fractions."""
    return block_sums(density.astype(np.float64), PATCH_GRID, PATCH_GRID).reshape(PATCHES).astype(np.float32)


def block_sums(values: NDArray[Value], rows: int, columns: int) -> NDArray[Value]:
    """Sums over equal blocks, (H, W) to (rows, columns), of which H and W are multiples."""
    height, width = values.shape
    blocks = values.reshape(rows, height // rows, columns, width // columns)
    sums: NDArray[Value] = blocks.sum(axis=(1, 3))
    return sums


def grid_counts(points: Points, size: tuple[float, float], level: int) -> NDArray[np.float64]:
    """People in each region of the photo's own 2^level x 2^level grid, float64 (4^level,), row-major (for GAME).

    A region holds its left and upper edge but not its right and lower one. Heads annotated outside of the photo belong
    to the nearest region: the sum is always the number of points.

    Args:
        points: (n, 2), x and y.
        size: width and height of the photo, in the points' unit.
        level: 0 for the whole photo.
    """
    side = 2**level
    scaled = np.asarray(points, np.float64).reshape(-1, 2) * side / np.asarray(size, np.float64)
    column, row = np.clip(np.floor(scaled).astype(int), 0, side - 1).T
    return np.bincount(row * side + column, minlength=side * side).astype(np.float64)


def grid_sums(density: NDArray[np.floating], covered: tuple[float, float], level: int) -> NDArray[np.float64]:
    """Density in each region of the photo's own 2^level x 2^level grid, float64 (4^level,), row-major (for GAME).

    A cell that a border of the grid cuts is shared by area. What lies in a cell that the photo covers in part is all
    the photo's, as for the client, so the sum over the regions is that over all cells that the photo touches.

    Args:
        density: (rows, columns), people per cell; cells that the photo does not touch may be there or not.
        covered: columns and rows of cells that the photo covers from the top left corner, fractions of a cell included.
        level: 0 for the whole photo.

    Raises:
        TrainError: the photo covers nothing, or more cells than there are.
    """
    columns, rows = covered
    if not (0 < rows <= density.shape[0] and 0 < columns <= density.shape[1]):
        raise TrainError(
            f"A photo covers {columns:g} columns and {rows:g} rows of cells, but the density has {density.shape[1]} "
            f"and {density.shape[0]}; wanted no more than those, or people would be missing. Give columns first."
        )
    down, across = (_grid_shares(length, 2**level) for length in (rows, columns))
    touched = density[: down.shape[1], : across.shape[1]].astype(np.float64)
    return (down @ touched @ across.T).reshape(-1)


def _grid_shares(length: float, regions: int) -> NDArray[np.float64]:
    """One axis: the share of each touched cell in each of the equal regions, (regions, ceil(length))."""
    cells = np.minimum(np.arange(np.ceil(length) + 1), length)  # the last cell ends with the photo
    return _overlaps(cells, np.linspace(0, length, regions + 1))


def _overlaps(sources: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """The share of each source interval in each target interval, (targets, sources), from the edges of both.

    A column sums to one where the targets cover that source.
    """
    ends = np.minimum(targets[1:, None], sources[None, 1:])
    starts = np.maximum(targets[:-1, None], sources[None, :-1])
    shares: NDArray[np.float64] = np.maximum(ends - starts, 0.0) / np.diff(sources)
    return shares


def _require_inside(points: Points) -> None:
    outside = (points < 0).any(axis=1) | (points[:, 0] >= PICTURE_WIDTH) | (points[:, 1] >= PICTURE_HEIGHT)
    if outside.any():
        x, y = points[outside][0]
        raise TrainError(
            f"Saw a head at ({x:g}, {y:g}); wanted 0 <= x < {PICTURE_WIDTH} and 0 <= y < {PICTURE_HEIGHT} pixels, "
            "or the count of the map would not be that of the points. Scale the points with the picture."
        )

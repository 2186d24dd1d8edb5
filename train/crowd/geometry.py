"""The two settings of section 4: pictures of 1024x576 with 8x8 patches, and the low-resolution one, 128x72 with 4x4.

In both a patch has 144 density cells (9 rows, 16 columns), the paper's Z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from train.settings import (
    CELL_PIXELS,
    PATCH_CELLS_HIGH,
    PATCH_CELLS_WIDE,
    PATCH_GRID,
    PICTURE_HEIGHT,
    PICTURE_WIDTH,
    exact_div,
)

Resolution = Literal["regular", "low"]


@dataclass(frozen=True)
class Geometry:
    """Sizes of a network's picture and density."""

    height: int  # pixels of the picture
    width: int
    cell_pixels: int  # side of a density cell, pixels of the picture
    patch_grid: int  # patches per side, row-major

    @property
    def patches(self) -> int:
        """The paper's P."""
        return self.patch_grid**2

    @property
    def density_height(self) -> int:
        """Rows of density cells."""
        return self.patch_grid * PATCH_CELLS_HIGH

    @property
    def density_width(self) -> int:
        """Columns of density cells."""
        return self.patch_grid * PATCH_CELLS_WIDE


GEOMETRIES: dict[Resolution, Geometry] = {
    "regular": Geometry(PICTURE_HEIGHT, PICTURE_WIDTH, CELL_PIXELS, PATCH_GRID),
    "low": Geometry(
        exact_div(PICTURE_HEIGHT, 8), exact_div(PICTURE_WIDTH, 8), exact_div(2 * CELL_PIXELS, 8), PATCH_GRID // 2
    ),
}


def size_in_frame(width: int, height: int) -> tuple[int, int]:
    """Width and height of a photo in the frame of 1024x576, as large as it fits with its aspect, and at least 1."""
    scale = min(PICTURE_WIDTH / width, PICTURE_HEIGHT / height)
    return max(1, round(width * scale)), max(1, round(height * scale))

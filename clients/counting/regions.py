"""Regions of interest: polygons on the photo, and the people in them.

A density says how many people each cell holds. A region's people are the sum over the cells, each weighted by the
share of it (of its part inside the photo) that the region covers. These shares are exact areas and no samples, so
regions that tile the photo hold everybody once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput, printable

Point = tuple[float, float]  # x, y from the photo's top left corner
Unit = Literal["pixels", "percent"]

TOTAL = "total"  # the whole photo, where an alarm names what it watches
MAX_REGIONS = 64
MAX_POINTS = 256
_MAX_FILE_BYTES = 1 << 20
_FARTHEST = 1e6  # pixels or percent that a corner may lie from the photo; areas stay exact up to there
_NAME = re.compile(r"[^\W_][\w .-]{0,39}")
_EXAMPLE = "NAME=x1,y1,x2,y2,x3,y3,... in pixels of the photo, or each with % of its width or height"


@dataclass(frozen=True)
class Region:
    """A polygon without crossings; it may lie partly beyond the photo, where nobody is.

    Args:
        name: letters, digits, spaces, dots, dashes; 40 characters at most; not "total".
        points: three or more corners (x, y), in order; the last is joined to the first.
        unit: pixels of the photo, or percent of its width and height.

    Raises:
        BadInput: another name, fewer than three corners or more than 256, no area, or edges that cross.
    """

    name: str
    points: tuple[Point, ...]
    unit: Unit = "pixels"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.lower() == TOTAL:
            raise _refused(
                f'A region is named "{printable(self.name)}"',
                f'letters, digits, spaces, dots and dashes, at most 40, other than "{TOTAL}"',
                "the name heads a column of the table",
            )
        if not 3 <= len(self.points) <= MAX_POINTS:
            raise _refused(
                f"Region {self.name} has {len(self.points)} corners", f"3 to {MAX_POINTS}", "fewer enclose nothing"
            )
        corners = np.asarray(self.points, np.float64)
        if corners.shape != (len(self.points), 2) or not (np.abs(corners) <= _FARTHEST).all():
            raise _refused(
                f"Region {self.name} has corners that are no points, or nowhere near the photo",
                f"an x and a y each, at most {_FARTHEST:,.0f}",
                "it has no place",
            )
        crossing = _crossing(self.points)
        if crossing:
            raise _refused(
                f"The edges {crossing[0]} and {crossing[1]} of region {self.name} cross",
                "corners in order around the region",
                "what is inside would be a matter of taste",
            )
        if _area(corners) == 0:
            raise _refused(f"Region {self.name} has no area", "corners that are not on one line", "nobody fits in it")

    def corners(self, width: int, height: int) -> NDArray[np.float64]:
        """The corners (N, 2) in pixels of a photo of this size."""
        scale = (width / 100, height / 100) if self.unit == "percent" else (1.0, 1.0)
        return np.asarray(self.points, np.float64) * scale


@dataclass(frozen=True)
class RegionCount:
    """The people in a region of one photo."""

    region: Region
    people: float
    area_share: float  # 0..1, of the photo


def count_regions(
    regions: Sequence[Region], density: NDArray[np.float32], *, cell_size: tuple[float, float], width: int, height: int
) -> tuple[RegionCount, ...]:
    """The people in each region.

    Args:
        regions: at most 64, each with a name of its own; they may overlap.
        density: (rows, columns), people per cell of the photo, from its top left corner.
        cell_size: height and width of a cell, pixels of the photo; the last row and column may end beyond it.
        width: of the photo, pixels.
        height: of the photo, pixels.

    Raises:
        BadInput: a region lies wholly beyond the photo.
    """
    rows, columns = (
        np.minimum(np.arange(cells + 1) * size, side)
        for cells, size, side in zip(density.shape, cell_size, (height, width), strict=True)
    )
    rows[-1], columns[-1] = height, width  # rounding aside, they are; and a photo's edge belongs to it
    areas = np.diff(rows)[:, None] * np.diff(columns)
    return tuple(_count_region(region, density, rows, columns, areas) for region in regions)


def require_distinct(regions: Sequence[Region]) -> None:
    """Refuse two regions of one name, or too many.

    Raises:
        BadInput: they are.
    """
    names = [region.name for region in regions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _refused(f"Several regions are named {', '.join(twice)}", "a name for each", "their counts would mix")
    if len(names) > MAX_REGIONS:
        raise _refused(f"{len(names)} regions were given", f"at most {MAX_REGIONS}", "each is a column of the table")


def parse_region(text: str) -> Region:
    """A region of the command line: NAME=x1,y1,x2,y2,..., in pixels, or in percent with a % behind every number.

    Raises:
        BadInput: anything else.
    """
    name, _, numbers = text.partition("=")
    words = [word.strip() for word in numbers.split(",")]
    percent = {word.endswith("%") for word in words}
    try:
        values = [float(word.removesuffix("%")) for word in words]
    except ValueError:
        values = []
    if len(values) % 2 or not values or len(percent) > 1:
        raise _refused(f'The region "{printable(text)}" does not read', _EXAMPLE, "its place would be guessed at")
    return Region(name.strip(), tuple(zip(values[::2], values[1::2], strict=True)), _unit(percent == {True}))


def read_regions(path: Path) -> list[Region]:
    """Regions of a JSON file: an object of names, each with its corners.

        {"gate": [[10, 20], [300, 20], [300, 200]], "left": [["0%", "0%"], ["40%", "0%"], ["40%", "99%"]]}

    Raises:
        BadInput: no such file, or it says something else.
    """
    name = printable(path)
    try:
        with path.open("rb") as file:  # a pipe too, whose size nobody knows
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise ValueError(f"it has more than {_MAX_FILE_BYTES:,} bytes")
        said = json.loads(content.decode(), object_pairs_hook=_unique)
        if not isinstance(said, dict) or not said:
            raise ValueError("it is no object of names")
        return [_region_of(region, points) for region, points in said.items()]
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(
            f"The regions of {name} do not read: {printable(reason)}",
            'a JSON object such as {"gate": [[10, 20], [300, 20], [300, 200]]}, in pixels or as "50%"',
            "their places would be guessed at",
        ) from None


def _region_of(name: str, points: Any) -> Region:
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ValueError(f"{name} is no list of points [x, y]")
    texts = [str(number) for point in points for number in point]
    return parse_region(f"{name}={','.join(texts)}")


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    """JSON's objects may say a name twice; the last would win unseen."""
    said = dict(pairs)
    if len(said) < len(pairs):
        raise ValueError("a name stands there twice")
    return said


def _unit(percent: bool) -> Unit:
    return "percent" if percent else "pixels"


def _refused(seen: str, wanted: str, why: str) -> BadInput:
    return BadInput(seen, wanted, why, "correct --region or the file of --regions")


def _count_region(
    region: Region,
    density: NDArray[np.float32],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    areas: NDArray[np.float64],
) -> RegionCount:
    width, height = int(columns[-1]), int(rows[-1])
    covered = covered_areas(region.corners(width, height), rows, columns)
    if not covered.any():
        raise _refused(
            f"Region {region.name} lies beyond the photo of {width}x{height} pixels",
            "a polygon on the photo",
            "nobody can be counted there",
        )
    people = float((density.astype(np.float64) * (covered / areas)).sum())
    return RegionCount(region, people, float(covered.sum() / areas.sum()))


def covered_areas(
    corners: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much of every cell a polygon covers, exactly, as font rasterisers do it.

    Each edge is cut at the grid's lines. A piece lies in one cell then, and adds the signed area between itself and the
    right end of its row: a trapezoid in its own cell, whole heights in the cells to the right. What lies beyond the
    grid's sides is moved onto them, which is what clipping does to such areas.

    Args:
        corners: (N, 2), x and y, in order around a polygon whose edges do not cross.
        rows: (R + 1,), the cells' borders from top to bottom, ascending.
        columns: (C + 1,), from left to right.

    Returns:
        (R, C), in the square of the corners' unit.
    """
    heights, widths = np.diff(rows), np.diff(columns)
    ends = _pieces(corners, rows, columns)  # (pieces, 2 ends, x and y)
    x = np.clip(ends[..., 0], columns[0], columns[-1])
    y = np.clip(ends[..., 1], rows[0], rows[-1])
    row = np.clip(np.searchsorted(rows, y.mean(axis=1), side="right") - 1, 0, len(heights) - 1)
    column = np.clip(np.searchsorted(columns, x.mean(axis=1), side="right") - 1, 0, len(widths) - 1)
    rise = y[:, 1] - y[:, 0]
    own = np.zeros((len(heights), len(widths)))
    rises = np.zeros((len(heights), len(widths) + 1))
    np.add.at(own, (row, column), rise * (columns[column + 1] - x.mean(axis=1)))
    np.add.at(rises, (row, column + 1), rise)
    signed = own + np.cumsum(rises, axis=1)[:, :-1] * widths
    return np.asarray(np.clip(np.abs(signed), 0, heights[:, None] * widths))


def _pieces(
    corners: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The polygon's edges, cut where they cross a line of the grid: (pieces, 2, 2)."""
    pieces = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        shares = [np.array([0.0, 1.0])]
        for axis, lines in enumerate((columns, rows)):
            if start[axis] != end[axis]:
                at = (lines - start[axis]) / (end[axis] - start[axis])
                shares.append(at[(at > 0) & (at < 1)])
        along = np.unique(np.concatenate(shares))[:, None]
        points = start * (1 - along) + end * along
        pieces.append(np.stack([points[:-1], points[1:]], axis=1))
    return np.concatenate(pieces)


def _area(corners: NDArray[np.float64]) -> float:
    """The shoelace formula, signed."""
    x, y = corners.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def _crossing(points: Sequence[Point]) -> tuple[int, int] | None:
    """Two edges that cross each other, counted from 1."""
    edges = list(zip(points, [*points[1:], points[0]], strict=True))
    for (i, (a, b)), (j, (c, d)) in combinations(enumerate(edges, start=1), 2):
        if _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0:
            return i, j
    return None


def _side(a: Point, b: Point, c: Point) -> float:
    """On which side of the line from a to b a point lies, as a sign; 0 on it."""
    return float(np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])))

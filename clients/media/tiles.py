"""Photos larger than the network's frame as overlapping tiles, mirror images, and the answers as one density.

One frame shows a photo of 4000x3000 pixels at a quarter of its resolution, where far heads are two pixels wide. Cut
into tiles, it is seen at its own resolution, or at any between. The photo is resized once, laid out in cells (8x8
pixels of the network), and every tile is one frame that begins at a whole cell:

    cells of the photo  0 ............................................................. N
    tile 0              |kept kept kept kept|.......|
    tile 1                          |.......|kept kept kept|.......|
    tile 2                                         |.......|kept kept kept kept|         (ends with the photo)

Neighbours overlap by twice the context or more and are cut in the middle of the overlap, so that each cell of the map
comes from exactly one tile, which has seen at least the context around it: nobody is counted twice, nobody is left
out, and the map's sum is the count. A network that sees no further than the context around a cell gives the very map
of the whole photo; ours sees its whole frame, so its answers differ a little, and larger heads than it was trained
with are the price of resolution. Where the photo is smaller than a frame, the rest is zero, as in the letterbox.

Pure: what turns frames into densities is given as a function, a served model as well as a network at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput
from clients.media.letterbox import Letterbox
from clients.media.limits import MAX_TILES, MAX_TILES_PER_SIDE
from clients.media.picture import Picture

Density = NDArray[np.float32]  # (rows, columns), people per cell
Tiles = int | Literal["auto"]  # tiles per side; or as many as the photo's own resolution needs
Answer = Callable[[list[Picture]], Sequence[Density]]  # frames to the densities of the whole frames, in order

CONTEXT_CELLS = 8  # seen around what is kept: 64 pixels, several heads of the training's size


@dataclass(frozen=True)
class Frame:
    """What the network sees at once."""

    width: int  # pixels
    height: int
    cell_pixels: int  # side of a density cell

    @property
    def rows(self) -> int:
        """Cells from top to bottom."""
        return self.height // self.cell_pixels

    @property
    def columns(self) -> int:
        """Cells from left to right."""
        return self.width // self.cell_pixels


@dataclass(frozen=True)
class Stretch:
    """What a tile sees and keeps along one side, in cells of the photo."""

    start: int  # first cell that it sees
    first: int  # first cell that it keeps
    end: int  # one behind the last that it keeps


@dataclass(frozen=True)
class TilePlan:
    """How a photo is resized and cut."""

    frame: Frame
    letterbox: Letterbox  # of the photo in the area that all tiles cover together
    rows: tuple[Stretch, ...]
    columns: tuple[Stretch, ...]

    @property
    def tiles(self) -> tuple[tuple[Stretch, Stretch], ...]:
        """Rows and columns of every tile, row by row."""
        return tuple((row, column) for row in self.rows for column in self.columns)

    @property
    def scale(self) -> float:
        """Pixels of the network per pixel of the photo."""
        return self.letterbox.width / self.letterbox.photo_width


@dataclass(frozen=True)
class PhotoDensity:
    """Where the people of a photo are."""

    density: Density  # (rows, columns), people per cell; cells of the photo, from its top left corner
    cell_size: tuple[float, float]  # height and width of a cell, pixels of the photo
    people_beyond: float  # left out: counted in the frames beyond the photo, where nobody can be
    plan: TilePlan

    @property
    def count(self) -> float:
        """People in the photo."""
        return float(self.density.sum(dtype=np.float64))


def plan_tiles(
    width: int, height: int, *, frame: Frame, tiles: Tiles = 1, context_cells: int = CONTEXT_CELLS
) -> TilePlan:
    """Choose the resolution and the tiles for a photo; nothing of the photo's size is allocated.

    Args:
        width: of the photo, pixels.
        height: of the photo, pixels.
        frame: the network's.
        tiles: 1 for the plain letterbox; n for as much resolution as at most n x n tiles give, interpolated where the
            photo has less; "auto" for the photo's own resolution, or what 64 tiles give of it. A photo no larger than
            the frame is one tile then.
        context_cells: seen around what a tile keeps, but at the photo's edges.

    Raises:
        BadInput: tiles outside 1 to 8.
        ValueError: the context leaves nothing of a frame.
    """
    if 2 * context_cells >= min(frame.rows, frame.columns):
        raise ValueError(f"a context of {context_cells} cells leaves nothing of {frame.rows}x{frame.columns}")
    inside = (
        _own_size(width, height, frame, context_cells)
        if tiles == "auto"
        else _grid_size(width, height, frame, _per_side(tiles), context_cells)
    )
    cells_wide, cells_high = (-(-side // frame.cell_pixels) for side in inside)
    covered_width = max(frame.width, cells_wide * frame.cell_pixels)
    covered_height = max(frame.height, cells_high * frame.cell_pixels)
    return TilePlan(
        frame,
        Letterbox(*inside, covered_width, covered_height, width, height),
        _stretches(cells_high, frame.rows, context_cells),
        _stretches(cells_wide, frame.columns, context_cells),
    )


@dataclass(frozen=True)
class CutPhoto:
    """A photo as frames for the network, and the way back; between them lies the asking, however it is done."""

    frames: list[Picture]  # each (frame.height, frame.width, 3); with `flip` those of the mirror image follow
    plan: TilePlan
    flip: bool

    def join(self, densities: Sequence[Density]) -> PhotoDensity:
        """The frames' densities put together.

        Args:
            densities: (frame.rows, frame.columns), people per cell, for each frame, in order.

        Raises:
            ValueError: densities of another number or shape.
        """
        answers = [np.asarray(density, np.float32) for density in densities]
        _require_densities(answers, len(self.frames), self.plan.frame)
        number = len(self.plan.tiles)
        density, beyond = _join(answers[:number], self.plan)
        if self.flip:
            other, other_beyond = _join(answers[number:], self.plan)
            density, beyond = (density + other[:, ::-1]) / 2, (beyond + other_beyond) / 2
        return PhotoDensity(density, self.plan.letterbox.cell_size(self.plan.frame.cell_pixels), beyond, self.plan)


def cut_photo(
    picture: Picture, *, frame: Frame, tiles: Tiles = 1, flip: bool = False, context_cells: int = CONTEXT_CELLS
) -> CutPhoto:
    """Resize a photo and cut it into frames.

    Args:
        picture: (H, W, 3) RGB, any size.
        frame: the network's.
        tiles: see `plan_tiles`; 1 is the plain letterbox.
        flip: the mirror image's frames, too; the density is the mean of both.
        context_cells: see `plan_tiles`.

    Raises:
        BadInput: tiles outside 1 to 8.
        ValueError: the context leaves nothing of a frame.
    """
    height, width = picture.shape[:2]
    plan = plan_tiles(width, height, frame=frame, tiles=tiles, context_cells=context_cells)
    area = plan.letterbox.place(picture)
    return CutPhoto(_cut(area, plan) + (_cut(mirrored(area, plan), plan) if flip else []), plan, flip)


def count_in_tiles(
    picture: Picture,
    answer: Answer,
    *,
    frame: Frame,
    tiles: Tiles = 1,
    flip: bool = False,
    context_cells: int = CONTEXT_CELLS,
) -> PhotoDensity:
    """Ask for the density of every tile and put them together.

    Args:
        picture: (H, W, 3) RGB, any size.
        answer: called once with all frames, each (frame.height, frame.width, 3); gives (frame.rows, frame.columns),
            people per cell, for each.
        frame: the network's.
        tiles: see `plan_tiles`.
        flip: see `cut_photo`.
        context_cells: see `plan_tiles`.

    Raises:
        BadInput: tiles outside 1 to 8.
        ValueError: the context leaves nothing of a frame, or densities of another number or shape.
    """
    cut = cut_photo(picture, frame=frame, tiles=tiles, flip=flip, context_cells=context_cells)
    return cut.join(answer(cut.frames))


def mirrored(area: Picture, plan: TilePlan) -> Picture:
    """The mirror image of a placed photo, cell upon cell.

    A photo rarely ends with a cell. What is mirrored is therefore its whole cells with the black columns behind it,
    which then stand at the left: the mirror image's cell k is the photo's k-th from the right, and no density has to
    be split.
    """
    cell_pixels = plan.frame.cell_pixels
    wide = plan.letterbox.cells(cell_pixels)[1] * cell_pixels
    image = np.zeros_like(area)
    image[:, :wide] = area[:, :wide][:, ::-1]
    return image


def _per_side(tiles: int) -> int:
    if not isinstance(tiles, int | np.integer) or not 1 <= tiles <= MAX_TILES_PER_SIDE:
        raise BadInput(
            f"{tiles} tiles per side were asked for",
            f'a whole number from 1 to {MAX_TILES_PER_SIDE}, or "auto"',
            "each tile is a request and takes memory",
            "give another number",
        )
    return int(tiles)


def _covered(tiles: int, seen: int, context: int) -> int:
    """The most cells that so many tiles in a row can cover."""
    return tiles * (seen - 2 * context) + 2 * context


def _needed(cells: int, seen: int, context: int) -> int:
    """The fewest tiles in a row that cover so many cells."""
    return max(1, -(-(cells - 2 * context) // (seen - 2 * context)))


def _grid_size(width: int, height: int, frame: Frame, tiles: int, context: int) -> tuple[int, int]:
    """The largest size of the photo, in the network's pixels, that a square of tiles covers."""
    most_wide = _covered(tiles, frame.columns, context) * frame.cell_pixels
    most_high = _covered(tiles, frame.rows, context) * frame.cell_pixels
    return _scaled(width, height, min(most_wide / width, most_high / height))


def _own_size(width: int, height: int, frame: Frame, context: int) -> tuple[int, int]:
    """The photo's own size; less where that takes too many tiles, and more where one tile has room for more."""
    one = _grid_size(width, height, frame, 1, context)
    if one[0] >= width and one[1] >= height:
        return one
    # Between two scales at which one side fills its tiles, more resolution costs nothing: only those are worth trying.
    cell = frame.cell_pixels
    scales = {1.0}
    for tiles in range(1, MAX_TILES + 1):
        scales |= {_covered(tiles, frame.columns, context) * cell / width}
        scales |= {_covered(tiles, frame.rows, context) * cell / height}
    for scale in sorted((scale for scale in scales if scale <= 1), reverse=True):
        inside_width, inside_height = _scaled(width, height, scale)
        columns = _needed(-(-inside_width // cell), frame.columns, context)
        rows = _needed(-(-inside_height // cell), frame.rows, context)
        if rows * columns <= MAX_TILES:
            return inside_width, inside_height
    return one


def _scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(1, round(width * scale)), max(1, round(height * scale))


def _stretches(cells: int, seen: int, context: int) -> tuple[Stretch, ...]:
    """Tiles along one side, evenly spaced from edge to edge, each cut from the next in the middle of their overlap."""
    number = _needed(cells, seen, context)
    starts = [round(i * (cells - seen) / (number - 1)) for i in range(number)] if number > 1 else [0]
    cuts = [(start + seen + following) // 2 for start, following in pairwise(starts)]
    return tuple(Stretch(*numbers) for numbers in zip(starts, [0, *cuts], [*cuts, cells], strict=True))


def _cut(area: Picture, plan: TilePlan) -> list[Picture]:
    """The tiles' frames, as views of the area."""
    frame, cell = plan.frame, plan.frame.cell_pixels
    return [
        area[row.start * cell :, column.start * cell :][: frame.height, : frame.width] for row, column in plan.tiles
    ]


def _join(answers: Sequence[Density], plan: TilePlan) -> tuple[Density, float]:
    """The photo's density, and the people in the frames beyond the photo."""
    density = np.zeros(plan.letterbox.cells(plan.frame.cell_pixels), np.float32)
    beyond = 0.0
    for (row, column), answer in zip(plan.tiles, answers, strict=True):
        # What the last tile of a side sees beyond the photo has no other tile: it belongs to this one, too.
        down = None if row is plan.rows[-1] else row.end - row.start
        right = None if column is plan.columns[-1] else column.end - column.start
        own = answer[row.first - row.start : down, column.first - column.start : right]
        kept = own[: row.end - row.first, : column.end - column.first]
        density[row.first : row.end, column.first : column.end] = kept
        beyond += float(own.sum(dtype=np.float64) - kept.sum(dtype=np.float64))
    return density, beyond


def _require_densities(answers: Sequence[Density], number: int, frame: Frame) -> None:
    shapes = {answer.shape for answer in answers}
    if len(answers) != number or shapes != {(frame.rows, frame.columns)}:
        raise ValueError(f"{number} densities of {frame.rows}x{frame.columns} were due; got {len(answers)}: {shapes}")

"""Regions: exact areas against matplotlib's clipping, nobody lost where they meet, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_triton import FakeTriton, crowd_of, serving
from matplotlib.path import Path as Outline
from matplotlib.transforms import Bbox
from scipy.spatial import Delaunay

from clients.counter import CrowdCounter
from clients.counting.regions import (
    Region,
    count_regions,
    covered_areas,
    parse_region,
    read_regions,
    require_distinct,
)
from clients.errors import BadInput

L_SHAPE = [(10, 10), (90, 10), (90, 30), (35.5, 30), (35.5, 77.25), (10, 77.25)]
COMB = [(0, 0), (100, 0), (100, 90), (80, 20), (60, 90), (40, 20), (20, 90)]


def shoelace(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2)


def clipped_areas(corners: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The same by another road: matplotlib cuts the polygon to each cell."""
    outline = Outline(np.vstack([corners, corners[:1]]), closed=True)
    areas = np.zeros((len(rows) - 1, len(columns) - 1))
    for row in range(len(rows) - 1):
        for column in range(len(columns) - 1):
            cell = Bbox([(columns[column], rows[row]), (columns[column + 1], rows[row + 1])])
            piece = outline.clip_to_bbox(cell).vertices
            areas[row, column] = shoelace(piece) if len(piece) > 2 else 0
    return areas


def star(seed: int, corners: int = 9) -> np.ndarray:
    """A polygon around (50, 45) with edges that do not cross, partly beyond 0 to 100."""
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radii = random.uniform(10, 70, corners)
    return np.stack([50 + radii * np.cos(angles), 45 + radii * np.sin(angles)], axis=1)


@pytest.mark.parametrize("corners", [L_SHAPE, COMB, *(star(seed) for seed in range(8))])
@pytest.mark.parametrize("turned", [False, True])
def test_a_region_covers_of_every_cell_the_area_that_clipping_leaves(corners: np.ndarray, turned: bool) -> None:
    polygon = np.asarray(corners, np.float64)[:: -1 if turned else 1]
    rows, columns = np.array([0, 8.3, 16.6, 24.9, 60, 88.8]), np.array([0, 11, 22, 33, 70.7, 99, 100])
    np.testing.assert_allclose(
        covered_areas(polygon, rows, columns), clipped_areas(polygon, rows, columns), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [(300, 500), (97, 203), (1001, 640)])
def test_regions_that_tile_the_photo_hold_everybody_once(seed: int, size: tuple[int, int]) -> None:
    height, width = size
    random = np.random.default_rng(seed)
    density = random.random((-(-height // 8), -(-width // 8))).astype(np.float32)
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    points = np.array([*corners, *random.uniform((0, 0), (width, height), (30, 2))])
    triangles = [
        Region(f"part {number}", tuple(map(tuple, points[triangle].tolist())))
        for number, triangle in enumerate(Delaunay(points).simplices)
    ]
    found = count_regions(triangles, density, cell_size=(8, 8), width=width, height=height)
    assert len(found) > 30
    assert sum(one.people for one in found) == pytest.approx(density.sum(dtype=np.float64), rel=1e-12)
    assert sum(one.area_share for one in found) == pytest.approx(1, rel=1e-12)


def test_people_of_a_cell_that_ends_beyond_the_photo_are_those_of_its_part_inside() -> None:
    density = np.array([[0, 6]], np.float32)  # two cells of 8 pixels on a photo of 11: the second has 3 inside
    inner = Region("inner", ((8, 0), (9, 0), (9, 8), (8, 8)))
    (found,) = count_regions([inner], density, cell_size=(8, 8), width=11, height=8)
    assert found.people == pytest.approx(2) and found.area_share == pytest.approx(1 / 11)


def test_what_lies_beyond_the_photo_adds_nothing() -> None:
    density = np.ones((4, 4), np.float32)
    everything = Region("everything", ((-100, -50), (900, -70), (500, 800), (-300, 700)))
    (found,) = count_regions([everything], density, cell_size=(10, 10), width=37, height=40)
    assert found.people == pytest.approx(16, rel=1e-12) and found.area_share == pytest.approx(1)
    away = Region("away", ((50, 0), (60, 0), (60, 40)))
    with pytest.raises(BadInput, match="Region away lies beyond the photo of 37x40 pixels"):
        count_regions([away], density, cell_size=(10, 10), width=37, height=40)


def test_percent_are_shares_of_the_photos_own_width_and_height() -> None:
    density = np.random.default_rng(0).random((30, 50)).astype(np.float32)
    regions = [
        parse_region("half=50%,0%,100%,0%,100%,100%,50%,100%"),
        parse_region("half 2=200,0,400,0,400,240,200,240"),
    ]
    first, second = count_regions(regions, density, cell_size=(8, 8), width=400, height=240)
    assert first.people == pytest.approx(second.people, rel=1e-12)
    assert first.people == pytest.approx(density[:, 25:].sum(dtype=np.float64), rel=1e-12)


@pytest.mark.parametrize("tiles", [None, 2, "auto"])
def test_a_counted_photo_says_the_people_of_its_regions(tiles: int | str | None) -> None:
    density = np.random.default_rng(1).random((72, 128)).astype(np.float32)
    halves = [
        parse_region("left=0%,0%,33%,0%,33%,100%,0%,100%"),
        parse_region("right=33%,0%,100%,0%,100%,100%,33%,100%"),
    ]
    fake = FakeTriton({"crowd_counting_vision": crowd_of(density)})
    with serving(fake) as url, CrowdCounter(url) as counter:
        result = counter.count(np.zeros((700, 1300, 3), np.uint8), regions=halves, tiles=tiles)
    said = result.to_dict()["regions"]
    assert [*said] == ["left", "right"] and said["left"]["area_share"] == pytest.approx(0.33)
    assert sum(result.counts[name] for name in ("left", "right")) == pytest.approx(result.count, rel=1e-12)
    assert result.counts["left"] < result.counts["right"]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("gate", 'The region "gate" does not read'),
        ("gate=", "does not read"),
        ("gate=1,2,3,4,5", "does not read"),
        ("gate=1,2,3,4,5,x", "does not read"),
        ("gate=0%,0%,50%,0,50%,50%", "does not read"),
        ("gate=1,2,3,4", "Region gate has 2 corners"),
        ("gate=0,0,10,10,20,20", "Region gate has no area"),
        ("gate=0,0,10,10,10,0,0,10", "The edges 1 and 3 of region gate cross"),
        ("gate=0,0,nan,10,10,0", "corners that are no points"),
        ("gate=0,0,1e308,0,1e308,1e308", "corners that are no points, or nowhere near the photo"),
        ("=0,0,10,0,10,10", 'A region is named ""'),
        ("Total=0,0,10,0,10,10", 'A region is named "Total"'),
        ("a,b=0,0,10,0,10,10", 'A region is named "a,b"'),
        ("=cmd()=0,0,10,0,10,10", "does not read"),
        ("g\x1b[2J=0,0,10,0,10,10", r'A region is named "g\\x1b\[2J"'),
        (f"{'g' * 41}=0,0,10,0,10,10", "A region is named"),
    ],
)
def test_a_region_that_does_not_read_is_refused(text: str, seen: str) -> None:
    with pytest.raises(BadInput, match=seen):
        parse_region(text)


def test_regions_come_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "site.json"
    file.write_text(
        json.dumps({"gate": [[1, 2], [30, 2], [30, 40]], "left half": [["0%", "0%"], ["50%", "0%"], ["50%", "9%"]]})
    )
    gate, left = read_regions(file)
    assert gate == Region("gate", ((1, 2), (30, 2), (30, 40)))
    assert left == Region("left half", ((0, 0), (50, 0), (50, 9)), "percent")


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ("", "Expecting value"),
        ("[]", "no object of names"),
        ("{}", "no object of names"),
        ('{"gate": 3}', "gate is no list of points"),
        ('{"gate": [[1, 2], [3, 4], [5]]}', "gate is no list of points"),
        ('{"gate": [[1, 2], [3, 4], [5, null]]}', "does not read"),
        ('{"gate": [[0, 0], [9, 0], [9, 9]], "gate": [[0, 0], [9, 0], [9, 8]]}', "a name stands there twice"),
        ("[" * 100_000, "recursion"),
        (" " * 1_100_000, "more than 1,048,576 bytes"),
        ("\udcff", "can't decode"),
    ],
)
def test_a_file_that_does_not_read_is_refused(tmp_path: Path, content: str, seen: str) -> None:
    file = tmp_path / "site.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match=seen):
        read_regions(file)
    with pytest.raises(BadInput, match="No such file"):
        read_regions(tmp_path / "absent.json")
    with pytest.raises(BadInput, match="more than 1,048,576 bytes"):
        read_regions(Path("/dev/zero"))


def test_names_that_would_mix_and_too_many_are_refused() -> None:
    gate = Region("gate", ((0, 0), (9, 0), (9, 9)))
    with pytest.raises(BadInput, match="Several regions are named gate"):
        require_distinct([gate, gate])
    with pytest.raises(BadInput, match="65 regions were given"):
        require_distinct([Region(f"r{number}", gate.points) for number in range(65)])
    with pytest.raises(BadInput, match="Region gate has 257 corners"):
        Region("gate", tuple((float(x), float(x * x)) for x in range(257)))

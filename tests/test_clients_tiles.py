"""Tiles and mirror images: every cell once, every frame whole, and the untiled map where the network sees locally."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import ndimage

from clients.errors import BadInput
from clients.media.letterbox import Letterbox
from clients.media.limits import MAX_TILES
from clients.media.tiles import Frame, Tiles, count_in_tiles, plan_tiles

FRAME = Frame(1024, 576, 8)
SMALL = Frame(320, 256, 8)  # 32 rows of 40 cells: the same laws, a seventh of the work
Network = Callable[[np.ndarray], np.ndarray]

SIZES = [(576, 1024), (600, 1100), (97, 2000), (2000, 97), (768, 1024), (301, 299), (16, 16)]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def cell_means(frame: np.ndarray) -> np.ndarray:
    """A network that sees one cell at a time: a cell's people are its brightness."""
    rows, columns = frame.shape[0] // 8, frame.shape[1] // 8
    return frame.mean(axis=2).reshape(rows, 8, columns, 8).mean(axis=(1, 3)).astype(np.float32)


def neighbourhoods(frame: np.ndarray) -> np.ndarray:
    """A network that sees 8 cells to every side, with zeros beyond the frame."""
    return ndimage.uniform_filter(cell_means(frame).astype(float), 17, mode="constant").astype(np.float32)


def sent_for(photo: np.ndarray, **options: Any) -> list[np.ndarray]:
    """The frames that the network is asked for."""
    sent: list[np.ndarray] = []

    def answer(frames: list[np.ndarray]) -> list[np.ndarray]:
        sent.extend(frames)
        return [cell_means(frame) for frame in frames]

    count_in_tiles(photo, answer, **options)
    return sent


def seen_whole(picture: np.ndarray, network: Network, box: Letterbox) -> np.ndarray:
    """What the network gives for the photo in one frame that is large enough."""
    return box.remove(network(box.place(picture)), 8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tiles", [1, 2, 3, "auto"])
@pytest.mark.parametrize("network", [cell_means, neighbourhoods])
def test_the_assembled_map_is_that_of_the_whole_photo(size: tuple[int, int], tiles: Tiles, network: Network) -> None:
    photo = noise(*size)
    found = count_in_tiles(photo, lambda frames: [network(f) for f in frames], frame=SMALL, tiles=tiles)
    whole = seen_whole(photo, network, found.plan.letterbox)
    np.testing.assert_allclose(found.density, whole, rtol=1e-5, atol=1e-3)
    assert found.count == pytest.approx(whole.sum(dtype=np.float64), rel=1e-6)


def test_a_context_smaller_than_what_the_network_sees_shows() -> None:
    photo = noise(600, 1100)
    found = count_in_tiles(
        photo, lambda frames: [neighbourhoods(f) for f in frames], frame=SMALL, tiles=3, context_cells=2
    )
    whole = seen_whole(photo, neighbourhoods, found.plan.letterbox)
    assert np.abs(found.density - whole).max() > 1


@pytest.mark.parametrize("tiles", [1, 2, 5, 8, "auto"])
def test_every_cell_is_kept_once_and_seen_with_its_context(tiles: Tiles) -> None:
    random = np.random.default_rng(1)
    for width, height in random.integers(16, 9000, (60, 2)):
        plan = plan_tiles(int(width), int(height), frame=FRAME, tiles=tiles)
        rows, columns = plan.letterbox.cells(8)
        kept = np.zeros((rows, columns), int)
        for row, column in plan.tiles:
            kept[row.first : row.end, column.first : column.end] += 1
            for part, seen, cells in ((row, FRAME.rows, rows), (column, FRAME.columns, columns)):
                assert part.start == 0 or (part.first - part.start >= 8 and part.start + seen <= cells)
                assert part.end == cells or part.start + seen - part.end >= 8
        assert (kept == 1).all()
        assert len(plan.tiles) <= (MAX_TILES if tiles == "auto" else tiles**2)


def test_one_tile_is_the_plain_letterbox() -> None:
    for height, width in SIZES:
        photo = noise(height, width)
        box = Letterbox.fit(photo, frame_width=1024, frame_height=576)
        np.testing.assert_array_equal(sent_for(photo, frame=FRAME), [box.place(photo)])


@pytest.mark.parametrize(("size", "grid"), [((3000, 4000), (7, 5)), ((768, 1024), (2, 1)), ((576, 1024), (1, 1))])
def test_auto_is_the_photos_own_resolution(size: tuple[int, int], grid: tuple[int, int]) -> None:
    plan = plan_tiles(size[1], size[0], frame=FRAME, tiles="auto")
    assert plan.scale == 1 and (len(plan.rows), len(plan.columns)) == grid


def test_auto_sends_the_photos_own_pixels() -> None:
    photo = noise(700, 1300)
    sent = sent_for(photo, frame=FRAME, tiles="auto")
    assert [frame.shape for frame in sent] == [(576, 1024, 3)] * 4
    np.testing.assert_array_equal(sent[0], photo[:576, :1024])
    np.testing.assert_array_equal(sent[-1][-4:], np.pad(photo, ((0, 4), (0, 4), (0, 0)))[-4:, -1024:])


def test_auto_takes_as_much_of_a_huge_photo_as_64_tiles_give() -> None:
    plan = plan_tiles(9000, 5500, frame=FRAME, tiles="auto")
    assert 0.7 < plan.scale < 1 and 56 <= len(plan.tiles) <= 64
    assert plan.letterbox.frame_width * plan.letterbox.frame_height < 64 * 1024 * 576


def test_auto_magnifies_a_small_photo_no_more_than_the_letterbox_does() -> None:
    plan = plan_tiles(300, 200, frame=FRAME, tiles="auto")
    assert plan == plan_tiles(300, 200, frame=FRAME, tiles=1)


def test_a_finer_grid_gives_nearly_as_much_more_resolution() -> None:
    scales = [plan_tiles(4000, 3000, frame=FRAME, tiles=tiles).scale for tiles in range(1, 9)]
    assert scales == sorted(scales)
    assert scales[3] / scales[0] == pytest.approx(4 - 3 * 16 / 72, rel=0.01)  # 16 of 72 rows are seen by two tiles


@pytest.mark.parametrize("tiles", [0, 9, -1, 3.5])
def test_a_number_of_tiles_that_is_none_is_refused(tiles: Any) -> None:
    with pytest.raises(BadInput, match=f"{tiles} tiles per side were asked for"):
        plan_tiles(100, 100, frame=FRAME, tiles=tiles)


def test_a_context_that_leaves_nothing_and_wrong_densities_are_refused() -> None:
    with pytest.raises(ValueError, match="context of 36 cells leaves nothing of 72x128"):
        plan_tiles(100, 100, frame=FRAME, context_cells=36)
    with pytest.raises(ValueError, match="1 densities of 72x128 were due"):
        count_in_tiles(noise(20, 20), lambda frames: [np.zeros((36, 64), np.float32)], frame=FRAME)


def test_people_in_the_frames_beyond_the_photo_are_left_out_and_told() -> None:
    found = count_in_tiles(
        noise(97, 2000), lambda frames: [np.ones((72, 128), np.float32)] * len(frames), frame=FRAME, tiles="auto"
    )
    assert found.density.shape == (13, 250) and len(found.plan.tiles) == 3
    assert found.count == 13 * 250 and found.people_beyond == (72 - 13) * 250


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tiles", [1, 2, "auto"])
def test_the_mirror_image_of_a_network_that_knows_no_sides_changes_nothing(size: tuple[int, int], tiles: Tiles) -> None:
    photo = noise(*size)
    plain, both = (
        count_in_tiles(photo, lambda frames: [cell_means(f) for f in frames], frame=SMALL, tiles=tiles, flip=flip)
        for flip in (False, True)
    )
    np.testing.assert_allclose(both.density, plain.density, rtol=1e-6)


def left_edges(frame: np.ndarray) -> np.ndarray:
    """A network that knows sides: rising brightness counts, falling does not."""
    grey = frame.mean(axis=2)
    rises = np.maximum(np.diff(grey, axis=1, prepend=grey[:, :1]), 0)
    return cell_means(np.repeat(rises[..., None], 3, axis=2))


def test_the_mean_of_both_images_is_the_same_for_a_photo_and_its_mirror_image() -> None:
    photo = noise(250, 304)  # in whole cells both ways, so that the mirrored photo has the same cells
    maps = [
        count_in_tiles(p, lambda frames: [left_edges(f) for f in frames], frame=Frame(304, 256, 8), flip=flip).density
        for flip in (True, False)
        for p in (photo, photo[:, ::-1])
    ]
    np.testing.assert_allclose(maps[0], maps[1][:, ::-1], rtol=1e-5)
    assert np.abs(maps[2] - maps[3][:, ::-1]).max() > 1, "a network that knew no sides would prove nothing"
    np.testing.assert_allclose(maps[0], (maps[2] + maps[3][:, ::-1]) / 2, rtol=1e-5)


def test_the_mirror_image_ends_where_the_photos_last_cell_does() -> None:
    photo = noise(256, 301)  # 37.6 cells wide
    plain, mirror = sent_for(photo, frame=SMALL, flip=True)
    np.testing.assert_array_equal(plain[:, :301], photo)
    np.testing.assert_array_equal(mirror[:, 3:304], photo[:, ::-1])
    assert not mirror[:, :3].any() and not mirror[:, 304:].any() and not plain[:, 301:].any()


def test_the_sum_follows_the_people_and_not_the_tiles() -> None:
    """Dots of equal brightness at the photo's own resolution: as many as there are, however they are cut."""
    photo = np.zeros((1500, 2200, 3), np.uint8)
    random = np.random.default_rng(2)
    for x, y in random.integers(0, (2198, 1498), (300, 2)):
        cv2.rectangle(photo, (int(x), int(y)), (int(x) + 1, int(y) + 1), (255, 255, 255), -1)
    found = count_in_tiles(photo, lambda frames: [cell_means(f) for f in frames], frame=FRAME, tiles="auto")
    assert len(found.plan.tiles) > 4
    assert found.count == pytest.approx(photo.mean(axis=2).sum() / 64, rel=1e-5)

"""From a photo of any size to people and their places, and back to the photo's own pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_triton import Answer, FakeTriton, crowd_of, serving

from clients.counter import CrowdCount, CrowdCounter
from clients.errors import BadInput
from clients.letterbox import Letterbox

SIZES = [(576, 1024), (300, 300), (1500, 1000), (97, 2000), (40, 30)]


def dots(height: int, width: int, points: list[tuple[int, int]]) -> np.ndarray:
    """A black photo with white squares, large enough to survive shrinking."""
    picture = np.zeros((height, width, 3), np.uint8)
    half = max(2, max(height, width) // 200)
    for x, y in points:
        picture[max(0, y - half) : y + half, max(0, x - half) : x + half] = 255
    return picture


def bright_cells(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A counter whose density is the brightness of the picture, a person per 100 levels of a cell's mean."""
    density = inputs["picture"].mean(axis=2).reshape(72, 8, 128, 8).mean(axis=(1, 3)) / 100
    return crowd_of(density.astype(np.float32))(inputs)


def count(picture: np.ndarray, answer: Answer = bright_cells, **options: Any) -> tuple[CrowdCount, FakeTriton]:
    fake = FakeTriton({"crowd_counting": answer, "crowd_counting_vision": answer})
    with serving(fake) as url, CrowdCounter(url) as counter:
        return counter.count(picture, **options), fake


@pytest.mark.parametrize("size", SIZES)
def test_the_letterbox_keeps_the_aspect_and_fills_one_side(size: tuple[int, int]) -> None:
    box = Letterbox.fit(np.zeros((*size, 3), np.uint8), frame_width=1024, frame_height=576)
    assert box.width == 1024 or box.height == 576
    assert box.width / box.height == pytest.approx(size[1] / size[0], rel=0.02)


def test_a_photo_of_the_frames_own_size_is_sent_as_it_is() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (576, 1024, 3), np.uint8)
    _, fake = count(photo)
    np.testing.assert_array_equal(fake.requests[0]["picture"], photo)


@pytest.mark.parametrize("size", SIZES)
def test_a_point_of_the_photo_lands_in_the_cell_that_says_so(size: tuple[int, int]) -> None:
    height, width = size
    points = [(width // 5, height // 3), (width * 3 // 4, height * 4 // 5)]
    for point in points:
        result, _ = count(dots(height, width, [point]))
        rows, columns = np.mgrid[0 : result.density.shape[0], 0 : result.density.shape[1]] + 0.5
        weights = result.density / result.density.sum()
        middle = (columns * weights).sum() * result.cell_size[1], (rows * weights).sum() * result.cell_size[0]
        assert middle == pytest.approx(point, abs=max(result.cell_size) / 2)


@pytest.mark.parametrize("size", SIZES)
def test_the_cells_span_the_photo_and_no_more(size: tuple[int, int]) -> None:
    result, _ = count(np.full((*size, 3), 100, np.uint8))
    rows, columns = result.density.shape
    high, wide = result.cell_size
    assert size[0] <= rows * high + 1e-6 < size[0] + high and size[1] <= columns * wide + 1e-6 < size[1] + wide


def test_the_frame_beyond_the_photo_is_zero() -> None:
    _, fake = count(np.full((300, 300, 3), 200, np.uint8))
    frame = fake.requests[0]["picture"]
    assert (frame[:, :576] == 200).all() and (frame[:, 576:] == 0).all()


def test_only_the_people_of_the_photo_are_counted() -> None:
    density = np.random.default_rng(1).random((72, 128)).astype(np.float32)
    result, _ = count(np.zeros((300, 300, 3), np.uint8), crowd_of(density))
    assert result.density.shape == (72, 72)
    assert result.count == pytest.approx(density[:, :72].sum(), rel=1e-5)
    assert result.people_in_padding == pytest.approx(density[:, 72:].sum(), rel=1e-3)
    assert any("in the frame beyond the photo" in warning for warning in result.warnings)


def test_patches_are_those_of_the_frame_row_by_row() -> None:
    density = np.zeros((72, 128), np.float32)
    density[10, 100] = 3  # second row of patches, seventh column
    result, _ = count(np.zeros((576, 1024, 3), np.uint8), crowd_of(density))
    assert result.patch_counts.shape == (8, 8) and result.patch_counts[1, 6] == 3 and result.patch_counts.sum() == 3
    assert result.patch_importance[1, 6] == 1 and result.patch_estimates[1, 6] == 3.5
    assert result.count == 3 and not result.warnings


def tone(rate_hz: int, seconds: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 500 * np.arange(round(rate_hz * seconds)) / rate_hz)).astype(np.float32)


def test_without_a_sound_the_model_that_only_sees_is_asked_and_the_result_says_so() -> None:
    result, fake = count(np.zeros((576, 1024, 3), np.uint8))
    assert set(fake.requests[0]) == {"picture"}
    assert result.to_dict()["model"] == "crowd_counting_vision" and "no sound" in result.to_dict()["why_model"]


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_one_second_of_the_sound_is_heard_from_its_start(rate_hz: int) -> None:
    sound = np.concatenate([0 * tone(rate_hz, 2), tone(rate_hz, 2)])
    result, fake = count(np.zeros((576, 1024, 3), np.uint8), sound=sound, sample_rate_hz=rate_hz, sound_start_s=2.0)
    heard = fake.requests[0]["sound"]
    assert result.model.name == "crowd_counting" and heard.shape == (16_000,) and not result.warnings
    np.testing.assert_allclose(heard[100:-100], tone(16_000, 1)[100:-100], atol=2e-3)


def test_a_shorter_sound_is_filled_with_silence_and_said() -> None:
    result, fake = count(np.zeros((576, 1024, 3), np.uint8), sound=tone(16_000, 0.4), sample_rate_hz=16_000)
    assert (fake.requests[0]["sound"][6_400:] == 0).all() and "gives 0.40 s of the 1 s heard" in result.warnings[0]


def test_a_start_beyond_the_sound_is_refused() -> None:
    with pytest.raises(BadInput, match="begin at 5 s, but the array is 1.00 s long"):
        count(np.zeros((576, 1024, 3), np.uint8), sound=tone(16_000, 1), sample_rate_hz=16_000, sound_start_s=5)


def test_the_overlay_and_the_density_are_written(tmp_path: Path) -> None:
    result, _ = count(dots(300, 500, [(100, 100), (400, 200)]))
    result.plot(tmp_path / "a.png")
    result.save(tmp_path / "a.npy")
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture.shape[1] == 1200 and picture.std() > 20
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), result.density)


def test_an_empty_scene_is_drawn_too(tmp_path: Path) -> None:
    result, _ = count(np.zeros((576, 1024, 3), np.uint8))
    assert result.count == 0
    result.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000

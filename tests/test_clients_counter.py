"""From a photo of any size to people and their places, and back to the photo's own pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from fake_triton import Answer, FakeTriton, committed_config, crowd_of, serving

from clients.counter import CrowdCounter
from clients.crowd_count import CrowdCount
from clients.errors import BadInput, ContractMismatch
from clients.media.letterbox import Letterbox
from export.contract import interval_facts
from train.settings import CountInterval

if TYPE_CHECKING:
    from serve.launcher import EmbeddedTriton

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


def test_an_empty_scene_is_drawn_too_with_its_interval(tmp_path: Path) -> None:
    result = count_calibrated(FACTS, people=0)
    assert result.count == 0 and result.interval_text == "90 %: 0 to 10"
    result.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_photo_in_tiles_is_counted_at_its_own_resolution_several_tiles_at_once() -> None:
    photo = np.random.default_rng(3).integers(0, 256, (1000, 1500, 3), np.uint8)
    result, fake = count(photo, tiles="auto", sound=tone(16_000, 1), sample_rate_hz=16_000)
    assert len(fake.requests) == 4 and fake.most_in_flight > 1
    assert all(np.array_equal(request["sound"], fake.requests[0]["sound"]) for request in fake.requests)
    assert result.density.shape == (125, 188) and result.cell_size == (8, 8)
    assert result.count == pytest.approx(photo.mean(axis=2).sum() / 64 / 100, rel=1e-5)
    assert result.to_dict()["tiles"] == {"rows": 2, "columns": 2, "scale": 1.0}


def test_patches_of_a_photo_in_tiles_are_the_photos_own_and_the_networks_are_left_out() -> None:
    photo = np.zeros((1000, 1500, 3), np.uint8)
    photo[200:240, 1400:1440] = 255  # second row of patches (125 to 250), last column (from 1312 on)
    result, _ = count(photo, tiles="auto")
    assert result.patch_counts[1, 7] == pytest.approx(result.count) and result.count > 0
    said = result.to_dict()
    assert result.patch_importance is None and result.patch_estimates is None
    assert (
        "patch_importance" not in said
        and "patch_estimates" not in said
        and "patches of the photo" in said["patches_note"]
    )


def test_the_patches_of_a_photo_of_fewer_cells_than_patches_hold_everyone() -> None:
    result, _ = count(np.full((60, 4000, 3), 100, np.uint8), tiles="auto")
    assert result.density.shape == (8, 500)
    assert result.patch_counts.sum() == pytest.approx(result.count, rel=1e-5) and (result.patch_counts > 0).all()
    narrow, _ = count(np.full((20, 2048, 3), 100, np.uint8), flip=True)
    assert narrow.density.shape[0] == 2 and narrow.patch_counts.sum() == pytest.approx(narrow.count, rel=1e-5)


def test_one_tile_is_the_plain_answer_and_the_result_says_so() -> None:
    photo = dots(300, 500, [(100, 100), (400, 200)])
    plain, _ = count(photo)
    for tiles in ("auto", 1):
        result, fake = count(photo, tiles=tiles)
        said = result.to_dict()
        assert said.pop("tiles") == {"rows": 1, "columns": 1, "scale": 1.92} and said == plain.to_dict()
        assert len(fake.requests) == 1


def rising(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A counter that knows left from right: only what grows brighter to the right counts."""
    grey = inputs["picture"].mean(axis=2)
    rises = np.maximum(np.diff(grey, axis=1, prepend=0), 0)
    return crowd_of((rises.reshape(72, 8, 128, 8).sum(axis=(1, 3)) / 1000).astype(np.float32))(inputs)


def test_flip_is_the_mean_over_both_images_in_the_photos_own_cells() -> None:
    photo = np.zeros((576, 1001, 3), np.uint8)
    photo[100:104, 816:820] = 255  # in a cell of its own, and off its middle
    plain, _ = count(photo, rising)
    other, _ = count(np.ascontiguousarray(photo[:, ::-1]), rising)
    both, fake = count(photo, rising, flip=True)
    assert len(fake.requests) == 2 and both.to_dict()["flip"] is True and both.patch_importance is None
    assert both.count == pytest.approx((plain.count + other.count) / 2)
    assert np.argwhere(both.density).tolist() == [[12, 102]]


def test_more_tiles_than_the_photo_has_pixels_for_are_said() -> None:
    result, _ = count(np.full((300, 500, 3), 100, np.uint8), tiles=2)
    assert result.warnings == ("the tiles magnify the photo 3.4 times, which shows no more than it holds",)
    with pytest.raises(BadInput, match="9 tiles per side were asked for"):
        count(np.zeros((300, 500, 3), np.uint8), tiles=9)


def calibrated(**parameters: str) -> dict[str, Any]:
    """The committed config with more parameters."""
    config = committed_config("crowd_counting_vision")
    for name, value in parameters.items():
        config.parameters[name].string_value = value
    return {"crowd_counting_vision": config}


def count_calibrated(parameters: dict[str, str], people: float = 312, **options: Any) -> CrowdCount:
    density = np.full((72, 128), people / (72 * 128), np.float32)
    fake = FakeTriton({"crowd_counting_vision": crowd_of(density)}, calibrated(**parameters))
    with serving(fake) as url, CrowdCounter(url) as counter:
        return counter.count(np.zeros((576, 1024, 3), np.uint8), **options)


FACTS = interval_facts(CountInterval("0123456789abcdef", 0.9, 0.2, 9.6))


def test_calibrated_weights_give_the_count_an_interval() -> None:
    result = count_calibrated(FACTS)
    assert result.interval == pytest.approx((240, 384), abs=1e-3) and result.interval_text == "90 %: 240 to 384"
    assert result.to_dict()["interval"] == {"share": 0.9, "low": 240.0, "high": 384.0}


def test_an_interval_does_not_reach_below_nobody_and_is_of_the_plain_answer_only() -> None:
    assert count_calibrated(FACTS, people=5).interval == pytest.approx((0, 15.6), abs=1e-3)
    assert count_calibrated(FACTS, tiles=1).interval is not None
    for options in ({"tiles": 2}, {"flip": True}):
        result = count_calibrated(FACTS, **options)
        assert result.interval is None and result.interval_text == "" and "interval" not in result.to_dict()


def test_weights_without_a_calibration_give_no_interval() -> None:
    assert interval_facts(None) == {}
    result = count_calibrated({})
    assert result.interval is None and "interval" not in result.to_dict()


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({"count_interval_share": "1"}, "count_interval_share is 1"),
        ({"count_interval_relative": "-0.1"}, "count_interval_relative is '-0.1'"),
        ({"count_interval_absolute": "some"}, "count_interval_absolute is 'some'"),
        ({"count_interval_absolute": ""}, "count_interval_absolute is ''"),
    ],
)
def test_a_calibration_that_says_nothing_is_refused(changed: dict[str, str], seen: str) -> None:
    with pytest.raises(ContractMismatch, match=seen):
        count_calibrated(FACTS | changed)


def test_half_a_calibration_is_refused() -> None:
    with pytest.raises(ContractMismatch, match="count_interval_absolute is None"):
        count_calibrated({"count_interval_share": "0.9", "count_interval_relative": "0.1"})


def test_the_real_server_answers_tiles_and_sees_a_photo_and_its_mirror_image_alike(server: EmbeddedTriton) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (44, 75, 3), np.uint8)
    photo = cv2.resize(noise, (1200, 704), interpolation=cv2.INTER_CUBIC)  # whole cells: its mirror image has the same
    with CrowdCounter(server.grpc_url) as counter:
        plain = counter.count(photo, tiles="auto")
        images = (photo, np.ascontiguousarray(photo[:, ::-1]))
        found, other = (counter.count(image, tiles="auto", flip=True) for image in images)
    assert plain.density.shape == (88, 150) and plain.tiles is not None and len(plain.tiles.tiles) == 4
    peak = float(found.density.max())
    assert found.density.std() > 0, "a constant answer would prove nothing"
    assert np.abs(found.density - plain.density).max() > 1e-4 * peak, "nor would a network that knows no sides"
    np.testing.assert_allclose(found.density, other.density[:, ::-1], atol=1e-3 * peak)

"""Pictures of counts: colours lie where the people are, figures say what was counted, videos keep picture and sound."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from fake_triton import FakeTriton, crowd_of, serving
from matplotlib import colormaps
from tiny_videos import tones, write_video

from clients.counter import CrowdCounter
from clients.counting.alarms import Threshold
from clients.counting.burn import Annotator, LiveBurner, VideoBurner
from clients.counting.figures import clock, draw_density, draw_history
from clients.counting.hearing import Fallback
from clients.counting.history import History
from clients.counting.overlay import heat, laid_over, shrunk
from clients.counting.regions import Region
from clients.crowd_count import CrowdCount, TimedCount

REGIONS = [
    Region("gate", ((0, 0), (50, 0), (50, 50), (0, 50)), "percent"),
    Region("rest", ((60, 60), (99, 60), (80, 99))),
]


def count_of(density: np.ndarray, photo: np.ndarray, **options: object) -> CrowdCount:
    fake = FakeTriton({"crowd_counting_vision": crowd_of(density)})
    with serving(fake) as url, CrowdCounter(url) as counter:
        return counter.count(photo, **options)


def group(row: int, column: int) -> np.ndarray:
    """People in five by five cells."""
    density = np.zeros((72, 128), np.float32)
    density[row - 2 : row + 3, column - 2 : column + 3] = 1
    return density


@pytest.mark.parametrize("pixels", [1, 3, 9, 15])
def test_the_middle_of_a_cell_has_the_cells_own_colour_at_any_size(pixels: int) -> None:
    density = np.random.default_rng(0).random((18, 32)).astype(np.float32)
    shown = 18 * pixels, 32 * pixels
    _, cover = heat(density, cell_size=(8, 8), photo_size=(144, 256), shown_size=shown, top=1.0, strength=1.0)
    np.testing.assert_allclose(cover[pixels // 2 :: pixels, pixels // 2 :: pixels] ** 2, density, atol=1e-4)


def test_a_cell_that_ends_beyond_the_photo_is_cut_and_not_squeezed() -> None:
    density = np.zeros((2, 3), np.float32)
    density[:, 2] = 1  # from pixel 16 on, of 20
    _, cover = heat(density, cell_size=(8, 8), photo_size=(16, 20), shown_size=(160, 200), top=1.0, strength=1.0)
    half = np.flatnonzero(cover[80] ** 2 >= 0.5)[0]
    assert half == pytest.approx(160, abs=1)


def test_strength_goes_from_the_photo_alone_to_colour_alone() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (144, 256, 3), np.uint8)
    result = count_of(np.full((72, 128), 0.5, np.float32), photo)
    np.testing.assert_array_equal(result.overlay(strength=0, colour=True), photo)
    full = result.overlay(strength=1)
    assert (full == np.round(np.array(colormaps["magma"](1.0)[:3]) * 255)).all()
    middle = result.overlay(strength=0.5, colour=True)
    np.testing.assert_allclose(middle, (photo.astype(float) + full) / 2, atol=1)


def test_an_empty_place_stays_as_it_is() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (144, 256, 3), np.uint8)
    result = count_of(np.zeros((72, 128), np.float32), photo)
    np.testing.assert_array_equal(result.overlay(strength=1, colour=True), photo)


def test_a_large_photo_is_shown_smaller_and_a_small_one_as_it_is() -> None:
    assert shrunk(np.zeros((3_000, 4_000, 3), np.uint8), 1_600).shape == (1_200, 1_600, 3)
    assert shrunk(np.zeros((20, 4_000, 3), np.uint8), 1_600).shape == (8, 1_600, 3)
    small = np.zeros((30, 40, 3), np.uint8)
    assert shrunk(small, 1_600) is small


def test_laying_over_rounds_and_does_not_wrap() -> None:
    white = np.full((2, 2, 3), 255, np.uint8)
    np.testing.assert_array_equal(laid_over(white, white, np.full((2, 2), 0.37, np.float32)), white)


def test_the_overlay_of_the_command_has_the_strength_that_was_asked_for(tmp_path: Path) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (144, 256, 3), np.uint8)
    result = count_of(np.full((72, 128), 0.5, np.float32), photo, regions=REGIONS)
    for strength in (0.0, 1.0):
        draw_density(tmp_path / f"{strength:g}.png", result, strength=strength)
    without, with_colours = (cv2.imread(str(tmp_path / f"{name}.png")).astype(int) for name in ("0", "1"))
    middle = (slice(300, 400), slice(600, 800))
    assert np.ptp(without[middle], axis=2).max() == 0, "a grey photo has no colours"
    assert np.ptp(with_colours[middle], axis=2).min() > 50


def history_of(samples: int, names: tuple[str, ...] = ("total", "gate")) -> History:
    history = History(names)
    for number in range(samples):
        fallback = Fallback.SILENT_SECOND if number % 10 == 3 else None
        raised = ("gate",) if 2 <= number <= 5 else ()
        history.add(number * 0.5, {"total": 10.0 + number % 7, "gate": float(number % 3)}, fallback, raised)
    return history


def test_a_history_says_the_mean_the_most_and_why_the_sound_was_not_heard() -> None:
    assert history_of(40).summary() == {
        "samples": 40,
        "counts": {
            "total": {"mean": round(sum(10 + n % 7 for n in range(40)) / 40, 3), "max": 16.0, "max_time_s": 3.0},
            "gate": {"mean": round(sum(n % 3 for n in range(40)) / 40, 3), "max": 2.0, "max_time_s": 1.0},
        },
        "heard_samples": 36,
        "fallbacks": {"silent_second": 4},
    }


@pytest.mark.parametrize("samples", [1, 2_047, 2_048, 2_049, 5_000, 9_001])
def test_a_long_history_becomes_coarser_and_loses_nothing(samples: int) -> None:
    history = history_of(samples)
    curves = history.curves()
    totals = 10.0 + np.arange(samples) % 7
    assert len(curves.means) <= 2_048 and history.samples == samples
    size = -(-samples // len(curves.means))
    assert size == 1 or len(curves.means) > 1_000
    edges = np.arange(0, samples, 1 << (size - 1).bit_length())
    np.testing.assert_allclose(curves.starts_s, edges * 0.5)
    np.testing.assert_allclose(curves.means[:, 0], [part.mean() for part in np.split(totals, edges[1:])])
    np.testing.assert_allclose(curves.highs[:, 0], np.maximum.reduceat(totals, edges))
    np.testing.assert_allclose(curves.lows[:, 0], np.minimum.reduceat(totals, edges))
    assert curves.raised["gate"].any() == (samples > 2) and not curves.raised["total"].any()


@pytest.mark.parametrize("samples", [0, 1, 2, 50, 3_000])
def test_counts_over_time_are_drawn_for_any_number_of_samples(tmp_path: Path, samples: int) -> None:
    thresholds = [Threshold("total", 15, 12), Threshold("gate", 2, 1.5)]
    draw_history(tmp_path / "with.png", history_of(samples), thresholds)
    draw_history(tmp_path / "without.png", history_of(samples, ("total",)))
    assert cv2.imread(str(tmp_path / "with.png")).shape == (744, 1200, 3)
    assert cv2.imread(str(tmp_path / "without.png")).shape == (432, 1200, 3)


def test_the_alarms_line_lies_at_its_threshold(tmp_path: Path) -> None:
    history = History(("total",))
    for number in range(30):
        history.add(float(number), {"total": 1.0}, None)
    pictures = []
    for name, thresholds in (("plain", []), ("alarm", [Threshold("total", 1.1, 1.0)])):
        draw_history(tmp_path / f"{name}.png", history, thresholds)
        pictures.append(cv2.imread(str(tmp_path / f"{name}.png"), cv2.IMREAD_GRAYSCALE).astype(int))
    dark = [np.flatnonzero((picture[:, 100:900] < 128).mean(axis=1) > 0.4) for picture in pictures]
    assert len(dark[0]) < len(dark[1]), "a dashed line more"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0:00"), (9.6, "0:10"), (59.7, "1:00"), (185, "3:05"), (7_385, "2:03:05")]
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


def stripes(time_s: float) -> np.ndarray:
    """A grey picture that tells its time by its brightness."""
    return np.full((96, 128, 3), 40 + round(20 * time_s), np.uint8)


def timed(time_s: float, row: int, column: int) -> TimedCount:
    return TimedCount(time_s, count_of(group(row, column), stripes(time_s)))


def test_an_annotated_video_has_all_pictures_and_its_sound_and_shows_each_count_until_the_next(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", seconds=3, rate=8, picture_at=stripes, sound=tones([500, 600, 700]))
    places = {0.0: (60, 20), 1.0: (60, 50), 2.0: (60, 80)}  # cells of the frame; the photo fills its height
    with VideoBurner(tmp_path / "out.mp4", video, 1.0) as burner:
        for time_s, (row, column) in places.items():
            burner.take(timed(time_s, row, column), alarmed=False)
    frames = frames_of(tmp_path / "out.mp4")
    assert len(frames) == 24
    for number, frame in enumerate(frames):
        shown = float(number // 8)
        for time_s, (row, column) in places.items():
            y, x = int((row + 0.5) * 96 / 72), int((column + 0.5) * 128 / 96)
            coloured = np.abs(frame[y, x] - (40 + round(20 * number / 8))).max() > 60
            assert coloured == (time_s == shown), (number, time_s)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams.audio) == 1
        assert float(container.duration / av.time_base) == pytest.approx(3, abs=0.1)


def test_an_annotated_video_ends_where_it_is_told_to(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", seconds=3, rate=8, picture_at=stripes)
    with VideoBurner(tmp_path / "out.mp4", video, 1.0, end_s=1.5) as burner:
        burner.take(timed(0.0, 60, 20), alarmed=False)
    assert len(frames_of(tmp_path / "out.mp4")) == 12


def test_an_annotated_video_that_fails_leaves_no_file(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", seconds=1, picture_at=stripes)
    with pytest.raises(RuntimeError, match="server"), VideoBurner(tmp_path / "out.mp4", video, 1.0):
        raise RuntimeError("the server went away")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_a_live_video_has_the_counted_pictures_at_their_pace(tmp_path: Path) -> None:
    with LiveBurner(tmp_path / "out.mp4", 0.5, 0.8) as burner:
        for number in range(6):
            burner.take(timed(number * 0.5, 40, 40), alarmed=number > 3)
    assert len(frames_of(tmp_path / "out.mp4")) == 6
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert float(container.duration / av.time_base) == pytest.approx(3, abs=0.01)


def test_a_live_video_without_a_picture_is_no_file(tmp_path: Path) -> None:
    with LiveBurner(tmp_path / "out.mp4", 0.5, 0.8):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_number_is_red_while_there_is_an_alarm_and_pictures_of_another_size_fit() -> None:
    annotator = Annotator((96, 128))
    red = []
    for alarmed in (False, True):
        annotator.update(timed(0.0, 40, 40), alarmed=alarmed)
        drawn = annotator.on(np.full((48, 64, 3), 90, np.uint8)).astype(int)
        assert drawn.shape == (96, 128, 3)
        corner = drawn[:30, 64:]
        red.append(int(((corner[..., 0] - corner[..., 1]) > 60).sum()))
    assert red[0] == 0 and red[1] > 200

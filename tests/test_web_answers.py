"""What the web page shows of a count, from a scripted server: every figure and every pixel is the library's."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_triton import FakeTriton, committed_config, crowd_of, serving
from web_browser import write_video

from clients import BadInput, CrowdCount, CrowdCounter
from clients.counting.overlay import heat, size_of
from clients.web.count_work import Answer, Looking, VideoCount, count_photo, patches_html
from clients.web.messages import Upload
from clients.web.overlay import overlay_html

PLAIN = Looking(tiles=1, flip=False, sound_start_s=0.0, every_s=1.0)
# 40 people in a corner, 60 everywhere
DENSITY = np.full((72, 128), 60 / (72 * 128), np.float32)
DENSITY[:9, :16] += 40 / (9 * 16)


def asked(ask: Callable[[dict[str, str]], Answer | CrowdCount], **facts: str) -> tuple[Answer, FakeTriton]:
    config = committed_config("crowd_counting_vision")
    for name, value in facts.items():
        config.parameters[name].string_value = value
    fake = FakeTriton(
        {"crowd_counting": crowd_of(DENSITY), "crowd_counting_vision": crowd_of(DENSITY)},
        {"crowd_counting_vision": config},
    )
    with serving(fake) as url:
        return ask({"url": url}), fake


@pytest.fixture
def photo(tmp_path: Path) -> Upload:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 16, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "square.png"), cv2.resize(pixels, (1024, 576)))
    return Upload(tmp_path / "square.png", "square.png")


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_number_comes_with_its_interval_where_the_weights_have_one(photo: Upload) -> None:
    facts = {"count_interval_share": "0.9", "count_interval_relative": "0.2", "count_interval_absolute": "5"}
    sure, _ = asked(lambda server: count_photo(server, photo, None, PLAIN), **facts)
    assert words(sure.number) == "100.0 people between 75 and 125 in 90 % of such pictures"
    unsure, _ = asked(lambda server: count_photo(server, photo, None, PLAIN))
    assert words(unsure.number) == "100.0 people no interval is known for this way of counting"


def test_the_options_reach_the_library(photo: Upload, tmp_path: Path) -> None:
    closely = PLAIN._replace(tiles=2, flip=True)
    answer, fake = asked(lambda server: count_photo(server, photo, None, closely))
    assert len(fake.requests) > 2 and "patches of the picture" in words(answer.patches)
    gone = Upload(tmp_path / "gone.wav", "gone.wav")
    with pytest.raises(BadInput, match=r"gone\.wav is no longer here"):
        asked(lambda server: count_photo(server, photo, gone, PLAIN))


def counted(photo: Upload) -> CrowdCount:
    def ask(server: dict[str, str]) -> CrowdCount:
        with CrowdCounter(**server) as counter:
            return counter.count(photo.path)

    return asked(ask)[0]


def test_the_overlay_is_the_librarys_heat_over_the_photo_itself(photo: Upload) -> None:
    result = counted(photo)
    encoded = re.findall(r'src="data:image/\w+;base64,([^"]+)"', overlay_html(result))
    shown, heated = (
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED) for data in encoded
    )
    assert shown.shape == (576, 1024, 3)
    assert np.abs(shown[..., ::-1].astype(int) - result.picture).mean() < 3
    colours, cover = heat(
        result.density,
        cell_size=result.cell_size,
        photo_size=size_of(result.picture),
        shown_size=heated.shape[:2],
        strength=1.0,
    )
    np.testing.assert_array_equal(heated[..., 2::-1], colours)
    np.testing.assert_allclose(heated[..., 3], 255 * cover, atol=0.51)
    assert heated.shape[1] / heated.shape[0] == pytest.approx(1024 / 576, rel=0.01)


def test_the_table_has_every_patch_and_is_darkest_where_most_people_are(photo: Upload) -> None:
    html = patches_html(counted(photo))
    shares = np.array(re.findall(r"--share:([\d.]+)", html), float).reshape(8, 8)
    people = np.array(re.findall(r'<td style="[^"]+">([\d.]+)</td>', html), float).reshape(8, 8)
    np.testing.assert_allclose(people, DENSITY.reshape(8, 9, 8, 16).sum((1, 3)), atol=0.051)
    assert shares.max() == shares[0, 0] == 1 and html.count("<th scope=") == 16


def test_a_video_says_what_was_heard_and_where_it_was_left_off(tmp_path: Path) -> None:
    second = np.random.default_rng(0).uniform(-0.1, 0.1, 16_000).astype(np.float32)
    film = Upload(write_video(tmp_path / "a.mp4", [np.zeros((144, 256, 3), np.uint8)] * 15, second), "a.mp4")

    def ask(server: dict[str, str], stop_at_s: float = 9.0) -> Answer:
        counting = VideoCount(server, film, PLAIN)
        for one in counting.counts():
            assert f"at 0:0{one.time_s:.0f} of 0:03" in words(counting.progress_html(one))
            if one.time_s >= stop_at_s:
                counting.stopped_s = one.time_s
                break
        return counting.answer(tmp_path)

    whole, _ = asked(ask)
    assert words(whole.number).startswith("100.0 people at 0:00, when most were seen; 100.0 on average")
    assert "Pictures 3, one every 1 s Sound used with 2 of 3 pictures: 1 × the sound has ended" in words(whole.facts)
    assert whole.history is not None and cv2.imread(str(whole.history)) is not None
    part, _ = asked(lambda server: ask(server, stop_at_s=1.0))
    assert "Pictures 2, one every 1 s, stopped at 0:01" in words(part.facts)

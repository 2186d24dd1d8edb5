"""Streams of counts: in order, bounded, in flat memory, with the right sound or the reason why there is none."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fake_triton import FakeTriton, committed_config, crowd_of, serving
from tiny_videos import RATE_HZ, pitch_hz, tones, write_video

from clients.counter import AsyncCrowdCounter, CrowdCounter
from clients.counting.hearing import Fallback
from clients.crowd_count import CrowdCount, TimedCount
from clients.errors import BadInput, BadSetting
from clients.media.sound import Sound
from clients.media.video import VideoReader

if TYPE_CHECKING:
    from serve.launcher import EmbeddedTriton

FRAME = np.zeros((72, 128), np.float32)


def number_of(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A counter that reads the number of people off the first pixel."""
    density = FRAME.copy()
    density[0, 0] = inputs["picture"][0, 0, 0]
    return crowd_of(density)(inputs)


def pitch_of(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A counter that hears one person per hertz, and sees nobody."""
    density = FRAME.copy()
    density[0, 0] = pitch_hz(inputs["sound"])
    return crowd_of(density)(inputs)


def picture(number: int, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.full((*size, 3), number, np.uint8)


def fake_of(hearing: Any = number_of, seeing: Any = number_of, **options: Any) -> FakeTriton:
    return FakeTriton({"crowd_counting": hearing, "crowd_counting_vision": seeing}, **options)


def waiting(fake: FakeTriton, source: Any, **options: Any) -> list[TimedCount]:
    with serving(fake) as url, CrowdCounter(url) as counter:
        return list(counter.count_stream(source, **options))


def asynchronous(fake: FakeTriton, source: Any, **options: Any) -> list[TimedCount]:
    async def collect(url: str) -> list[TimedCount]:
        async with AsyncCrowdCounter(url) as counter:
            return [second async for second in counter.count_stream(source, **options)]

    with serving(fake) as url:
        return asyncio.run(collect(url))


@pytest.mark.parametrize("collect", [waiting, asynchronous])
@pytest.mark.parametrize("live", [False, True])
def test_counts_come_in_the_pictures_order_with_their_times(collect: Any, live: bool) -> None:
    fake = fake_of(delay_s=0.01)
    found = collect(fake, (picture(number) for number in range(1, 21)), every_s=0.5, live=live)
    assert [second.count.count for second in found] == list(range(1, 21))
    assert [second.time_s for second in found] == [0.5 * number for number in range(20)]
    assert (fake.most_in_flight > 1) != live


@pytest.mark.parametrize("collect", [waiting, asynchronous])
def test_items_bring_their_own_time_and_sound_and_each_goes_to_the_model_that_fits(collect: Any) -> None:
    quiet = np.zeros(RATE_HZ, np.float32)
    items = [
        (0.0, picture(1), tones([500])),
        (2.5, picture(2), None),
        (3.5, picture(3), quiet),
        (4.0, picture(4), tones([500])[:1_000]),
        (5.0, picture(5), tones([500])[:0]),
        (6.0, picture(6), Fallback.NO_SOUND_TRACK),
        (7.0, picture(7), Sound(tones([700]), RATE_HZ, "a microphone")),
    ]
    fake = fake_of()
    found = collect(fake, items, sample_rate_hz=RATE_HZ)
    said = [second.to_dict() for second in found]
    assert [one["time_s"] for one in said] == [0, 2.5, 3.5, 4, 5, 6, 7]
    reasons = [None, "no_sound_given", "silent_second", "too_short", "sound_ended", "no_sound_track", None]
    assert [one["fallback_reason"] for one in said] == reasons
    heard = ["crowd_counting" if reason is None else "crowd_counting_vision" for reason in reasons]
    assert [one["model"] for one in said] == heard
    assert [one["count"] for one in said] == [1, 2, 3, 4, 5, 6, 7]
    asked = {int(request["picture"][0, 0, 0]): "sound" in request for request in fake.requests}
    assert asked == {number: reason is None for number, reason in enumerate(reasons, start=1)}
    assert "this second of the sound is silent" in found[2].count.why_model


@pytest.mark.parametrize("collect", [waiting, asynchronous])
def test_a_videos_own_sound_is_heard_second_by_second(tmp_path: Path, collect: Any) -> None:
    pitches = [400.0, 700.0, 1_000.0, 1_300.0, 600.0, 900.0, 500.0]
    # Half a second of the first, then one each: the second around a picture has one pitch.
    sound = np.concatenate([tones([pitches[0]], 0.5), tones(pitches[1:])])
    video = write_video(tmp_path / "square.mkv", seconds=6, sound=sound)
    found = collect(fake_of(pitch_of), video)
    assert [second.time_s for second in found] == [0, 1, 2, 3, 4, 5]
    assert [second.count.count for second in found[1:]] == pytest.approx(pitches[1:6], abs=2)
    assert all(second.count.fallback is None for second in found)


def test_what_cannot_be_heard_in_a_video_is_said(tmp_path: Path) -> None:
    sound = np.concatenate([tones([500], 1.5), np.zeros(2 * RATE_HZ, np.float32), tones([500], 0.06)])
    video = write_video(tmp_path / "square.mkv", seconds=7, sound=sound)
    reasons = [second.count.fallback for second in waiting(fake_of(pitch_of), video)]
    silent, ended, short = Fallback.SILENT_SECOND, Fallback.SOUND_ENDED, Fallback.TOO_SHORT
    assert reasons == [None, None, silent, silent, short, ended, ended]
    mute = write_video(tmp_path / "mute.mkv", seconds=2)
    assert {second.count.fallback for second in waiting(fake_of(), mute)} == {Fallback.NO_SOUND_TRACK}
    found = waiting(fake_of(), video, use_sound=False)
    assert {second.count.fallback for second in found} == {Fallback.SOUND_OFF}


def test_an_open_video_may_be_given_and_sampled_more_often(tmp_path: Path) -> None:
    video = write_video(tmp_path / "square.mkv", seconds=2, sound=tones([500, 500]))
    with VideoReader(video) as reader:
        found = waiting(fake_of(pitch_of), reader, every_s=0.25)
    assert [second.time_s for second in found] == [0.25 * number for number in range(8)]


@pytest.mark.parametrize("collect", [waiting, asynchronous])
def test_a_picture_in_tiles_is_counted_in_a_stream_as_by_itself(collect: Any) -> None:
    photos = [np.random.default_rng(seed).integers(0, 256, (700, 1300, 3), np.uint8) for seed in range(3)]
    found = collect(fake_of(), photos, tiles="auto", flip=True)
    with serving(fake_of()) as url, CrowdCounter(url) as counter:
        for second, photo in zip(found, photos, strict=True):
            alone = counter.count(photo, tiles="auto", flip=True)
            np.testing.assert_array_equal(second.count.density, alone.density)
            assert len(alone.tiles.tiles) == 4 and second.count.to_dict() == alone.to_dict()


def test_no_more_pictures_are_taken_than_are_on_the_way_and_none_ahead_of_a_live_answer() -> None:
    for live, most in ((False, 9), (True, 1)):
        taken = 0

        def pictures() -> Iterator[np.ndarray]:
            nonlocal taken
            for number in range(1, 100):
                taken += 1
                yield picture(number)

        with serving(fake_of(delay_s=0.002)) as url, CrowdCounter(url) as counter:
            for given, _ in enumerate(counter.count_stream(pictures(), live=live, in_flight=4)):
                assert taken - given <= most


def test_leaving_a_stream_early_lets_its_source_go() -> None:
    left = []

    def pictures() -> Iterator[np.ndarray]:
        try:
            while True:
                yield picture(1)
        finally:
            left.append(True)

    with serving(fake_of()) as url, CrowdCounter(url) as counter:
        stream = counter.count_stream(pictures())
        assert next(stream).count.count == 1
        stream.close()
        assert left == [True]

    async def leave(url: str) -> None:
        async with AsyncCrowdCounter(url) as counter:
            async with aclosing(counter.count_stream(pictures())) as counts:
                async for _ in counts:
                    break
            assert left == [True, True], "only the end of the loop would close it"

    with serving(fake_of()) as url:
        asyncio.run(leave(url))


def test_asyncio_can_leave_a_source_whose_next_picture_does_not_come() -> None:
    asked, over = threading.Event(), threading.Event()

    def pictures() -> Iterator[np.ndarray]:
        yield picture(1)
        asked.set()
        over.wait(20)

    async def leave(url: str) -> None:
        async with AsyncCrowdCounter(url) as counter:
            task = asyncio.ensure_future(anext(counter.count_stream(pictures(), in_flight=2)))
            await asyncio.to_thread(asked.wait)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 2
        over.set()

    with serving(fake_of()) as url:
        asyncio.run(leave(url))


def test_an_asyncio_source_is_taken_as_it_comes_while_the_loop_goes_on() -> None:
    turns = 0

    async def pictures() -> AsyncIterator[np.ndarray]:
        for number in range(1, 6):
            await asyncio.sleep(0)
            yield picture(number)

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.005)
            turns += 1

    async def collect(url: str) -> list[float]:
        other = asyncio.create_task(watch())
        async with AsyncCrowdCounter(url) as counter:
            counts = [second.count.count async for second in counter.count_stream(pictures(), live=True)]
        other.cancel()
        return counts

    with serving(fake_of(delay_s=0.05)) as url:
        assert asyncio.run(collect(url)) == [1, 2, 3, 4, 5]
    assert turns > 10


def test_many_asyncio_counts_at_once_keep_their_own_answers() -> None:
    async def gather(url: str) -> list[CrowdCount]:
        async with AsyncCrowdCounter(url) as counter:
            return await asyncio.gather(*(counter.count(picture(number)) for number in range(1, 30)))

    with serving(fake_of()) as url:
        assert [result.count for result in asyncio.run(gather(url))] == list(range(1, 30))


@pytest.mark.parametrize("collect", [waiting, asynchronous])
@pytest.mark.parametrize(
    ("bad", "seen"),
    [
        (np.zeros((20, 30), np.uint8), "The array has shape"),
        ((1.0, picture(1), np.full(RATE_HZ, np.nan, np.float32)), "values that are no numbers"),
        ((1.0, picture(1), np.zeros((9_000, 2, 2), np.float32)), "The array has shape"),
        ("absent.jpg", "There is no file absent.jpg"),
    ],
)
def test_a_bad_item_is_refused_in_its_turn(collect: Any, bad: Any, seen: str) -> None:
    with pytest.raises(BadInput, match=seen):
        collect(fake_of(), [picture(1), bad, picture(2)], sample_rate_hz=RATE_HZ)


def small_frames() -> dict[str, Any]:
    """The counter's config with frames of 18x18 pixels and as many cells, for many of them in a short time."""
    config = committed_config("crowd_counting_vision")
    for tensor in (*config.input, *config.output):
        if tensor.name in ("picture", "density"):
            tensor.dims[:2] = [18, 18]
    config.parameters["picture_height"].string_value = config.parameters["picture_width"].string_value = "18"
    return {"crowd_counting_vision": config}


@pytest.mark.slow
@pytest.mark.parametrize(("live", "pictures"), [(False, 10_000), (True, 1_000)])
def test_ten_thousand_pictures_are_counted_in_flat_memory(live: bool, pictures: int) -> None:
    answer = {"density": np.ones((18, 18)), "count": np.ones(1)}
    answer |= {name: np.ones(64) for name in ("patch_counts", "patch_importance", "patch_estimates")}
    fake = FakeTriton({"crowd_counting_vision": lambda _: answer}, small_frames())
    fake.requests = Forgetful()
    held = []
    with serving(fake) as url, CrowdCounter(url) as counter:
        stream = counter.count_stream((picture(1, (18, 18)) for _ in range(pictures)), live=live)
        for number, second in enumerate(stream, start=1):
            assert second.count.count == 18 * 18
            if number % (pictures // 4) == 0:
                gc.collect()
                objects = gc.get_objects()
                held.append((sum(type(one) is CrowdCount for one in objects), len(objects)))
    assert number == pictures
    assert max(counts for counts, _ in held) <= 10
    assert held[-1][1] < held[0][1] + 2_000, "something is kept of every picture"


class Forgetful(list[Any]):
    """Keeps no request."""

    def append(self, item: Any) -> None:
        pass


def test_the_real_server_counts_a_video_as_its_pictures_with_their_sound(
    tmp_path: Path, server: EmbeddedTriton
) -> None:
    random = np.random.default_rng(0)
    scenes = random.integers(0, 256, (3, 12, 16, 3), np.uint8).repeat(12, axis=1).repeat(12, axis=2)
    video = write_video(
        tmp_path / "square.mkv",
        seconds=3,
        size=(144, 192),
        picture_at=lambda time_s: scenes[int(time_s)],
        sound=random.normal(0, 0.05, 2 * RATE_HZ).astype(np.float32),
    )
    with VideoReader(video) as reader:
        seconds = list(reader.seconds())
    with CrowdCounter(server.grpc_url) as counter:
        found = list(counter.count_stream(video))
        for second, one in zip(found, seconds, strict=True):
            alone = counter.count(one.picture, one.sound, sample_rate_hz=RATE_HZ)
            assert second.count.model.name == alone.model.name and second.count.fallback == alone.fallback
            assert second.count.count == pytest.approx(alone.count, rel=1e-3, abs=1e-3)
    assert [second.count.fallback for second in found] == [None, None, None]


@pytest.mark.parametrize("collect", [waiting, asynchronous])
@pytest.mark.parametrize("options", [{"every_s": 0.0}, {"every_s": float("nan")}, {"every_s": -1.0}, {"in_flight": 0}])
def test_steps_that_lead_nowhere_are_refused(collect: Any, options: dict[str, float]) -> None:
    with pytest.raises(BadSetting, match="(every_s|in_flight) is"):
        collect(fake_of(), [picture(1)], **options)

"""A voice out of sound that comes block by block: the same as of the whole, in order, soon, and in flat memory."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_triton import serving
from separation_parts import FACE, agreement_db, fake_separation, noise, wide_filter

from clients.errors import BadInput, BadSetting
from clients.separator import SpeechSeparator
from clients.separator_aio import AsyncSpeechSeparator

RATE_HZ = 44_100
SECONDS_OF_A_WINDOW = 31_840 / 16_000


def in_blocks(samples: np.ndarray, block: int) -> Iterator[np.ndarray]:
    return (samples[start : start + block] for start in range(0, len(samples), block))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(fake_separation(facefilter=wide_filter)) as address:
        yield address


@pytest.fixture
def separator(url: str) -> Iterator[SpeechSeparator]:
    with SpeechSeparator(url) as client:
        yield client


@pytest.mark.parametrize(("rate_hz", "samples"), [(16_000, 400_000), (44_100, 1_000_003), (8_000, 1_000)])
def test_a_file_gives_the_same_block_by_block_as_at_once(
    separator: SpeechSeparator, tmp_path: Path, rate_hz: int, samples: int
) -> None:
    soundfile.write(tmp_path / "talk.wav", noise(samples), rate_hz, subtype="FLOAT")
    whole = separator.separate(tmp_path / "talk.wav", FACE, face_crop=True)
    blocks = list(separator.separate_stream(tmp_path / "talk.wav", FACE, face_crop=True))
    speech = np.concatenate([block.speech for block in blocks])
    assert speech.shape == (samples,)
    assert agreement_db(speech, whole.speech) > 100
    np.testing.assert_allclose(np.concatenate([block.attention for block in blocks]), whole.attention, atol=1e-6)


def test_blocks_follow_each_other_without_a_gap_and_bring_the_attention_of_their_frames(
    separator: SpeechSeparator,
) -> None:
    sound = noise(20 * RATE_HZ)
    heard, frames = 0, 0
    for block in separator.separate_stream(in_blocks(sound, 4_410), FACE, sample_rate_hz=RATE_HZ, face_crop=True):
        assert block.start_s == pytest.approx(heard / RATE_HZ)
        assert frames == int(np.ceil(heard / RATE_HZ * 100 - 1e-9)), "frame t begins at t x 10 ms"
        heard += len(block.speech)
        frames += len(block.attention)
    assert heard == len(sound) and frames == 2_001


@pytest.mark.parametrize("block", [441, 10_000, 10**7])
def test_the_size_of_the_blocks_changes_nothing(separator: SpeechSeparator, block: int) -> None:
    sound = noise(500_000)

    def voice(size: int) -> np.ndarray:
        blocks = in_blocks(sound, size)
        stream = separator.separate_stream(blocks, FACE, sample_rate_hz=RATE_HZ, face_crop=True)
        return np.concatenate([block.speech for block in stream])

    np.testing.assert_allclose(voice(block), voice(4_410), atol=1e-5)


def test_a_running_level_is_undone_exactly_where_the_voice_was_not_changed() -> None:
    sound = np.concatenate([noise(200_000, level) for level in (0.2, 0.002, 0.05)])
    with serving(fake_separation()) as url, SpeechSeparator(url) as separator:
        stream = separator.separate_stream(in_blocks(sound, 1_600), FACE, sample_rate_hz=16_000, face_crop=True)
        speech = np.concatenate([block.speech for block in stream])
    assert agreement_db(speech, sound) > 100


def test_a_known_level_gives_what_the_whole_gives(separator: SpeechSeparator) -> None:
    sound = noise(300_000)
    rms = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
    whole = separator.separate(sound, FACE, sample_rate_hz=16_000, face_crop=True).speech
    stream = separator.separate_stream([sound], FACE, sample_rate_hz=16_000, face_crop=True, level_rms=rms)
    assert agreement_db(np.concatenate([block.speech for block in stream]), whole) > 100
    with pytest.raises(BadSetting, match="level_rms is 0"):
        separator.separate_stream([sound], FACE, sample_rate_hz=16_000, face_crop=True, level_rms=0)


def test_live_a_voice_is_given_within_a_window_of_its_sound_and_before_more_is_taken(
    separator: SpeechSeparator,
) -> None:
    taken_s, waits_s = 0.0, []

    def microphone() -> Iterator[np.ndarray]:
        nonlocal taken_s
        for block in in_blocks(noise(10 * RATE_HZ), 441):
            taken_s += len(block) / RATE_HZ
            yield block

    given_s = 0.0
    for block in separator.separate_stream(microphone(), FACE, sample_rate_hz=RATE_HZ, face_crop=True, live=True):
        waits_s.append(taken_s - given_s)  # how old the oldest sample of the block is
        given_s = block.start_s + len(block.speech) / RATE_HZ
    assert len(waits_s) > 5
    assert max(waits_s) < SECONDS_OF_A_WINDOW + 0.2, "a window, and what the two resamplers hold"


def test_a_stream_without_an_end_can_be_left(separator: SpeechSeparator) -> None:
    closed = threading.Event()

    def endless() -> Iterator[np.ndarray]:
        try:
            while True:
                yield noise(16_000)
        finally:
            closed.set()

    stream = separator.separate_stream(endless(), FACE, sample_rate_hz=16_000, face_crop=True)
    assert len(next(stream).speech) > 0
    stream.close()  # type: ignore[attr-defined]
    assert closed.is_set()


@pytest.mark.parametrize(
    ("block", "seen"),
    [
        (np.full(100, np.nan, np.float32), "100 values that are no numbers .* at 1.000 s"),
        (np.zeros((2, 3, 4), np.float32), r"A block of the stream has shape \(2, 3, 4\)"),
        (np.zeros(10, complex), "type complex128"),
    ],
)
def test_a_block_that_is_no_sound_is_refused_where_it_comes(
    separator: SpeechSeparator, block: np.ndarray, seen: str
) -> None:
    stream = separator.separate_stream([noise(16_000), block], FACE, sample_rate_hz=16_000, face_crop=True)
    with pytest.raises(BadInput, match=seen):
        list(stream)


def test_a_stream_says_at_once_what_is_missing(separator: SpeechSeparator, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Blocks came without their sample rate"):
        separator.separate_stream([noise(16_000)], FACE, face_crop=True)
    with pytest.raises(BadInput, match="without a face"):
        separator.separate_stream([noise(16_000)], sample_rate_hz=16_000)
    with pytest.raises(BadInput, match="no file"):
        separator.separate_stream(tmp_path / "absent.wav", FACE, face_crop=True)


def test_integers_and_channels_are_mixed_down(separator: SpeechSeparator) -> None:
    sound = noise(50_000)
    stereo = np.stack([np.int16(sound * 32_767)] * 2, axis=1)
    voices = []
    for blocks in ([sound], [stereo]):
        stream = separator.separate_stream(blocks, FACE, sample_rate_hz=16_000, face_crop=True)
        voices.append(np.concatenate([block.speech for block in stream]))
    assert agreement_db(voices[1], voices[0]) > 50


def test_asyncio_gives_the_same_of_files_arrays_and_blocks_of_either_kind(url: str, tmp_path: Path) -> None:
    sound = noise(300_000)
    soundfile.write(tmp_path / "talk.wav", sound, RATE_HZ, subtype="FLOAT")

    async def microphone() -> AsyncIterator[np.ndarray]:
        for block in in_blocks(sound, 4_410):
            await asyncio.sleep(0)
            yield block

    async def voices() -> list[np.ndarray]:
        found = []
        async with AsyncSpeechSeparator(url) as separator:
            for source in (tmp_path / "talk.wav", sound, in_blocks(sound, 4_410), microphone()):
                stream = separator.separate_stream(source, FACE, sample_rate_hz=RATE_HZ, face_crop=True)
                found.append(np.concatenate([block.speech async for block in stream]))
            whole = await separator.separate(sound, FACE, sample_rate_hz=RATE_HZ, face_crop=True)
        return [whole.speech, *found]

    with SpeechSeparator(url) as separator:
        wanted = separator.separate(sound, FACE, sample_rate_hz=RATE_HZ, face_crop=True).speech
    whole, of_file, *of_blocks = asyncio.run(voices())
    np.testing.assert_array_equal(whole, wanted)
    np.testing.assert_array_equal(of_file, wanted)
    assert all(agreement_db(speech, wanted) > 40 for speech in of_blocks)
    np.testing.assert_array_equal(of_blocks[1], of_blocks[2])


def test_asyncio_can_leave_a_microphone_that_has_fallen_silent(url: str) -> None:
    asked, unplugged = threading.Event(), threading.Event()

    def microphone() -> Iterator[np.ndarray]:
        yield noise(16_000)
        asked.set()
        unplugged.wait(20)

    async def run() -> None:
        async with AsyncSpeechSeparator(url) as separator:
            stream = separator.separate_stream(microphone(), FACE, sample_rate_hz=16_000, face_crop=True, live=True)
            task = asyncio.ensure_future(anext(stream))
            await asyncio.to_thread(asked.wait)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 2
        unplugged.set()

    asyncio.run(run())


def test_asyncio_is_not_held_up_and_a_stream_can_be_left(url: str) -> None:
    async def run() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        async def endless() -> AsyncIterator[np.ndarray]:
            while True:
                await asyncio.sleep(0.01)
                yield noise(8_000)

        ticking = asyncio.create_task(tick())
        async with AsyncSpeechSeparator(url) as separator:
            stream = separator.separate_stream(endless(), FACE, sample_rate_hz=16_000, face_crop=True, live=True)
            async with aclosing(stream):
                async for block in stream:
                    if block.start_s > 3:
                        break
        ticking.cancel()
        return ticks

    assert asyncio.run(run()) > 5

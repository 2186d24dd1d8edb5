"""The level that live input is brought to, and back from it."""

from __future__ import annotations

import numpy as np
import pytest
from separation_parts import HOP, noise

from clients.separation.level import MEMORY_S, FixedLevel, Level, RunningLevel

RATE_HZ, FIRST, RMS = 16_000, 31_840, 0.1


def gains_of(level: Level, samples: np.ndarray, block: int = 1_600) -> np.ndarray:
    starts = range(0, len(samples), block)
    return np.concatenate([*(level.push(samples[start : start + block]) for start in starts), level.end()])


def running() -> RunningLevel:
    return RunningLevel(RMS, frame=HOP, first=FIRST, rate_hz=RATE_HZ)


@pytest.mark.parametrize("samples", [1, 159, 160, 31_839, 31_840, 31_841, 100_003])
def test_every_sample_has_a_gain(samples: int) -> None:
    assert gains_of(running(), noise(samples)).shape == (samples,)
    assert gains_of(FixedLevel(2.0), noise(samples)).tolist() == [2.0] * samples


@pytest.mark.parametrize("block", [1, 100, 31_840, 10**6])
def test_gains_do_not_depend_on_the_blocks(block: int) -> None:
    samples = noise(40_000)
    np.testing.assert_allclose(gains_of(running(), samples, block), gains_of(running(), samples), rtol=1e-6)


def test_a_gain_knows_only_the_first_window_and_what_came_before_it() -> None:
    samples = noise(100_000)
    changed = samples.copy()
    changed[60_000:] *= 30
    same = gains_of(running(), samples) == gains_of(running(), changed)
    assert same[:60_000].all() and not same[60_000:].any()


def test_a_steady_sound_is_brought_to_the_level_from_its_first_sample_on() -> None:
    samples = noise(200_000, level=0.003)
    levelled = samples * gains_of(running(), samples)
    for start in range(0, 200_000, 20_000):
        assert np.sqrt(np.mean(levelled[start : start + 20_000] ** 2)) == pytest.approx(RMS, rel=0.05)


def test_after_a_step_the_level_is_found_again_within_the_memory() -> None:
    quiet, loud = noise(10 * RATE_HZ, level=0.01), noise(60 * RATE_HZ, level=0.1)
    gains = gains_of(running(), np.concatenate((quiet, loud)))
    assert gains[10 * RATE_HZ - 1] == pytest.approx(RMS / 0.01, rel=0.05)
    settled = gains[round((10 + 4 * MEMORY_S) * RATE_HZ) :]
    np.testing.assert_allclose(settled, RMS / 0.1, rtol=0.05)
    steps = np.abs(np.diff(np.log(gains)))
    assert steps.max() < 0.01, "a jump of the gain would be heard as a click in what the network sees"


def test_silence_changes_no_gain() -> None:
    sound, silence = noise(FIRST), np.zeros(5 * RATE_HZ, np.float32)
    gains = gains_of(running(), np.concatenate((sound, silence)))
    np.testing.assert_array_equal(gains[FIRST:], gains[FIRST - 1])
    np.testing.assert_array_equal(gains_of(running(), silence), 1)
    late = gains_of(running(), np.concatenate((silence, noise(FIRST))))
    assert late[-1] == pytest.approx(RMS / 0.05, rel=0.05)

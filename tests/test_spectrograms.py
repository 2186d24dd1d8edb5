"""Spectrograms made while a recording is read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.signal import ShortTimeFFT

from clients.spectrograms import Spectrogram, VoicePicture


def spectrogram(samples: np.ndarray, rate_hz: int, block: int = 4_000) -> Spectrogram:
    found = Spectrogram(len(samples), rate_hz)
    for start in range(0, len(samples), block):
        found.push(samples[start : start + block])
    return found


def test_levels_are_those_of_scipy() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    taper = np.hanning(400)
    # scipy's frame p begins at p * hop - 200 here, as ours do
    wanted = ShortTimeFFT(taper, hop=160, fs=16_000).stft(samples, p0=0, p1=100)
    levels = spectrogram(samples, 16_000).levels_db()
    np.testing.assert_allclose(levels, 20 * np.log10(np.abs(wanted) * 2 / taper.sum()), atol=0.02)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
def test_a_sine_stands_in_its_row_at_its_level(rate_hz: int) -> None:
    t = np.arange(2 * rate_hz) / rate_hz
    found = spectrogram((0.1 * np.sin(2 * np.pi * 1_000 * t)).astype(np.float32), rate_hz)
    levels = found.levels_db()[:, 10:-10]
    row = round(1 / found.top_khz * (len(levels) - 1))
    assert found.top_khz == pytest.approx(min(8.0, rate_hz / 2_000), abs=0.05)
    np.testing.assert_allclose(levels[row], -20, atol=0.5)
    assert levels[row + 5].max() < -70


@pytest.mark.parametrize("block", [7, 1_000, 10**6])
def test_the_blocks_change_nothing(block: int) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 30_000).astype(np.float32)
    np.testing.assert_allclose(
        spectrogram(samples, 16_000, block).levels_db(), spectrogram(samples, 16_000).levels_db(), atol=1e-3
    )


def test_a_long_recording_has_no_more_columns_and_each_is_the_mean_power_of_its_frames() -> None:
    quiet, loud = (np.random.default_rng(2).normal(0, level, 16_000 * 50) for level in (0.01, 0.1))
    levels = spectrogram(np.concatenate((quiet, loud)).astype(np.float32), 16_000, 50_000).levels_db()
    assert levels.shape == (201, 2_000)
    mean_db = 10 * np.log10(np.mean(10 ** (levels / 10), axis=0))
    assert mean_db[1_010:].mean() - mean_db[:990].mean() == pytest.approx(20, abs=0.2)


def test_what_did_not_come_is_silent() -> None:
    found = Spectrogram(16_000, 16_000)
    found.push(np.ones(8_000, np.float32))
    levels = found.levels_db()
    assert levels.shape[1] == 100 and levels[:, 60:].max() < -150 < levels[:, :40].max()


def test_the_attention_is_drawn_beneath(tmp_path: Path) -> None:
    pictures = []
    for weight in (0.0, 1.0):
        picture = VoicePicture(16_000, 16_000, 0.01)
        picture.hear(np.full(16_000, 0.1, np.float32))
        picture.speak(np.zeros(16_000, np.float32), np.full(101, weight, np.float32))
        picture.draw(tmp_path / "a.png")
        pictures.append(cv2.imread(str(tmp_path / "a.png")).astype(int))
    assert pictures[0].shape == (768, 1200, 3)
    rows = np.flatnonzero(np.abs(pictures[0] - pictures[1]).any(axis=(1, 2)))
    assert len(rows) and rows.min() > 600, "only the line of the attention differs"

"""Perturbed voices: pitch, formants and tilt of a recording changed independently, to make more speakers of one.

Formants (with pitch and rate) change by resampling. Pitch alone changes by pitch-synchronous overlap-add (TD-PSOLA,
Moulines & Charpentier 1990): grains of two periods are laid at a new distance, so that the envelope of the spectrum,
and the duration, stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import soxr
from scipy.ndimage import gaussian_filter1d

from train.corpus.layout import Waveform
from train.corpus.measure import FRAME_RATE_HZ, Flags, Values, track_pitch
from train.settings import SAMPLE_RATE_HZ

PITCH_OCTAVES = 0.28  # largest change, up and down: one standard deviation of men
FORMANT_LOG = 0.075  # largest change of their logarithm: 1.5 to 2 standard deviations
TILT_DB_PER_OCTAVE = 2.0  # largest: one standard deviation
_UNVOICED_PERIOD = 0.008 * SAMPLE_RATE_HZ  # grains of sounds without a pitch
_MARK_SLACK = 0.2  # of a period that a mark may move towards the pulse


@dataclass(frozen=True)
class Variant:
    """A perturbation of a voice."""

    pitch: float = 1.0  # factor of the fundamental frequency
    formants: float = 1.0  # factor of every formant; the duration is divided by it
    tilt_db_per_octave: float = 0.0  # of a filter, around 1 kHz

    @property
    def name(self) -> str:
        """Short form, such as `p0.870f1.043`."""
        return f"p{self.pitch:.3f}f{self.formants:.3f}"


def draw_variants(count: int, rng: np.random.Generator) -> list[Variant]:
    """Draw perturbations of one speaker, each of the three numbers spread evenly over its range (a Latin square)."""
    spread = (rng.permuted(np.tile(np.arange(count), (3, 1)), axis=1) + rng.uniform(0, 1, (3, count))) / max(count, 1)
    pitches, formants, tilts = 2 * spread - 1
    return [
        Variant(2 ** (PITCH_OCTAVES * pitch), float(np.exp(FORMANT_LOG * formant)), TILT_DB_PER_OCTAVE * tilt)
        for pitch, formant, tilt in zip(pitches.tolist(), formants.tolist(), tilts.tolist(), strict=True)
    ]


def perturb(waveform: Waveform, variant: Variant) -> Waveform:
    """Change a voice, (N,) at 16 kHz; its level stays.

    Returns:
        about (N / formants,), within [-1, 1].

    Raises:
        ValueError: less than 0.3 s of it is voiced.
    """
    samples = shift_pitch(np.asarray(waveform, np.float64), variant.pitch / variant.formants)
    scaled = soxr.resample(samples, SAMPLE_RATE_HZ * variant.formants, SAMPLE_RATE_HZ, quality="HQ")
    size = scipy.fft.next_fast_len(len(scaled), real=True)
    octaves = np.log2(np.maximum(scipy.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ), 100) / 1000)
    weights = 10 ** (variant.tilt_db_per_octave * octaves / 20)
    tilted = scipy.fft.irfft(scipy.fft.rfft(scaled, size) * weights, size)[: len(scaled)]
    tilted *= np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) / max(float(np.mean(tilted**2)), 1e-20))
    return np.asarray(tilted / max(1.0, float(np.abs(tilted).max()) / 0.99), np.float32)


def shift_pitch(samples: Values, factor: float) -> Values:
    """Multiply the pitch of a voice, (N,) at 16 kHz, and leave formants and duration: (N,).

    Raises:
        ValueError: less than 0.3 s of it is voiced.
    """
    f0_hz, voiced = track_pitch(samples)
    frame = np.clip(np.arange(len(samples)) * FRAME_RATE_HZ // SAMPLE_RATE_HZ - 2, 0, len(voiced) - 1)
    periods = np.where(voiced, SAMPLE_RATE_HZ / f0_hz, _UNVOICED_PERIOD)[frame]  # at each sample
    marks = _pulse_marks(samples, periods, voiced[frame])
    shifted, weight = np.zeros(len(samples)), np.full(len(samples), 1e-3)
    place = float(marks[0])
    while place < marks[-1]:
        at = int(place)
        right = int(np.searchsorted(marks, at))
        nearest = int(marks[right - 1] if right and at - marks[right - 1] < marks[right] - at else marks[right])
        reach = int(periods[nearest])
        low, high = max(-reach, -nearest, -at), min(reach, len(samples) - nearest, len(samples) - at)
        window = 0.5 + 0.5 * np.cos(np.pi * np.arange(low, high) / reach)
        shifted[at + low : at + high] += window * samples[nearest + low : nearest + high]
        weight[at + low : at + high] += window
        place += periods[at] / (factor if voiced[frame[at]] else 1.0)
    # Where grains leave gaps they stay quiet; where they overlap more, the sum is brought back.
    return shifted / np.maximum(weight, 0.5)


def _pulse_marks(samples: Values, periods: Values, voiced: Flags) -> Values:
    """Sample numbers one period apart, on the strongest point near by where there is a pitch."""
    smooth = np.abs(gaussian_filter1d(samples, 0.0005 * SAMPLE_RATE_HZ))
    marks, place = [], int(periods[0])
    last = len(samples) - int(periods.max()) - 1
    while place < last:
        if voiced[place]:
            slack = int(_MARK_SLACK * periods[place])
            place += int(smooth[place - slack : place + slack + 1].argmax()) - slack
        marks.append(place)
        place += int(periods[place])
    return np.array(marks)

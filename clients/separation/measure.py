"""What is measured of a recording and of a voice while they go by, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from clients.media.resampling import Resampler, Samples

_FULL_SCALE = 0.999


class RecordingMeasure:
    """Length, power and clipping of a recording, and its power as the network hears it.

    Args:
        rate_hz: of the recording.
        heard_at_hz: the network's rate.
    """

    def __init__(self, rate_hz: int, heard_at_hz: int) -> None:
        self.samples = 0
        self._clipped, self._energy = 0, 0.0
        self._resampler = Resampler(rate_hz, heard_at_hz)
        self._heard, self._heard_energy = 0, 0.0

    def take(self, blocks: Iterable[Samples]) -> RecordingMeasure:
        """Measure all blocks of a recording."""
        for block in blocks:
            self.samples += len(block)
            self._clipped += int(np.count_nonzero(np.abs(block) >= _FULL_SCALE))
            self._energy += _energy(block)
            self._hear(self._resampler.push(block))
        self._hear(self._resampler.end())
        return self

    def gain_to(self, rms: float) -> float:
        """The factor that brings what the network hears to a level; 1 where it hears nothing."""
        own = math.sqrt(self._heard_energy / max(1, self._heard))
        return rms / own if own else 1.0

    @property
    def power(self) -> float:
        """Mean square of the samples."""
        return self._energy / max(1, self.samples)

    @property
    def clipped_share(self) -> float:
        """Samples at full scale, of all."""
        return self._clipped / max(1, self.samples)

    def _hear(self, heard: Samples) -> None:
        self._heard += len(heard)
        self._heard_energy += _energy(heard)


class VoiceMeasure:
    """Power, peak and attention of a voice."""

    def __init__(self) -> None:
        self.samples, self.peak = 0, 0.0
        self._energy, self._attention, self._frames = 0.0, 0.0, 0

    def push(self, speech: Samples, attention: NDArray[np.float32]) -> None:
        """Take the next samples and frames."""
        self.samples += len(speech)
        self.peak = max(self.peak, float(np.max(np.abs(speech), initial=0.0)))
        self._energy += _energy(speech)
        self._attention += float(np.sum(attention, dtype=np.float64))
        self._frames += len(attention)

    @property
    def power(self) -> float:
        """Mean square of the samples."""
        return self._energy / max(1, self.samples)

    @property
    def attention_mean(self) -> float:
        """0..1."""
        return self._attention / max(1, self._frames)


def _energy(samples: Samples) -> float:
    return float(np.sum(np.square(samples, dtype=np.float64)))

"""Changing the sample rate, of a whole recording and of one that comes piece by piece: both give the same samples.

N: samples of one channel.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_QUALITY = "HQ"


def resample(samples: Samples, from_hz: int, to_hz: int, length: int | None = None) -> Samples:
    """Change the sample rate with soxr's high quality filter; the phase and the place of every sound are kept.

    Args:
        samples: (N,).
        from_hz: rate of the samples.
        to_hz: rate wanted.
        length: samples wanted, where rounding would give one more or less.
    """
    changed = samples if from_hz == to_hz else soxr.resample(samples, from_hz, to_hz, quality=_QUALITY)
    return np.asarray(changed, np.float32) if length is None else fitted(changed, length)


class Resampler:
    """The same for pieces: what all calls give, one behind the other, is what `resample` gives of all pieces.

    Args:
        from_hz: rate of the samples.
        to_hz: rate wanted.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        same = from_hz == to_hz
        self._stream = None if same else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality=_QUALITY)

    def push(self, samples: Samples) -> Samples:
        """Take the next samples (n,), any number; gives those that later ones cannot change."""
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(np.ascontiguousarray(samples, np.float32)), np.float32)

    def end(self) -> Samples:
        """There are no more; gives what was kept for them."""
        nothing = np.zeros(0, np.float32)
        if self._stream is None:
            return nothing
        return np.asarray(self._stream.resample_chunk(nothing, last=True), np.float32)


def fitted(samples: Samples, length: int) -> Samples:
    """The first so many samples, with zeros behind them where there are fewer."""
    missing = max(0, length - len(samples))
    return np.pad(np.asarray(samples[:length], np.float32), (0, missing))

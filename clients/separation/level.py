"""The level that a recording is brought to before the network hears it, and back from it afterwards.

The network knows mixtures of one level. Where the whole recording is known, one gain serves all of it. Of live input
only the past is known: a running level follows its power, and each sample is divided by the very gain that it was
multiplied by.

N: samples at the network's rate.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clients.media import limits
from clients.media.sound import Samples

MEMORY_S = 30.0  # after which the running level has forgotten all but 1/e; short enough to follow who moves about


class Level(Protocol):
    """Gives the gain of every sample."""

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Gains (n,) of the next n samples of all that came; n may be less than came, the others follow later."""

    def end(self) -> NDArray[np.float32]:
        """Gains of the samples that are still without one."""


class FixedLevel:
    """One gain for all."""

    def __init__(self, gain: float) -> None:
        self._gain = gain

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """One gain for each sample."""
        return np.full(len(samples), self._gain, np.float32)

    def end(self) -> NDArray[np.float32]:
        """Nothing is left without one."""
        return np.zeros(0, np.float32)


class RunningLevel:
    """Follows the power of what was heard so far, frame by frame; the gain changes in straight lines between frames.

    The first window has to be waited for anyway, so its own power is where the level begins. Until then the mean of all
    that was heard counts, later the recent more than the old. Silence changes nothing: amplified, it would be
    taken for sound.

    Args:
        rms: level wanted.
        frame: samples of one frame.
        first: samples of the first window.
        rate_hz: samples per second.
    """

    def __init__(self, rms: float, *, frame: int, first: int, rate_hz: int) -> None:
        self._rms, self._frame, self._first = rms, frame, first
        self._memory = MEMORY_S * rate_hz / frame  # in frames
        self._power, self._heard = 0.0, 0  # mean power of the audible frames, and how many they were
        self._gain: float | None = None  # at the end of what has its gains
        self._held: list[Samples] = []
        self._held_samples = 0

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Gains of the whole frames among what came; all of the first window's at once."""
        self._held.append(samples)
        self._held_samples += len(samples)
        if self._held_samples < (self._first if self._gain is None else self._frame):
            return np.zeros(0, np.float32)
        held = np.concatenate(self._held)
        whole = len(held) // self._frame * self._frame
        self._held, self._held_samples = [held[whole:]], len(held) - whole
        return self._gains(held[:whole])

    def end(self) -> NDArray[np.float32]:
        """Gains of the rest: of a recording shorter than the first window, all of it."""
        held = np.concatenate([*self._held, np.zeros(0, np.float32)])
        self._held, self._held_samples = [], 0
        whole = len(held) // self._frame * self._frame
        gains = self._gains(held[:whole])
        last = 1.0 if self._gain is None else self._gain
        return np.concatenate((gains, np.full(len(held) - whole, last, np.float32)))

    def _gains(self, samples: Samples) -> NDArray[np.float32]:
        """Gains of whole frames; one for all of them at the beginning."""
        powers = np.mean(np.square(samples.reshape(-1, self._frame), dtype=np.float64), axis=1)
        begins = self._gain is None
        corners = [] if self._gain is None else [self._gain]
        for power in powers:
            self._hear(float(power))
            corners.append(self._gain_now())
        if not corners:
            return np.zeros(0, np.float32)
        self._gain = corners[-1]
        if begins:
            return np.full(len(samples), self._gain, np.float32)
        places = np.arange(1, len(samples) + 1) / self._frame
        return np.interp(places, np.arange(len(corners)), corners).astype(np.float32)

    def _hear(self, power: float) -> None:
        if power >= limits.SILENCE_RMS**2:
            self._heard += 1
            self._power += (power - self._power) / min(self._heard, self._memory)

    def _gain_now(self) -> float:
        return self._rms / math.sqrt(self._power) if self._heard else 1.0

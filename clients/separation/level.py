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
from clients.media.resampling import Samples

# After which the running level has forgotten all but 1/e. Against one gain for the whole, the SDR improvement on four
# synthetic mixtures of 40 s changed by 0.0 dB where the level was steady, began with five silent seconds or went in
# slow waves of +-9 dB; by +0.2 dB where it fell by 18 dB midway; by -0.2 dB where it rose so (by -0.5 dB with a memory
# of 30 s).
MEMORY_S = 10.0


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
        """Gains of the whole frames among what came, from the first window on."""
        self._held.append(samples)
        self._held_samples += len(samples)
        if self._held_samples < (self._first if self._gain is None else self._frame):
            return np.zeros(0, np.float32)
        return self._gains_of(self._held_samples // self._frame * self._frame)

    def end(self) -> NDArray[np.float32]:
        """Gains of the rest: of a recording shorter than the first window, all of it."""
        gains = self._gains_of(self._held_samples // self._frame * self._frame)
        rest, self._held_samples = self._held_samples, 0
        return np.concatenate((gains, np.full(rest, 1.0 if self._gain is None else self._gain, np.float32)))

    def _gains_of(self, count: int) -> NDArray[np.float32]:
        """Gains of the oldest samples, a number of whole frames."""
        held = np.concatenate([*self._held, np.zeros(0, np.float32)])
        self._held, self._held_samples = [held[count:]], len(held) - count
        powers = np.mean(np.square(held[:count].reshape(-1, self._frame), dtype=np.float64), axis=1)
        begun = np.zeros(0, np.float32)
        if self._gain is None and count:
            first = min(count, self._first) // self._frame
            self._gain = [self._next_gain(power) for power in powers[:first]][-1]
            begun, powers = np.full(first * self._frame, self._gain, np.float32), powers[first:]
        if self._gain is None or not len(powers):
            return begun
        corners = [self._gain, *(self._next_gain(power) for power in powers)]
        self._gain = corners[-1]
        places = np.arange(1, len(powers) * self._frame + 1) / self._frame
        return np.concatenate((begun, np.interp(places, np.arange(len(corners)), corners).astype(np.float32)))

    def _next_gain(self, power: float) -> float:
        """The gain after one more frame."""
        if power >= limits.SILENCE_RMS**2:
            self._heard += 1
            self._power += (float(power) - self._power) / min(self._heard, self._memory)
        return self._rms / math.sqrt(self._power) if self._heard else 1.0

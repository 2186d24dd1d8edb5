"""What is measured of a recording and of a voice while they go by, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput
from clients.media import limits
from clients.media.sound import Samples
from clients.separation.stream import Resampler

_FULL_SCALE = 0.999


class RecordingMeasure:
    """Length, power and clipping of a recording, and its power as the network hears it.

    Args:
        name: how messages call the recording.
        rate_hz: of the recording.
        heard_at_hz: the network's rate.
    """

    def __init__(self, name: str, rate_hz: int, heard_at_hz: int) -> None:
        self.name, self.rate_hz = name, rate_hz
        self.samples = 0
        self._clipped, self._energy = 0, 0.0
        self._resampler = Resampler(rate_hz, heard_at_hz)
        self._heard, self._heard_energy = 0, 0.0

    def push(self, block: Samples) -> Samples:
        """Take the next samples and give them back.

        Raises:
            BadInput: some of them are no numbers.
        """
        require_finite(block, self.name, self.samples / self.rate_hz, self.rate_hz)
        self.samples += len(block)
        self._clipped += int(np.count_nonzero(np.abs(block) >= _FULL_SCALE))
        self._energy += _energy(block)
        self._hear(self._resampler.push(block))
        return block

    def whole(self, blocks: Iterable[Samples]) -> RecordingMeasure:
        """Take all blocks of a recording.

        Raises:
            BadInput: values that are no numbers, a recording that is too short or silent.
        """
        for block in blocks:
            self.push(block)
        self._hear(self._resampler.end())
        limits.require_duration(self.name, self.samples, self.rate_hz)
        self.require_audible()
        return self

    def require_audible(self) -> None:
        """Refuse silence.

        Raises:
            BadInput: says the level.
        """
        rms = math.sqrt(self.power)
        if rms < limits.SILENCE_RMS:
            level = "digital silence" if rms == 0 else f"{20 * math.log10(rms):.0f} dBFS"
            raise BadInput(
                f"{self.name} is silent ({level} on average over {self.samples / self.rate_hz:.1f} s)",
                f"at least {20 * math.log10(limits.SILENCE_RMS):.0f} dBFS",
                "nothing can be heard in it, and amplified noise would be taken for sound",
                "check the microphone, the channel and the cable",
            )

    def gain_to(self, rms: float) -> float:
        """The factor that brings what the network hears to a level."""
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


def require_finite(block: Samples, name: str, start_s: float, rate_hz: int) -> None:
    """Refuse samples that are no numbers.

    Args:
        block: (n,).
        name: how messages call the recording.
        start_s: where the block begins in it.
        rate_hz: its rate.

    Raises:
        BadInput: says how many and where.
    """
    bad = np.flatnonzero(~np.isfinite(block))
    if len(bad):
        raise BadInput(
            f"{name} holds {len(bad)} values that are no numbers (the first, {block[bad[0]]}, "
            f"at {start_s + bad[0] / rate_hz:.3f} s)",
            "finite samples",
            "one of them spoils every answer",
            "repair or export the recording again",
        )


def _energy(samples: Samples) -> float:
    return float(np.sum(np.square(samples, dtype=np.float64)))

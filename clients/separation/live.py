"""Sound that is not known to its end: blocks from a microphone, a call, a pipe."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput, BadSetting
from clients.media import limits
from clients.media.sound import Samples, mono_of
from clients.media.sound_reader import require_finite
from clients.separation.job import Speaker, tensors_of
from clients.separation.level import FixedLevel, RunningLevel
from clients.separation.served import SeparationModel
from clients.separation.stream import VoiceStream

NAME = "the stream"


class Blocks:
    """Checks blocks as they come, and mixes them down.

    Args:
        rate_hz: their sample rate.

    Raises:
        BadInput: no rate, or one outside 4 to 192 kHz.
    """

    def __init__(self, rate_hz: int | None) -> None:
        if rate_hz is None:
            raise BadInput("Blocks came without their sample rate", "sample_rate_hz", "pitch depends on it", "pass it")
        limits.require_sound_format(NAME, channels=1, rate_hz=rate_hz)
        self.rate_hz = int(rate_hz)
        self._samples = 0

    def checked(self, block: NDArray[Any]) -> Samples:
        """One block as mono samples (n,).

        Raises:
            BadInput: no sound, or values that are no numbers.
        """
        samples = mono_of(np.asarray(block), f"a block of {NAME}")
        require_finite(samples, NAME, self._samples, self.rate_hz)
        self._samples += len(samples)
        return samples

    def all_of(self, blocks: Iterable[NDArray[Any]]) -> Iterator[Samples]:
        """Each block, checked."""
        return (self.checked(block) for block in blocks)

    async def each_of(self, blocks: AsyncIterable[NDArray[Any]]) -> AsyncIterator[Samples]:
        """Each block, checked, as it comes."""
        async for block in blocks:
            yield self.checked(block)


def live_stream(model: SeparationModel, speaker: Speaker, rate_hz: int, level_rms: float | None) -> VoiceStream:
    """A stream for sound whose level is followed, or given.

    Args:
        model: the served ensemble.
        speaker: whose voice is wanted.
        rate_hz: of the sound.
        level_rms: RMS of the sound, where it is known.

    Raises:
        BadSetting: a level that is no number above 0.
    """
    level: FixedLevel | RunningLevel
    if level_rms is None:
        layout = model.layout
        level = RunningLevel(model.mixture_rms, frame=layout.hop, first=layout.longest, rate_hz=model.rate_hz)
    elif 0 < level_rms < float("inf"):
        level = FixedLevel(model.mixture_rms / level_rms)
    else:
        raise BadSetting(
            f"level_rms is {level_rms}", "a number above 0", "the sound is brought to one level by it", "leave it out"
        )
    return VoiceStream(model, tensors_of(speaker, model), rate_hz, level)

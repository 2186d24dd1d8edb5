"""Recordings held in memory as a whole; and, from here, all that reads, resamples and writes sound.

N: samples of one channel. Every recording becomes mono float32, the mean of its channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput
from clients.media import limits
from clients.media.resampling import Resampler, Samples, fitted, resample
from clients.media.sound_reader import SoundReader, open_sound, require_audible, require_finite
from clients.media.wav_writer import WavWriter, finish_wav, write_wav

__all__ = [
    "Resampler",
    "Samples",
    "Sound",
    "SoundReader",
    "WavWriter",
    "finish_wav",
    "fitted",
    "gain_to",
    "load_sound",
    "mono_of",
    "open_sound",
    "resample",
    "sound_of_array",
    "write_wav",
]


@dataclass(frozen=True)
class Sound:
    """A checked recording."""

    samples: Samples  # (N,), mono; full scale is 1
    sample_rate_hz: int
    name: str  # for messages

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.samples) / self.sample_rate_hz


def load_sound(source: str | Path | NDArray[Any], sample_rate_hz: int | None = None) -> Sound:
    """Take a recording from a file or an array, mix it down and check it.

    Args:
        source: path of a recording or video; or an array (N,) or (N, channels), floats at full scale 1 or integers.
        sample_rate_hz: of an array; a file knows its own.

    Raises:
        BadInput: not a recording, damaged, cut short, too short or long, silent, or with values that are no numbers.
    """
    if not isinstance(source, np.ndarray):
        return _read(Path(source))
    sound = sound_of_array(source, sample_rate_hz)
    require_finite(sound.samples, sound.name, 0, sound.sample_rate_hz)
    require_audible(sound.name, _rms(sound.samples), sound.seconds)
    return sound


def gain_to(samples: Samples, rms: float) -> float:
    """The factor that brings samples to an RMS; 1 for silence, which stays silence."""
    own = _rms(samples)
    return rms / own if own else 1.0


def sound_of_array(array: NDArray[Any], sample_rate_hz: int | None) -> Sound:
    """Check an array's shape, type and length, scale integers, mix down; what the samples are is not looked at.

    Raises:
        BadInput: without its rate, or no sound by its shape, type, length or rate.
    """
    name = "the array"
    if sample_rate_hz is None:
        raise BadInput("An array came without its sample rate", "sample_rate_hz", "pitch depends on it", "pass it")
    samples = mono_of(array, name)
    channels = 1 if array.ndim == 1 else array.shape[1]
    limits.require_sound_size(name, samples=len(array), channels=channels, rate_hz=sample_rate_hz)
    return Sound(samples, int(sample_rate_hz), name)


def mono_of(array: NDArray[Any], name: str) -> Samples:
    """Samples (n,) or (n, channels) of any type as mono at full scale 1; neither their number nor values are looked at.

    Raises:
        BadInput: no sound by its shape or type.
    """
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or array.dtype == np.uint64:
        raise BadInput(
            f"{name[:1].upper()}{name[1:]} has shape {array.shape} and type {array.dtype}",
            "(samples,) or (samples, channels) of floats or integers",
            "nothing else is sound",
            "reshape or convert it",
        )
    scaled = _full_scale_one(array)
    return np.asarray(scaled if array.ndim == 1 else scaled.mean(axis=1), np.float32)  # (n, channels) -> (n,)


def _read(path: Path) -> Sound:
    with open_sound(path) as reader:
        rate_hz = reader.sample_rate_hz
        if reader.samples is not None:
            limits.require_duration(reader.name, reader.samples, rate_hz)
        samples, held = np.empty(reader.samples or 0, np.float32), 0
        for block in reader.blocks():
            end = held + len(block)
            if end > min(limits.MAX_SAMPLES, limits.MAX_SECONDS * rate_hz):
                limits.require_duration(reader.name, end, rate_hz)
            if end > len(samples):  # containers know their length about, or not at all
                samples = np.concatenate((samples[:held], np.empty(end // 4 + len(block), np.float32)))
            samples[held:end] = block
            held = end
        return Sound(samples[:held], rate_hz, reader.name)


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _full_scale_one(array: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Integers brought to -1..1 by the range of their type; unsigned ones have their zero in the middle."""
    if array.dtype.kind == "f":
        return array
    half = 2.0 ** (8 * array.dtype.itemsize - 1)
    return np.asarray(array / half - (1.0 if array.dtype.kind == "u" else 0.0))

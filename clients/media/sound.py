"""Reading, checking, resampling and writing sound: WAV and FLAC by their content, all else through FFmpeg.

N: samples of one channel. Every recording becomes mono float32, the mean of its channels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from clients.errors import BadInput, printable
from clients.media import limits, video

Samples = NDArray[np.float32]

WANTED = "a WAV or FLAC recording, or a video or other container with sound (MP4, MKV, MPEG, M4A, MP3, OGG ...)"
# libsndfile 1.2.2 has open memory faults in its compressed WAV subtypes, so only plain samples are let in.
_WAV_SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_BLOCK_SAMPLES = 1 << 18
_UNKNOWN_SIZE = 0xFFFFFFFF  # what a program writes into the header when it streams


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
    sound = _sound_of_array(source, sample_rate_hz) if isinstance(source, np.ndarray) else _read(Path(source))
    _require_finite(sound)
    _require_audible(sound)
    return sound


def resample(samples: Samples, from_hz: int, to_hz: int, length: int | None = None) -> Samples:
    """Change the sample rate with soxr's high quality filter; the phase and the place of every sound are kept.

    Args:
        samples: (N,).
        from_hz: rate of the samples.
        to_hz: rate wanted.
        length: samples wanted, where rounding would give one more or less.
    """
    changed = samples if from_hz == to_hz else soxr.resample(samples, from_hz, to_hz, quality="HQ")
    return np.asarray(changed, np.float32) if length is None else fitted(changed, length)


def fitted(samples: Samples, length: int) -> Samples:
    """The first so many samples, with zeros behind them where there are fewer."""
    missing = max(0, length - len(samples))
    return np.pad(np.asarray(samples[:length], np.float32), (0, missing))


def gain_to(samples: Samples, rms: float) -> float:
    """The factor that brings samples to an RMS; 1 for silence, which stays silence."""
    own = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return rms / own if own else 1.0


def write_wav(path: Path, samples: Samples, sample_rate_hz: int, *, float32: bool = False) -> None:
    """Write a mono WAV; as 16-bit integers, a peak above full scale is brought to full scale and nothing is clipped.

    Raises:
        OSError: it cannot be written.
    """
    peak = 1.0 if float32 else max(1.0, float(np.max(np.abs(samples))))
    subtype = "FLOAT" if float32 else "PCM_16"
    try:
        soundfile.write(path, samples / peak, sample_rate_hz, format="WAV", subtype=subtype)
    except soundfile.SoundFileError as error:
        raise OSError(str(error)) from error


def _sound_of_array(array: NDArray[Any], sample_rate_hz: int | None) -> Sound:
    """Check an array's shape and type, scale integers, mix down."""
    name = "the array"
    if sample_rate_hz is None:
        raise BadInput("An array came without its sample rate", "sample_rate_hz", "pitch depends on it", "pass it")
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or array.dtype == np.uint64:
        raise BadInput(
            f"The array has shape {array.shape} and type {array.dtype}",
            "(samples,) or (samples, channels) of floats or integers",
            "nothing else is sound",
            "reshape or convert it",
        )
    channels = 1 if array.ndim == 1 else array.shape[1]
    limits.require_sound_size(name, samples=len(array), channels=channels, rate_hz=sample_rate_hz)
    scaled = _full_scale_one(array)
    mono = scaled if array.ndim == 1 else scaled.mean(axis=1)  # (N, channels) -> (N,)
    return Sound(np.asarray(mono, np.float32), int(sample_rate_hz), name)


def _full_scale_one(array: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Integers brought to -1..1 by the range of their type; unsigned ones have their zero in the middle."""
    if array.dtype.kind == "f":
        return array
    half = 2.0 ** (8 * array.dtype.itemsize - 1)
    return np.asarray(array / half - (1.0 if array.dtype.kind == "u" else 0.0))


def _read(path: Path) -> Sound:
    """Read a file by what its first bytes say, whatever its name ends with."""
    limits.require_file(path, WANTED)
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
            _require_whole_wav(file, path)
            return _read_plain(path)
    if head[:4] == b"fLaC":
        return _read_plain(path)
    if video.is_container(head):
        samples, rate_hz = video.read_sound(path)
        return Sound(samples, rate_hz, printable(path))
    raise BadInput(
        f"{printable(path)} begins with {head[:8]!r}, which no recording does",
        WANTED,
        "a file is known by its content, not by its name",
        "give the recording itself, or convert it to WAV",
    )


def _read_plain(path: Path) -> Sound:
    """Read a WAV or FLAC block by block, mixing down on the way."""
    name = printable(path)
    try:
        with soundfile.SoundFile(path) as file:
            if file.format in ("WAV", "WAVEX", "RF64") and file.subtype not in _WAV_SUBTYPES:
                raise BadInput(
                    f"{name} is a WAV of type {file.subtype}",
                    ", ".join(_WAV_SUBTYPES),
                    "decoders of compressed WAV are not safe",
                    "convert it to PCM_16",
                )
            limits.require_sound_size(name, samples=file.frames, channels=file.channels, rate_hz=file.samplerate)
            samples = np.empty(file.frames, np.float32)
            filled = 0
            for block in file.blocks(_BLOCK_SAMPLES, dtype="float32", always_2d=True):  # (n, channels)
                samples[filled : filled + len(block)] = block.mean(axis=1)
                filled += len(block)
            rate_hz = int(file.samplerate)
    except soundfile.SoundFileError as error:
        raise BadInput(
            f"{name} cannot be decoded: {printable(str(error)).rstrip('.')}",
            "a whole WAV or FLAC file",
            "it is damaged or cut short",
            "copy or record it again",
        ) from None
    if filled < len(samples):
        raise _cut_short(name, f"{len(samples)} samples", f"{filled}")
    return Sound(samples, rate_hz, name)


def _require_whole_wav(file: BinaryIO, path: Path) -> None:
    """Walk the chunks; libsndfile would silently return the part that is there."""
    size = path.stat().st_size
    position = 12
    while position + 8 <= size:
        file.seek(position)
        tag, length = struct.unpack("<4sI", file.read(8))
        if tag == b"data":
            if length != _UNKNOWN_SIZE and position + 8 + length > size:
                raise _cut_short(printable(path), f"{length} bytes of sound", f"{size - position - 8}")
            return
        position += 8 + length + length % 2  # chunks are padded to even lengths
    raise _cut_short(printable(path), "a chunk of sound", "none")


def _cut_short(name: str, promised: str, held: str) -> BadInput:
    return BadInput(
        f"{name} is cut short: its header promises {promised}, it holds {held}",
        "the whole file",
        "part of the recording is lost",
        "copy it again",
    )


def _require_finite(sound: Sound) -> None:
    bad = np.flatnonzero(~np.isfinite(sound.samples))
    if len(bad):
        raise BadInput(
            f"{sound.name} holds {len(bad)} values that are no numbers (the first, {sound.samples[bad[0]]}, "
            f"at {bad[0] / sound.sample_rate_hz:.3f} s)",
            "finite samples",
            "one of them spoils every answer",
            "repair or export the recording again",
        )


def _require_audible(sound: Sound) -> None:
    rms = float(np.sqrt(np.mean(np.square(sound.samples, dtype=np.float64))))
    if rms < limits.SILENCE_RMS:
        level = "digital silence" if rms == 0 else f"{20 * np.log10(rms):.0f} dBFS"
        raise BadInput(
            f"{sound.name} is silent ({level} on average over {sound.seconds:.1f} s)",
            f"at least {20 * np.log10(limits.SILENCE_RMS):.0f} dBFS",
            "nothing can be heard in it, and amplified noise would be taken for sound",
            "check the microphone, the channel and the cable",
        )

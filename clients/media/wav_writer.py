"""Writing mono WAV piece by piece, and whole or not at all.

Above 4 GiB the sizes of a WAV's header do not suffice; such a file becomes RF64 (EBU Tech 3306), whose head is the same
but for the sizes, for which room is kept unless the length is known to need none:

    "RIFF" size "WAVE" | "JUNK" 28 room | "fmt " ... | ["fact" ...] | "data" size | samples      up to 4 GiB
    "RF64"  -1  "WAVE" | "ds64" 28 sizes | "fmt " ... | ["fact" ...] | "data"  -1  | samples      above

N: samples.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from clients.media.resampling import Samples
from clients.media.whole import WholeFile

_RIFF_LIMIT = 0xFFFFFFFF  # bytes; the largest size that a header of 32 bits holds
_UNTOLD = 0xFFFFFFFF  # stands in RF64 where the size is found in "ds64"
_BLOCK_SAMPLES = 1 << 18


class WavWriter:
    """A mono WAV that is written while its samples come; when the `with` ends in an error, there is no file.

    Until the end the samples lie in a hidden file beside it. 16-bit samples are rounded so that those of a 16-bit
    recording come out as they were.

    Args:
        path: the file; one that is there is replaced.
        rate_hz: sample rate.
        float32: keep every value; else 16-bit integers.
        gain: factor on all samples.
        samples: how many there will be, where it is known; the header then needs no room for more.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(
        self, path: str | Path, rate_hz: int, *, float32: bool = False, gain: float = 1.0, samples: int | None = None
    ) -> None:
        self.peak = 0.0  # of what came, before the gain
        self.samples = 0
        self._rate_hz, self._float32, self._gain = rate_hz, float32, gain
        self._room = samples is None or samples * self._sample_bytes > _RIFF_LIMIT - 1024
        self._whole = WholeFile(path)
        self._file = self._whole.part.open("wb")
        self._file.write(self._head())

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, samples: Samples) -> None:
        """Append samples (n,); as integers, what the gain leaves above full scale is held there.

        Raises:
            OSError: the disk is full or gone.
        """
        if len(samples):
            self.peak = max(self.peak, float(np.max(np.abs(samples))))
        scaled = np.asarray(samples, np.float32) * np.float32(self._gain)
        if self._float32:
            self._file.write(scaled.astype("<f4").tobytes())
        else:
            self._file.write(np.clip(np.rint(scaled * 32768), -32768, 32767).astype("<i2").tobytes())
        self.samples += len(samples)

    def close(self) -> None:
        """Write the sizes and give the file its name.

        Raises:
            OSError: it cannot be written; there is no file then.
        """
        if self._file.closed:
            return
        try:
            self._file.seek(0)
            self._file.write(self._head())
            self._file.close()
        except OSError:
            self.discard()
            raise
        self._whole.finish()

    def discard(self) -> None:
        """Leave no file."""
        with suppress(OSError):
            self._file.close()
        self._whole.discard()

    @property
    def _sample_bytes(self) -> int:
        return 4 if self._float32 else 2

    def _head(self) -> bytes:
        """Everything before the samples, with the sizes as they are now; its own length never changes."""
        width, rate_hz = self._sample_bytes, self._rate_hz
        form = struct.pack("<HHIIHH", 3 if self._float32 else 1, 1, rate_hz, rate_hz * width, width, 8 * width)
        facts = _chunk(b"fmt ", form)
        if self._float32:  # other forms than integers must say how many samples there are
            facts = _chunk(b"fmt ", form + b"\0\0") + _chunk(b"fact", struct.pack("<I", min(self.samples, _UNTOLD)))
        data = self.samples * width
        size = 4 + (36 if self._room else 0) + len(facts) + 8 + data
        if size <= _RIFF_LIMIT:
            room = _chunk(b"JUNK", bytes(28)) if self._room else b""
            return struct.pack("<4sI4s", b"RIFF", size, b"WAVE") + room + facts + struct.pack("<4sI", b"data", data)
        sizes = _chunk(b"ds64", struct.pack("<QQQI", size, data, self.samples, 0))
        return struct.pack("<4sI4s", b"RF64", _UNTOLD, b"WAVE") + sizes + facts + struct.pack("<4sI", b"data", _UNTOLD)


def write_wav(path: str | Path, samples: Samples, sample_rate_hz: int, *, float32: bool = False) -> None:
    """Write a mono WAV; as 16-bit integers, a peak above full scale is brought to full scale and nothing is clipped.

    Args:
        path: the file.
        samples: (N,).
        sample_rate_hz: their rate.
        float32: keep every value.

    Raises:
        OSError: it cannot be written; there is no file then.
    """
    gain = 1.0 if float32 else gain_within_full_scale(float(np.max(np.abs(samples), initial=0.0)))
    with WavWriter(path, sample_rate_hz, float32=float32, gain=gain, samples=len(samples)) as file:
        for start in range(0, len(samples), _BLOCK_SAMPLES):
            file.write(samples[start : start + _BLOCK_SAMPLES])


def finish_wav(scratch: Path, target: Path, *, peak: float, float32: bool = False) -> None:
    """Turn a float WAV of `WavWriter` into the file that is given away, as `write_wav` would have made it.

    Args:
        scratch: written with `float32=True`; it stays.
        target: the file.
        peak: the scratch file's largest value, `WavWriter.peak`.
        float32: keep every value.

    Raises:
        OSError: one cannot be read or the other not be written; there is no target then.
    """
    gain = 1.0 if float32 else gain_within_full_scale(peak)
    try:
        with soundfile.SoundFile(scratch) as source:
            rate_hz, samples = source.samplerate, source.frames
            with WavWriter(target, rate_hz, float32=float32, gain=gain, samples=samples) as file:
                for block in source.blocks(_BLOCK_SAMPLES, dtype="float32"):
                    file.write(block)
    except soundfile.SoundFileError as error:
        raise OSError(str(error)) from error


def gain_within_full_scale(peak: float) -> float:
    """The factor that brings a peak above full scale down to it; 1 for all others."""
    return 1.0 / max(1.0, peak)


def _chunk(tag: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", tag, len(body)) + body

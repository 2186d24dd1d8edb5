"""Recordings read block by block, in memory that does not depend on their length.

WAV and FLAC are decoded by libsndfile, all else by FFmpeg, which is loaded only where it is needed. Every recording
becomes mono float32, the mean of its channels.

N: samples of one block.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from clients.errors import BadInput, printable
from clients.media import kinds, limits, wav_check
from clients.media.resampling import Samples

WANTED = "a WAV or FLAC recording, or a video or other container with sound (MP4, MKV, MPEG, M4A, MP3, OGG ...)"
BLOCK_SAMPLES = 1 << 18


class SoundReader(ABC):
    """A recording in a file, whose head was checked; `blocks` reads it, as often as wanted.

    Args:
        name: how messages call it.
        sample_rate_hz: samples per second.
        samples: of one channel by the header; in containers about so many. None: the header does not say.
    """

    def __init__(self, name: str, sample_rate_hz: int, samples: int | None) -> None:
        self.name, self.sample_rate_hz, self.samples = name, sample_rate_hz, samples
        self._pass: Generator[Samples, None, None] | None = None

    def __enter__(self) -> SoundReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, also when it was not read to its end."""
        if self._pass is not None:
            self._pass.close()

    def blocks(self, samples: int = BLOCK_SAMPLES) -> Iterator[Samples]:
        """The recording from its beginning, (N,) with N = `samples` in all blocks but the last; one pass at a time.

        Raises:
            BadInput: damaged, cut short, too long, a value that is no number; at the end also too short or silent.
        """
        self.close()
        self._pass = self._checked(samples)
        return self._pass

    def _checked(self, samples: int) -> Generator[Samples, None, None]:
        heard, energy = 0, 0.0
        for block in rechunked(self.pieces(), samples):
            require_finite(block, self.name, heard, self.sample_rate_hz)
            heard += len(block)
            limits.require_stream_duration(self.name, heard / self.sample_rate_hz)
            energy += float(np.sum(np.square(block, dtype=np.float64)))
            yield block
        limits.require_not_short(self.name, heard, self.sample_rate_hz)
        require_audible(self.name, math.sqrt(energy / heard), heard / self.sample_rate_hz)

    @abstractmethod
    def pieces(self) -> Generator[Samples, None, None]:
        """The recording from its beginning, each (n,) as the decoder gives it; what the samples are is not looked at.

        Raises:
            BadInput: damaged, or cut short.
        """


class PlainReader(SoundReader):
    """A WAV or FLAC."""

    def __init__(self, path: Path) -> None:
        self._path = path
        name = printable(path)
        with _opened(path, name) as file:
            if file.format in ("WAV", "WAVEX", "RF64") and file.subtype not in wav_check.PLAIN:
                raise wav_check.compressed(name, file.subtype)
            limits.require_sound_format(name, channels=file.channels, rate_hz=file.samplerate)
            limits.require_not_short(name, file.frames, file.samplerate)
            limits.require_stream_duration(name, file.frames / file.samplerate)
            self._channels, is_flac = file.channels, file.format == "FLAC"
            super().__init__(name, int(file.samplerate), int(file.frames))
        if is_flac:
            self._require_content(path.stat().st_size)

    def _require_content(self, size: int) -> None:
        """Refuse hours of silence by how few bytes they take, before they are decoded."""
        samples, seconds = self.samples or 0, (self.samples or 0) / self.sample_rate_hz
        if seconds > limits.MAX_SECONDS and 8 * size < limits.MIN_BITS_PER_SAMPLE * samples * self._channels:
            raise BadInput(
                f"{self.name} holds {seconds / 3600:,.1f} h in {size:,} bytes",
                f"at least {limits.MIN_BITS_PER_SAMPLE} bits per sample",
                "only silence is coded in so few",
                "check the microphone, the channel and the cable",
            )

    def pieces(self) -> Generator[Samples, None, None]:
        """See `SoundReader`."""
        held = 0
        with _opened(self._path, self.name) as file:
            try:
                for block in file.blocks(BLOCK_SAMPLES, dtype="float32", always_2d=True):  # (n, channels)
                    held += len(block)
                    yield np.asarray(block.mean(axis=1), np.float32)
            except soundfile.SoundFileError as error:
                raise _undecodable(self.name, error) from None
        if held < (self.samples or 0):
            raise wav_check.cut_short(self.name, f"{self.samples} samples", f"{held}")


def open_sound(source: str | Path) -> SoundReader:
    """Check a recording's head; its samples are read by `blocks`.

    A file is known by its first bytes, whatever its name ends with.

    Args:
        source: path of a recording or video.

    Returns:
        to be used in a `with`.

    Raises:
        BadInput: not a recording, damaged, cut short, too short, longer than 24 h, or of an absurd form.
    """
    path = Path(source)
    limits.require_file(path, WANTED)
    with path.open("rb") as file:
        head = file.read(kinds.HEAD_BYTES)
        if kinds.is_wav(head):
            wav_check.require_plain_wav(file, path)
            return PlainReader(path)
        untold = kinds.is_flac(head) and not wav_check.flac_samples(file)
    if kinds.is_flac(head) and not untold:
        return PlainReader(path)
    if kinds.is_container(head) or untold:  # libsndfile wants to know how long a FLAC is
        from clients.media.container_sound import ContainerReader

        return ContainerReader(path)
    raise BadInput(
        f"{printable(path)} begins with {head[:8]!r}, which no recording does",
        WANTED,
        "a file is known by its content, not by its name",
        "give the recording itself, or convert it to WAV",
    )


def rechunked(pieces: Generator[Samples, None, None], samples: int) -> Iterator[Samples]:
    """The same samples in blocks of one length, the last one shorter."""
    held: list[Samples] = []
    missing = samples
    try:
        for piece in pieces:
            start = 0
            while len(piece) - start >= missing:
                held.append(piece[start : start + missing])
                yield np.concatenate(held)
                start += missing
                held, missing = [], samples
            held.append(piece[start:])
            missing -= len(held[-1])
    finally:
        pieces.close()
    if missing < samples:
        yield np.concatenate(held)


def require_finite(block: Samples, name: str, before: int, rate_hz: int) -> None:
    """Refuse values that are no numbers.

    Args:
        block: (N,).
        name: how messages call the recording.
        before: samples of the recording before it.
        rate_hz: its rate.

    Raises:
        BadInput: says how many of the block, and where.
    """
    bad = np.flatnonzero(~np.isfinite(block))
    if len(bad):
        raise BadInput(
            f"{name} holds {len(bad)} values that are no numbers (the first, {block[bad[0]]}, "
            f"at {(before + bad[0]) / rate_hz:.3f} s)",
            "finite samples",
            "one of them spoils every answer",
            "repair or export the recording again",
        )


def require_audible(name: str, rms: float, seconds: float) -> None:
    """Refuse silence.

    Raises:
        BadInput: an RMS below -80 dBFS.
    """
    if rms < limits.SILENCE_RMS:
        level = "digital silence" if rms == 0 else f"{20 * np.log10(rms):.0f} dBFS"
        raise BadInput(
            f"{name} is silent ({level} on average over {seconds:.1f} s)",
            f"at least {20 * np.log10(limits.SILENCE_RMS):.0f} dBFS",
            "nothing can be heard in it, and amplified noise would be taken for sound",
            "check the microphone, the channel and the cable",
        )


def _opened(path: Path, name: str) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(path)
    except soundfile.SoundFileError as error:
        raise _undecodable(name, error) from None


def _undecodable(name: str, error: Exception) -> BadInput:
    return BadInput(
        f"{name} cannot be decoded: {printable(str(error)).rstrip('.')}",
        "a whole WAV or FLAC file",
        "it is damaged or cut short",
        "copy or record it again",
    )

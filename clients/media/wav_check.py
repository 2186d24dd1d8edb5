"""What of a WAV or FLAC is checked before a decoder sees it.

libsndfile 1.2.2, the last release, has open memory faults in its decoders of compressed WAV, so only plain samples are
let through; and it returns silently what is there of a file that was cut short.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clients.errors import BadInput, printable
from clients.media import limits

PLAIN = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # the subtypes, as libsndfile calls them

_UNKNOWN_SIZE = 0xFFFFFFFF  # what a program writes into the header when it streams; in RF64: see "ds64"
_MAX_CHUNKS = 1_000
_INTEGERS, _FLOATS, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_COMPRESSED = {0x0002: "MS_ADPCM", 0x0006: "ALAW", 0x0007: "ULAW", 0x0011: "IMA_ADPCM", 0x0031: "GSM610", 0x0055: "MP3"}
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # of the extensible formats that repeat a plain format's tag


def require_plain_wav(file: BinaryIO, path: Path) -> None:
    """Walk the chunks: one format, of plain samples within the limits, and then all of the sound.

    Raises:
        BadInput: compressed, absurd, damaged or cut short.
    """
    name, size = printable(path), path.stat().st_size
    has_format, has_sound, size_64 = False, False, None
    for tag, length, start in _chunks(file, size, name):
        if tag == b"ds64":
            size_64 = _data_size(file.read(28))
        elif tag == b"fmt ":
            if has_format:
                raise _damaged(name, "two formats")
            has_format = True
            _require_plain_format(file.read(min(length, 40)), name)
        elif tag == b"data" and not has_sound:
            if not has_format:
                raise _damaged(name, "sound before its format")
            has_sound = True
            promised = size_64 if length == _UNKNOWN_SIZE else length
            if promised is not None and start + promised > size:
                raise cut_short(name, f"{promised} bytes of sound", f"{size - start}")
    if not has_sound:
        raise cut_short(name, "a chunk of sound", "none")


def flac_samples(file: BinaryIO) -> int:
    """Samples per channel as the head of a FLAC says; 0 where it was written to a pipe and does not say."""
    file.seek(18)  # in STREAMINFO, which stands first: 20 bits of rate, 3 of channels, 5 of depth, 36 of samples
    return int.from_bytes(file.read(8), "big") & (1 << 36) - 1


def cut_short(name: str, promised: str, held: str) -> BadInput:
    """What is said of a recording that ends before its end."""
    return BadInput(
        f"{name} is cut short: its header promises {promised}, it holds {held}",
        "the whole file",
        "part of the recording is lost",
        "copy it again",
    )


def compressed(name: str, kind: str) -> BadInput:
    """What is said of a WAV that is not plain samples."""
    return BadInput(
        f"{name} is a WAV of type {kind}",
        ", ".join(PLAIN),
        "decoders of compressed WAV are not safe",
        "convert it to PCM_16",
    )


def _chunks(file: BinaryIO, size: int, name: str) -> Iterator[tuple[bytes, int, int]]:
    """Tag, length and start of each chunk that is whole, and of the sound; the file stands at the start."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > size:
            return
        file.seek(position)
        tag, length = struct.unpack("<4sI", file.read(8))
        if tag != b"data" and position + 8 + length > size:
            return
        yield tag, length, position + 8
        position += 8 + length + length % 2  # chunks are padded to even lengths
    raise _damaged(name, f"more than {_MAX_CHUNKS} chunks")


def _data_size(sizes: bytes) -> int | None:
    """Bytes of sound by a "ds64"."""
    return int(struct.unpack_from("<Q", sizes, 8)[0]) if len(sizes) == 28 else None


def _require_plain_format(form: bytes, name: str) -> None:
    if len(form) < 16:
        raise _damaged(name, f"a format of {len(form)} bytes")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == _EXTENSIBLE:
        tag = struct.unpack_from("<H", form, 24)[0] if len(form) == 40 and form[26:40] == _GUID_TAIL else None
    plain = {_INTEGERS: (8, 16, 24, 32), _FLOATS: (32, 64)}.get(tag, ())
    if not plain:
        raise compressed(name, _COMPRESSED.get(tag, "unknown" if tag is None else f"0x{tag:04x}"))
    if bits not in plain:
        raise _damaged(name, f"samples of {bits} bits")
    limits.require_sound_format(name, channels=channels, rate_hz=rate_hz)


def _damaged(name: str, seen: str) -> BadInput:
    return BadInput(f"{name} has {seen}", "a whole WAV", "it is damaged, or no sound at all", "copy or export it again")

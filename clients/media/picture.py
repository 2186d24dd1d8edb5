"""Reading photos: JPEG and PNG by their content, refused from their header when too large, too small or cut short."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput, printable
from clients.media import limits

Picture = NDArray[np.uint8]  # (H, W, 3) RGB

WANTED = "a JPEG or PNG picture"
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# Start-of-frame markers: all of 0xC0..0xCF but the tables (C4), the extension (C8) and the arithmetic conditions (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length


def load_picture(source: str | Path | NDArray[Any]) -> Picture:
    """Take a picture from a file or an array.

    A file is turned as its EXIF says; grey becomes RGB, 16 bits become 8, and transparency is left out.

    Args:
        source: path of a JPEG or PNG, or an RGB array (H, W, 3) of uint8.

    Returns:
        (H, W, 3) RGB.

    Raises:
        BadInput: not a picture, damaged, cut short, too small or too large.
    """
    return _checked_array(source) if isinstance(source, np.ndarray) else _read(Path(source))


def _checked_array(array: NDArray[Any]) -> Picture:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise BadInput(
            f"The array has shape {array.shape} and type {array.dtype}",
            "(height, width, 3), uint8, RGB",
            "anything else would be guessed at",
            "convert it",
        )
    limits.require_picture_size("The array", array.shape[1], array.shape[0])
    return array


def _read(path: Path) -> Picture:
    limits.require_file(path, WANTED)
    name = printable(path)
    size = path.stat().st_size
    if size > limits.MAX_PICTURE_BYTES:
        raise BadInput(
            f"{name} has {size:,} bytes",
            f"at most {limits.MAX_PICTURE_BYTES:,}",
            "it would fill the memory",
            "save it smaller",
        )
    data = path.read_bytes()
    if data.startswith(_PNG):
        width, height = _png_size(data, name)
    elif data.startswith(_JPEG):
        width, height = _jpeg_size(data, name)
    else:
        raise BadInput(
            f"{name} begins with {data[:8]!r}, which is neither JPEG nor PNG",
            WANTED,
            "a file is known by its content, not by its name",
            "convert it",
        )
    limits.require_picture_size(name, width, height)
    return _decode(data, name)


def _decode(data: bytes, name: str) -> Picture:
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise BadInput(f"{name} cannot be decoded", WANTED, "it is damaged", "copy or save it again")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _png_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height from the header, once every chunk up to the last is there and its checksum holds."""
    position, size = len(_PNG), None
    while position + 12 <= len(data):
        length, tag = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if tag == b"IHDR" and length == 13:
            size = struct.unpack_from(">II", data, position + 8)
            limits.require_picture_size(name, *size)  # before any more work is put into it
        if zlib.crc32(data[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise BadInput(
                f"{name} is damaged: the checksum of its part {tag!r} is wrong",
                WANTED,
                "pixels are lost",
                "copy it again",
            )
        if tag == b"IEND" and size is not None:
            return size[0], size[1]
        position = end
    raise _cut_short(name, len(data))


def _jpeg_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height from the frame header, once the end of the picture is seen behind its data."""
    size = None
    for marker, start in _jpeg_segments(data):
        if marker in _JPEG_FRAMES and start + 7 <= len(data):
            height, width = struct.unpack_from(">HH", data, start + 3)
            size = width, height
        # Compressed data follows, in which 0xFF never stands before 0xD9: what is found is the picture's own end.
        if marker == 0xDA and size is not None and data.rfind(b"\xff\xd9", start) >= 0:
            return size
    raise _cut_short(name, len(data))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and start of every segment, up to the compressed data."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _JPEG_ALONE:
            position += 2
        else:
            yield marker, position + 2
            if marker == 0xDA:
                return
            position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])


def _cut_short(name: str, size: int) -> BadInput:
    return BadInput(
        f"{name} is cut short after {size:,} bytes", "the whole picture", "pixels are lost", "copy it again"
    )

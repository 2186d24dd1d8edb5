"""Reading photos: JPEG and PNG by their content, refused from their header when too large, too small or cut short."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput, printable
from clients.extras import cv2
from clients.media import limits

Picture = NDArray[np.uint8]  # (H, W, 3) RGB

WANTED = "a JPEG or PNG picture"
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# Start-of-frame markers: all of 0xC0..0xCF but the tables (C4), the extension (C8) and the arithmetic conditions (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA
_JPEG_ALONE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length
_MAX_SEGMENTS = 10_000  # of metadata before the pixels
_MIN_PNG_BYTES = 1 / 8 / 1_032  # per pixel: one bit, compressed as far as deflate can
_MIN_JPEG_BYTES = 1 / 64 / 8 / 2  # per pixel: one bit for 64 of them, and half of it to be sure
_MAX_SCANS = 100  # a progressive JPEG has about ten


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
    name, size = printable(path), path.stat().st_size
    if size > limits.MAX_PICTURE_BYTES:
        raise BadInput(
            f"{name} has {size:,} bytes",
            f"at most {limits.MAX_PICTURE_BYTES:,}",
            "it would fill the memory",
            "save it smaller",
        )
    with path.open("rb") as file:
        # What its head refuses is not read any further.
        require_whole = _check_head(file, name)
        file.seek(0)
        data = file.read()
    require_whole(data, name)
    return _decode(data, name)


def _check_head(file: BinaryIO, name: str) -> Callable[[bytes, str], None]:
    """Refuse a picture by its head; gives what checks all of it."""
    head = file.read(8)
    if head == _PNG:
        _check_png_head(file, name)
        return _require_whole_png
    if head.startswith(_JPEG):
        _check_jpeg_head(file, name)
        return _require_whole_jpeg
    raise BadInput(
        f"{name} begins with {head!r}, which is neither JPEG nor PNG",
        WANTED,
        "a file is known by its content, not by its name",
        "convert it",
    )


def _decode(data: bytes, name: str) -> Picture:
    try:
        rgb = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        rgb = None
    if rgb is None:
        raise BadInput(f"{name} cannot be decoded", WANTED, "it is damaged", "copy or save it again")
    return np.asarray(rgb, np.uint8)


def _check_png_head(file: BinaryIO, name: str) -> None:
    """The size, and that it is one picture."""
    for number in range(_MAX_SEGMENTS):
        head = file.read(8)
        if len(head) < 8:
            break
        length, tag = struct.unpack(">I4s", head)
        if (tag == b"IHDR") != (number == 0):
            break
        if tag == b"IDAT":
            return
        body = file.read(8) if tag in (b"IHDR", b"acTL") else b""
        if tag == b"IHDR" and len(body) == 8:
            width, height = struct.unpack(">II", body)
            _require_size(file, name, width, height, _MIN_PNG_BYTES)
        if tag == b"acTL" and len(body) == 8 and struct.unpack(">I", body[:4])[0] > 1:
            raise _animated(name, struct.unpack(">I", body[:4])[0])
        file.seek(length + 4 - len(body), os.SEEK_CUR)
    raise _cut_short(name, file.seek(0, os.SEEK_END))


def _require_size(file: BinaryIO, name: str, width: int, height: int, least: float) -> None:
    """A size within the limits, and bytes that can hold so many pixels, of which each takes at least so much."""
    limits.require_picture_size(name, width, height)
    size = os.fstat(file.fileno()).st_size
    if size < least * width * height:
        raise BadInput(
            f"{name} promises {width}x{height} pixels in {size:,} bytes",
            "a whole picture",
            "no coding is so dense, so its head is damaged",
            "copy it again",
        )


def _require_whole_png(data: bytes, name: str) -> None:
    """Every chunk up to the last is there and its checksum holds."""
    position = len(_PNG)
    while position + 12 <= len(data):
        length, tag = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise BadInput(
                f"{name} is damaged: the checksum of its part {tag!r} is wrong",
                WANTED,
                "pixels are lost",
                "copy it again",
            )
        if tag == b"IEND":
            return
        position = end
    raise _cut_short(name, len(data))


def _check_jpeg_head(file: BinaryIO, name: str) -> None:
    """The size."""
    for marker in _jpeg_segments(file):
        body = file.read(5) if marker in _JPEG_FRAMES else b""
        if len(body) == 5:
            height, width = struct.unpack(">HH", body[1:])
            _require_size(file, name, width, height, _MIN_JPEG_BYTES)
            return
    raise _cut_short(name, file.seek(0, os.SEEK_END))


def _require_whole_jpeg(data: bytes, name: str) -> None:
    """The end of the picture is there behind its data, and not too many passes over it."""
    # Compressed data, in which 0xFF never stands before 0xD9 or 0xDA, begins behind the last segment.
    file = io.BytesIO(data)
    markers = list(_jpeg_segments(file))
    if markers[-1:] != [_JPEG_SCAN] or data.rfind(b"\xff\xd9", file.tell()) < 0:
        raise _cut_short(name, len(data))
    scans = data.count(bytes((0xFF, _JPEG_SCAN)), file.tell())
    if scans > _MAX_SCANS:
        raise BadInput(
            f"{name} goes over its pixels {scans:,} times",
            f"at most {_MAX_SCANS} times",
            "each one takes as long as a whole picture",
            "save it again",
        )


def _jpeg_segments(file: BinaryIO) -> Iterator[int]:
    """Marker of every segment up to the compressed data; the file stands behind the segment's length."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        file.seek(position)
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return
        if head[1] == 0xFF:  # fill byte
            position += 1
        elif head[1] in _JPEG_ALONE:
            position += 2
        else:
            yield head[1]
            if head[1] == _JPEG_SCAN:
                file.seek(position + 4)
                return
            position += 2 + int(struct.unpack(">H", head[2:])[0])


def _animated(name: str, pictures: int) -> BadInput:
    return BadInput(
        f"{name} is an animation of {pictures:,} pictures",
        WANTED,
        "which of them is meant would be guessed at",
        "save the one that is meant",
    )


def _cut_short(name: str, size: int) -> BadInput:
    return BadInput(
        f"{name} is cut short after {size:,} bytes", "the whole picture", "pixels are lost", "copy it again"
    )

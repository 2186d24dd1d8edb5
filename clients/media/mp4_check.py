"""What of an MP4 or MOV is checked before FFmpeg sees it: how many samples its tables promise.

FFmpeg makes an index with an entry for each sample while it opens the file. A table can promise four thousand million
of them in twelve bytes, so more than the file can hold is refused, and so is more than a day of video needs. Of sound
that is not compressed a sample is two bytes, but FFmpeg indexes it by larger parts.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from clients.errors import BadInput

MAX_SAMPLES = 10_000_000  # of all tracks; a day of 60 pictures and 47 packets of sound per second has 9.3 million
_MAX_BOXES = 2_000_000  # a day in fragments of a second has 0.6 million
_MAX_DEPTH = 16  # boxes around a box; FFmpeg goes down ten

# What may hold other boxes; FFmpeg takes a table wherever it stands.
_FOLDERS = frozenset(b"moov trak mdia minf stbl moof traf mvex edts udta dinf wave sinf schi tref gmhd".split())
_RUN_FIELDS = (0x100, 0x200, 0x400, 0x800)  # flags: each sample of the run has four bytes for this


@dataclass
class _Track:
    """What the boxes of a track have said so far."""

    is_sound: bool = False
    is_even: bool = False  # every sample lasts one tick
    samples: int = 0

    def indexed(self) -> int:
        """Samples that get an entry each."""
        return 0 if self.is_sound and self.is_even else self.samples


def require_plain_mp4(file: BinaryIO, name: str) -> None:
    """Walk the boxes and count the samples.

    Raises:
        BadInput: more than the file can hold, or too many; or a head that is compressed.
    """
    size = os.fstat(file.fileno()).st_size
    track, samples = _Track(), 0
    for tag, begin, end in _boxes(file, size, name):
        file.seek(begin)
        if tag == b"trak":
            samples += track.indexed()
            track = _Track()
        elif tag == b"hdlr":
            track.is_sound = file.read(12)[8:] == b"soun"
        elif tag == b"stts":
            entries, _, step = struct.unpack(">4xIII", file.read(16).ljust(16, b"\0"))
            track.is_even = entries == 1 and step == 1
        elif tag in (b"stsz", b"stz2"):
            track.samples += _of_table(file, tag, end - begin, size, name)
        elif tag == b"trun":
            samples += _of_run(file, end - begin, size, name)
        elif tag == b"cmov":
            raise _refused(name, "a compressed head", "nobody has written such files for long")
    samples += track.indexed()
    if samples > MAX_SAMPLES:
        raise _refused(name, f"{samples:,} samples", f"at most {MAX_SAMPLES:,} are read")


def _boxes(file: BinaryIO, size: int, name: str) -> Iterator[tuple[bytes, int, int]]:
    """Tag, begin and end of each box, those inside of others behind their folder."""
    waiting = [(0, size)]
    for _ in range(_MAX_BOXES):
        while waiting and waiting[-1][0] + 8 > waiting[-1][1]:
            waiting.pop()
        if not waiting:
            return
        position, limit = waiting[-1]
        file.seek(position)
        head = file.read(16)
        length, tag = struct.unpack(">I4s", head[:8])
        begin = position + 8
        if length == 1 and len(head) == 16:
            length, begin = int(struct.unpack(">Q", head[8:])[0]), position + 16
        end = min(limit, position + length) if length else limit
        if end <= position + 7:
            waiting.pop()  # no box; what follows cannot be told
            continue
        waiting[-1] = end, limit
        yield tag, begin, end
        if tag in _FOLDERS or tag == b"meta":
            if len(waiting) == _MAX_DEPTH:
                raise _refused(name, "boxes within boxes without an end", "it is damaged, or made to fill the memory")
            waiting.append((begin + (4 if tag == b"meta" else 0), end))
    raise _refused(name, f"more than {_MAX_BOXES:,} boxes", "reading them would take long")


def _of_table(file: BinaryIO, tag: bytes, length: int, size: int, name: str) -> int:
    """Samples of a table of sizes, in which all may share one."""
    each, samples = struct.unpack(">4xII", file.read(12).ljust(12, b"\0"))
    if tag == b"stz2":
        return _within(samples, 2 * length, name)  # at least four bits for each
    return _within(samples, size // each if each else length // 4, name)


def _of_run(file: BinaryIO, length: int, size: int, name: str) -> int:
    """Samples of a run in a fragment."""
    flags, samples = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
    fields = sum(4 for flag in _RUN_FIELDS if flags & flag)
    return _within(samples, length // fields if fields else size, name)


def _within(samples: int, room: int, name: str) -> int:
    if samples > room:
        raise _refused(name, f"{samples:,} samples", f"the file can hold at most {room:,} of them")
    return samples


def _refused(name: str, seen: str, why: str) -> BadInput:
    return BadInput(f"{name} has {seen}", "a whole MP4 or MOV", why, "copy or convert it again")

"""What a file is, by its first bytes; names say nothing."""

from __future__ import annotations

HEAD_BYTES = 16  # that are needed to tell

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # what an MP4 or MOV may begin with
_CONTAINERS = (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"OggS", b"ID3", b"FLV", b"0&\xb2u", b"G")


def is_wav(head: bytes) -> bool:
    """Whether it is a WAV, of 32 or 64 bits."""
    return head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"


def is_flac(head: bytes) -> bool:
    """Whether it is a FLAC by itself, not in a container."""
    return head[:4] == b"fLaC"


def is_mp4(head: bytes) -> bool:
    """Whether it is an MP4, MOV or M4A."""
    return head[4:8] in _BOXES


def is_container(head: bytes) -> bool:
    """Whether it is a container that is read through FFmpeg."""
    if is_mp4(head) or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return True
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # MPEG audio without a tag
        return True
    return head.startswith(_CONTAINERS)

"""What the head of a video says, and what is refused by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clients.errors import BadInput, printable
from clients.extras import av
from clients.media import kinds, limits
from clients.media.containers import opened, pictures_of, require_decoder, require_size

if TYPE_CHECKING:
    from av import AudioStream, VideoStream
    from av.container import InputContainer

_USUAL_RATE = 25.0


def has_pictures(path: Path) -> bool:
    """Whether a file is a video; a recording with a picture on its cover is none.

    Raises:
        BadInput: no ordinary file, or a container that cannot be opened.
    """
    limits.require_file(path, "a video or a recording")
    with path.open("rb") as file:
        if not kinds.is_container(file.read(kinds.HEAD_BYTES)):
            return False
    with opened(path) as container:
        return pictures_of(container) != []


def picture_stream(container: InputContainer, name: str) -> VideoStream:
    """A container's first track of pictures, when it can be read.

    Raises:
        BadInput: none, or too large, or of a coding that is not read.
    """
    streams = pictures_of(container)
    if not streams:
        raise no_pictures(name, "has no pictures")
    require_decoder(streams[0], name)
    require_size(streams[0], name)
    return streams[0]


def require_container(path: Path) -> None:
    """Refuse what is no container by its first bytes.

    Raises:
        BadInput: no ordinary file, or of another kind.
    """
    limits.require_file(path, "a video")
    with path.open("rb") as file:
        head = file.read(kinds.HEAD_BYTES)
    if not kinds.is_container(head):
        raise BadInput(
            f"{printable(path)} begins with {head[:8]!r}, which no video does",
            "a video (MP4, MOV, MKV, WebM, MPEG, AVI ...)",
            "a file is known by its content, not by its name",
            "give the video itself, or convert it to MP4",
        )


def readable_sound(container: InputContainer) -> AudioStream | None:
    """The first sound track, if it can be read."""
    for stream in container.streams.audio[:1]:
        try:
            require_decoder(stream, "")
            limits.require_sound_format("", channels=stream.codec_context.channels, rate_hz=stream.rate)
        except BadInput:
            return None
        return stream
    return None


def frame_rate_of(stream: VideoStream, name: str) -> float:
    """Pictures per second on average; 25 where the head does not say.

    Raises:
        BadInput: more than 1,000.
    """
    if stream.average_rate:
        rate = float(stream.average_rate)
        limits.require_frame_rate(name, rate)
    else:  # of streams, the guess is sometimes that of the clock
        guess = float(stream.guessed_rate or 0)
        rate = guess if 0 < guess <= limits.MAX_FRAME_RATE else _USUAL_RATE
    return max(rate, limits.MIN_FRAME_RATE)


def duration_of(container: InputContainer, stream: AudioStream | VideoStream) -> float | None:
    """Length in seconds; None where the head does not say."""
    if container.duration:
        return container.duration / av.time_base
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None


def no_pictures(name: str, seen: str) -> BadInput:
    """What is said of a file that there is nothing to see in."""
    return BadInput(f"{name} {seen}", "a video", "there is nothing to see in it", "give a video, or a photo instead")

"""Sound and single pictures out of videos and other containers, through FFmpeg (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av import AudioStream, VideoStream
from av.container import InputContainer
from numpy.typing import NDArray

from clients.errors import BadInput, printable
from clients.media import limits

# FFmpeg opens only these, and only local files: no playlist, script or network address can hide in a name or a file.
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,webm,mpeg,mpegvideo,mpegts,mp3,aac,ogg,avi,flv,asf",
    "probesize": "5000000",
}
_MAGIC = (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"OggS", b"ID3", b"FLV", b"0&\xb2u", b"G")
_SHARES = (0.5, 0.25, 0.75, 0.1, 0.9)  # where in a video a face is looked for, in this order


def is_container(head: bytes) -> bool:
    """Whether the first 12 bytes are those of a container that can be read here."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return True
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # MPEG audio without a tag
        return True
    return head.startswith(_MAGIC)


def has_pictures(path: Path) -> bool:
    """Whether a file is a video."""
    with path.open("rb") as file:
        if not is_container(file.read(16)):
            return False
    with _opened(path) as container:
        return bool(container.streams.video)


def read_sound(path: Path) -> tuple[NDArray[np.float32], int]:
    """Decode the first sound track.

    Returns:
        samples (N,), the mean of the channels, and their rate in Hz.

    Raises:
        BadInput: no sound, damaged, cut short, too short or too long.
    """
    name = printable(path)
    with _opened(path) as container:
        if not container.streams.audio:
            raise BadInput(
                f"{name} has no sound track", "a file with sound", "there is nothing to hear", "give another"
            )
        stream = container.streams.audio[0]
        _require_decoder(stream, name)
        rate_hz = stream.rate
        promised = _promised_s(container)
        limits.require_sound_size(
            name,
            samples=int((promised or limits.MIN_SECONDS) * rate_hz) + 1,
            channels=stream.codec_context.channels,
            rate_hz=rate_hz,
        )
        samples = _decode(container, name)
    limits.require_duration(name, len(samples), rate_hz)
    held = len(samples) / rate_hz
    if held < 0.9 * promised - 0.5:  # coders add and cut a little at both ends
        raise BadInput(
            f"{name} is cut short: its header promises {promised:.1f} s of sound, it holds {held:.1f} s",
            "the whole file",
            "part of the recording is lost",
            "copy it again",
        )
    return samples, rate_hz


def read_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Some pictures of a video, the middle one first, each (H, W, 3) RGB.

    Only key frames are given: they are whole pictures, where frames after a jump or a lost one may be torn.

    Raises:
        BadInput: no pictures, damaged, or too large.
    """
    name = printable(path)
    with _opened(path) as container:
        if not container.streams.video:
            raise BadInput(
                f"{name} has no pictures", "a video", "there is no face in sound", "give a photo with --face"
            )
        stream = container.streams.video[0]
        _require_decoder(stream, name)
        limits.require_picture_size(name, stream.width, stream.height, limits.MAX_VIDEO_PIXELS)
        start, duration = container.start_time or 0, container.duration or 0
        for share in _SHARES if duration else (0.0,):
            container.seek(int(start + duration * share))
            frame = next((frame for frame in container.decode(stream) if frame.key_frame), None)
            if frame is not None:
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _require_decoder(stream: AudioStream | VideoStream, name: str) -> None:
    """Refuse a track of a coding that FFmpeg does not know; PyAV gives it no codec context, against its own types."""
    if getattr(stream, "codec_context", None) is None:
        raise BadInput(
            f"The {stream.type} track of {name} is in a coding that is not known",
            "a common one (AAC, MP3, Opus, PCM; H.264, MPEG)",
            "it cannot be decoded",
            "convert it, or copy it again if it is damaged",
        )


def _promised_s(container: InputContainer) -> float:
    """Length of the sound as the header says, seconds; 0 if it does not say."""
    stream = container.streams.audio[0]
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # The whole file's length is the sound's only where there are no pictures, which may go on in silence.
    return 0.0 if container.streams.video else (container.duration or 0) / av.time_base


def _decode(container: InputContainer, name: str) -> NDArray[np.float32]:
    """All of the first sound track, mixed down block by block."""
    resampler = av.AudioResampler(format="fltp")  # planes of floats; rate and channels stay
    blocks: list[NDArray[np.float32]] = []
    total = 0
    for frame in container.decode(audio=0):
        for part in resampler.resample(frame):
            blocks.append(part.to_ndarray().mean(axis=0, dtype=np.float32))  # (channels, n) -> (n,)
            total += len(blocks[-1])
            if total > min(limits.MAX_SAMPLES, limits.MAX_SECONDS * frame.sample_rate):
                limits.require_duration(name, total, frame.sample_rate)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """Open a local file; every complaint of FFmpeg becomes BadInput."""
    limits.require_file(path, "a video or a recording")
    try:
        # The prefix keeps a name with a colon from being taken for a protocol.
        with av.open(f"file:{path}", options=_OPTIONS, metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        reason = printable(error.strerror or type(error).__name__)
        raise BadInput(
            f"{printable(path)} cannot be decoded: {reason}",
            "a whole video or recording (MP4, MKV, MPEG, AVI, M4A, MP3, OGG ...)",
            "it is damaged, cut short or of another kind",
            "copy or convert it again",
        ) from None

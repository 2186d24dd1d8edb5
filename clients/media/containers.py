"""Opening containers with FFmpeg (PyAV): which of its formats and decoders are let in, and what its complaints become.

FFmpeg reads hundreds of formats, some of which name other files or addresses. Here a file can only be itself: no
playlist, script or network address can hide in its name or its content. Network streams are another matter, see
`clients.media.network`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clients.errors import BadInput, printable
from clients.extras import av
from clients.media import kinds, limits, mp4_check

if TYPE_CHECKING:
    from av import AudioStream, VideoStream
    from av.container import InputContainer

_MP4 = "mov"  # what FFmpeg calls MP4, M4A and MOV
_OTHERS = "matroska,webm,mpeg,mpegvideo,mpegts,mp3,aac,ogg,avi,flv,asf,flac"
FORMATS = f"{_MP4},{_OTHERS}"
_PICTURES = (
    "h264,hevc,vp8,vp9,libvpx,libvpx-vp9,av1,libdav1d,mpeg1video,mpeg2video,mpeg4,msmpeg4,msmpeg4v2,msmpeg4v1,h263,"
    "flv,wmv1,wmv2,wmv3,vc1,mjpeg,theora,prores,dnxhd,ffv1,huffyuv,rawvideo,png"
)
_SOUNDS = (
    "aac,aac_fixed,aac_latm,mp3,mp3float,mp2,mp2float,mp1,mp1float,opus,libopus,vorbis,flac,alac,ac3,eac3,"
    "wmav1,wmav2,wmapro,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,speex,adpcm_ima_qt,adpcm_ms,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_u8,pcm_s8,"
    "pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd"
)
_ALLOWED = frozenset(f"{_PICTURES},{_SOUNDS}".split(","))
_WITHOUT_PICTURES = {"codec_whitelist": _SOUNDS}
OPTIONS = {
    "format_whitelist": FORMATS,
    "codec_whitelist": f"{_PICTURES},{_SOUNDS}",
    "probesize": "5000000",
    "max_streams": str(limits.MAX_TRACKS),
    "max_pixels": str(limits.MAX_VIDEO_PIXELS),
    "max_samples": str(limits.MAX_RATE_HZ),  # in one packet: a second
    "fflags": "+genpts",
}


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a local file; every complaint of FFmpeg becomes BadInput.

    Raises:
        BadInput: no ordinary file, none that can be read, or with pictures of an absurd size.
    """
    limits.require_file(path, "a video or a recording")
    name = printable(path)
    with path.open("rb") as file:
        is_mp4 = kinds.is_mp4(file.read(kinds.HEAD_BYTES))
        if is_mp4:
            mp4_check.require_plain_mp4(file, name)
    formats = {"format_whitelist": _MP4 if is_mp4 else _OTHERS}
    with complaints(name):
        with _opened(path, {**formats, **_WITHOUT_PICTURES}) as container:
            for stream in pictures_of(container):
                require_size(stream, name)
        # To know all times, FFmpeg decodes some pictures; it takes memory by their size before it looks at any limit.
        with _opened(path, formats) as container:
            yield container


def _opened(path: Path, options: dict[str, str]) -> InputContainer:
    options = {**OPTIONS, **options, "protocol_whitelist": "file"}
    # The prefix keeps a name with a colon from being taken for a protocol.
    return av.open(f"file:{path}", options=options, metadata_errors="replace")


@contextmanager
def complaints(name: str) -> Iterator[None]:
    """Turn FFmpeg's errors into BadInput.

    Args:
        name: how messages call the file.
    """
    try:
        yield
    except av.FFmpegError as error:
        reason = printable(error.strerror or type(error).__name__)
        raise BadInput(
            f"{name} cannot be decoded: {reason}",
            "a whole video or recording (MP4, MKV, MPEG, AVI, M4A, MP3, OGG ...)",
            "it is damaged, cut short or of another kind",
            "copy or convert it again",
        ) from None


def require_decoder(stream: AudioStream | VideoStream, name: str) -> None:
    """Refuse a track of a coding that is not known or not let in.

    Raises:
        BadInput: says which kind of track.
    """
    context = stream.codec_context if _has_decoder(stream) else None
    if context is None or context.codec.name not in _ALLOWED:
        kind = "" if context is None else f" ({printable(context.codec.name)})"
        raise BadInput(
            f"The {stream.type} track of {name} is in a coding that is not read here{kind}",
            "a common one (AAC, MP3, Opus, PCM; H.264, MPEG)",
            "it cannot be decoded",
            "convert it, or copy it again if it is damaged",
        )
    # Formats that find their tracks only while reading have not passed these on.
    context.options = {name: OPTIONS[name] for name in ("max_pixels", "max_samples")}


def _has_decoder(stream: AudioStream | VideoStream) -> bool:
    """PyAV gives a track of an unknown coding no codec context, against its own types."""
    return getattr(stream, "codec_context", None) is not None


def pictures_of(container: InputContainer) -> list[VideoStream]:
    """The tracks of pictures; what is on a recording's cover is none."""
    return [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]


def require_size(stream: VideoStream, name: str) -> None:
    """Refuse pictures by the size that the container says, if it does: FLV says it with the pictures only.

    Raises:
        BadInput: too small or too large.
    """
    if _has_decoder(stream) and (stream.width or stream.height):
        limits.require_picture_size(name, stream.width, stream.height, limits.MAX_VIDEO_PIXELS)


class Patience:
    """Time spent on decoding without a result; what is done with results does not count.

    Args:
        name: how messages call the file.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.renew()

    def renew(self) -> None:
        """There was a result, or the work begins again."""
        self._end = time.monotonic() + limits.MAX_DECODING_S

    def check(self) -> None:
        """Look at the clock.

        Raises:
            BadInput: too long without a result.
        """
        if time.monotonic() > self._end:
            raise BadInput(
                f"{self._name} was decoded for {limits.MAX_DECODING_S:g} s without a picture or a sound",
                "a video or recording",
                "it is damaged, or made to keep machines busy",
                "convert it again",
            )

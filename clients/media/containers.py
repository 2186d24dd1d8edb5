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

import av
from av import AudioStream, VideoStream
from av.container import InputContainer

from clients.errors import BadInput, printable
from clients.media import limits

FORMATS = "mov,matroska,webm,mpeg,mpegvideo,mpegts,mp3,aac,ogg,avi,flv,asf"
DECODERS = (
    "h264,hevc,vp8,vp9,libvpx,libvpx-vp9,av1,libdav1d,mpeg1video,mpeg2video,mpeg4,msmpeg4,msmpeg4v2,msmpeg4v1,h263,"
    "flv,wmv1,wmv2,wmv3,vc1,mjpeg,theora,prores,dnxhd,ffv1,huffyuv,rawvideo,png,"
    "aac,aac_fixed,aac_latm,mp3,mp3float,mp2,mp2float,mp1,mp1float,opus,libopus,vorbis,libvorbis,flac,alac,ac3,eac3,"
    "wmav1,wmav2,wmapro,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,speex,libspeex,adpcm_ima_qt,adpcm_ms,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_u8,pcm_s8,"
    "pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd"
)
OPTIONS = {
    "format_whitelist": FORMATS,
    "codec_whitelist": DECODERS,
    "probesize": "5000000",
    "max_streams": str(limits.MAX_TRACKS),
    "max_pixels": str(limits.MAX_VIDEO_PIXELS),
    "fflags": "+genpts",
}
_ALLOWED = frozenset(DECODERS.split(","))


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a local file; every complaint of FFmpeg becomes BadInput.

    Raises:
        BadInput: no ordinary file, or none that can be read.
    """
    limits.require_file(path, "a video or a recording")
    with complaints(printable(path)):
        # The prefix keeps a name with a colon from being taken for a protocol.
        options = {**OPTIONS, "protocol_whitelist": "file"}
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            yield container


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
    # PyAV gives a track of an unknown coding no codec context, against its own types.
    context = getattr(stream, "codec_context", None)
    if context is None or context.codec.name not in _ALLOWED:
        kind = "" if context is None else f" ({printable(context.codec.name)})"
        raise BadInput(
            f"The {stream.type} track of {name} is in a coding that is not read here{kind}",
            "a common one (AAC, MP3, Opus, PCM; H.264, MPEG)",
            "it cannot be decoded",
            "convert it, or copy it again if it is damaged",
        )
    # Formats that find their tracks only while reading have not passed these on.
    context.options = {"max_pixels": OPTIONS["max_pixels"]}


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

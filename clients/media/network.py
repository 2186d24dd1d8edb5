"""Videos from the network, opened only where a program asks for one; a file can never lead here."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clients.errors import BadInput, printable
from clients.extras import av
from clients.media.containers import FORMATS, OPTIONS
from clients.media.live import newest, next_due
from clients.media.tracks import PictureTrack
from clients.media.video_frames import T, Timed
from clients.media.video_reader import VideoFrame, VideoReader, VideoSecond

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer

TIMEOUT_S = 10.0
_WEB = "http,https,httpproxy,tcp,tls,crypto"  # what a playlist may name, too: no files
_PROTOCOLS = {"rtsp": "rtsp,rtp,udp,tcp", "rtsps": "rtsps,rtp,udp,tcp,tls", "http": _WEB, "https": _WEB}
_FORMATS = f"{FORMATS},rtsp,hls,mpjpeg,mjpeg"
_WITHOUT_CLOCK = {"mpjpeg"}  # of motion JPEG as cameras send it


class NetworkReader(VideoReader):
    """A video that comes over the network, read once; its times begin with the first picture that is given.

    What is live does not wait: pictures that came while the last one was worked on are left out, and of each `every_s`
    the first picture is given, if there is one, at its own time.

    Args:
        url: address.
        timeout_s: how long it may be silent.

    Raises:
        BadInput: not an address of a known kind, no answer, or no video.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._pass: Generator[object, None, None] | None = None
        self._track = None
        self._timeout_s = timeout_s
        self.name = name_of(url)
        protocols = _PROTOCOLS.get(url.partition("://")[0].lower())
        if protocols is None or not _host(url):
            raise BadInput(
                f"{self.name} is no address of a stream",
                f"one that begins with {', '.join(f'{scheme}://' for scheme in _PROTOCOLS)}",
                "other kinds could read files or reach programs",
                "check the address",
            )
        self._input = self._connected(url, protocols)
        try:
            self._read_head()
        except BaseException:
            self._input.close()
            raise
        self._live = not self._input.duration

    def close(self) -> None:
        """Hang up."""
        super().close()
        self._input.close()

    def frames(self, every_s: float | None = None, start_s: float = 0.0) -> Iterator[VideoFrame]:
        """See `VideoReader`; what comes before `start_s` is left out."""
        frames = super().frames(every_s, start_s)
        if not self._live:
            return frames
        self._pass = live = newest(self._frames(every_s, start_s))
        return live

    def seconds(self, every_s: float = 1.0, sound_s: float = 1.0) -> Iterator[VideoSecond]:
        """See `VideoReader`."""
        seconds = super().seconds(every_s, sound_s)
        if not self._live:
            return seconds
        self._pass = live = newest(self._seconds(every_s, sound_s))
        return live

    @contextmanager
    def _container(self) -> Iterator[InputContainer]:
        with self._complaints():
            yield self._input

    def _connected(self, url: str, protocols: str) -> InputContainer:
        options = {**OPTIONS, "format_whitelist": _FORMATS, "protocol_whitelist": protocols}
        if protocols.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # nothing is lost on the way, and it passes firewalls
        with self._complaints(connecting=True):
            return av.open(url, options=options, metadata_errors="replace", timeout=self._timeout_s)

    @contextmanager
    def _complaints(self, *, connecting: bool = False) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except av.FFmpegError as error:
            # Not every protocol says that it was interrupted.
            late = connecting and time.monotonic() - began >= self._timeout_s
            silent = late or isinstance(error, av.ExitError)
            reason = f"no answer in {self._timeout_s:g} s" if silent else error.strerror or type(error).__name__
            raise BadInput(
                f"{self.name} cannot be read: {printable(reason)}",
                "a video stream (RTSP, HLS, MPEG-TS, MP4, motion JPEG ...)",
                "nothing is seen or heard of it",
                "check the address, the user's name and password in it, and the network",
            ) from None

    def _from(self, container: InputContainer, stream: VideoStream, start_s: float) -> Iterator[Timed[av.VideoFrame]]:
        return self._decoded(container, stream)

    def _pictures(self, stream: VideoStream) -> PictureTrack:
        kind = _Arriving if self._input.format.name in _WITHOUT_CLOCK else PictureTrack
        return kind(stream, self.name, self._start_s, self.duration_s or 0.0, endless=True)

    def _shown(self, frames: Iterable[Timed[T]], every_s: float, start_s: float) -> Iterator[Timed[T]]:
        return spaced(frames, every_s) if self._live else super()._shown(frames, every_s, start_s)


class _Arriving(PictureTrack):
    """Pictures without times, each at the moment when it comes; FFmpeg would take them for 25 per second."""

    _began_s: float | None = None

    def _time_of(self, frame: av.VideoFrame) -> float:
        now_s = time.monotonic()
        self._began_s = now_s if self._began_s is None else self._began_s
        return now_s - self._began_s


def open_stream(url: str, timeout_s: float = TIMEOUT_S) -> VideoReader:
    """Open a video stream of the network.

    Args:
        url: rtsp://, rtsps://, http:// or https://, with the user's name and password where the stream wants them.
        timeout_s: how long it may be silent.

    Returns:
        to be used in a `with`; it is read once.

    Raises:
        BadInput: not an address of these kinds, no answer, or no video.
    """
    return NetworkReader(url, timeout_s)


def name_of(url: str) -> str:
    """An address as messages show it: without the user's name and password, and without what follows the path."""
    shown = re.split(r"[?#]", url)[0]
    scheme, mark, rest = shown.partition("://") if "://" in shown else ("", "", shown)
    host, slash, path = rest.partition("/")
    return printable(scheme + mark + host.rpartition("@")[2] + slash + path)


def _host(url: str) -> str | None:
    """Whose address it is; None of what is no address."""
    try:
        return urlsplit(url).hostname
    except ValueError:  # half an IPv6 address
        return None


def spaced(frames: Iterable[Timed[T]], every_s: float) -> Iterator[Timed[T]]:
    """The first picture of each `every_s`, at its own time."""
    due_s = 0.0
    for time_s, frame in frames:
        if time_s >= due_s:
            yield time_s, frame
            due_s = next_due(time_s, every_s)

"""Pictures of a camera, through OpenCV; times are seconds since its first picture.

H, W: pixels.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from clients.errors import BadInput, printable
from clients.extras import cv2
from clients.media import limits
from clients.media.live import newest, next_due
from clients.media.video_reader import VideoFrame, VideoSecond

_MAX_INDEX = 63


class Camera:
    """A camera that gives pictures; one at a time may use it.

    Attributes:
        name: how messages call it.
        width: pixels.
        height: pixels.
        frame_rate: pictures per second, as it says; 25 where it does not say.
        sound_rate_hz: None; cameras are only watched.

    Args:
        source: number of a camera, from 0; or a video file, which then plays as fast as it can be read.

    Raises:
        BadInput: there is no such camera, it gives no pictures, or too large ones.
    """

    def __init__(self, source: int | Path) -> None:
        self.sound_rate_hz: int | None = None
        self.name = f"camera {source}" if isinstance(source, int) else printable(source)
        if isinstance(source, int) and not 0 <= source <= _MAX_INDEX:
            raise _no_camera(self.name, "does not exist", f"a number from 0 to {_MAX_INDEX}")
        self._pass: Generator[object, None, None] | None = None
        self._capture = _opened(source)
        seen, first = self._capture.read()
        if not seen:
            self._capture.release()
            raise _no_camera(self.name, "gives no picture", "a camera that is plugged in and not in use")
        self._first: cv2.typing.MatLike | None = first
        self.height, self.width = first.shape[:2]
        limits.require_picture_size(self.name, self.width, self.height, limits.MAX_VIDEO_PIXELS)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frame_rate = rate if 0 < rate <= limits.MAX_FRAME_RATE else 25.0

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the camera."""
        if self._pass is not None:
            self._pass.close()
        self._capture.release()

    def frames(self, every_s: float | None = None) -> Iterator[VideoFrame]:
        """Pictures as they come, without an end; those that came while the last one was worked on are left out.

        Args:
            every_s: the first picture of each so many seconds; None: all.

        Raises:
            BadInput: the camera stopped.
        """
        self._pass = frames = newest(self._read(every_s or 0.0))
        return frames

    def seconds(self, every_s: float = 1.0, sound_s: float = 1.0) -> Iterator[VideoSecond]:
        """The same as `VideoReader.seconds`, without sound.

        Args:
            every_s: the first picture of each so many seconds.
            sound_s: there is none.

        Raises:
            BadInput: the camera stopped.
        """
        return (VideoSecond(frame.time_s, frame.picture, None) for frame in self.frames(every_s))

    def _read(self, every_s: float) -> Generator[VideoFrame, None, None]:
        began, due_s = time.monotonic(), 0.0
        if self._first is not None:
            yield VideoFrame(0.0, _rgb(self._first))
            self._first, due_s = None, every_s
        while self._capture.grab():  # also what is not wanted, or the driver would keep old pictures
            time_s = time.monotonic() - began
            if time_s < due_s:
                continue
            seen, picture = self._capture.retrieve()
            if not seen:
                break
            yield VideoFrame(time_s, _rgb(picture))
            due_s = next_due(time_s, every_s)
        raise _no_camera(self.name, "gives no more pictures", "a camera that stays plugged in")


def open_camera(index: int) -> Camera:
    """Open a camera by its number.

    Args:
        index: from 0, in the order of the system.

    Returns:
        to be used in a `with`.

    Raises:
        BadInput: there is no such camera, or it gives no pictures.
    """
    return Camera(index)


def _opened(source: int | Path) -> cv2.VideoCapture:
    """OpenCV's own complaints go to the terminal; ours say the same."""
    log: Any = getattr(cv2.utils, "logging", cv2)  # releases for numpy 1 have it in cv2 itself
    level = log.getLogLevel()
    log.setLogLevel(0)
    try:
        return cv2.VideoCapture(source if isinstance(source, int) else str(source))
    finally:
        log.setLogLevel(level)


def _rgb(bgr: cv2.typing.MatLike) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _no_camera(name: str, seen: str, wanted: str) -> BadInput:
    return BadInput(
        f"{name[:1].upper()}{name[1:]} {seen}", wanted, "there is nothing to look at", "check its number and its cable"
    )

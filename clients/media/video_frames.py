"""Decoded pictures on their way to a screen: upright, in their colours, and at the moments that are asked for.

H, W: pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clients.extras import av

T = TypeVar("T")
Timed = tuple[float, T]

NEAR_S = 0.0005  # containers round times to milliseconds
_UNSPECIFIED_COLOUR = 2  # FFmpeg's AVCOL_SPC_UNSPECIFIED
_SD_LINES = 576  # pictures with more lines are taken for BT.709 where they do not say, as players do


def shown_at(frames: Iterable[Timed[T]], every_s: float, start_s: float, step_s: float) -> Iterator[Timed[T]]:
    """What is on the screen at regular moments.

    Args:
        frames: pictures with their times, which never fall.
        every_s: from one moment to the next.
        start_s: the first one.
        step_s: how long the last picture stays.

    Yields:
        the moment, and the last picture up to it; for moments before the first picture, that one.
    """
    number, shown, last_s = 0, None, 0.0
    for time_s, frame in frames:
        while shown is not None and start_s + number * every_s < time_s - NEAR_S:
            yield start_s + number * every_s, shown[0]
            number += 1
        shown, last_s = (frame,), time_s
    while shown is not None and start_s + number * every_s < last_s + step_s - NEAR_S:
        yield start_s + number * every_s, shown[0]
        number += 1


class Screen:
    """Turns decoded frames into pictures, each frame once however long it stays."""

    def __init__(self) -> None:
        self._frame: av.VideoFrame | None = None

    def show(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """A picture of its own, (H, W, 3) RGB."""
        if frame is not self._frame:
            self._frame, self._picture = frame, upright(frame)
        return self._picture.copy()


def upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as (H, W, 3) RGB, turned as it says."""
    untold = frame.colorspace == _UNSPECIFIED_COLOUR and frame.height > _SD_LINES
    rgb = frame.to_ndarray(format="rgb24", src_colorspace=av.video.reformatter.Colorspace.ITU709 if untold else None)
    return np.ascontiguousarray(np.rot90(rgb, rotation_of(frame) // 90), np.uint8)


def rotation_of(frame: av.VideoFrame) -> int:
    """Degrees that a stored picture is turned by, counterclockwise: 0, 90, 180 or 270."""
    return round(frame.rotation / 90) * 90 % 360

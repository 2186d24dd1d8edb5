"""Videos for people: density, regions and the number burnt into every picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clients.counting.figures import ALARM, clock, draw_regions
from clients.counting.overlay import STRENGTH, density_top, heat, size_of
from clients.crowd_count import CrowdCount, TimedCount
from clients.extras import cv2
from clients.media.picture import Picture
from clients.media.video import VideoFrame, VideoReader, VideoWriter

_DPI = 100
_TEXT_SHARE = 0.05  # of the picture's shorter side, that the number is high
_LEAST_TEXT_PIXELS = 10.0
_NEAR_S = 1e-6


class Annotator:
    """Lays the latest count over the pictures that follow it.

    Colours keep one meaning through a video as far as they can: the strongest one stands for the most people per cell
    that there were so far.

    Args:
        size: height and width of what is written, pixels; other pictures are brought to it.
        strength: of the density's colours, see `overlay.heat`.
    """

    def __init__(self, size: tuple[int, int], strength: float = STRENGTH) -> None:
        self._size, self._strength = size, strength
        self._top = 0.0
        self._colours: Picture | None = None  # (H, W, 3), already weighted
        self._kept: Picture | None = None  # (H, W, 3), how much of the picture stays, of 255

    def update(self, second: TimedCount, *, alarmed: bool = False) -> None:
        """Take the next count; `alarmed` makes its number red."""
        count = second.count
        self._top = max(self._top, density_top(count.density))
        colours, cover = heat(
            count.density,
            cell_size=count.cell_size,
            photo_size=size_of(count.picture),
            shown_size=self._size,
            strength=self._strength,
            top=self._top,
        )
        words, words_cover = _words(second.time_s, count, self._size, alarmed)
        weighted = colours * (cover * (1 - words_cover))[..., None] + words * words_cover[..., None]
        self._colours = np.round(weighted).astype(np.uint8)
        kept = np.round(255 * (1 - cover) * (1 - words_cover)).astype(np.uint8)
        self._kept = np.repeat(kept[..., None], 3, axis=2)

    def on(self, picture: Picture) -> Picture:
        """A picture (H, W, 3) with the latest count; without one before the first."""
        height, width = self._size
        if size_of(picture) != self._size:
            picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        if self._colours is None or self._kept is None:
            return picture
        return np.asarray(cv2.add(cv2.multiply(picture, self._kept, scale=1 / 255), self._colours), np.uint8)


class Burner(ABC):
    """Takes counts and writes a video; within `with`, whose end makes it whole, or takes it away after an error."""

    def __enter__(self) -> Burner:
        return self

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def take(self, second: TimedCount, *, alarmed: bool) -> None:
        """Take the next count.

        Raises:
            BadInput: the video that is copied is damaged.
            OSError: nothing can be written.
        """


class VideoBurner(Burner):
    """A copy of a video, with its sound, and in every picture the latest count up to it.

    The video is read a second time beside the counting, so that neither waits for the other's pictures.

    Args:
        path: of the copy, MP4.
        source: the video.
        strength: of the density's colours.
        end_s: leave out what comes later.

    Raises:
        BadInput: the video cannot be read.
        OSError: the copy cannot be written.
    """

    def __init__(self, path: Path, source: Path, strength: float, end_s: float = float("inf")) -> None:
        self._end_s = end_s
        self._reader = VideoReader(source)
        size, rate = (self._reader.height, self._reader.width), self._reader.frame_rate
        self._annotator = Annotator(size, strength)
        self._pictures = self._reader.frames(every_s=1 / rate)
        self._next: VideoFrame | None = next(self._pictures, None)
        self._writer = VideoWriter(path, size[1], size[0], rate, source if self._reader.has_sound else None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._write_until(self._end_s)
        except BaseException:
            self._writer.discard()
            raise
        else:
            self._writer.__exit__(kind, error, trace)
        finally:
            self._reader.close()

    def take(self, second: TimedCount, *, alarmed: bool) -> None:
        """Write the pictures before this count; those that follow will show it."""
        self._write_until(second.time_s)
        self._annotator.update(second, alarmed=alarmed)

    def _write_until(self, end_s: float) -> None:
        while self._next is not None and self._next.time_s < end_s - _NEAR_S:
            self._writer.write(self._annotator.on(self._next.picture))
            self._next = next(self._pictures, None)


class LiveBurner(Burner):
    """A video of the counted pictures of a camera or stream, each with its count.

    Args:
        path: of the video, MP4.
        every_s: from one picture to the next.
        strength: of the density's colours.
    """

    def __init__(self, path: Path, every_s: float, strength: float) -> None:
        self._path, self._rate, self._strength = path, 1 / every_s, strength
        self._annotator: Annotator | None = None
        self._writer: VideoWriter | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)

    def take(self, second: TimedCount, *, alarmed: bool) -> None:
        """Write the counted picture."""
        height, width = size_of(second.count.picture)
        if self._annotator is None or self._writer is None:
            self._annotator = Annotator((height, width), self._strength)
            self._writer = VideoWriter(self._path, width, height, self._rate)
        self._annotator.update(second, alarmed=alarmed)
        self._writer.write(self._annotator.on(second.count.picture))


def _words(
    time_s: float, count: CrowdCount, size: tuple[int, int], alarmed: bool
) -> tuple[Picture, NDArray[np.float32]]:
    """Number, time and regions as they will be seen: (H, W, 3) RGB and how much they cover, (H, W) 0 to 1."""
    (height, width), (photo_height, photo_width) = size, size_of(count.picture)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, photo_width), ylim=(photo_height, 0))
    axes.axis("off")
    points = max(_LEAST_TEXT_PIXELS, _TEXT_SHARE * min(height, width)) * 72 / _DPI
    draw_regions(axes, count.regions, photo_width, photo_height, size=0.5 * points)
    box = {"boxstyle": "round,pad=0.35", "facecolor": "black", "edgecolor": "none", "alpha": 0.7}
    red = {"facecolor": ALARM, "alpha": 0.9} if alarmed else {}
    number = f"{count.count:.0f} {'person' if round(count.count) == 1 else 'people'}"
    axes.annotate(
        f"{number}  {clock(time_s)}",
        (1, 1),
        xycoords="axes fraction",
        xytext=(-0.7 * points, -0.7 * points),
        textcoords="offset points",
        fontsize=points,
        fontweight="bold",
        ha="right",
        va="top",
        color="white",
        bbox=box | red,
    )
    axes.annotate(
        "picture and sound" if count.fallback is None else "picture alone",
        (1, 0),
        xycoords="axes fraction",
        xytext=(-0.4 * points, 0.4 * points),
        textcoords="offset points",
        fontsize=0.45 * points,
        ha="right",
        va="bottom",
        color="white",
        bbox=box,
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[:height, :width]  # (H, W, 4), colours not weighted by their opacity
    return np.ascontiguousarray(drawn[..., :3]), drawn[..., 3].astype(np.float32) / 255

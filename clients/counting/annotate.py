"""Videos for people: density, regions and the number burnt into every frame."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clients.counting.figures import ALARM, clock, draw_regions
from clients.counting.overlay import STRENGTH, density_top, heat, size_of
from clients.crowd_count import CrowdCount
from clients.media.picture import Picture

_DPI = 100
_TEXT_SHARE = 0.05  # of the frame's shorter side, that the number is high
_LEAST_TEXT_PIXELS = 10.0


class Annotator:
    """Lays the latest count over the frames that follow it.

    Colours keep one meaning through a video as far as they can: the strongest one stands for the most people per cell
    that there were so far.

    Args:
        strength: of the density's colours, see `overlay.heat`.
    """

    def __init__(self, strength: float = STRENGTH) -> None:
        self._strength = strength
        self._top = 0.0
        self._colours: Picture | None = None  # (H, W, 3), already weighted
        self._kept: Picture | None = None  # (H, W, 3), how much of the frame stays, of 255

    def update(self, time_s: float, count: CrowdCount, *, alarmed: bool = False) -> None:
        """Take the next count; `alarmed` makes its number red."""
        height, width = size_of(count.picture)
        self._top = max(self._top, density_top(count.density))
        colours, cover = heat(
            count.density,
            cell_size=count.cell_size,
            photo_size=(height, width),
            shown_size=(height, width),
            strength=self._strength,
            top=self._top,
        )
        words, words_cover = _words(time_s, count, alarmed)
        weighted = colours * (cover * (1 - words_cover))[..., None] + words * words_cover[..., None]
        self._colours = np.round(weighted).astype(np.uint8)
        kept = np.round(255 * (1 - cover) * (1 - words_cover)).astype(np.uint8)
        self._kept = np.repeat(kept[..., None], 3, axis=2)

    def on(self, frame: Picture) -> Picture:
        """A frame with the latest count; as it is before the first one.

        Args:
            frame: (H, W, 3) RGB, of the counted pictures' size.
        """
        if self._colours is None or self._kept is None:
            return frame
        return np.asarray(cv2.add(cv2.multiply(frame, self._kept, scale=1 / 255), self._colours), np.uint8)


def _words(time_s: float, count: CrowdCount, alarmed: bool) -> tuple[Picture, NDArray[np.float32]]:
    """Number, time and regions in the frame's own pixels: (H, W, 3) RGB and how much they cover, (H, W) 0 to 1."""
    height, width = size_of(count.picture)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    points = max(_LEAST_TEXT_PIXELS, _TEXT_SHARE * min(height, width)) * 72 / _DPI
    draw_regions(axes, count.regions, width, height, size=0.5 * points)
    heard = "picture and sound" if count.fallback is None else "picture alone"
    box = {"boxstyle": "round,pad=0.35", "facecolor": "black", "edgecolor": "none", "alpha": 0.7}
    red = {"facecolor": ALARM, "alpha": 0.9} if alarmed else {}
    axes.annotate(
        f"{count.count:.0f} {'person' if round(count.count) == 1 else 'people'}  {clock(time_s)}",
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
        heard,
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

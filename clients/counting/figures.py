"""Figures of counts: the density over its photo, and counts over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from clients.counting.alarms import Threshold
from clients.counting.history import Curves, History
from clients.counting.overlay import STRENGTH, colours_of_people, density_top
from clients.counting.regions import TOTAL
from clients.plots import DPI, INK, save_figure

if TYPE_CHECKING:  # it imports this module when it draws
    from clients.counting.regions import RegionCount
    from clients.crowd_count import CrowdCount

# Okabe and Ito's colours without black and yellow: told apart by the colour-blind, and on white as on a photo.
REGION_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#0072b2")
ALARM, _UNHEARD = "#c0392b", "#999999"
_TICKS_S = (1, 2, 5, 10, 15, 30, *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440)))


def draw_density(path: Path, result: CrowdCount, *, strength: float = STRENGTH) -> None:
    """Draw the density over a grey version of the photo, with a colour bar, the count and the regions, as a PNG."""
    height, width = result.picture.shape[:2]
    figure_height = min(14.0, max(3.5, 9 * height / width + 0.8))
    figure = Figure(figsize=(10, figure_height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    # Photo pixels are the units of both axes, so that a point of the picture can be read off.
    axes.imshow(result.overlay(strength=strength), extent=(0, width, height, 0), interpolation="antialiased")
    draw_regions(axes, result.regions, width, height)
    axes.set(xlim=(0, width), ylim=(height, 0), xlabel="pixels", ylabel="pixels")
    noun = "person" if round(result.count) == 1 else "people"
    interval = f"  ({result.interval_text})" if result.interval else ""
    axes.set_title(f"{result.count:.1f} {noun}{interval}", loc="left", fontsize=15, fontweight="bold", color=INK)
    heard = "picture and sound" if result.fallback is None else f"picture alone: {result.fallback.sentence}"
    axes.set_title(heard, loc="right", fontsize=10, color=INK)
    cell_height, cell_width = result.cell_size
    label = f"people per cell of {cell_width:.1f}x{cell_height:.1f} pixels"
    palette = ListedColormap(colours_of_people() / 255)
    colours = ScalarMappable(Normalize(0, density_top(result.density)), palette)
    figure.colorbar(colours, cax=axes.inset_axes((1.015, 0, 0.025, 1)), label=label, extend="max")
    save_figure(figure, path)


def draw_regions(axes: Axes, regions: Sequence[RegionCount], width: int, height: int, *, size: float = 9) -> None:
    """Outline regions on axes in photo pixels, each with its name and number at its upper left corner."""
    for number, one in enumerate(regions):
        colour = REGION_COLOURS[number % len(REGION_COLOURS)]
        corners = one.region.corners(width, height)
        axes.add_patch(Polygon(corners, fill=False, edgecolor=colour, linewidth=1.8, joinstyle="round"))
        x, y = np.clip(corners[np.argmin(corners.sum(axis=1))], 0, [width, height])
        axes.annotate(
            f"{one.region.name}  {one.people:.1f}",
            (x, y),
            xytext=(5, -5),
            textcoords="offset points",
            va="top",
            fontsize=size,
            fontweight="bold",
            color="white",
            bbox={"boxstyle": "round,pad=0.3", "facecolor": colour, "edgecolor": "none", "alpha": 0.9},
            annotation_clip=False,
        )


def draw_history(path: Path, history: History, thresholds: Sequence[Threshold] = ()) -> None:
    """Draw counts over time with the alarms' thresholds, and where the sound was not heard, as a PNG.

    The whole photo has a panel; the regions share a second one below. Where a long stream gives more samples than the
    picture has room for, a band shows the least and the most around the mean.
    """
    curves, regions = history.curves(), history.names[1:]
    figure = Figure(figsize=(10, 6.2 if regions else 3.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(2 if regions else 1, 1, sharex=True, squeeze=False)[:, 0]
    _draw_series(panels[0], curves, [(0, TOTAL, INK)])
    if regions:
        colours = [REGION_COLOURS[number % len(REGION_COLOURS)] for number in range(len(regions))]
        _draw_series(panels[1], curves, list(zip(range(1, len(history.names)), regions, colours, strict=True)))
        panels[1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=6, frameon=False, fontsize=9, borderpad=0)
        panels[1].set_title("regions", loc="left", fontsize=11, color=INK)
    for threshold in thresholds:
        number = history.names.index(threshold.watched)
        colour = INK if number == 0 else REGION_COLOURS[(number - 1) % len(REGION_COLOURS)]
        _draw_threshold(panels[min(number, 1)], threshold, colour)
    _draw_unheard(panels[0], curves)
    panels[0].set_title("people", loc="left", fontsize=13, fontweight="bold", color=INK)
    panels[0].set_title(_heard_words(history), loc="right", fontsize=10, color=INK)
    panels[-1].xaxis.set(major_locator=MultipleLocator(_tick_s(panels[-1])), major_formatter=FuncFormatter(clock))
    panels[-1].set_xlabel("time")
    save_figure(figure, path)


def _draw_series(axes: Axes, curves: Curves, series: list[tuple[int, str, str]]) -> None:
    """Lines with their bands, thicker and red where an alarm is raised."""
    middles = (curves.starts_s + curves.ends_s) / 2
    for number, name, colour in series:
        mean = curves.means[:, number]
        axes.plot(middles, mean, color=colour, linewidth=1.6, label=name, marker="o" if len(middles) < 2 else None)
        axes.fill_between(
            middles, curves.lows[:, number], curves.highs[:, number], color=colour, alpha=0.18, linewidth=0
        )
        alarmed = np.where(curves.raised[name], mean, np.nan)
        axes.plot(middles, alarmed, color=ALARM, linewidth=3.2, solid_capstyle="round", zorder=3)
    top = max(float(curves.highs[:, [number for number, _, _ in series]].max(initial=0)), 1.0)
    axes.set_ylim(0, top * 1.15)
    axes.set_xlim(*_span(middles))
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_threshold(axes: Axes, threshold: Threshold, colour: str) -> None:
    axes.axhline(threshold.people, color=colour, linestyle=(0, (5, 3)), linewidth=1.2)
    axes.axhline(threshold.clear, color=colour, linestyle=(0, (1, 3)), linewidth=1.2)
    where = "" if threshold.watched == TOTAL else f" {threshold.watched}"
    axes.annotate(
        f"alarm{where}\n{threshold.people:g}",
        (1, threshold.people),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=colour,
    )
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, max(top, threshold.people * 1.15))


def _draw_unheard(axes: Axes, curves: Curves) -> None:
    """A grey strip along the bottom where only the picture was counted."""
    if not curves.unheard.any() or curves.unheard.all():
        return
    ends = np.append(curves.starts_s[1:], curves.ends_s[-1] + np.median(np.diff(curves.starts_s)))
    spans = [
        (start, end - start) for start, end in zip(curves.starts_s[curves.unheard], ends[curves.unheard], strict=True)
    ]
    axes.broken_barh(spans, (0, 0.025), transform=axes.get_xaxis_transform(), facecolor=_UNHEARD, zorder=4)


def _heard_words(history: History) -> str:
    """How the stream was counted, and why not otherwise."""
    heard = history.samples - history.fallbacks.total()
    if not history.fallbacks:
        return "picture and sound"
    if not heard:
        reasons = "; ".join(fallback.sentence for fallback in history.fallbacks)
        return f"picture alone: {reasons}"
    return f"picture and sound in {heard} of {history.samples}, picture alone where the axis is grey"


def _span(middles: NDArray[np.float64]) -> tuple[float, float]:
    """Limits of a time axis, of a single sample too."""
    if len(middles) == 0:
        return 0.0, 1.0
    first, last = float(middles[0]), float(middles[-1])
    return (first, last) if last > first else (first - 0.5, first + 0.5)


def _tick_s(axes: Axes) -> float:
    """Seconds between ticks that people can read, ten at most."""
    first, last = axes.get_xlim()
    return next((step for step in _TICKS_S if last - first <= 10 * step), (last - first) / 10)


def clock(seconds: float, _position: int | None = None) -> str:
    """Seconds as people say them: 3:05, 2:03:05."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"

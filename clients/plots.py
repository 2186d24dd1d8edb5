"""Pictures for people: a density over its photo, and what all figures share.

Colours are perceptually even and safe for the colour-blind (magma). Figures are drawn without pyplot, whose state is
global, not thread-safe and never given back.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:  # it imports this module when it draws
    from clients.crowd_count import CrowdCount

DPI = 120
INK = "#333333"
_LONGEST_SIDE = 1_600  # pixels of a photo in a picture


def draw_density(path: Path, result: CrowdCount) -> None:
    """Draw the density over a grey version of the photo, with a colour bar and the count, as a PNG."""
    height, width = result.picture.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    shown = max(1, round(width * scale)), max(1, round(height * scale))
    grey = cv2.cvtColor(cv2.resize(result.picture, shown, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    figure_height = min(14.0, max(3.5, 9 * height / width + 0.8))
    figure = Figure(figsize=(10, figure_height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    # Photo pixels are the units of both axes, so that a point of the picture can be read off.
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    rows, columns = result.density.shape
    cell_height, cell_width = result.cell_size
    top = max(float(np.percentile(result.density, 99.5)), 1e-3)
    image = axes.imshow(
        result.density,
        cmap="magma",
        vmin=0,
        vmax=top,
        alpha=np.clip(np.sqrt(np.maximum(result.density, 0) / top), 0, 0.85),
        extent=(0, columns * cell_width, rows * cell_height, 0),
        interpolation="nearest",
    )
    axes.set(xlim=(0, width), ylim=(height, 0), xlabel="pixels", ylabel="pixels")
    noun = "person" if round(result.count) == 1 else "people"
    interval = f"  ({result.interval_text})" if result.interval else ""
    axes.set_title(f"{result.count:.1f} {noun}{interval}", loc="left", fontsize=15, fontweight="bold", color=INK)
    heard = "picture and sound" if "vision" not in result.model.name else "picture alone"
    axes.set_title(heard, loc="right", fontsize=10, color=INK)
    label = f"people per cell of {cell_width:.1f}x{cell_height:.1f} pixels"
    figure.colorbar(image, ax=axes, label=label, pad=0.01, aspect=30, extend="max")
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", metadata={"Software": "avedge"})

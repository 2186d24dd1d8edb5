"""What all figures share.

Colours are perceptually even and safe for the colour-blind (magma). Figures are drawn without pyplot, whose state is
global, not thread-safe and never given back.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 120
INK = "#333333"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", metadata={"Software": "avedge"})

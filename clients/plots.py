"""Pictures for people: spectrograms before and after, and a density over its photo.

Colours are perceptually even and safe for the colour-blind (magma). Figures are drawn without pyplot, whose state is
global, not thread-safe and never given back.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from clients.media.sound import Samples

if TYPE_CHECKING:  # both import this module when they draw
    from clients.crowd_count import CrowdCount
    from clients.separator import SeparatedSpeech

_DPI = 120
_WINDOW_S, _HOP_S = 0.025, 0.010
_MOST_COLUMNS = 2_000  # of a spectrogram; a longer recording is sampled more thinly
_DYNAMIC_DB = 80
_TOP_KHZ = 8.0  # what the networks hear
_LONGEST_SIDE = 1_600  # pixels of a photo in a picture
_INK = "#333333"


def draw_spectrograms(path: Path, result: SeparatedSpeech) -> None:
    """Draw recording, voice and attention under each other, on one time axis and one colour scale, as a PNG."""
    figure = Figure(figsize=(10, 6.4), dpi=_DPI, layout="constrained")
    before, after, line = figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 1])
    top_db = _loudest_db(result.mixture, result.sample_rate_hz)
    _draw_spectrogram(before, result.mixture, result.sample_rate_hz, top_db)
    image = _draw_spectrogram(after, result.speech, result.sample_rate_hz, top_db)
    before.set_title("Recording", loc="left", fontsize=11, color=_INK)
    after.set_title("The voice that belongs to the face", loc="left", fontsize=11, color=_INK)
    figure.colorbar(image, ax=[before, after], label="dB below the recording's loudest", pad=0.01, aspect=40)
    line.plot(np.arange(len(result.attention)) * result.frame_s, result.attention, color="#21618c", linewidth=0.9)
    line.set(ylim=(-0.05, 1.05), yticks=[0, 1], ylabel="attention", xlabel="seconds")
    line.set_xlim(0, len(result.mixture) / result.sample_rate_hz)
    line.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_density(path: Path, result: CrowdCount) -> None:
    """Draw the density over a grey version of the photo, with a colour bar and the count, as a PNG."""
    height, width = result.picture.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    shown = max(1, round(width * scale)), max(1, round(height * scale))
    grey = cv2.cvtColor(cv2.resize(result.picture, shown, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    figure_height = min(14.0, max(3.5, 9 * height / width + 0.8))
    figure = Figure(figsize=(10, figure_height), dpi=_DPI, layout="constrained")
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
    axes.set_title(f"{result.count:.1f} {noun}{interval}", loc="left", fontsize=15, fontweight="bold", color=_INK)
    heard = "picture and sound" if "vision" not in result.model.name else "picture alone"
    axes.set_title(heard, loc="right", fontsize=10, color=_INK)
    label = f"people per cell of {cell_width:.1f}x{cell_height:.1f} pixels"
    figure.colorbar(image, ax=axes, label=label, pad=0.01, aspect=30, extend="max")
    _save(figure, path)


def _draw_spectrogram(axes: Axes, samples: Samples, rate_hz: int, top_db: float) -> AxesImage:
    """One panel, decibels below `top_db`, up to 8 kHz."""
    levels, top_khz = spectrogram_db(samples, rate_hz)
    axes.set(ylabel="kHz", ylim=(0, min(top_khz, _TOP_KHZ)))
    return axes.imshow(
        levels - top_db,
        cmap="magma",
        vmin=-_DYNAMIC_DB,
        vmax=0,
        aspect="auto",
        origin="lower",
        extent=(0, len(samples) / rate_hz, 0, top_khz),
        interpolation="nearest",
    )


def spectrogram_db(samples: Samples, rate_hz: int) -> tuple[NDArray[np.float32], float]:
    """Level of every frequency in windows of 25 ms.

    Args:
        samples: (N,).
        rate_hz: their rate.

    Returns:
        (frequencies, columns) in dB re a sine at full scale, and the highest frequency in kHz.
    """
    window = max(8, round(_WINDOW_S * rate_hz))
    hop = max(1, round(_HOP_S * rate_hz), -(-len(samples) // _MOST_COLUMNS))
    padded = np.pad(samples, (window // 2, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[: len(samples) : hop]  # (columns, window)
    taper = np.hanning(window).astype(np.float32)
    magnitude = np.abs(np.fft.rfft(frames * taper, axis=1)) * (2 / taper.sum())
    return np.asarray(20 * np.log10(magnitude.T + 1e-9), np.float32), rate_hz / 2000


def _loudest_db(samples: Samples, rate_hz: int) -> float:
    return float(spectrogram_db(samples, rate_hz)[0].max())


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", metadata={"Software": "avedge"})

"""Pictures of arrays, for a training's samples: colours for values, titles, rows and columns."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.learner import Picture

_TITLE_PIXELS = 22
_GAP_PIXELS = 6
_DYNAMIC_DB = 70.0  # what a spectrogram shows below its loudest value


def coloured(values: NDArray[Any], largest: float, size: tuple[int, int]) -> Picture:
    """Values (H, W) between 0 and `largest`, dark to bright, as a picture of (width, height) pixels."""
    levels = np.clip(values / max(largest, 1e-12), 0, 1) * 255
    resized = cv2.resize(levels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return _rgb(cv2.applyColorMap(resized, cv2.COLORMAP_VIRIDIS))


def spectrogram(magnitude: NDArray[np.float32], loudest: float, size: tuple[int, int]) -> Picture:
    """Magnitudes (frequencies, frames) on a scale of 70 dB below `loudest`, low frequencies at the bottom."""
    level_db = 20 * np.log10(np.maximum(magnitude, 1e-12) / max(loudest, 1e-12))
    return coloured(level_db[::-1] + _DYNAMIC_DB, _DYNAMIC_DB, size)


def titled(picture: Picture, title: str) -> Picture:
    """The picture under a line of text."""
    strip = np.full((_TITLE_PIXELS, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, title, (2, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def in_a_row(pictures: list[Picture]) -> Picture:
    """Pictures of one height, left to right."""
    gap = np.full((pictures[0].shape[0], _GAP_PIXELS, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


def in_a_column(pictures: list[Picture]) -> Picture:
    """Pictures of one width, top to bottom."""
    gap = np.full((_GAP_PIXELS, pictures[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1])


def _rgb(bgr: NDArray[Any]) -> Picture:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)

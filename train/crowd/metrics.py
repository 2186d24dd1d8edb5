"""Errors of counts in NumPy: MAE and RMSE (Eq. 14), and GAME, which sees whether people are counted where they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.floating]


def mean_absolute_error(counts: Counts, truth: Counts) -> float:
    """MAE in people over pictures, (n,) each."""
    return float(np.mean(np.abs(counts - truth)))


def root_mean_square_error(counts: Counts, truth: Counts) -> float:
    """RMSE in people over pictures, (n,) each; the field often prints it as "MSE"."""
    return float(np.sqrt(np.mean((counts - truth) ** 2)))


def grid_average_mean_error(region_counts: Counts, truth: Counts) -> float:
    """GAME: absolute errors summed over a picture's regions, averaged over pictures, in people.

    Args:
        region_counts: (n, regions); 4**L regions make GAME(L), so the 64 patches make GAME(3).
        truth: the same.

    Source: Guerrero-Gomez-Olmedo et al., "Extremely Overlapping Vehicle Counting", 2015.
    """
    return float(np.mean(np.abs(region_counts - truth).sum(axis=1)))

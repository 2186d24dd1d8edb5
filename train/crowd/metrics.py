"""Errors of counts in NumPy: MAE, RMSE (Eq. 14), NAE, and GAME, which sees whether people are where they are counted.

A measure that has no value, as a correlation with a constant, is None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.floating]

GAME_LEVELS = (0, 1, 2, 3)  # 1, 4, 16 and 64 regions
# People in a picture, from and to; beyond the last one there is one more class.
DENSITY_CLASSES = ((0, 0), (1, 50), (51, 100), (101, 200), (201, 500), (501, 1000))


def mean_absolute_error(counts: Counts, truth: Counts) -> float:
    """MAE in people over pictures, (n,) each."""
    return float(np.mean(np.abs(counts - truth)))


def root_mean_square_error(counts: Counts, truth: Counts) -> float:
    """RMSE in people over pictures, (n,) each; the field often prints it as "MSE"."""
    return float(np.sqrt(np.mean((counts - truth) ** 2)))


def normalised_absolute_error(counts: Counts, truth: Counts) -> float | None:
    """NAE: the mean of |error| / truth over pictures with people, (n,) each.

    Pictures without people are left out, as the NWPU-Crowd benchmark leaves them out. One with less than one person,
    which a density map may sum to, is divided by one.

    Source: Wang et al., "NWPU-Crowd", 2020, Eq. 6, and its code (github.com/gjy3035/NWPU-Crowd-Sample-Code).
    """
    peopled = truth > 0
    if not peopled.any():
        return None
    return float(np.mean(np.abs(counts - truth)[peopled] / np.maximum(truth[peopled], 1)))


def grid_average_mean_error(region_counts: Counts, truth: Counts) -> float:
    """GAME: absolute errors summed over a picture's regions, averaged over pictures, in people.

    Args:
        region_counts: (n, regions); GAME(L) has 4**L of them (`train.crowd.ground_truth.grid_counts`).
        truth: the same.

    Source: Guerrero-Gomez-Olmedo et al., "Extremely Overlapping Vehicle Counting", 2015.
    """
    return float(np.mean(np.abs(region_counts - truth).sum(axis=1)))


def correlation(values: Counts, others: Counts) -> float | None:
    """Pearson's correlation of two arrays of one shape, over all their values; None where one of them is constant."""
    if values.size < 2 or np.ptp(values) == 0 or np.ptp(others) == 0:
        return None
    return float(np.corrcoef(values.ravel(), others.ravel())[0, 1])


def errors_by_density(counts: Counts, truth: Counts) -> list[dict[str, Any]]:
    """Errors of the pictures of each class of `DENSITY_CLASSES` that has any, (n,) each.

    Returns:
        `people` (the class, as "51-100"), `n`, `mean_people`, `mae` and `bias` (mean of count minus truth) of each.
    """
    names = [f"{least}-{most}" if least < most else str(least) for least, most in DENSITY_CLASSES]
    names.append(f">{DENSITY_CLASSES[-1][1]}")
    edges = [most + 0.5 for _, most in DENSITY_CLASSES]  # a density map's sum is no whole number
    places = np.searchsorted(edges, truth)
    rows = []
    for place, name in enumerate(names):
        chosen = places == place
        if chosen.any():
            errors = counts[chosen] - truth[chosen]
            rows.append(
                {
                    "people": name,
                    "n": int(chosen.sum()),
                    "mean_people": float(truth[chosen].mean()),
                    "mae": float(np.abs(errors).mean()),
                    "bias": float(errors.mean()),
                }
            )
    return rows

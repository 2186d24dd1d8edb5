"""How far a count may be off: intervals that hold the truth as often as they say, by split-conformal prediction.

A picture of many people is miscounted by more people. So an error is measured in units of a scale a + b * count, fitted
to a quarter of the pictures; the others say how many units hold the wanted share. The promise is of the pictures'
distribution alone: it holds for pictures like those it was measured on, whatever the network's errors look like.

Source: Lei et al., "Distribution-Free Predictive Inference for Regression", 2018, sections 2.2 and 5.2.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.errors import TrainError

Counts = NDArray[np.floating]

_SEED = 0  # of the division
# One picture of so many is for the scale's two numbers. A half of 30 leaves 15 for the rank of 90 %, which is then the
# largest error: with heavy tails the intervals were twice as wide on average (659 people against 290, simulated).
_SCALE_SHARE = 4
# The scale of a count of zero, as a share of the mean error: a line through the origin would promise that an empty
# picture is counted right.
_LEAST_SCALE = 0.1
_LEAST_PEOPLE = 1e-6  # where every count is right


@dataclass(frozen=True)
class Interval:
    """The truth lies within `absolute + relative * count` people of a count."""

    absolute: float  # people
    relative: float  # share of the count

    def half_width(self, counts: Counts) -> Counts:
        """In people, of each count; one below zero counts as zero."""
        widths: Counts = self.absolute + self.relative * np.maximum(counts, 0)
        return widths


def quantile_rank(n: int, share: float) -> int:
    """Which of n sorted errors, from 1 on, holds a new one with probability `share` at least: ceil((n + 1) share).

    It may be n + 1: then n errors are too few to say.
    """
    return math.ceil((n + 1) * share - 1e-9)  # (n + 1) share may be a hair above a whole number


def least_pictures(share: float) -> int:
    """The fewest pictures, a quarter of them for the scale, for which `fit_interval` has an answer."""
    for_rank = math.ceil(share / (1 - share) - 1e-9)
    return next(n for n in itertools.count(_SCALE_SHARE) if n - n // _SCALE_SHARE >= for_rank)


def require_pictures(n: int, least: int, share: float) -> None:
    """Refuse to make an interval of too few pictures.

    Raises:
        TrainError: n is below the least number.
    """
    if n < least:
        raise TrainError(
            f"Saw {n} pictures; wanted {least} or more, because fewer cannot tell what holds a share of {share:g}. "
            "Judge more pictures, or ask for a smaller share."
        )


def fit_interval(counts: Counts, truth: Counts, share: float) -> Interval:
    """The interval that holds the truth of a share of pictures like these.

    Args:
        counts: (n,) of the network.
        truth: (n,).
        share: in (0, 1).

    Raises:
        TrainError: too few pictures for such a share.
    """
    require_pictures(len(counts), least_pictures(share), share)
    order = np.random.default_rng(_SEED).permutation(len(counts))
    for_scale, for_rank = np.split(order, [len(order) // _SCALE_SHARE])
    errors = np.abs(counts - truth)
    scale = _fit_scale(counts[for_scale], errors[for_scale])
    units = np.sort(errors[for_rank] / scale.half_width(counts[for_rank]))
    reach = float(units[quantile_rank(len(units), share) - 1])
    return Interval(reach * scale.absolute, reach * scale.relative)


def left_out_coverage(counts: Counts, truth: Counts, share: float) -> float:
    """The share of pictures whose truth lies within the interval made of all the others, (n,) each.

    Raises:
        TrainError: too few pictures for such a share.
    """
    held = 0
    for number in range(len(counts)):
        others = np.arange(len(counts)) != number
        interval = fit_interval(counts[others], truth[others], share)
        held += bool(abs(counts[number] - truth[number]) <= interval.half_width(counts[number : number + 1])[0])
    return held / len(counts)


def interval_figures(counts: Counts, truth: Counts, share: float) -> dict[str, float]:
    """What a report says of the interval.

    Returns:
        `share`: the wanted one; `coverage`: that of pictures left out of the making; `absolute` and `relative` of
        `Interval`, made of all pictures; `mean_width`: from its lower to its upper end, people; below nobody it is cut.

    Raises:
        TrainError: too few pictures for such a share.
    """
    coverage = left_out_coverage(counts, truth, share)
    interval = fit_interval(counts, truth, share)
    half = interval.half_width(counts)
    lower, upper = np.maximum(counts - half, 0), np.maximum(counts + half, 0)
    return {
        "share": share,
        "coverage": coverage,
        "mean_width": float(np.mean(upper - lower)),
        "relative": interval.relative,
        "absolute": interval.absolute,
    }


def _fit_scale(counts: Counts, errors: Counts) -> Interval:
    """Least squares of absolute errors on counts, neither coefficient below zero."""
    from scipy.optimize import nnls

    inputs = np.stack([np.ones(len(counts)), np.maximum(counts, 0)], axis=1)
    (absolute, relative), _ = nnls(inputs.astype(float), errors.astype(float))
    return Interval(max(float(absolute), _LEAST_SCALE * float(errors.mean()), _LEAST_PEOPLE), float(relative))

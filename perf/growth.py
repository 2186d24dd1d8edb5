"""How a cost grows with the size of its input: value = factor * size ** exponent, fitted in logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """A power law."""

    exponent: float
    standard_error: float | None  # of the exponent; None from two points, which any line fits
    factor: float
    points: int


def fit(sizes: Sequence[float], values: Sequence[float]) -> Growth:
    """Fit a power law by least squares of log(value) on log(size).

    Args:
        sizes: above 0, at least two different ones.
        values: above 0.

    Raises:
        ValueError: there is nothing to fit.
    """
    if len(set(sizes)) < 2 or len(sizes) != len(values) or min(*sizes, *values) <= 0:
        raise ValueError(f"a power law of {len(set(sizes))} sizes and {len(values)} values; wanted two or more above 0")
    xs, ys = [math.log(size) for size in sizes], [math.log(value) for value in values]
    middle_x, middle_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    spread = math.fsum((x - middle_x) ** 2 for x in xs)
    exponent = math.fsum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / spread
    start = middle_y - exponent * middle_x
    error = None
    if len(xs) > 2:
        residue = math.fsum((y - start - exponent * x) ** 2 for x, y in zip(xs, ys, strict=True))
        error = math.sqrt(residue / (len(xs) - 2) / spread)
    return Growth(exponent, error, math.exp(start), len(xs))


def fit_above(sizes: Sequence[float], values: Sequence[float], floor: float) -> Growth:
    """Fit those values that lie above a floor; where fewer than three do, what there is does not grow: exponent 0."""
    seen = [(size, value) for size, value in zip(sizes, values, strict=True) if value > floor]
    if len({size for size, _ in seen}) < 3:
        return Growth(0.0, None, floor, len(seen))
    return fit([size for size, _ in seen], [value for _, value in seen])


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The straight line's rise by least squares: value per unit of size."""
    middle = math.fsum(sizes) / len(sizes)
    spread = math.fsum((size - middle) ** 2 for size in sizes)
    return math.fsum((size - middle) * value for size, value in zip(sizes, values, strict=True)) / spread

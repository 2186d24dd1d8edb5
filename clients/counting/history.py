"""Counts over time in memory that does not grow: what a plot shows and a summary says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.counting.hearing import Fallback

_MOST_BUCKETS = 2_048  # of a plot's width; when they are full, each two become one


@dataclass
class _Bucket:
    """Some samples that follow each other."""

    start_s: float
    end_s: float
    number: int
    sums: NDArray[np.float64]  # (S,), of each series
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    unheard: int  # samples that the model that only sees was asked for
    raised: frozenset[str]

    def add(self, later: _Bucket) -> None:
        self.end_s = later.end_s
        self.number += later.number
        self.sums = self.sums + later.sums
        self.lows, self.highs = np.minimum(self.lows, later.lows), np.maximum(self.highs, later.highs)
        self.unheard += later.unheard
        self.raised |= later.raised


@dataclass(frozen=True)
class Curves:
    """What a plot shows. B: buckets, S: series."""

    starts_s: NDArray[np.float64]  # (B,)
    ends_s: NDArray[np.float64]  # (B,), times of the last samples
    means: NDArray[np.float64]  # (B, S), people
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    unheard: NDArray[np.bool_]  # (B,), whether most were counted by the model that only sees
    raised: dict[str, NDArray[np.bool_]]  # (B,) for each series, whether its alarm was raised at any time


@dataclass
class History:
    """The counts of a stream so far.

    Args:
        names: the series: "total" and the regions.
    """

    names: tuple[str, ...]
    samples: int = 0
    fallbacks: Counter[Fallback] = field(default_factory=Counter)
    _buckets: list[_Bucket] = field(default_factory=list)
    _size: int = 1  # samples in a full bucket
    _peaks: dict[str, tuple[float, float]] = field(default_factory=dict)  # most people, and when first

    def add(
        self, time_s: float, counts: Mapping[str, float], fallback: Fallback | None, raised: Collection[str] = ()
    ) -> None:
        """Take the next sample."""
        values = np.array([counts[name] for name in self.names], np.float64)
        self.samples += 1
        if fallback:
            self.fallbacks[fallback] += 1
        for name, value in zip(self.names, values.tolist(), strict=True):
            if value > self._peaks.get(name, (-np.inf, 0.0))[0]:
                self._peaks[name] = value, time_s
        new = _Bucket(time_s, time_s, 1, values, values, values, int(fallback is not None), frozenset(raised))
        if self._buckets and self._buckets[-1].number < self._size:
            self._buckets[-1].add(new)
            return
        if len(self._buckets) == _MOST_BUCKETS:
            for first, second in zip(self._buckets[::2], self._buckets[1::2], strict=True):
                first.add(second)
            self._buckets, self._size = self._buckets[::2], 2 * self._size
        self._buckets.append(new)

    def curves(self) -> Curves:
        """The counts as at most 2,048 points; with more samples each is the mean of several that follow each other."""
        buckets = self._buckets
        shape = len(buckets), len(self.names)
        return Curves(
            np.array([one.start_s for one in buckets]),
            np.array([one.end_s for one in buckets]),
            np.array([one.sums / one.number for one in buckets]).reshape(shape),
            np.array([one.lows for one in buckets]).reshape(shape),
            np.array([one.highs for one in buckets]).reshape(shape),
            np.array([one.unheard * 2 > one.number for one in buckets], bool),
            {name: np.array([name in one.raised for one in buckets], bool) for name in self.names},
        )

    def summary(self) -> dict[str, Any]:
        """What JSON says of the whole stream."""
        means = sum((one.sums for one in self._buckets), np.zeros(len(self.names))) / max(self.samples, 1)
        counts = {
            name: {
                "mean": round(float(mean), 3),
                "max": round(self._peaks[name][0], 3),
                "max_time_s": round(self._peaks[name][1], 3),
            }
            for name, mean in zip(self.names, means, strict=True)
            if name in self._peaks
        }
        return {
            "samples": self.samples,
            "counts": counts,
            "heard_samples": self.samples - self.fallbacks.total(),
            "fallbacks": {fallback.code: number for fallback, number in self.fallbacks.items()},
        }

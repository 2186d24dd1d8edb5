"""Requests that come at their own times: Poisson arrivals, and the largest rate whose 95th percentile holds a bound.

perf_analyzer's own `--request-distribution poisson` sends fewer requests than asked for (2.51: 7.6 a second of 10, 19
of 20, with nothing else to do), so it is given the times between requests. Within each stretch of a window's length
they are those of a Poisson process of which the number of arrivals is known, and that number is the mean: bursts are
as they come, and yet each window sees the rate that was asked for, give or take the arrivals at its two ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perf.analyzer import Analyzer
from perf.level import run_level
from perf.results import ClientView

_QUARTERS = (0.25, 0.5, 0.75, 1.0)
_WINDOWS = 8  # three are measured; perf_analyzer begins anew at the end of its list
_SENT = re.compile(r"Avg send request rate: ([\d.]+)")
_DELAYED = re.compile(r"([\d.]+)% of the requests were delayed")
_LEAST_ANSWERED = 0.9  # of the asked rate; the number in three windows scatters by a few percent


@dataclass(frozen=True)
class RateLevel:
    """What callers saw who came at one mean rate."""

    asked_per_s: float
    sent_per_s: float
    delayed_percent: float  # requests that perf_analyzer sent late
    failures: int
    client: ClientView  # its `inferences_per_s`: answered in the windows

    def holds(self, p95_ms: float) -> bool:
        """Whether all were sent in time and answered, and 95 % of them within the bound."""
        answered = self.client.inferences_per_s >= _LEAST_ANSWERED * self.asked_per_s
        return self.client.p95_ms <= p95_ms and answered and not self.delayed_percent and not self.failures


@dataclass(frozen=True)
class Search:
    """Every rate that was tried, from the lowest up, and the largest that holds the bound; None where none does."""

    levels: tuple[RateLevel, ...]
    held: RateLevel | None


def intervals_us(rate_per_s: float, window_s: float, seed: int) -> list[int]:
    """Times between arrivals for all windows of a measurement and some more, whole microseconds, at least 1.

    Args:
        rate_per_s: Of the arrivals.
        window_s: Length of a stretch in which their number is the mean.
        seed: Same seed, same times.
    """
    number = max(1, round(rate_per_s * window_s))
    # Given their number, a Poisson process's arrivals are independent and uniform.
    places = np.sort(np.random.default_rng(seed).random((_WINDOWS, number)), axis=1)
    times_s = (places + np.arange(_WINDOWS)[:, np.newaxis]).reshape(-1) * (number / rate_per_s)
    return [max(1, int(gap)) for gap in np.diff(np.round(times_s * 1e6), prepend=0)]


def measure_rate(
    analyzer: Analyzer, folder: Path, url: str, ensemble: str, rate_per_s: float, *, window_s: float, seed: int
) -> RateLevel:
    """Measure one rate; failed requests are the caller's to count, from the server's statistics.

    Raises:
        PerfError: perf_analyzer gave no figures, or did not end (7).
    """
    gaps = intervals_us(rate_per_s, window_s, seed)
    (folder / "intervals.txt").write_text("".join(f"{gap}\n" for gap in gaps))
    level = run_level(
        analyzer, folder, url, ensemble, ["--async", "--request-intervals", "intervals.txt"], window_s=window_s
    )
    sent, delayed = (found.search(level.said) for found in (_SENT, _DELAYED))
    return RateLevel(
        asked_per_s=rate_per_s,
        sent_per_s=float(sent.group(1)) if sent else rate_per_s,
        delayed_percent=float(delayed.group(1)) if delayed else 0.0,
        failures=level.said.count("had error"),
        client=level.client,
    )


def search(measure: Callable[[float], RateLevel], most_per_s: float, p95_ms: float, halvings: int) -> Search:
    """Find the largest rate that holds the bound, between nothing and the closed loop's best.

    The quarters of the best are all measured, which gives a curve; then the quarter in which the bound is lost for the
    first time is halved.

    Args:
        measure: Measures a rate, per second.
        most_per_s: The closed loop's best.
        p95_ms: The bound.
        halvings: The answer is within most_per_s / 4 / 2**halvings of the largest.
    """
    levels = [measure(share * most_per_s) for share in _QUARTERS]
    verdicts = [level.holds(p95_ms) for level in levels]
    first_lost = verdicts.index(False) if False in verdicts else len(levels)
    held = levels[first_lost - 1] if first_lost else None
    if first_lost < len(levels):
        low, high = held.asked_per_s if held else 0.0, levels[first_lost].asked_per_s
        for _ in range(halvings):
            middle = measure((low + high) / 2)
            levels.append(middle)
            if middle.holds(p95_ms):
                low, held = middle.asked_per_s, middle
            else:
                high = middle.asked_per_s
    return Search(tuple(sorted(levels, key=lambda level: level.asked_per_s)), held)

"""A closed loop inside this process: so many workers, each of which calls again as soon as it is answered.

What a server is loaded with is perf_analyzer; this is for what has no server: bare runtimes and library calls.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """What a closed loop reached."""

    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    count: int


def closed_loop(call: Callable[[int, int], object], *, workers: int, seconds: float, warmup_s: float = 0.5) -> Rates:
    """Run workers until the time is up; only calls that begin and end inside it count.

    Args:
        call: Is given the worker's number and the number of its call; an exception ends the loop and is raised here.
        workers: Threads; the call should leave Python's lock, as ONNX Runtime, torch and numpy's kernels do.
        seconds: Length of the measured stretch.
        warmup_s: Time before it.
    """
    began = time.perf_counter() + warmup_s
    ends = began + seconds
    latencies: list[list[float]] = [[] for _ in range(workers)]
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        number = 0
        try:
            while (before := time.perf_counter()) < ends and not failures:
                call(worker, number)
                number += 1
                after = time.perf_counter()
                if before >= began and after <= ends:
                    latencies[worker].append(after - before)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return rates([latency for own in latencies for latency in own], seconds)


def rates(latencies_s: Sequence[float], seconds: float) -> Rates:
    """Throughput and percentiles of latencies that were seen in a stretch of time."""
    ordered = sorted(latencies_s)
    p50, p95, p99 = (1000 * percentile(ordered, percent) for percent in (50, 95, 99))
    return Rates(len(ordered) / seconds, p50, p95, p99, len(ordered))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent do not exceed; NaN of nothing."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

"""The same work on one process or several, with the results in order."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from train.errors import TrainError

Work = TypeVar("Work")
Result = TypeVar("Result")


def work_through(
    function: Callable[[Work], Result], work: Sequence[Work], jobs: int, *, at_once: int = 1
) -> Iterator[Result]:
    """Call a function for each piece of work.

    Args:
        function: of a module's own level, so that other processes find it.
        work: what it is called with.
        jobs: processes; with one, everything stays in this one.
        at_once: pieces that are sent to a process together.

    Raises:
        TrainError: a process was killed.
    """
    if jobs == 1:
        yield from map(function, work)
        return
    # Spawned, not forked: the parent's threads and its espeak-ng must not be inherited.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start) as pool:
        try:
            yield from pool.map(function, work, chunksize=at_once)
        except BrokenProcessPool as error:
            raise TrainError(
                f"One of {jobs} processes was killed, perhaps for want of memory; wanted all of them to finish. Run "
                "the same command again, with fewer --jobs if need be."
            ) from error


def _start() -> None:
    """Ctrl-C is for the parent, which then sends no more work; and processes, not threads, share the cores."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)

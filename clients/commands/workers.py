"""Threads that work or wait for the main one, left at once when the user has had enough."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
_PATIENCE_S = 0.6  # for threads to end by themselves when the run is broken off, and once more when all is closed
_LOOK_S = 0.5
_left_behind: list[threading.Thread] = []


class Workers(Generic[Item, Outcome]):
    """Threads that work through items.

    Even one worker is a thread of its own: the main thread only waits, and so hears Ctrl-C and SIGTERM at once,
    whatever library is at work.

    Args:
        work: done for each item.
        count: how many at the same time.
        ends_all: whether no other item should be begun after what an item has raised.
    """

    def __init__(self, work: Callable[[Item], Outcome], count: int, ends_all: Callable[[BaseException], bool]) -> None:
        self._work, self._count, self._ends_all = work, count, ends_all
        self._no_more = threading.Event()
        self._left = False
        self._deciding = threading.Lock()

    def finished(self, items: Iterable[Item]) -> Generator[tuple[Item, Outcome | BaseException], None, None]:
        """Each item with its outcome, or with what was raised, as they finish.

        When the caller leaves the loop, by an exception too, workers are waited for a moment only.
        """
        waiting, taking = iter(items), threading.Lock()
        done: queue.SimpleQueue[tuple[Item, Outcome | BaseException] | None] = queue.SimpleQueue()

        def labour() -> None:
            while not self._no_more.is_set():
                with taking:
                    item = next(waiting, None)
                if item is None:
                    break
                try:
                    done.put((item, self._work(item)))
                except BaseException as error:
                    if self._ends_all(error):
                        self._no_more.set()
                    done.put((item, error))
            done.put(None)

        threads = [threading.Thread(target=labour, daemon=True) for _ in range(self._count)]
        for thread in threads:
            thread.start()
        try:
            at_work = len(threads)
            while at_work:
                found = done.get()
                if found is None:
                    at_work -= 1
                else:
                    yield found
        finally:
            self._leave(threads)

    def commit(self, act: Callable[[], None]) -> None:
        """Do what must not be cut in two; not at all when the run has been left."""
        with self._deciding:
            if not self._left:
                act()

    def _leave(self, threads: list[threading.Thread]) -> None:
        self._no_more.set()
        with self._deciding:
            self._left = True
        _join(threads)
        _left_behind.extend(thread for thread in threads if thread.is_alive())


def awaited(items: Generator[Item, None, None], stopped: Callable[[], bool]) -> Generator[Item, None, None]:
    """The same items, up to when it is told to stop, also while the next one is long in coming.

    Args:
        items: asked for the next one when it is wanted, and closed, in a thread of its own.
        stopped: looked at twice a second.
    """
    wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
    found: queue.SimpleQueue[tuple[Item] | BaseException | None] = queue.SimpleQueue()

    def fetch() -> None:
        ended_by = None
        try:
            with closing(items):
                if not wanted.get():
                    return
                for item in items:
                    found.put((item,))
                    if not wanted.get():
                        return
        except BaseException as error:  # raised again in the thread that waits
            ended_by = error
        found.put(ended_by)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    try:
        while not stopped():
            wanted.put(True)
            item = _next(found, stopped)
            if item is None or stopped():
                return
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        wanted.put(False)
        _join([thread])
        if thread.is_alive():
            _left_behind.append(thread)


def _next(
    found: queue.SimpleQueue[tuple[Item] | BaseException | None], stopped: Callable[[], bool]
) -> tuple[Item] | BaseException | None:
    while not stopped():
        with suppress(queue.Empty):
            return found.get(timeout=_LOOK_S)
    return None


def all_ended() -> bool:
    """Whether no thread of a run that was broken off is at work any more; waits a moment for them.

    To be asked when the client is closed, which ends what they wait for.
    """
    _join(_left_behind)
    return not any(thread.is_alive() for thread in _left_behind)


def _join(threads: list[threading.Thread]) -> None:
    """Wait for threads, for a moment in all."""
    deadline = time.monotonic() + _PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))

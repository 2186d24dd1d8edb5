"""Cameras and streams do not wait for who looks at them: what is too old is left out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from typing import Generic, TypeVar

T = TypeVar("T")


def newest(items: Generator[T, None, None], depth: int = 1) -> Generator[T, None, None]:
    """The same items, taken in a thread of their own as they come; of those that wait, only the newest are given.

    Args:
        items: what is live; its errors are raised here when all that waits was given.
        depth: how many may wait.
    """
    line = _Line[T](depth)
    thread = threading.Thread(target=line.fill, args=(items,), name="live pictures", daemon=True)
    thread.start()
    try:
        while True:
            waiting = line.take()
            if waiting is None:
                return
            yield waiting[0]
    finally:
        line.stop()
        thread.join()  # no longer than the source waits for its next item


def next_due(time_s: float, every_s: float) -> float:
    """When the next picture is wanted after one at a moment: when the next `every_s` begins; with 0, every one is."""
    return (time_s // every_s + 1) * every_s if every_s else time_s


class _Line(Generic[T]):
    """Where items wait between two threads."""

    def __init__(self, depth: int) -> None:
        self._waiting: deque[T] = deque(maxlen=depth)  # a full one drops its oldest
        self._changed = threading.Condition()
        self._stopped = False
        self._error: BaseException | None = None

    def fill(self, items: Generator[T, None, None]) -> None:
        """Take items until they end or nobody wants them."""
        error: BaseException | None = None
        try:
            for item in items:
                with self._changed:
                    if self._stopped:
                        return
                    self._waiting.append(item)
                    self._changed.notify()
        except BaseException as caught:  # raised again in the thread that waits
            error = caught
        finally:
            items.close()
            with self._changed:
                self._stopped, self._error = True, error
                self._changed.notify()

    def take(self) -> tuple[T] | None:
        """The oldest that waits, or the next to come; None when there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            if self._waiting:
                return (self._waiting.popleft(),)
            if self._error is not None:
                raise self._error
            return None

    def stop(self) -> None:
        """Nobody wants more."""
        with self._changed:
            self._stopped = True

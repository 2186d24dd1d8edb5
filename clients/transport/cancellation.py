"""One thread ends what others wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancelled(Exception):  # noqa: N818  (reaches nobody: whoever cancels does not wait for the answer)
    """The call was given up by its caller."""


class Cancellation:
    """What a group of calls is ended by."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._running: set[Callable[[], object]] = set()

    def cancel(self) -> None:
        """End every call of the group, and those that would begin."""
        with self._lock:
            self._cancelled.set()
            running = list(self._running)
        for end in running:
            end()

    def raise_if_cancelled(self) -> None:
        """Do not begin what nobody waits for.

        Raises:
            Cancelled: it was.
        """
        if self._cancelled.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Wait, unless cancelled.

        Raises:
            Cancelled: it was.
        """
        self._cancelled.wait(seconds)
        self.raise_if_cancelled()

    @contextmanager
    def ends(self, end: Callable[[], object]) -> Iterator[None]:
        """While within, `end` is called from another thread if the group is cancelled.

        Raises:
            Cancelled: it was, before or within.
        """
        with self._lock:
            self._running.add(end)
        if self._cancelled.is_set():
            end()  # it began before the group was cancelled, or while it was
        try:
            self.raise_if_cancelled()
            yield
        except Exception:
            self.raise_if_cancelled()  # whatever went wrong then was done by `end`
            raise
        finally:
            with self._lock:
                self._running.discard(end)

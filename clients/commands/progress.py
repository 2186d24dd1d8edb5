"""A line on the terminal that says how far the work is; nothing where nobody watches."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from clients.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_CLEAR_LINE = "\r\x1b[2K"
_LONGEST_NAME = 30
_teller: ContextVar[Callable[[float], None] | None] = ContextVar("teller", default=None)
_drawn: ContextVar[Progress | None] = ContextVar("drawn", default=None)


def tell_part(done: float, total: float) -> None:
    """Say how much of the input at hand is done, in any unit; to be called in the thread that was asked to work."""
    tell = _teller.get()
    if tell is not None and total > 0:
        tell(min(max(done / total, 0.0), 1.0))


def say_aside(text: str, *, error: bool = False) -> None:
    """Write on standard output, or error, between what is drawn; to be called as `tell_part` is."""
    progress = _drawn.get()
    with progress.aside() if progress else nullcontext():
        stream = sys.stderr if error else sys.stdout
        stream.write(text)
        stream.flush()


def is_watched(args: argparse.Namespace) -> bool:
    """Whether somebody sees progress: standard error is a terminal that can redraw, and nothing speaks against it."""
    able = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return able and not (args.quiet or args.json)


def greet(args: argparse.Namespace, command: str) -> None:
    """A first sign of life, before libraries are loaded that take a moment; what is written next replaces it."""
    if is_watched(args):
        sys.stderr.write(f"avedge {command} ...\r")
        sys.stderr.flush()


class Progress:
    """How many of the inputs are finished, how fast, and how long the rest will take.

    Args:
        total: number of inputs.
        shown: whether to draw; else everything here does nothing.
        color: whether colours may be used; never where NO_COLOR is set.
    """

    def __init__(self, total: int, *, shown: bool, color: bool = True) -> None:
        self._total, self._bar = total, _bar(color) if shown else None
        self._parts: dict[str, float] = {}
        self._finished, self._began, self._changing = 0, time.monotonic(), threading.Lock()
        self._speaking = threading.RLock()

    def __enter__(self) -> Progress:
        if self._bar:
            sys.stderr.write(_CLEAR_LINE)
            self._task = self._bar.add_task("", total=self._total, what="", files=self._files())
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @contextmanager
    def working_on(self, name: str) -> Iterator[None]:
        """While an input is worked on; `tell_part` tells of this one within."""
        token = _teller.set(lambda share: self._update(name, share))
        drawn = _drawn.set(self)
        self._update(name, 0.0)
        try:
            yield
        finally:
            _teller.reset(token)
            _drawn.reset(drawn)
            with self._changing:
                self._parts.pop(name, None)

    def finish_one(self) -> None:
        """One more input is finished, well or not."""
        with self._changing:
            self._finished += 1
        self._draw()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While something else is written on the terminal, by one thread at a time."""
        with self._speaking:
            if self._bar:
                self._bar.stop()
            try:
                yield
            finally:
                if self._bar:
                    self._bar.start()

    def _update(self, name: str, share: float) -> None:
        with self._changing:
            self._parts[name] = share
        self._draw()

    def _draw(self) -> None:
        if not self._bar:
            return
        with self._changing:
            done = self._finished + sum(self._parts.values())
            names = list(self._parts)
        what = printable(os.path.basename(names[0]))[:_LONGEST_NAME] if names else ""
        what += f" and {len(names) - 1} more" if len(names) > 1 else ""
        self._bar.update(self._task, completed=done, what=what, files=self._files())

    def _files(self) -> str:
        rate = self._finished / max(time.monotonic() - self._began, 1e-3)
        return f"{self._finished}/{self._total} files" + (f", {rate:.2g}/s" if self._finished else "")


def _bar(color: bool) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    plain: dict[str, Any] = {"markup": False}  # names of files are no markup
    return Progress(
        BarColumn(20),
        TextColumn("{task.fields[files]}", **plain),
        TimeElapsedColumn(),
        TextColumn("left", **plain),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[what]}", **plain),
        console=Console(stderr=True, no_color=None if color else True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )

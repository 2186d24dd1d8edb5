"""`avedge count` of cameras and network streams: until Ctrl-C, for a time, or until there is no more to see."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from clients.commands.batch import Report, batch_of
from clients.commands.count_options import PLOT, TABLE, VIDEO
from clients.commands.count_stream import StreamTask
from clients.commands.inputs import Input
from clients.commands.workers import awaited
from clients.errors import ClientError

if TYPE_CHECKING:
    from clients.commands.count_options import Site
    from clients.counter import CrowdCounter
    from clients.media.camera import Camera
    from clients.media.video import VideoReader, VideoSecond

_LOOK_S = 0.5  # how often is looked whether to stop, where pictures are counted less often
_SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


def run_live(counter: CrowdCounter, args: argparse.Namespace, site: Site) -> int:
    """Count what is live, into one set of files.

    Returns:
        0 at the end or after --duration; 130 or 143 when told to stop; else the code of what ended it. Whole files of
        what was seen are there each time, unless nothing was.
    """
    endings = (TABLE, PLOT, VIDEO) if args.video else (TABLE, PLOT)
    given = _input_of(args)
    failures: list[ClientError] = []

    with Stop() as stop:

        def work(path: Path, staging: Path) -> Report:
            task = StreamTask(counter, args, site, given.name, None, stop.asked)
            report = task.run(Stoppable(lambda: _opened(args), stop.asked, given.name), staging)
            failures.extend(task.failures)
            return report

        try:
            code = batch_of(args, "count", endings).run([given], work)
        except KeyboardInterrupt:
            if not stop.code:
                raise
            code = stop.code  # nothing was seen by then
    if code or not (failures or stop.code):
        return code
    return failures[0].exit_code if failures else stop.code


class Stop:
    """Turns the first Ctrl-C or SIGTERM into a question's answer; the second one breaks the run off as ever."""

    def __init__(self) -> None:
        self.code = 0  # the exit code that it stands for

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether it came."""
        return self.code != 0

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.code:
            raise KeyboardInterrupt
        self.code = _SIGNALS[signal.Signals(number)]
        if sys.stderr.isatty():
            sys.stderr.write("\navedge: writing what was seen; Ctrl-C again leaves at once\n")


@dataclass
class Stoppable:
    """A live source that ends when it is told to, however seldom its pictures come or are counted.

    Args:
        open: connects with it.
        stopped: whether it is to end.
        name: how messages call it.

    Attributes:
        sound_rate_hz: of its sound, known with the first picture; None without.
    """

    open: Callable[[], Camera | VideoReader]
    stopped: Callable[[], bool]
    name: str
    sound_rate_hz: int | None = None

    def seconds(self, every_s: float = 1.0, sound_s: float = 1.0) -> Iterator[VideoSecond]:
        """Pictures at least `every_s` apart, each with its sound."""
        due_s = 0.0
        with closing(awaited(self._all(min(every_s, _LOOK_S), sound_s), self.stopped)) as seconds:
            for second in seconds:
                if second.time_s >= due_s - 1e-6:
                    yield second
                    due_s = every_s * (1 + (second.time_s + 1e-6) // every_s)

    def _all(self, every_s: float, sound_s: float) -> Generator[VideoSecond, None, None]:
        with self.open() as source:
            self.name, self.sound_rate_hz = source.name, source.sound_rate_hz
            yield from source.seconds(every_s, sound_s)


def _input_of(args: argparse.Namespace) -> Input:
    """Name and place of what is live; a password in an address is in neither."""
    if args.camera:
        name, place = f"camera {args.camera}", f"camera-{Path(args.camera).stem}"
    else:
        from clients.media.network import name_of

        name = name_of(args.stream)
        place = re.sub(r"[^A-Za-z0-9.]+", "-", name.rpartition("://")[2]).strip("-.") or "stream"
    return Input(Path(place), name, Path(place))


def _opened(args: argparse.Namespace) -> Camera | VideoReader:
    if args.camera:
        from clients.media.camera import Camera

        return Camera(int(args.camera) if args.camera.isdecimal() else Path(args.camera))
    from clients.media.video import open_stream

    return open_stream(args.stream)

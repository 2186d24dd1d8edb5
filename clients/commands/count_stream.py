"""`avedge count` of what has a time: videos, cameras and network streams."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.commands.batch import Report
from clients.commands.count_options import PLOT, TABLE, VIDEO
from clients.commands.progress import say_aside, tell_part
from clients.commands.report import SCHEMA_VERSION
from clients.counting.alarms import Alarms
from clients.counting.history import History
from clients.counting.regions import TOTAL
from clients.counting.table import CountTable
from clients.errors import BadInput, ClientError, printable
from clients.extras import require

if TYPE_CHECKING:
    from clients.commands.count_options import Site
    from clients.counter import CrowdCounter
    from clients.counting.burn import Burner
    from clients.counting.moments import Seconds
    from clients.crowd_count import TimedCount

_MOST_ALARMS = 1_000  # changes that the last object lists; a camera may run for months
_MOST_WARNINGS = 3


@dataclass
class StreamTask:
    """One video, camera or stream to count into files.

    Args:
        counter: to ask.
        args: of the command line.
        site: regions and alarms.
        name: of the input, as people gave it.
        file: the video; None for what is live.
        stopped: asked after each count; True ends the stream, with whole files of what was seen.

    Attributes:
        failures: what ended a live stream that gave counts before; they are not lost.
    """

    counter: CrowdCounter
    args: argparse.Namespace
    site: Site
    name: str
    file: Path | None
    stopped: Callable[[], bool] = lambda: False
    failures: list[ClientError] = field(default_factory=list)
    _ended: str = "end"
    _warnings: list[str] = field(default_factory=list)
    _warned: int = 0
    _changes: list[dict[str, Any]] = field(default_factory=list)
    _changed: int = 0
    _models: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, source: Seconds, staging: Path) -> Report:
        """Count it.

        Raises:
            BadInput: nothing can be seen, or a region lies beyond the pictures.
            ClientError: the server's side.
            KeyboardInterrupt: it was stopped before there was a count.
        """
        require("matplotlib")
        from clients.counting.figures import draw_history

        began = time.monotonic()
        self._alarms = Alarms(self.site.thresholds)
        self._history = History((TOTAL, *(region.name for region in self.site.regions)))
        staged = {TABLE: staging / "counts.csv", PLOT: staging / "counts.png"}
        if self.args.video:
            staged[VIDEO] = staging / "counted.mp4"
        self._count(source, staged)
        draw_history(staged[PLOT], self._history, self.site.thresholds)
        return self._report(staged, time.monotonic() - began)

    def _count(self, source: Seconds, staged: dict[str, Path]) -> None:
        """All pictures, into table and video."""
        end_s = self.args.duration or float("inf")
        length_s = min(getattr(source, "duration_s", None) or float("inf"), end_s)
        with ExitStack() as stack:
            table = stack.enter_context(CountTable(staged[TABLE], self._history.names[1:]))
            burner = stack.enter_context(self._burner(staged[VIDEO], end_s)) if VIDEO in staged else None
            for second in stack.enter_context(closing(self._until(end_s, source))):
                self._take(second)
                table.add(second, self._alarms.raised)
                if burner is not None:
                    burner.take(second, alarmed=bool(self._alarms.raised))
                tell_part(second.time_s, length_s)
            if not self._history.samples and self.stopped():
                raise KeyboardInterrupt
            if not self._history.samples:
                raise BadInput(f"{self.name} gave no picture", "one or more", "nobody can be counted", "look at it")

    def _until(self, end_s: float, source: Seconds) -> Generator[TimedCount, None, None]:
        """The counts up to what ends them; a live stream that breaks off has given what it has."""
        try:
            with closing(self._seconds(source)) as seconds:
                for second in seconds:
                    if second.time_s >= end_s:
                        self._ended = "duration"
                        return
                    yield second
                    if self.stopped():
                        break
        except ClientError as error:
            if not self.stopped():  # else it fell silent while it was to end anyway
                if self.file is not None or not self._history.samples:
                    raise
                self.failures.append(error)
                self._ended = "failure"
        if self.stopped():
            self._ended = "interrupt"

    def _seconds(self, source: Seconds) -> Generator[TimedCount, None, None]:
        return self.counter.count_stream(
            source,
            every_s=self.args.every,
            use_sound=not self.args.no_sound,
            tiles=self.args.tiles,
            flip=self.args.flip,
            regions=self.site.regions,
            live=self.file is None,
        )

    def _burner(self, path: Path, end_s: float) -> Burner:
        from clients.counting.burn import LiveBurner, VideoBurner  # matplotlib takes a second to load

        if self.file is None:
            return LiveBurner(path, self.args.every, self.args.strength)
        return VideoBurner(path, self.file, self.args.strength, end_s)

    def _take(self, second: TimedCount) -> None:
        """Remember a count, and tell of it where somebody waits for it."""
        count = second.count
        changes = self._alarms.update(count.counts)
        told = [{"time_s": round(second.time_s, 3), **change.to_dict()} for change in changes]
        self._changed += len(told)
        self._changes += told[: _MOST_ALARMS - len(self._changes)]
        self._history.add(second.time_s, count.counts, count.fallback, self._alarms.raised)
        self._models.setdefault(
            count.model.name, {"versions": list(count.model.versions), "contract_digest": count.model.digest}
        )
        for warning in count.warnings:
            self._warned += 1
            if len(self._warnings) < _MOST_WARNINGS:
                self._warnings.append(f"{second.time_s:g} s: {warning}")
        if self.args.json:
            self._print_json({**second.to_dict(), "alarms": list(self._alarms.raised), "alarm_changes": told})
            return
        for change in changes:
            say_aside(f"{printable(self.name)}: {second.time_s:g} s: {printable(str(change))}\n", error=True)
        if self.file is None and not self.args.quiet:
            say_aside(f"{second.time_s:8.1f} s  {_counts_line(second)}\n")

    def _print_json(self, sample: dict[str, Any]) -> None:
        """One line at once, so that whoever reads a pipe sees it while the stream goes on."""
        record = {"schema_version": SCHEMA_VERSION, "command": "count", "input": self.name, "status": "counting"}
        say_aside(json.dumps({**record, "sample": sample}, allow_nan=False) + "\n")

    def _report(self, staged: dict[str, Path], total_s: float) -> Report:
        summary = self._history.summary()
        warnings = list(self._warnings)
        if self._warned > len(warnings):
            warnings.append(f"{self._warned - len(warnings)} more warnings of single pictures")
        if self.args.sound:
            warnings.append("--sound is for photos; of a video its own sound is heard")
        warnings += [f"it ended early: {error.seen}" for error in self.failures]
        result = {
            "ended_by": self._ended,
            "every_s": self.args.every,
            **summary,
            "alarm_changes": self._changes,
            "alarm_changes_in_all": self._changed,
            "models": self._models,
        }
        return Report(
            line=self._line(summary),
            result=result,
            timings_s={"total": total_s},
            warnings=tuple(warnings),
            staged=staged,
        )

    def _line(self, summary: dict[str, Any]) -> str:
        """The answer for people: how many, when most, how they were counted."""
        people = summary["counts"][TOTAL]
        heard = summary["heard_samples"]
        parts = [f"picture and sound in {heard}"] if heard else []
        parts += [
            f"picture alone in {number}: {fallback.sentence}" for fallback, number in self._history.fallbacks.items()
        ]
        return (
            f"{people['mean']:.1f} people on average, {people['max']:.1f} at most at {people['max_time_s']:g} s, "
            f"of {summary['samples']} pictures ({'; '.join(parts)})"
        )


def _counts_line(second: TimedCount) -> str:
    """One second for people."""
    regions = "".join(f", {one.region.name} {one.people:.1f}" for one in second.count.regions)
    reason = "" if second.count.fallback is None else f"  (picture alone: {second.count.fallback.sentence})"
    return f"{second.count.count:.1f} people{regions}{reason}"

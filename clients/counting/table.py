"""Counts over time as a table: CSV, a line per counted picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from clients.counting.regions import TOTAL
from clients.crowd_count import TimedCount


class CountTable:
    """Writes the lines as they come.

        time_s,count,count_gate,model,fallback_reason,alarms
        0.000,53.218,12.004,crowd_counting,,
        1.000,61.530,21.377,crowd_counting_vision,silent_second,total;gate

    Args:
        path: the file.
        regions: names of the regions that are counted, each with a column of its own.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, regions: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._names = (TOTAL, *regions)
        self._writer = csv.writer(self._file, lineterminator="\n")
        columns = ["count", *(f"count_{name}" for name in regions)]
        self._writer.writerow(["time_s", *columns, "model", "fallback_reason", "alarms"])

    def __enter__(self) -> CountTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, second: TimedCount, raised: Sequence[str]) -> None:
        """Write a line.

        Args:
            second: the count.
            raised: what has an alarm then: "total" or regions.

        Raises:
            OSError: it cannot be written.
        """
        count = second.count
        numbers = [f"{count.counts[name]:.3f}" for name in self._names]
        reason = "" if count.fallback is None else count.fallback.code
        self._writer.writerow([f"{second.time_s:.3f}", *numbers, count.model.name, reason, ";".join(raised)])

"""Reads what perf_analyzer writes: its CSV, and the windows it prints when verbose.

The CSV's header names the columns, and versions add some, so columns are found by name. Figures of composing models
go to files of their own in 2.51 and to further tables in the same file elsewhere: only the first table is the caller's.
Its times are microseconds.
"""

from __future__ import annotations

import csv
import re

from perf.errors import PerfError
from perf.results import ClientView, Window

_COLUMNS = {
    "p50_ms": "p50 latency",
    "p90_ms": "p90 latency",
    "p95_ms": "p95 latency",
    "p99_ms": "p99 latency",
    "client_send_ms": "Client Send",
    "network_ms": "Network+Server Send/Recv",
    "client_receive_ms": "Client Recv",
}
_PASS = re.compile(r"Pass \[\d+\] throughput: ([\d.]+) infer/sec\. .*?latency: (\d+) usec")


def parse_csv(text: str) -> dict[int, ClientView]:
    """The rows of the first table by concurrency.

    Raises:
        PerfError: There is no such table, or a column is missing or no number.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    start = next((index for index, line in enumerate(lines) if line.startswith("Concurrency,")), None)
    if start is None:
        raise _unreadable("no table that starts with Concurrency", text)
    views = {}
    header = next(csv.reader(lines[start : start + 1]))
    for cells in csv.reader(lines[start + 1 :]):
        if len(cells) != len(header) or not cells[0].isdigit():
            break  # a title or a header: another table begins
        views[int(cells[0])] = _view(dict(zip(header, cells, strict=True)), text)
    if not views:
        raise _unreadable("a header without rows", text)
    return views


def parse_only_row(text: str) -> ClientView:
    """The first row of the first table, of a run at one level; its first column may be a rate as well.

    Raises:
        PerfError: There is none, or a column is missing or no number.
    """
    rows = list(csv.reader(line for line in text.splitlines() if line.strip()))[:2]
    if len(rows) < 2 or len(rows[0]) != len(rows[1]):
        raise _unreadable("no row below its header", text)
    return _view(dict(zip(*rows, strict=True)), text)


def _view(row: dict[str, str], text: str) -> ClientView:
    try:
        times_ms = {name: float(row[column]) / 1000 for name, column in _COLUMNS.items()}
        return ClientView(inferences_per_s=float(row["Inferences/Second"]), **times_ms)
    except KeyError as error:
        raise _unreadable(f"no column {error}", text) from error
    except ValueError as error:
        raise _unreadable(str(error), text) from error


def _unreadable(seen: str, text: str) -> PerfError:
    return PerfError(
        f"perf_analyzer's CSV has {seen}; its first line is {text[:120].splitlines()[:1]}. Wanted: one row per "
        "concurrency with throughput and percentiles, or there are no figures to report. Use the perf_analyzer of "
        "tritonclient 2.51.0 or of a Triton SDK container."
    )


def parse_windows(text: str) -> tuple[Window, ...]:
    """The measurement windows in what a verbose perf_analyzer printed, in order."""
    return tuple(Window(float(rate), int(usec) / 1000) for rate, usec in _PASS.findall(text))

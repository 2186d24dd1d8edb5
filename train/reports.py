"""Reports of evaluations: a folder of JSON files that say how they were made, and the Markdown tables made of them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.environment import stamp
from train.errors import TrainError
from train.files import write_atomically


def report_name(text: str) -> str:
    """The name of a report, as an option's type."""
    if not re.fullmatch(r"[a-z0-9_.]*[a-z0-9_]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name; wanted small letters, digits and underscores")
    return text


def add_report(folder: Path, name: str, report: dict[str, Any], command: str) -> Path:
    """Write `<name>.json`: the report with its name and the environment.

    Args:
        folder: made where it is missing.
        name: of the report.
        report: must be JSON.
        command: what to type for the same figures.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / f"{name}.json"
    write_atomically(
        path, (json.dumps({"name": name, "environment": stamp(command), **report}, indent=1) + "\n").encode()
    )
    return path


def read_reports(folder: Path, wanted: set[str], first: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """All reports of a folder by name, alphabetically.

    Args:
        folder: where `add_report` has put them.
        wanted: keys that a report must have.
        first: names that come before the others.

    Raises:
        TrainError: one of them is damaged or something else.
    """
    present = sorted(path.stem for path in folder.glob("*.json"))
    names = [*(name for name in first if name in present), *(name for name in present if name not in first)]
    return {name: _read(folder / f"{name}.json", wanted | {"environment"}) for name in names}


def _read(path: Path, wanted: set[str]) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text())
        if not wanted <= set(report):
            raise ValueError("no report of an evaluation")
        return report
    except (ValueError, TypeError, OSError) as error:
        raise TrainError(f"{path} is not a report that can be read ({error}); remove it or make it again.") from error


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned for the terminal as well; all but the first to the right."""
    widths = [max(2, *map(len, column)) for column in zip(head, *rows, strict=True)]  # "-:" is the shortest rule
    cells = [
        [
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in (head, *rows)
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:]))


def decimal(value: float | None, places: int = 2) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{places}f}"


def percent(share: float | None) -> str:
    """A share for a table; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f} %"

"""What every measurement leaves: one JSON file with its surroundings, its figures and the aims held against them."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perf.errors import PerfError

SCHEMA_VERSION = 2  # raised when a field changes its name or its meaning
Cell = str | int | float | None


@dataclass(frozen=True)
class Aim:
    """One figure and the bound it was to keep."""

    what: str
    figure: float
    bound: float
    at_least: bool = True  # else: at most
    unit: str = ""
    because: str = ""  # where it is missed: what holds it back, as a profile shows it

    @property
    def met(self) -> bool:
        """Whether the figure keeps the bound; NaN never does."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def cells(self) -> tuple[str, str, str]:
        """Figure, bound and outcome as they are shown."""
        unit = f" {self.unit}" if self.unit else ""
        wanted = f"{'at least' if self.at_least else 'at most'} {rounded(self.bound)}{unit}"
        missed = f"missed by {rounded(abs(self.figure - self.bound))}{unit}"
        return f"{rounded(self.figure)}{unit}", wanted, "met" if self.met else missed

    def sentence(self) -> str:
        """Figure, bound, by how much it is missed and why."""
        figure, wanted, outcome = self.cells()
        return f"{self.what}: {figure}, wanted {wanted}: {outcome}{'' if self.met else '. ' + self.because}".rstrip()


@dataclass(frozen=True)
class Table:
    """Rows for a terminal or a page; floats show `digits` decimals, None a dash."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    digits: int = 1

    def texts(self) -> list[tuple[str, ...]]:
        """Every cell as it is shown."""
        return [tuple(self._text(cell) for cell in row) for row in self.rows]

    def markdown(self) -> str:
        """The table as Markdown; the first column is left-aligned."""
        bars = ("---", *("--:" for _ in self.columns[1:]))
        lines = [f"| {' | '.join(cells)} |" for cells in (self.columns, bars, *self.texts())]
        return "\n".join([f"**{self.title}**", "", *lines, *(["", self.note] if self.note else [])])

    def _text(self, cell: Cell) -> str:
        if cell is None:
            return "-"
        return f"{cell:.{self.digits}f}" if isinstance(cell, float) else str(cell)


@dataclass(frozen=True)
class Record:
    """One measurement."""

    measurement: str  # its word on the command line
    environment: dict[str, Any]  # machine, versions, commit, command
    settings: dict[str, Any]
    figures: dict[str, Any]
    aims: tuple[Aim, ...] = ()
    complete: bool = True  # False: a part gave no figures; the figures say which and why
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def name(self) -> str:
        """Stem of its file among the committed results: the word, and the preset where it is not the usual one."""
        return f"{self.measurement}_paper" if self.settings.get("preset") == "paper" else self.measurement

    def as_json(self) -> dict[str, Any]:
        """The same as a dictionary that `json` can write; aims say whether they are met."""
        content = asdict(self)
        content["aims"] = [asdict(aim) | {"met": aim.met} for aim in self.aims]
        return content

    def write(self, path: Path) -> None:
        """Write the record whole or not at all.

        Raises:
            PerfError: The place cannot be written (8).
        """
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(self.as_json(), indent=1) + "\n")
            os.replace(unfinished, path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise PerfError(
                f"The result cannot be written to {path}: {error.strerror}. A measurement takes minutes and should "
                "not be lost: give a writable place with --output.",
                exit_code=8,
            ) from error

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read what `write` wrote.

        Raises:
            PerfError: It is not there, or another program's or another version's (4).
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"not of schema version {SCHEMA_VERSION}")
            aims = tuple(
                Aim(**{key: value for key, value in aim.items() if key != "met"}) for aim in content.pop("aims")
            )
            return cls(**content, aims=aims)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PerfError(
                f"{path} is no result of `avedge perf` ({error}); a page is made of results only. Measure again: "
                f"avedge perf {path.stem}.",
                exit_code=4,
            ) from error


def rounded(value: float) -> str:
    """Three significant digits, plainly written."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"

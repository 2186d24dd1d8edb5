"""What a command says of each input: a line for people, or one JSON object; warnings and errors on standard error."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.commands.inputs import Input
from clients.commands.progress import Progress
from clients.errors import ClientError, printable

SCHEMA_VERSION = 1
DONE, SKIPPED, FAILED = "done", "skipped", "failed"


@dataclass
class Reporter:
    """Says what became of the inputs, one after the other.

    Args:
        command: its name, for JSON.
        as_json: one object for each input on standard output, and nothing else there.
        quiet: only warnings and errors.
        progress: cleared from the terminal while something is said.
    """

    command: str
    as_json: bool
    quiet: bool
    progress: Progress
    counts: Counter[str] = field(default_factory=Counter)
    _last_error: str = ""

    def done(
        self, one: Input, status: str, line: str, outputs: Mapping[str, Path], said: dict[str, Any], sha256: str | None
    ) -> None:
        """Tell of results that are there, made now or skipped."""
        self.counts[status] += 1
        self.progress.finish_one()
        with self.progress.aside():
            if self.as_json:
                named = {ending.strip(".").replace(".", "_"): str(target) for ending, target in outputs.items()}
                self._print_json(one, status, sha256=sha256, outputs=named, **said)
            elif status == DONE:
                self._tell(one, line, outputs, said["warnings"])

    def failed(self, one: Input, error: ClientError) -> None:
        """Tell of an input that has no results; the same words are said once when many fail of one cause."""
        self.counts[FAILED] += 1
        self.progress.finish_one()
        with self.progress.aside():
            if self.as_json:
                said = {"seen": error.seen, "wanted": error.wanted, "why": error.why, "do": error.remedy}
                kind = {"kind": type(error).__name__, "exit_code": error.exit_code}
                self._print_json(one, FAILED, error={**kind, **said})
            if str(error) != self._last_error:
                sys.stderr.write(f"avedge: {error}\n")
                self._last_error = str(error)

    def interrupted(self, total: int) -> None:
        """Tell what Ctrl-C has left, on standard error."""
        if not self.quiet:
            there = self.counts[DONE] + self.counts[SKIPPED]
            with self.progress.aside():
                sys.stderr.write(
                    f"avedge: interrupted with the results of {there} of {total}; the same command goes on from there\n"
                )

    def summary(self) -> None:
        """Tell how many there were of each, where there were several or nothing was done."""
        if self.as_json or self.quiet or (sum(self.counts.values()) < 2 and not self.counts[SKIPPED]):
            return
        words = {DONE: "done", SKIPPED: "there already (--overwrite makes them again)", FAILED: "failed"}
        parts = [f"{self.counts[status]} {word}" for status, word in words.items() if self.counts[status]]
        _say(", ".join(parts) + "\n")

    def _tell(self, one: Input, line: str, outputs: Mapping[str, Path], warnings: Sequence[str]) -> None:
        name = printable(one.name)
        for warning in warnings:
            sys.stderr.write(f"{name}: warning: {printable(warning)}\n")
        if not self.quiet:
            files = "".join(f"  {printable(target)}\n" for target in outputs.values())
            _say(f"{name}: {printable(line)}\n{files}")

    def _print_json(self, one: Input, status: str, **content: Any) -> None:
        record = {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "input": one.name,
            "status": status,
            **content,
        }
        _say(json.dumps(record, allow_nan=False) + "\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

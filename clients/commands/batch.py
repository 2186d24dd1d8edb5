"""What both commands share: several inputs, one report each, one exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.errors import BadInput, ClientError, ContractMismatch, ServerUnavailable, printable
from clients.outputs import Writer, prepare_folder, require_absent, write_together

SCHEMA_VERSION = 1
SOME_FAILED = 3


@dataclass(frozen=True)
class Report:
    """One input's answer."""

    line: str  # for people
    result: dict[str, Any]  # for JSON
    timings_s: dict[str, float]
    warnings: tuple[str, ...]
    writers: dict[str, Writer]  # ending of the file's name to what writes it


@dataclass(frozen=True)
class Batch:
    """How the inputs are worked through."""

    command: str
    endings: tuple[str, ...]  # of the files that each input gives
    output: Path
    overwrite: bool
    as_json: bool
    quiet: bool

    def run(self, inputs: Sequence[Path], work: Callable[[Path], Report]) -> int:
        """Work through the inputs; a bad one is reported and the others are done.

        A server that is away, or that serves something else, ends the run: no other input would fare better.

        Returns:
            0; the one input's own exit code; or 3 when some or all of several failed.

        Raises:
            ClientError: the output folder cannot be written to, or two inputs would write the same files.
        """
        self._require_distinct(inputs)
        prepare_folder(self.output)
        failures = []
        for path in inputs:
            try:
                self._finish(path, work)
            except ClientError as error:
                self._report_failure(path, error)
                failures.append(error)
                if isinstance(error, (ServerUnavailable, ContractMismatch)):
                    return error.exit_code
        if failures:
            return failures[0].exit_code if len(inputs) == 1 else SOME_FAILED
        return 0

    def _finish(self, path: Path, work: Callable[[Path], Report]) -> None:
        """One input: work, files, report."""
        targets = [self._target(path, ending) for ending in self.endings]
        if not self.overwrite:
            require_absent(targets)
        report = work(path)
        outputs = {ending: self._target(path, ending) for ending in report.writers}
        write_together({outputs[ending]: writer for ending, writer in report.writers.items()})
        self._report(path, outputs, report)

    def _target(self, path: Path, ending: str) -> Path:
        return self.output / f"{path.stem}{ending}"

    def _require_distinct(self, inputs: Sequence[Path]) -> None:
        seen: dict[str, Path] = {}
        for path in inputs:
            other = seen.setdefault(path.stem, path)
            if other is not path:
                target = printable(self._target(path, self.endings[0]))
                raise BadInput(
                    f"{printable(other)} and {printable(path)} would both give {target}",
                    "inputs whose names differ before the dot",
                    "one result would replace the other",
                    "run the command once for each, with different folders for --output",
                )

    def _report(self, path: Path, outputs: dict[str, Path], report: Report) -> None:
        if self.as_json:
            timings_s = {name: round(seconds, 4) for name, seconds in report.timings_s.items()}
            named = {ending.strip(".").replace(".", "_"): str(target) for ending, target in outputs.items()}
            self._print_json(
                input=str(path),
                outputs=named,
                result=report.result,
                timings_s=timings_s,
                warnings=list(report.warnings),
            )
            return
        for warning in report.warnings:
            sys.stderr.write(f"{printable(path)}: warning: {printable(warning)}\n")
        if not self.quiet:
            sys.stdout.write(f"{printable(path)}: {report.line}\n")
            for target in outputs.values():
                sys.stdout.write(f"  {printable(target)}\n")
            sys.stdout.flush()

    def _report_failure(self, path: Path, error: ClientError) -> None:
        if self.as_json:
            said = {"seen": error.seen, "wanted": error.wanted, "why": error.why, "do": error.remedy}
            self._print_json(
                input=str(path), error={"kind": type(error).__name__, "exit_code": error.exit_code, **said}
            )
        sys.stderr.write(f"avedge: {error}\n")

    def _print_json(self, **content: Any) -> None:
        record = {"schema_version": SCHEMA_VERSION, "command": self.command, **content}
        sys.stdout.write(json.dumps(record, allow_nan=False) + "\n")
        sys.stdout.flush()


def add_batch_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """The options that both commands have."""
    group = parser.add_argument_group("results")
    group.add_argument(
        "--output", "-o", type=Path, default=Path(output), metavar="DIR", help="folder for the results (%(default)s)"
    )
    group.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    group.add_argument("--json", action="store_true", help="one JSON object per input on standard output, nothing else")
    group.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
    group = parser.add_argument_group("server")
    group.add_argument("--url", default="127.0.0.1:8001", help="host:port of Triton's gRPC front end (%(default)s)")
    group.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="S", help="seconds that one request may take (%(default)g)"
    )


def batch_of(args: argparse.Namespace, command: str, endings: tuple[str, ...]) -> Batch:
    """The batch that the shared options ask for."""
    return Batch(command, endings, args.output, args.overwrite, args.json, args.quiet)


def seconds(text: str) -> float:
    """A number of seconds above 0, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value

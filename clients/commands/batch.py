"""What both commands share: several inputs, one report each, one exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.commands.inputs import Input
from clients.errors import BadInput, ClientError, ContractMismatch, ServerUnavailable, printable
from clients.outputs import Writer, explained, move_together, prepare_folder, require_absent, staging_in

SCHEMA_VERSION = 1
SOME_FAILED = 3


@dataclass(frozen=True)
class Report:
    """One input's answer; its files are named by their endings: ".voice.wav" of talk.mp4 becomes talk.voice.wav."""

    line: str  # for people
    result: dict[str, Any]  # for JSON
    timings_s: dict[str, float]
    warnings: tuple[str, ...]
    writers: dict[str, Writer] = field(default_factory=dict)  # to what writes the file
    staged: dict[str, Path] = field(default_factory=dict)  # to the file that stands in the staging folder, whole


Work = Callable[[Path, Path], Report]  # of the input's file and of a staging folder of its own
Settings = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Batch:
    """How the inputs are worked through."""

    command: str
    endings: tuple[str, ...]  # of the files that each input gives
    output: Path
    overwrite: bool
    as_json: bool
    quiet: bool

    def run(self, inputs: Sequence[Path | Input], work: Work, settings: Settings | None = None) -> int:
        """Work through the inputs; a bad one is reported and the others are done.

        All files of an input are moved into place together, when they are whole. A server that is away, or that serves
        something else, ends the run: no other input would fare better.

        Args:
            inputs: what to work on.
            work: makes one input's answer; may leave files in the staging folder that it is given, which lies on the
                results' file system and is removed afterwards whatever happens.
            settings: asked once, before the first input: everything beside the input that decides its results (options,
                and what the server says of its model), as JSON can hold it. Results of the same input and the same
                settings are not made again.

        Returns:
            0; the one input's own exit code; or 3 when some or all of several failed.

        Raises:
            ClientError: the output folder cannot be written to, or two inputs would write the same files.
        """
        named = [given if isinstance(given, Input) else Input.of(given) for given in inputs]
        self._require_distinct(named)
        prepare_folder(self.output)
        failures = []
        for one in named:
            try:
                self._finish(one, work)
            except ClientError as error:
                self._report_failure(one, error)
                failures.append(error)
                if isinstance(error, (ServerUnavailable, ContractMismatch)):
                    return error.exit_code
        if failures:
            return failures[0].exit_code if len(inputs) == 1 else SOME_FAILED
        return 0

    def _finish(self, one: Input, work: Work) -> None:
        """One input: work, files, report."""
        if not self.overwrite:
            require_absent([self._target(one, ending) for ending in self.endings])
        with staging_in(self.output) as staging:
            report = work(one.path, staging)
            made = dict(report.staged)
            with explained(self.output):
                for ending, write in report.writers.items():
                    made[ending] = staging / f"written{ending}"
                    write(made[ending])
            outputs = {ending: self._target(one, ending) for ending in made}
            if not self.overwrite:
                require_absent(list(outputs.values()))
            with explained(self.output):
                (self.output / one.place).parent.mkdir(parents=True, exist_ok=True)
            move_together({outputs[ending]: file for ending, file in made.items()}, staging)
        self._report(one, outputs, report)

    def _target(self, one: Input, ending: str) -> Path:
        return self.output / f"{one.place}{ending}"

    def _require_distinct(self, inputs: Sequence[Input]) -> None:
        seen: dict[Path, Input] = {}
        for one in inputs:
            other = seen.setdefault(one.place, one)
            if other is not one:
                target = printable(self._target(one, self.endings[0]))
                raise BadInput(
                    f"{printable(other.name)} and {printable(one.name)} would both give {target}",
                    "inputs whose names differ before the dot",
                    "one result would replace the other",
                    "run the command once for each, with different folders for --output",
                )

    def _report(self, one: Input, outputs: dict[str, Path], report: Report) -> None:
        if self.as_json:
            timings_s = {name: round(seconds, 4) for name, seconds in report.timings_s.items()}
            named = {ending.strip(".").replace(".", "_"): str(target) for ending, target in outputs.items()}
            self._print_json(
                input=one.name,
                outputs=named,
                result=report.result,
                timings_s=timings_s,
                warnings=list(report.warnings),
            )
            return
        for warning in report.warnings:
            sys.stderr.write(f"{printable(one.name)}: warning: {printable(warning)}\n")
        if not self.quiet:
            sys.stdout.write(f"{printable(one.name)}: {report.line}\n")
            for target in outputs.values():
                sys.stdout.write(f"  {printable(target)}\n")
            sys.stdout.flush()

    def _report_failure(self, one: Input, error: ClientError) -> None:
        if self.as_json:
            said = {"seen": error.seen, "wanted": error.wanted, "why": error.why, "do": error.remedy}
            self._print_json(input=one.name, error={"kind": type(error).__name__, "exit_code": error.exit_code, **said})
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

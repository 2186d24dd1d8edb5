"""What commands share: many inputs, one report each, results that are whole or not there, one exit code."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.commands import resume
from clients.commands.inputs import ANY_MEDIA, Input, Kinds, find_inputs, spool
from clients.commands.options import add_batch_arguments, seconds
from clients.commands.progress import Progress, is_watched
from clients.commands.report import DONE, SKIPPED, Reporter
from clients.commands.workers import Workers
from clients.errors import BadInput, ClientError, ContractMismatch, ServerUnavailable, printable
from clients.outputs import (
    Writer,
    explained,
    flush,
    lack_of_room_explained,
    move_together,
    prepare_folder,
    staging_in,
)  # fmt: skip

__all__ = ["Batch", "Report", "Settings", "Work", "add_batch_arguments", "batch_of", "seconds"]
USAGE, SOME_FAILED = 2, 3


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
    endings: tuple[str, ...]  # of the files that each input gives; others may come on top
    output: Path
    overwrite: bool
    as_json: bool
    quiet: bool
    kinds: Kinds = ANY_MEDIA  # what is taken from folders
    jobs: int = 1
    watched: bool = False
    color: bool = True

    def run(self, inputs: Sequence[Path | Input], work: Work, settings: Settings | None = None) -> int:
        """Work through the inputs; a bad one is reported and the others are done.

        All files of an input are moved into place together, when they are whole. A server that is away, or that serves
        something else, ends the run: no other input would fare better.

        Args:
            inputs: files, folders, patterns and `-`, or inputs as they are; see `inputs.find_inputs`.
            work: makes one input's answer; may leave files in the staging folder that it is given, which lies on the
                results' file system and is removed afterwards whatever happens. Called in several threads at once
                where there are several jobs. `progress.tell_part` shows how far a long one is.
            settings: asked once, before the first input: everything beside the input that decides its results (options,
                and what the server says of its model), as JSON can hold it. Results of the same input and the same
                settings are there already and not made again; without it, all are made.

        Returns:
            0; the one input's own exit code; that of what ended the run; or 3 when some or all of several failed.

        Raises:
            ClientError: the output folder cannot be written to, or two inputs would write the same files.
        """
        prepare_folder(self.output)
        found = find_inputs(inputs, self.kinds, results=self.output, endings=self.endings)
        with staging_in(self.output) as staging, Progress(len(found), shown=self.watched, color=self.color) as progress:
            reporter = Reporter(self.command, self.as_json, self.quiet, progress)
            try:
                digests = None if settings is None else resume.digests_of(settings())
            except ClientError as error:
                for one in found[:1]:
                    reporter.failed(one, error)
                return error.exit_code
            try:
                code = _Run(self, work, digests, staging, progress).through(found, reporter)
            except KeyboardInterrupt:
                if digests is not None:
                    reporter.interrupted(len(found))
                raise
        reporter.summary()
        return code


@dataclass(frozen=True)
class _Finished:
    """An input whose results are there."""

    status: str
    line: str
    outputs: dict[str, Path]
    said: dict[str, Any]
    sha256: str | None


class _Run:
    """One batch on its way."""

    def __init__(
        self, batch: Batch, work: Work, digests: Mapping[str, str] | None, staging: Path, progress: Progress
    ) -> None:
        self._batch, self._work, self._staging, self._progress = batch, work, staging, progress
        self._digests = digests or {}
        self._records = None if digests is None else resume.Records(batch.output, batch.command)
        self._workers: Workers[Input, _Finished] = Workers(self._finish, batch.jobs, _ends_all)

    def through(self, found: list[Input], reporter: Reporter) -> int:
        """Finish every input and tell of each as it is finished."""
        # Not the failures themselves: each holds on to all that was at hand, and so to the picture that it is about.
        codes: list[int] = []
        ended_by: int | None = None
        with closing(self._workers.finished(found)) as outcomes:
            for one, outcome in outcomes:
                if isinstance(outcome, _Finished):
                    reporter.done(one, outcome.status, outcome.line, outcome.outputs, outcome.said, outcome.sha256)
                    continue
                if not isinstance(outcome, ClientError):
                    raise outcome
                reporter.failed(one, outcome)
                codes.append(outcome.exit_code)
                if ended_by is None and _ends_all(outcome):
                    ended_by = outcome.exit_code
        if ended_by is not None:
            return ended_by
        if codes:
            return codes[0] if len(found) == 1 else SOME_FAILED
        return 0

    def _finish(self, one: Input) -> _Finished:
        """One input: look whether its results are there, else make them; in a thread of its own."""
        if one.problem is not None:
            raise one.problem
        with self._progress.working_on(one.name), tempfile.TemporaryDirectory(dir=self._staging) as folder:
            staging = Path(folder)
            with lack_of_room_explained(self._batch.output):
                read = spool(one, staging)
            record = self._records.read(one.place) if self._records else None
            identity = read.identity or resume.Identity.of(read.path, record.input if record else None)
            if not self._batch.overwrite:
                if record and identity and record.is_of(identity, self._digests, self._batch.output):
                    outputs = record.outputs(self._batch.output)
                    return _Finished(SKIPPED, "", outputs, record.said, identity.sha256)
                self._require_free(one, self._batch.endings, record, identity)
            report = self._answer(read, staging)
            made = self._written(report, staging)
            if not self._batch.overwrite:
                self._require_free(one, made, record, identity)
            said = _said(report)
            if made:
                self._move(one, made, identity, said, staging)
        outputs = {ending: self._target(one, ending) for ending in made}
        return _Finished(DONE, report.line, outputs, said, identity.sha256 if identity else None)

    def _answer(self, one: Input, staging: Path) -> Report:
        """Work; what is said of standard input calls it so, and not by the file that it was spooled to."""
        if staging not in one.path.parents:
            return self._worked(one, staging)
        try:
            report = self._worked(one, staging)
        except ClientError as error:
            raise type(error)(*(part.replace(str(one.path), one.name) for part in error.args)) from error
        warnings = tuple(warning.replace(str(one.path), one.name) for warning in report.warnings)
        return Report(report.line, report.result, report.timings_s, warnings, report.writers, report.staged)

    def _worked(self, one: Input, staging: Path) -> Report:
        try:
            with lack_of_room_explained(self._batch.output):
                return self._work(one.path, staging)
        except BrokenPipeError:
            raise  # nobody listens any more, whatever is read
        except OSError as error:  # of a disk or a network that fails: no fault of the other inputs
            raise BadInput(
                f"{printable(one.name)} cannot be read: {error.strerror or printable(str(error))}",
                "a file that can be read to its end",
                "there is no answer for a part of it",
                "copy it to another disk, and look at this one",
            ) from error

    def _written(self, report: Report, staging: Path) -> dict[str, Path]:
        """All files of a report, whole, in the staging folder."""
        made = dict(report.staged)
        with explained(self._batch.output):
            for ending, write in report.writers.items():
                made[ending] = staging / f"written{ending}"
                write(made[ending])
            for file in made.values():
                flush(file)
        return made

    def _move(
        self, one: Input, made: dict[str, Path], identity: resume.Identity | None, said: dict[str, Any], staging: Path
    ) -> None:
        """The record, then the files, into place."""

        def act() -> None:
            with explained(self._batch.output):
                self._target(one, "").parent.mkdir(parents=True, exist_ok=True)
                if self._records and identity:
                    named = {ending: (Path(f"{one.place}{ending}"), file) for ending, file in made.items()}
                    record = resume.record_of(identity, self._digests, named, said)
                    self._records.write(one.place, record, staging)
            move_together({self._target(one, ending): file for ending, file in made.items()}, staging)

        self._workers.commit(act)

    def _require_free(
        self,
        one: Input,
        endings: Sequence[str] | Mapping[str, Path],
        record: resume.Record | None,
        identity: resume.Identity | None,
    ) -> None:
        targets = {ending: self._target(one, ending) for ending in endings}
        with explained(self._batch.output):  # some names cannot even be asked for, being too long
            resume.require_free(targets, record, identity, self._digests)

    def _target(self, one: Input, ending: str) -> Path:
        return self._batch.output / f"{one.place}{ending}"


def _ends_all(error: BaseException) -> bool:
    """Whether no other input would fare better: the server is away or another one, or usage or the fault is ours."""
    if not isinstance(error, ClientError):
        return True
    return isinstance(error, (ServerUnavailable, ContractMismatch)) or error.exit_code == USAGE


def _said(report: Report) -> dict[str, Any]:
    """What JSON says of an answer."""
    timings_s = {name: round(seconds, 4) for name, seconds in report.timings_s.items()}
    return {"result": report.result, "timings_s": timings_s, "warnings": list(report.warnings)}


def batch_of(args: argparse.Namespace, command: str, endings: tuple[str, ...], kinds: Kinds = ANY_MEDIA) -> Batch:
    """The batch that the shared options ask for."""
    return Batch(
        command=command,
        endings=endings,
        output=args.output,
        overwrite=args.overwrite,
        as_json=args.json,
        quiet=args.quiet,
        kinds=kinds,
        jobs=args.jobs,
        watched=is_watched(args),
        color=not args.no_color,
    )

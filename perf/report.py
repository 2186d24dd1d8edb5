"""A sweep as a JSON file, as a Markdown table and as a table on the terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rich.table import Table

from perf.errors import PerfError
from perf.results import EnsembleResult, ModelShare, SweepResult

COLUMNS = ("ensemble", "in flight", "requests/s", "p50 ms", "p95 ms", "p99 ms", "x real time", "stable")
MODEL_COLUMNS = ("model", "in flight", "batch", "queue ms", "compute ms", "cache hits")
NOTE = (
    "x real time: seconds of sound answered per second, the inverse of the real-time factor. stable: whether three "
    "windows agree, else by how much they differ. batch: mean requests per execution. compute ms: of requests that "
    "were computed, not answered from the cache; it counts the whole batch."
)


def write_json(result: SweepResult, path: Path) -> None:
    """Write a result whole or not at all.

    Raises:
        PerfError: The place cannot be written (8).
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(result.as_json(), indent=1) + "\n")
        os.replace(unfinished, path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise PerfError(
            f"The result cannot be written to {path}: {error.strerror}. A sweep takes minutes and should not be lost: "
            "give a writable place with --output.",
            exit_code=8,
        ) from error


def markdown(result: SweepResult) -> str:
    """The figures as Markdown tables: what a caller saw, then what each model took inside each ensemble."""
    parts = [_markdown_table(COLUMNS, _rows(result))]
    for ensemble in result.ensembles:
        parts += [f"Inside `{ensemble.ensemble}`:", _markdown_table(MODEL_COLUMNS, _model_rows(ensemble))]
    return "\n\n".join([*parts, *notes(result)]) + "\n"


def terminal_tables(result: SweepResult) -> list[Table]:
    """The same for the terminal."""
    models = [
        _rich_table(MODEL_COLUMNS, _model_rows(ensemble), f"inside {ensemble.ensemble}")
        for ensemble in result.ensembles
    ]
    return [_rich_table(COLUMNS, _rows(result)), *models]


def notes(result: SweepResult) -> list[str]:
    """What a reader of the tables has to know: the columns' meaning, and what is missing."""
    failed = [
        f"{ensemble.ensemble}, {failure.concurrency} in flight, gave no figures: {failure.message}"
        for ensemble in result.ensembles
        for failure in ensemble.failures
    ]
    absent = [f"Not served, so not measured: {', '.join(result.not_served)}."] if result.not_served else []
    return [NOTE, *absent, *failed]


def _rows(result: SweepResult) -> Iterator[tuple[str, ...]]:
    for ensemble in result.ensembles:
        for level in ensemble.levels:
            client = level.client
            yield (
                ensemble.ensemble,
                str(level.concurrency),
                f"{client.inferences_per_s:.1f}",
                *(f"{value:.1f}" for value in (client.p50_ms, client.p95_ms, client.p99_ms)),
                _figure(level.audio_seconds_per_s, 1),
                "yes" if level.stable else f"no, {level.spread_percent:.0f} %",
            )


def _model_rows(ensemble: EnsembleResult) -> Iterator[tuple[str, ...]]:
    for share in ensemble.first_pass:
        yield _model_row("first pass", share)
    for level in ensemble.levels:
        for share in level.models:
            yield _model_row(str(level.concurrency), share)


def _model_row(level: str, share: ModelShare) -> tuple[str, ...]:
    hits = f"{share.cache_hits / share.requests:.0%}" if share.cache_hits else "-"
    figures = (share.average_batch, share.queue_ms, share.compute_ms)
    return (share.model, level, *(_figure(value, 2) for value in figures), hits)


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _markdown_table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _rich_table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]], title: str | None = None) -> Table:
    table = Table(box=None, header_style="bold", title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("ensemble", "model") else "right")
    for row in rows:
        table.add_row(*row)
    return table

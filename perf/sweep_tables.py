"""A sweep's figures as tables: what a caller saw, then what each model did inside each ensemble."""

from __future__ import annotations

from collections.abc import Iterator

from perf.record import Cell, Table
from perf.results import EnsembleResult, ModelShare, SweepResult

COLUMNS = ("ensemble", "in flight", "requests/s", "p50 ms", "p95 ms", "p99 ms", "x real time", "stable")
MODEL_COLUMNS = ("model", "in flight", "batch", "queue ms", "compute ms", "cache hits")
NOTE = (
    "x real time: seconds of sound answered per second, the inverse of the real-time factor. stable: whether three "
    "windows agree, else by how much they differ. batch: mean requests per execution. compute ms: of requests that "
    "were computed, not answered from the cache; it counts the whole batch."
)


def tables(result: SweepResult) -> list[Table]:
    """All tables; the notes say what the columns mean and what is missing."""
    inside = [
        Table(f"inside {ensemble.ensemble}", MODEL_COLUMNS, tuple(_model_rows(ensemble)), digits=2)
        for ensemble in result.ensembles
    ]
    return [Table("closed loop", COLUMNS, tuple(_rows(result)), " ".join(_notes(result))), *inside]


def markdown(result: SweepResult) -> str:
    """All tables as Markdown."""
    return "\n\n".join(table.markdown() for table in tables(result)) + "\n"


def _notes(result: SweepResult) -> list[str]:
    failed = [
        f"{ensemble.ensemble}, {failure.concurrency} in flight, gave no figures: {failure.message}"
        for ensemble in result.ensembles
        for failure in ensemble.failures
    ]
    absent = [f"Not served, so not measured: {', '.join(result.not_served)}."] if result.not_served else []
    return [NOTE, *absent, *failed]


def _rows(result: SweepResult) -> Iterator[tuple[Cell, ...]]:
    for ensemble in result.ensembles:
        for level in ensemble.levels:
            client = level.client
            yield (
                ensemble.ensemble,
                level.concurrency,
                *(client.inferences_per_s, client.p50_ms, client.p95_ms, client.p99_ms),
                level.audio_seconds_per_s,
                "yes" if level.stable else f"no, {level.spread_percent:.0f} %",
            )


def _model_rows(ensemble: EnsembleResult) -> Iterator[tuple[Cell, ...]]:
    for share in ensemble.first_pass:
        yield _model_row("first pass", share)
    for level in ensemble.levels:
        for share in level.models:
            yield _model_row(str(level.concurrency), share)


def _model_row(level: str, share: ModelShare) -> tuple[Cell, ...]:
    hits = f"{share.cache_hits / share.requests:.0%}" if share.cache_hits else None
    return (share.model, level, share.average_batch, share.queue_ms, share.compute_ms, hits)

"""The limit's figures as tables: both sides, where the time of a core goes, batches and first requests."""

from __future__ import annotations

import statistics
from typing import Any

from perf.record import Cell, Record, Table

_SIDES = {
    "bare": "bare ONNX Runtime",
    "grpc": "served, gRPC",
    "shared_memory": "served, shared memory",
    "in_process": "server in the client's process",
}
_NOTE = (
    "Medians over the rounds; percentiles are of a batch on the bare side. ratio: the median of each round's served "
    "over bare. Inside perf_analyzer's process there is no response cache, so facefilter is not measured there."
)


def tables(record: Record) -> list[Table]:
    """What the record holds, in the order of the question."""
    found = record.figures
    return [
        Table("served against bare", ("ensemble", "side", "requests/s", "ratio", "p50 ms", "p95 ms", "p99 ms", "how"),
              tuple(row for name, one in found["ensembles"].items() for row in _sides(name, one)), _NOTE, digits=2),
        Table("milliseconds of a core for one request", ("ensemble", "bare", "served", "models", "server", "client"),
              tuple(_cpu(name, one["cpu_ms"]) for name, one in found["ensembles"].items()), digits=2),
        Table("batches and cache", ("request", "model", "requests", "executions", "batch", "cache hits", "seconds"),
              tuple(row for name, one in found["together"].items() for row in _together(name, one)), digits=2),
        Table("the first request of a fresh server", ("ensemble", "first ms", "tenth ms", "ratio", "starts"),
              tuple((name, one["first_ms"], one["tenth_ms"], one["ratio"], one["starts"])
                    for name, one in found["first_request"].items()), digits=2),
    ]  # fmt: skip


def _sides(name: str, found: dict[str, Any]) -> list[tuple[Cell, ...]]:
    how = {"bare": found["bare_way"]}
    rows: list[tuple[Cell, ...]] = []
    for side in found["rounds"][0]:
        figures = [
            statistics.median(one[side][key] for one in found["rounds"] if side in one)
            for key in ("per_s", "p50_ms", "p95_ms", "p99_ms")
        ]
        ratio = found["ratio"].get(side)
        rows.append(
            (name, _SIDES[side], figures[0], ratio, *figures[1:], how.get(side, f"{found['in_flight']} in flight"))
        )
    return rows


def _cpu(name: str, found: dict[str, Any]) -> tuple[Cell, ...]:
    served = found["served"]
    return (name, found["bare"], served["total"], served["models"], served["front"], served["client"])


def _together(name: str, found: dict[str, Any]) -> list[tuple[Cell, ...]]:
    return [
        (name, model, one["requests"], one["executions"], one["average_batch"], one["cache_hits"], found["seconds"])
        for model, one in found["models"].items()
    ]

"""The comparison as tables and a plot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perf.peers.aims import best_level, best_peer
from perf.record import Cell, Record, Table

_OURS = "avedge"
_BEST = (
    "Each at its best number of requests in flight, in the best of its settings; medians of the rounds. Times the best "
    "peer: throughput over that of the fastest peer. p95 beside it: p95 over that peer's at equal requests in flight. "
    "Faces never come twice, but where said: then Triton's response cache answers the identity network."
)
_TRIED = "4 requests in flight. The best throughput of each peer was measured further."
_CHECK = "perf_analyzer speaks gRPC and repeats its inputs; own: the load generator that all others are measured with."


def tables_of(record: Record) -> list[Table]:
    """All tables of a record."""
    found = []
    for workload, figures in record.figures.items():
        found.append(Table(f"{workload}: the best of each", _BEST_COLUMNS, tuple(_best(figures)), _BEST, digits=2))
        found.append(Table(f"{workload}: every level", _LEVEL_COLUMNS, tuple(_levels(figures)), _failures(figures)))
        found.append(Table(f"{workload}: settings tried", _TRIED_COLUMNS, tuple(_tried(figures)), _TRIED))
        if figures["perf_analyzer"]:
            found.append(Table(f"{workload}: another load", _CHECK_COLUMNS, tuple(_checks(figures)), _CHECK))
    return found


_BEST_COLUMNS = (
    "contender", "setting", "in flight", "requests/s", "p50 ms", "p95 ms", "p99 ms", "x best peer", "p95 beside it",
)  # fmt: skip
_LEVEL_COLUMNS = ("contender", "in flight", "requests/s", "p50 ms", "p95 ms", "p99 ms")
_TRIED_COLUMNS = ("peer", "setting", "requests/s", "p95 ms")
_CHECK_COLUMNS = ("contender", "in flight", "own/s", "own p95 ms", "perf_analyzer/s", "perf_analyzer p95 ms")


def _contenders(figures: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(level["contender"] for level in figures["levels"]))


def _best(figures: dict[str, Any]) -> Iterator[tuple[Cell, ...]]:
    peer = best_peer(figures)
    beside = {
        level["concurrency"]: level["p95_ms"] for level in figures["levels"] if level["contender"] == peer["contender"]
    }
    for name in _contenders(figures):
        level = best_level(figures, name)
        other = beside.get(level["concurrency"])
        yield (
            name,
            figures["settings"].get(name, "as served"),
            level["concurrency"],
            *(level[key] for key in ("per_s", "p50_ms", "p95_ms", "p99_ms")),
            level["per_s"] / peer["per_s"],
            level["p95_ms"] / other if other else None,
        )


def _levels(figures: dict[str, Any]) -> Iterator[tuple[Cell, ...]]:
    keys = ("contender", "concurrency", "per_s", "p50_ms", "p95_ms", "p99_ms")
    for level in figures["levels"]:
        yield tuple(level[key] for key in keys)


def _failures(figures: dict[str, Any]) -> str:
    return " ".join(f"{lost['contender']}, {lost['what']}: {lost['why']}" for lost in figures["failures"])


def _tried(figures: dict[str, Any]) -> Iterator[tuple[Cell, ...]]:
    for row in figures["tried"]:
        yield (row["contender"], row["setting"], row.get("per_s"), row.get("p95_ms"))


def _checks(figures: dict[str, Any]) -> Iterator[tuple[Cell, ...]]:
    keys = ("concurrency", "own_per_s", "own_p95_ms", "perf_analyzer_per_s", "perf_analyzer_p95_ms")
    for row in figures["perf_analyzer"]:
        yield (row["contender"], *(row[key] for key in keys))


def plot_of(record: Record, path: Path) -> None:
    """One panel for each workload: p95 against throughput, a line for each contender."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(record.figures), figsize=(5 * len(record.figures), 4), squeeze=False)
    for panel, (workload, figures) in zip(panels[0], record.figures.items(), strict=True):
        for name in _contenders(figures):
            own = [level for level in figures["levels"] if level["contender"] == name]
            style = "o-" if name.startswith(_OURS) else "s--"
            panel.plot([level["per_s"] for level in own], [level["p95_ms"] for level in own], style, label=name)
        panel.set(title=workload, xlabel="requests per second", ylabel="p95, ms", xlim=(0, None), ylim=(0, None))
        panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

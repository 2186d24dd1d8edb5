"""The aim: at least twice the throughput of the best peer, at no worse p95."""

from __future__ import annotations

import math
from typing import Any

from perf.record import Aim

_BOUND = 2.0


def best_level(figures: dict[str, Any], contender: str) -> dict[str, Any]:
    """The level with the highest throughput of one contender."""
    own = [level for level in figures["levels"] if level["contender"] == contender]
    found: dict[str, Any] = max(own, key=lambda level: level["per_s"])
    return found


def best_peer(figures: dict[str, Any]) -> dict[str, Any]:
    """The best level of the best peer; peers are those that have a setting."""
    peers = {level["contender"] for level in figures["levels"]} & set(figures["settings"])
    return max((best_level(figures, peer) for peer in sorted(peers)), key=lambda level: float(level["per_s"]))


def of(workload: str, figures: dict[str, Any], ours: str) -> tuple[Aim, ...]:
    """Both halves of the aim on one workload, and again for each further repository; peers stand in their best setting.

    Throughput: our best level over the best peer's best level. p95: ours over that peer's, at as many requests in
    flight as it needed for its best.
    """
    further = sorted({level["contender"] for level in figures["levels"] if level["contender"].startswith(f"{ours} (")})
    found = list(_halves(workload, figures, ours))
    for label in further:
        found += _halves(f"{workload}, {label[len(ours) + 2 : -1]}", figures, label)
    return tuple(found)


def _halves(workload: str, figures: dict[str, Any], ours: str) -> tuple[Aim, Aim]:
    peer = best_peer(figures)
    own = {level["concurrency"]: level for level in figures["levels"] if level["contender"] == ours}
    beside = own.get(peer["concurrency"])
    because = _because(figures, ours, peer)
    return (
        Aim(
            what=f"{workload}: throughput over {peer['contender']}, the best peer",
            figure=best_level(figures, ours)["per_s"] / peer["per_s"],
            bound=_BOUND,
            unit="x",
            because=because,
        ),
        Aim(
            what=f"{workload}: p95 over {peer['contender']}'s, {peer['concurrency']} in flight",
            figure=beside["p95_ms"] / peer["p95_ms"] if beside else math.nan,
            bound=1.0,
            at_least=False,
            unit="x",
            because="The same cause.",
        ),
    )


def _because(figures: dict[str, Any], ours: str, peer: dict[str, Any]) -> str:
    """What a request costs on both sides, as the run's own profile shows it."""
    level, costs = best_level(figures, ours), figures["processor_ms"]
    return (
        f"All share the cores. We answer every {1000 / level['per_s']:.1f} ms"
        f"{_cost(costs.get(ours), 'in tritonserver', 'in the models')}{_executions(figures, ours)}. "
        f"{peer['contender']} answers every {1000 / peer['per_s']:.1f} ms"
        f"{_cost(costs.get(peer['contender']), 'in its first processes', 'below')} with "
        f"{figures['settings'][peer['contender']]}; torch takes, alone on one thread, "
        f"{_spent(figures['torch_ms_on_one_thread'])} ms."
    )


def _executions(figures: dict[str, Any], ours: str) -> str:
    """What each model takes, of the server whose statistics were asked for."""
    served = figures["served_ms"]
    if served["contender"] != ours:
        return ""
    ours_ms = {
        name.partition("_")[2]: model["compute_ms"] / (model["average_batch"] or 1)
        for name, model in served["models"].items()
        if model["compute_ms"] is not None
    }
    return f"; the models' executions take {_spent(ours_ms)} ms per request, beside each other"


def _cost(cost: dict[str, float] | None, first: str, below: str) -> str:
    if cost is None:
        return ""
    return f" (processor time {cost['first_process_ms']:.1f} ms {first}, {cost['processes_below_ms']:.1f} ms {below})"


def _spent(times_ms: dict[str, float]) -> str:
    return ", ".join(f"{name} {ms:.1f}" for name, ms in sorted(times_ms.items(), key=_by_time))


def _by_time(item: tuple[str, float]) -> float:
    return -item[1]

"""The aim: at least twice the throughput of the best peer, at no worse p95."""

from __future__ import annotations

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


def of(workload: str, figures: dict[str, Any], ours: str) -> Aim:
    """The aim on one workload.

    The figure is our throughput over the best peer's best throughput, where ours is taken at our fastest level whose
    p95 does not exceed that peer's p95 there; 0 where no level of ours keeps it.
    """
    peer = best_peer(figures)
    own = [level for level in figures["levels"] if level["contender"] == ours and level["p95_ms"] <= peer["p95_ms"]]
    fastest = max(own, key=lambda level: float(level["per_s"]), default=None)
    return Aim(
        what=(
            f"{workload}: throughput over {peer['contender']}, the best peer, with a p95 no worse than its "
            f"{peer['p95_ms']:.0f} ms"
        ),
        figure=fastest["per_s"] / peer["per_s"] if fastest else 0.0,
        bound=_BOUND,
        unit="x",
        because=_because(figures, ours, peer),
    )


def _because(figures: dict[str, Any], ours: str, peer: dict[str, Any]) -> str:
    """What a request costs in both runtimes, model by model, as the figures show it."""
    torch_ms = figures["torch_ms_on_one_thread"]
    served = figures["served_ms"].get("models", {})
    ours_ms = {
        name: model["compute_ms"] / (model["average_batch"] or 1)
        for name, model in served.items()
        if model["compute_ms"] is not None
    }
    spent = ", ".join(f"{name.partition('_')[2]} {ms:.1f}" for name, ms in sorted(ours_ms.items(), key=_by_time))
    eager = ", ".join(f"{name} {ms:.1f}" for name, ms in sorted(torch_ms.items(), key=_by_time))
    level = best_level(figures, ours)
    return (
        f"All share the cores and compute the same float32 graphs. We answer every {1000 / level['per_s']:.1f} ms; "
        f"the served models take, per request, {spent} ms ({figures['served_ms'].get('concurrency')} in flight; models "
        f"run beside each other). {peer['contender']} answers every {1000 / peer['per_s']:.1f} ms with "
        f"{figures['settings'][peer['contender']]}; torch takes, alone on one thread, {eager} ms."
    )


def _by_time(item: tuple[str, float]) -> float:
    return -item[1]

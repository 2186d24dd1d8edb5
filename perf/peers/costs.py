"""Where a request's time goes: processor time of each contender, and what each of our models takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perf.errors import PerfError
from perf.peers.measured import Contender, load
from perf.served import Server

Levels = Sequence[dict[str, Any]]


def best_concurrency(contender: Contender, levels: Levels) -> int:
    """Requests in flight at the highest throughput of a contender; it has a level."""
    own = [level for level in levels if level["contender"] == contender.label]
    return int(max(own, key=lambda level: float(level["per_s"]))["concurrency"])


def processor_ms(
    contenders: Sequence[Contender], levels: Levels, seconds: float, failures: list[dict[str, str]]
) -> dict[str, dict[str, float]]:
    """Processor time per request of each contender at its best level, in its first process and in those below.

    Args:
        contenders: all of one workload.
        levels: that they reached; one without any is left out.
        seconds: of load on each.
        failures: gets what could not be measured.
    """
    costs = {}
    reached = {level["contender"] for level in levels}
    for one in (contender for contender in contenders if contender.label in reached):
        one.endpoint.switch(True)
        try:
            before = one.endpoint.cpu_s()
            rates = load(one, best_concurrency(one, levels), seconds, warmup_s=0.0)
            after = one.endpoint.cpu_s()
        except PerfError as error:
            failures.append({"contender": one.label, "what": "processor time", "why": str(error)})
            continue
        finally:
            one.endpoint.switch(False)
        first, below = (1000 * (now - then) / rates.count for now, then in zip(after, before, strict=True))
        costs[one.label] = {"first_process_ms": first, "processes_below_ms": below}
    return costs


def served_ms(ours: Contender, levels: Levels, ensemble: str, seconds: float) -> dict[str, Any]:
    """What each served model takes of a request, from the server's own statistics at our best level."""
    concurrency = best_concurrency(ours, levels)
    server = Server(ours.endpoint.grpc_url)
    try:
        steps = server.steps(ensemble)
        before = server.counters(steps)
        load(ours, concurrency, seconds)
        shares = server.shares(before, server.counters(steps))
    finally:
        server.close()
    models = {share.model: {"compute_ms": share.compute_ms, "average_batch": share.average_batch} for share in shares}
    return {"contender": ours.label, "concurrency": concurrency, "models": models}

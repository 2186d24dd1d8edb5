"""Whether a fresh server's first request is slower than its tenth."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf import inputs

if TYPE_CHECKING:
    from clients.transport.connection import Connection
    from perf.inputs import Request

REQUESTS = 10


def measure(
    repository: Path, target: str, samples: Path, ensembles: Sequence[str], starts: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Start a server several times; ask each ensemble ten times, one after the other, with different inputs.

    The ensembles share models, so at each start another one is the first to be asked.

    Returns:
        For each ensemble the medians over the starts, milliseconds, and the ratio of the first to the tenth.
    """
    times_ms: dict[str, list[list[float]]] = {name: [] for name in ensembles}
    for start in range(starts):
        progress(f"first requests: start {start + 1} of {starts}")
        turn = start % len(ensembles)
        for name, row in _asked(repository, target, samples, [*ensembles[turn:], *ensembles[:turn]]).items():
            times_ms[name].append(row)
    return {name: _summary(rows) for name, rows in times_ms.items()}


def _asked(repository: Path, target: str, samples: Path, ensembles: Sequence[str]) -> dict[str, list[float]]:
    from clients.transport.connection import Connection
    from serve.launcher import EmbeddedTriton

    times_ms = {}
    with EmbeddedTriton(repository, target=target) as server, Connection(server.grpc_url) as connection:
        for name in ensembles:
            ensemble = connection.served(name)
            requests = inputs.requests_for(connection, ensemble, samples, None)
            outputs = [tensor.name for tensor in ensemble.outputs]
            turns = [requests[number % len(requests)] for number in range(REQUESTS)]
            times_ms[name] = [_one_ms(connection, name, request, outputs) for request in turns]
    return times_ms


def _one_ms(connection: Connection, name: str, request: Request, outputs: Sequence[str]) -> float:
    began = time.perf_counter()
    connection.infer(name, request, outputs)
    return 1000 * (time.perf_counter() - began)


def _summary(rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    first, tenth = (statistics.median(row[place] for row in rows) for place in (0, REQUESTS - 1))
    return {
        "first_ms": first,
        "tenth_ms": tenth,
        "ratio": statistics.median(row[0] / row[-1] for row in rows),
        "starts": len(rows),
        "medians_ms": [statistics.median(row[place] for row in rows) for place in range(REQUESTS)],
    }

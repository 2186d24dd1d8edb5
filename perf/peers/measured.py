"""One server under one kind of load: compared with torch first, then loaded from a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from perf import environment
from perf.closed_loop import Rates
from perf.errors import PerfError
from perf.peers.contenders import Endpoint
from perf.peers.load import Job
from perf.peers.wire import Array, Line, relative_error

EXACT = 1e-3  # the largest RMS difference from torch of what computes the same in float32, as a share of the RMS
WARMUP_S = 0.4
_OVERHEAD_S = 90.0  # for a load to start, and for its last answers
_FIRST_ATTEMPTS, _FIRST_S = 4, 20.0


@dataclass
class Contender:
    """One server under one kind of load."""

    label: str
    endpoint: Endpoint
    marked: bool  # every face made distinct
    tolerance: float = EXACT
    requests: tuple[str, ...] = ()  # files
    marks: tuple[int, ...] = ()
    answer_bytes: int = 0
    error: float = float("nan")  # against torch
    rounds: dict[int, list[Rates]] = field(default_factory=dict)  # by requests in flight

    def level(self, concurrency: int) -> dict[str, Any]:
        """The medians over the rounds."""
        rounds = [asdict(rates) for rates in self.rounds[concurrency]]
        middle = {key: statistics.median(rates[key] for rates in rounds) for key in rounds[0]}
        return {"contender": self.label, "concurrency": concurrency, **middle, "rounds": rounds}


def compared(
    label: str,
    endpoint: Endpoint,
    requests: Sequence[dict[str, Array]],
    wanted: Sequence[dict[str, Array]],
    tolerance: float,
) -> tuple[float, int]:
    """Ask each port of an endpoint, and compare its answers with torch's.

    Returns:
        the largest RMS difference as a share of torch's RMS; the length of an answer's body.

    Raises:
        PerfError: It does not answer, or differently (6).
    """
    errors, answer_bytes = [], 0
    for port in endpoint.ports:
        _first_answer(endpoint, port, requests[0])
        line = Line(port)
        for request, right in zip(requests, wanted, strict=True):
            answer, answer_bytes = endpoint.ask(line, request)
            errors.append(relative_error(answer, right, endpoint.workload.outputs))
        line.close()
    if not max(errors) <= tolerance:
        raise PerfError(
            f"{label} answers {endpoint.workload.name} with a difference of {max(errors):.2g} of torch's RMS; wanted "
            f"at most {tolerance:g}, since only equal work can be compared. Were the repository and --weights made "
            "from the same weights? avedge export makes it anew.",
            exit_code=6,
        )
    return max(errors), answer_bytes


def _first_answer(endpoint: Endpoint, port: int, request: dict[str, Array]) -> None:
    """Wait for the first answer; LitServe's fast queue can lose a message to a process that just came up."""
    for attempt in range(_FIRST_ATTEMPTS):
        line = Line(port, _FIRST_S)
        try:
            endpoint.ask(line, request)
            return
        except PerfError:
            if attempt == _FIRST_ATTEMPTS - 1:
                raise
        finally:
            line.close()


def load(contender: Contender, concurrency: int, seconds: float, warmup_s: float = WARMUP_S) -> Rates:
    """Load one contender from a process of its own.

    Raises:
        PerfError: It gave a wrong answer or none.
    """
    job = Job(
        ports=contender.endpoint.ports,
        requests=contender.requests,
        answer_bytes=contender.answer_bytes,
        concurrency=concurrency,
        seconds=seconds,
        warmup_s=warmup_s,
        marks=contender.marks,
    )
    command = [sys.executable, "-m", "perf.peers.load"]
    try:
        answer = subprocess.run(
            command,
            input=json.dumps(asdict(job)),
            capture_output=True,
            text=True,
            timeout=seconds + warmup_s + _OVERHEAD_S,
            cwd=environment.ROOT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PerfError(f"{contender.label} did not answer in {error.timeout:.0f} s of load.", exit_code=7) from error
    if answer.returncode != 0:
        said = answer.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise PerfError(f"The load on {contender.label}, {concurrency} in flight, broke off: {said[0][-300:]}")
    rates = Rates(**json.loads(answer.stdout))
    if not rates.count:
        raise PerfError(
            f"{contender.label} answered nothing within {seconds:g} s, {concurrency} in flight; a stretch has to hold "
            "several requests: raise --seconds."
        )
    return rates

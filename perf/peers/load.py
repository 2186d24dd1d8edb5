"""The load: so many persistent connections in a closed loop, in a process of its own, the same for every contender.

    python -m perf.peers.load < job.json > rates.json

Requests are files that hold whole HTTP requests, made beforehand. A thread sends one, waits for the whole answer,
looks at its status and its length, and sends the next.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perf.closed_loop import Rates, closed_loop
from perf.peers.wire import Line


@dataclass(frozen=True)
class Job:
    """One stretch of load."""

    ports: tuple[int, ...]  # connections are spread over them
    requests: tuple[str, ...]  # files
    answer_bytes: int  # length of every right answer's body
    concurrency: int
    seconds: float
    warmup_s: float
    # Offset of each request's face: eight bytes there are overwritten with a number that never comes again, so that
    # no cache can know the face. Empty: requests are repeated as they are.
    marks: tuple[int, ...] = ()


def run(job: Job) -> Rates:
    """Load a server.

    Raises:
        OSError: it does not answer.
        ValueError: an answer is an error, or not of the right length.
    """
    originals = [Path(path).read_bytes() for path in job.requests]
    lines = [Line(job.ports[worker % len(job.ports)]) for worker in range(job.concurrency)]
    began_ns = time.time_ns()
    own = [[bytearray(original) for original in originals] for _ in lines]

    def call(worker: int, number: int) -> None:
        serial = number * job.concurrency + worker
        pick = serial % len(originals)
        request = own[worker][pick]
        if job.marks:
            struct.pack_into("<Q", request, job.marks[pick], began_ns + serial)
        status, head, body = lines[worker].exchange(request)
        if status != 200 or len(body) != job.answer_bytes:
            raise ValueError(f"status {status} with {len(body)} bytes, wanted 200 with {job.answer_bytes}: {head!r}")

    try:
        return closed_loop(call, workers=job.concurrency, seconds=job.seconds, warmup_s=job.warmup_s)
    finally:
        for line in lines:
            line.close()


def main() -> int:
    """Read a job, do it, write its rates."""
    content: dict[str, Any] = json.load(sys.stdin)
    for listed in ("ports", "requests", "marks"):
        content[listed] = tuple(content[listed])
    job = Job(**content)
    sys.stdout.write(json.dumps(asdict(run(job))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One input through a client in a process of its own, so that the client's memory is that of this input alone.

    python -m perf.scale_child '{"kind": "sound", "url": ..., "small": ..., "file": ..., "face": ..., "repeats": 3}'

The small input goes first: it loads what a client loads once. Then memory is read, the file is asked for, and the peak
meanwhile is read; further repeats are for the time. One JSON object on stdout: `seconds`, `start_bytes`, `peak_bytes`
(None where the kernel tells none) and `requests`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from clients.errors import ClientError
from perf import memory

_LEAST_S, _MOST_REPEATS = 1.0, 20  # short inputs are repeated until the clock has something to tell


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Measure one input."""
    ask = _sound(task) if task["kind"] == "sound" else _picture(task)
    ask(task["small"])
    gc.collect()
    start = memory.resident_bytes(os.getpid())
    told = memory.reset_peak()
    seconds, requests = _timed(ask, task["file"])
    peak = memory.peak_bytes() if told else None
    times = [seconds]
    while len(times) < task["repeats"] or (sum(times) < _LEAST_S and len(times) < _MOST_REPEATS):
        times.append(_timed(ask, task["file"])[0])
    return {"seconds": times, "start_bytes": start if told else None, "peak_bytes": peak, "requests": requests}


def _sound(task: dict[str, Any]) -> Callable[[str], int]:
    from clients.separator import SpeechSeparator

    client = SpeechSeparator(task["url"])
    return lambda path: client.separate_file(path, task["voice"], task["face"], face_crop=True).windows


def _picture(task: dict[str, Any]) -> Callable[[str], int]:
    from clients.counter import CrowdCounter

    client = CrowdCounter(task["url"])

    def ask(path: str) -> int:
        plan = client.count(path, task["sound"], tiles="auto").tiles
        return 1 if plan is None else len(plan.tiles)

    return ask


def _timed(ask: Callable[[str], int], path: str) -> tuple[float, int]:
    began = time.perf_counter()
    requests = ask(path)
    return time.perf_counter() - began, requests


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(run(json.loads(sys.argv[1]))) + "\n")
    except ClientError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)

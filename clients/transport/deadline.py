"""How long a call that consists of several may still wait."""

from __future__ import annotations

import time


def left_s(deadline: float) -> float:
    """Seconds until then, by `time.monotonic()`; never quite 0, which to sockets and gRPC means something else."""
    return max(deadline - time.monotonic(), 1e-3)

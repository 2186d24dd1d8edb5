"""How often and when a request is sent again.

    attempt 1 ── 0.1 s ── attempt 2 ── 0.2 s ── attempt 3 ── 0.4 s ── attempt 4        each wait +- 25 %

All within the request's deadline, and within a budget of the whole connection: a server that is overloaded would
otherwise get four times the load at the worst moment.
"""

from __future__ import annotations

import random
import threading

ATTEMPTS = 4
BUDGET_SHARE = 0.1  # retries for each request, over time
BUDGET_CREDIT = 10.0  # retries that a connection may send before any request has earned them
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 1.0


def wait_before_retry_s(attempt: int) -> float:
    """Seconds to wait after the n-th failed attempt, n from 1; out of step with other clients."""
    return min(_FIRST_WAIT_S * 2.0 ** (attempt - 1), _LONGEST_WAIT_S) * random.uniform(0.75, 1.25)


class RetryBudget:
    """Retries that a connection may still send: every request earns a tenth of one. May be used by several threads."""

    def __init__(self, credit: float = BUDGET_CREDIT, share: float = BUDGET_SHARE) -> None:
        self._most, self._credit, self._share = credit, credit, share
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A new request is sent."""
        with self._lock:
            self._credit = min(self._most, self._credit + self._share)

    def spend(self) -> bool:
        """Whether one more retry may be sent; if so, it is taken off."""
        with self._lock:
            if self._credit < 1 - 1e-9:  # ten shares of 0.1 make a retry
                return False
            self._credit -= 1
            return True

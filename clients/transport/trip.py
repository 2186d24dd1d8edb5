"""One request on its way: which endpoint next, how long to wait before, and when to give up.

trip = Trip(fleet, "Model facefilter", timeout_s)
while True:
    with trip.leg() as endpoint:
        return endpoint.wire.infer(..., timeout_s=trip.left_s)
    sleep(trip.wait_s)          # only reached where sending it again is safe and may help
"""

from __future__ import annotations

from types import TracebackType
from typing import Generic

from clients.transport.failures import Attempts, CallFailed, explain
from clients.transport.fleet import Endpoint, Fleet, Wire
from clients.transport.retries import ATTEMPTS, wait_before_retry_s


class Trip(Generic[Wire]):
    """A request with its deadline, from the first attempt to the last.

    Args:
        fleet: the endpoints that it may go to.
        subject: what is asked, for messages.
        timeout_s: the most that it may take in all.
        retry_s: after which no other attempt begins; the deadline where nothing is said.
    """

    def __init__(self, fleet: Fleet[Wire], subject: str, timeout_s: float, retry_s: float | None = None) -> None:
        self.wait_s = 0.0
        self._fleet, self._subject, self._timeout_s = fleet, subject, timeout_s
        self._deadline = fleet.clock() + timeout_s
        self._last_attempt = self._deadline if retry_s is None else fleet.clock() + retry_s
        self._attempts = 0
        self._budget_spent = False
        self._tried: list[Endpoint[Wire]] = []
        fleet.budget.earn()

    @property
    def left_s(self) -> float:
        """Seconds to the deadline, never quite 0."""
        return max(self._deadline - self._fleet.clock(), 1e-3)

    def leg(self) -> _Leg[Wire]:
        """One attempt: `with` gives its endpoint; a failure that may be mended by another attempt ends there.

        Raises:
            ClientError: the failure stays.
        """
        return _Leg(self)

    def board(self) -> Endpoint[Wire]:
        """Choose where to go."""
        if self._fleet.closed:
            raise RuntimeError("this connection is closed")
        self._attempts += 1
        return self._fleet.board(self._tried)

    def ended(self, endpoint: Endpoint[Wire], error: BaseException | None) -> bool:
        """Take note of an attempt's end; True where there will be another one, after `wait_s`.

        Raises:
            ClientError: there will be none.
        """
        self._fleet.leave(endpoint)
        if error is None:
            self._fleet.answered(endpoint)
        if not isinstance(error, CallFailed):
            return False
        if self._fleet.closed:
            raise RuntimeError("this connection was closed while a request was on its way") from error
        if not error.is_busy and (error.may_retry or error.refusal or error.status == "DEADLINE_EXCEEDED"):
            self._fleet.failed(endpoint, error)
        self._tried.append(endpoint)
        wait_s = self._wait_after(error)
        if wait_s is not None:
            self.wait_s = wait_s
            return True
        attempts = Attempts(self._attempts, self._budget_spent)
        raise explain(
            error, subject=self._subject, url=endpoint.url, timeout_s=self._timeout_s, attempts=attempts
        ) from error

    def _wait_after(self, failure: CallFailed) -> float | None:
        """Seconds until the next attempt; None where there is none."""
        elsewhere = self._fleet.has_other(self._tried)
        left_s = self._last_attempt - self._fleet.clock()
        if left_s <= 0 or not (failure.may_retry or (failure.refusal and elsewhere)):
            return None
        if elsewhere and not failure.is_busy:
            return 0.0  # it only takes the place of what the endpoint that is gone would have done
        wait_s = 0.0 if elsewhere else wait_before_retry_s(self._attempts)
        if self._attempts >= ATTEMPTS or wait_s >= left_s:
            return None
        self._budget_spent = not self._fleet.budget.spend()
        return None if self._budget_spent else wait_s


class _Leg(Generic[Wire]):
    """One attempt of a trip."""

    def __init__(self, trip: Trip[Wire]) -> None:
        self._trip = trip

    def __enter__(self) -> Endpoint[Wire]:
        self._endpoint = self._trip.board()
        return self._endpoint

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self._trip.ended(self._endpoint, error)

"""The endpoints of a connection: which one a request goes to, and which is left alone for a while.

A request goes to the healthy endpoint with the fewest requests on the way. An endpoint that fails is left alone, each
time twice as long, and asked again by a call of its own before it gets requests; meanwhile they go to the others:

    endpoint A   ok ok ok ✗ ·· ? ✗ ···· ? ✓ ok ok      ✗ failed   · left alone   ? asked again in the background
    endpoint B   ok ok ok ok ok ok ok ok ok ok ok

Where no endpoint is healthy, requests themselves find out which has come back. Nothing here calls or waits; threads and
asyncio share it.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from clients.contract import ServedModel
from clients.errors import ContractMismatch, printable
from clients.transport.enquiry import Enquiry
from clients.transport.failures import CallFailed
from clients.transport.retries import RetryBudget

Wire = TypeVar("Wire")  # what carries a call to an endpoint, waiting or asynchronous

_CONNECT_TIMEOUT_S = 5.0  # a server on its feet answers in milliseconds
_CONNECT_ONE_OF_SEVERAL_S = 2.0  # others are there to go on with
_FIRST_REST_S, _LONGEST_REST_S = 0.5, 30.0
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Endpoint(Generic[Wire]):
    """One server, what it said of its models, and how it is."""

    url: str
    wire: Wire = field(repr=False)
    outstanding: int = 0
    healthy: bool = True
    failures: int = 0  # since the last answer to a request
    rests_until: float = 0.0  # monotonic seconds
    being_probed: bool = False
    known: dict[str, ServedModel] = field(default_factory=dict, repr=False)


class Fleet(Generic[Wire]):
    """Every endpoint of one connection.

    Args:
        endpoints: at least one.
        timeout_s: the most that any one request may take, its retries included.
        clock: monotonic seconds.
    """

    def __init__(
        self, endpoints: Iterable[Endpoint[Wire]], timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.timeout_s = timeout_s
        self.clock = clock
        self.budget = RetryBudget()
        self.served: dict[str, ServedModel] = {}  # what all endpoints agree on
        self.closed = False
        self._homes: dict[str, str] = {}  # model to the endpoint that described it first
        self._turns = itertools.count()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """All endpoints, for people."""
        return ", ".join(endpoint.url for endpoint in self.endpoints)

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody else to ask."""
        return len(self.endpoints) == 1

    @property
    def connect_timeout_s(self) -> float:
        """The most that the first sign of life may take."""
        return min(self.timeout_s, _CONNECT_TIMEOUT_S if self.is_alone else _CONNECT_ONE_OF_SEVERAL_S)

    def board(self, tried: Iterable[Endpoint[Wire]]) -> Endpoint[Wire]:
        """The endpoint that the next call goes to; `leave` it afterwards."""
        with self._lock:
            turn = next(self._turns)

            def rank(numbered: tuple[int, Endpoint[Wire]]) -> tuple[bool, bool, float, int]:
                number, one = numbered
                urgency = one.outstanding if one.healthy else one.rests_until
                return not one.healthy, one in tried, urgency, (number - turn) % len(self.endpoints)

            _, chosen = min(enumerate(self.endpoints), key=rank)
            chosen.outstanding += 1
            return chosen

    def leave(self, endpoint: Endpoint[Wire]) -> None:
        """The call has ended, whichever way."""
        with self._lock:
            endpoint.outstanding -= 1

    def answered(self, endpoint: Endpoint[Wire]) -> None:
        """It gave an answer to a request."""
        with self._lock:
            endpoint.healthy, endpoint.failures = True, 0

    def failed(self, endpoint: Endpoint[Wire], failure: CallFailed) -> None:
        """It is left alone for a while; what comes back may be another server, so it will be asked what it serves."""
        with self._lock:
            was_healthy, endpoint.healthy = endpoint.healthy, False
            endpoint.failures += 1
            rest_s = min(_FIRST_REST_S * 2 ** min(endpoint.failures - 1, 10), _LONGEST_REST_S)
            endpoint.rests_until = self.clock() + rest_s * random.uniform(0.75, 1.25)
            if failure.status != "DEADLINE_EXCEEDED":
                endpoint.known.clear()
        if was_healthy and not self.is_alone:
            why = failure.refusal.seen if failure.refusal else printable(failure.text or failure.status)
            _log.warning("endpoint %s is left alone for %.1f s: %s", endpoint.url, rest_s, why)

    def has_other(self, tried: Iterable[Endpoint[Wire]]) -> bool:
        """Whether a healthy endpoint has not been tried."""
        return any(one.healthy and one not in tried for one in self.endpoints)

    def must_ask(self, endpoint: Endpoint[Wire], model: str) -> bool:
        """Whether the endpoint has to say what it serves before it gets a request: if answers could be mixed up."""
        return model not in endpoint.known and (not self.is_alone or model in self.served)

    def heard(self, endpoint: Endpoint[Wire], model: str, enquiry: Enquiry) -> ServedModel:
        """Take note of what an endpoint serves, and hold it against the others.

        Raises:
            CallFailed: with a refusal: it is not ready, or serves another contract than the endpoint before it.
        """
        described = enquiry.model_at(endpoint.url, model)
        with self._lock:
            first = self.served.setdefault(model, described)
            home = self._homes.setdefault(model, endpoint.url)
            if described.digest == first.digest:
                endpoint.known[model] = described
                return first
        raise CallFailed("UNFIT", "", _two_contracts(model, (home, first.digest), (endpoint.url, described.digest)))

    def begin_to_ask(self) -> list[Endpoint[Wire]]:
        """Endpoints to ask for a model that nothing is known of; `probed` each of them afterwards."""
        with self._lock:
            return self._begin([one for one in self.endpoints if one.healthy or one.rests_until <= self.clock()])

    def due_for_a_probe(self) -> list[tuple[Endpoint[Wire], str]]:
        """Endpoints that have rested long enough, each with a model to ask for; `probed` each of them afterwards.

        Empty while no endpoint is healthy: requests then do the asking.
        """
        with self._lock:
            if self.closed or not self.served or not any(one.healthy for one in self.endpoints):
                return []
            rested = [one for one in self.endpoints if not one.healthy and one.rests_until <= self.clock()]
            return [(one, next(iter(self.served))) for one in self._begin(rested)]

    def _begin(self, endpoints: list[Endpoint[Wire]]) -> list[Endpoint[Wire]]:
        """Those of them that nobody is asking already."""
        chosen = [one for one in endpoints if not one.being_probed]
        for one in chosen:
            one.being_probed = True
        return chosen

    def probed(self, endpoint: Endpoint[Wire], failure: CallFailed | None) -> None:
        """What came of a probe: None if the endpoint fits."""
        if failure is not None:
            self.failed(endpoint, failure)
        with self._lock:
            was_healthy, endpoint.healthy = endpoint.healthy, failure is None
            endpoint.being_probed = False
        if endpoint.healthy and not was_healthy:
            _log.info("endpoint %s is back", endpoint.url)

    def give_up_probe(self, endpoint: Endpoint[Wire]) -> None:
        """A probe ended without saying anything, being cancelled; the next one may begin."""
        with self._lock:
            endpoint.being_probed = False

    @staticmethod
    def refuse_two_contracts(failures: Iterable[CallFailed | None]) -> None:
        """Tell that endpoints do not fit, where the first question to all of them shows it.

        Raises:
            ContractMismatch: an endpoint is there and serves something else.
        """
        for failure in failures:
            if failure is not None and isinstance(failure.refusal, ContractMismatch):
                raise failure.refusal


def _two_contracts(model: str, first: tuple[str, str], second: tuple[str, str]) -> ContractMismatch:
    def side(url: str, digest: str) -> str:
        return f"{url} has {f'contract {digest[:12]}' if digest else 'one without a digest'}"

    seen = f"Two endpoints serve {model} by different contracts: {side(*first)}, {side(*second)}"
    if first[0] == second[0]:
        seen = f"The server at {first[0]} serves {model} by another contract than before: {second[1][:12] or 'none'}"
    return ContractMismatch(
        seen,
        f"contract {first[1][:12] or 'as before'} at every endpoint",
        "answers of the two could not be used together",
        "serve the same export everywhere and connect anew, or leave one of the endpoints out of --url",
    )

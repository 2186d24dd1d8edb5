"""The server, or several that serve the same: every call has a deadline, every failure is one of ours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

from clients.contract import ServedModel
from clients.transport.address import DEFAULT_URL, Address
from clients.transport.cancellation import Cancellation, Cancelled
from clients.transport.enquiry import Enquiry
from clients.transport.failures import CallFailed
from clients.transport.fleet import Endpoint
from clients.transport.grpc_wire import GrpcWire, channel_options
from clients.transport.http_wire import HttpWire
from clients.transport.options import DEFAULT_TIMEOUT_S, IN_FLIGHT, open_fleet, require_in_flight
from clients.transport.shared_regions import SharedMemory
from clients.transport.tensors import Answer, Tensors
from clients.transport.tls import Tls
from clients.transport.trip import Trip

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "DEFAULT_URL",
    "IN_FLIGHT",
    "Answer",
    "Connection",
    "Tensors",
    "channel_options",
]


class Wire(Protocol):
    """What carries calls to one endpoint; every method may raise CallFailed."""

    def look_up(self, model: str, connect_timeout_s: float, timeout_s: float) -> Enquiry:
        """Ask whether the server lives, the model is ready, and what it is like."""

    def infer(
        self, model: str, inputs: Tensors, outputs: Sequence[str], timeout_s: float, cancellation: Cancellation
    ) -> Answer:
        """One item's answer, checked."""

    def close(self) -> None:
        """Cancel what is on its way."""


class Connection:
    """One or several endpoints; may be used by several threads at once.

    Args:
        url: `host:port` of a server's gRPC front end, or a URL that begins with grpc://, grpcs://, http:// or
            https://; several of them as a sequence or with commas between them. A request goes to the healthy
            endpoint with the fewest requests on the way, and to another one if that fails.
        timeout_s: the most that any one request may take, its retries included.
        tls: certificates; `host:port` then means TLS.
        shared_memory: True: tensors go to the server through shared memory, or the connection is refused; "auto": where
            the server is on this machine and takes part; False: never.

    Raises:
        BadSetting: no connection can be made by these.
    """

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: Tls | None = None,
        shared_memory: SharedMemory = False,
    ) -> None:
        def open_wire(address: Address) -> Wire:
            return HttpWire(address, tls) if address.http else GrpcWire(address, tls, shared_memory)

        self._fleet = open_fleet(url, timeout_s=timeout_s, tls=tls, shared_memory=shared_memory, open_wire=open_wire)
        self._background = ThreadPoolExecutor(len(self._fleet.endpoints), "avedge-probe")

    @property
    def url(self) -> str:
        """All endpoints, for people."""
        return self._fleet.url

    @property
    def timeout_s(self) -> float:
        """The most that any one request may take."""
        return self._fleet.timeout_s

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the channels back; unfinished requests are cancelled."""
        self._fleet.closed = True
        for endpoint in self._fleet.endpoints:
            endpoint.wire.close()
        self._background.shutdown(wait=True, cancel_futures=True)

    def served(self, model: str) -> ServedModel:
        """How the servers describe a model; asked for once, after checking that it is ready.

        Raises:
            ServerUnavailable: nothing answers, or the model is not ready.
            ContractMismatch: no such model, one without or with another `contract_version`, or one of another contract
                at another endpoint.
        """
        described = self.described(model)
        described.require_version()
        return described

    def described(self, model: str) -> ServedModel:
        """As `served`, for a model that only ensembles call: these carry no contract version of their own."""
        if model not in self._fleet.served and not self._fleet.is_alone:
            asked = [self._background.submit(self._probe, one, model) for one in self._fleet.begin_to_ask()]
            self._fleet.refuse_two_contracts([one.result() for one in asked])
        trip = Trip(self._fleet, f"Model {model}", self.timeout_s, self._fleet.connect_timeout_s)
        while model not in self._fleet.served:
            with trip.leg() as endpoint:
                self._ask(endpoint, model, trip.left_s)
                break
            Cancellation().sleep(trip.wait_s)
        return self._fleet.served[model]

    def infer(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Answer:
        """Send one item and wait for its answer; see `infer_stream`."""
        return self._infer(model, inputs, outputs, Cancellation())

    def infer_all(
        self, model: str, requests: Iterable[Tensors], outputs: Sequence[str], in_flight: int = IN_FLIGHT
    ) -> list[Answer]:
        """Send several items and wait for all of their answers, in order; see `infer_stream`."""
        return list(self.infer_stream(model, requests, outputs, in_flight))

    def infer_stream(
        self, model: str, requests: Iterable[Tensors], outputs: Sequence[str], in_flight: int = IN_FLIGHT
    ) -> Generator[Answer, None, None]:
        """Send items as they come, some of them on the way at the same time, and give the answers in order.

        Items are taken from `requests` only as answers are taken from here, so an input without end needs no more
        memory than a short one. With `in_flight` of 1, each answer is given before the next item is taken, as live
        input wants it.

        A request that meets a server that is away or too busy is sent again: at once to another endpoint, and at most
        three times to the same ones, within its deadline and the connection's budget. The first failure that stays
        cancels the rest, as does closing this iterator.

        Args:
            model: name of the served model.
            requests: for each item its tensors by name, without the batch axis.
            outputs: names of the tensors wanted back.
            in_flight: most requests on the way at once; as many answers again may wait to be taken.

        Returns:
            for each item, in order, its tensors by name, without the batch axis; all values are finite.

        Raises:
            Timeout: a request took longer than `timeout_s`.
            ServerUnavailable: the server is away or too busy.
            ContractMismatch: the server refused a tensor or sent another answer than asked for.
        """
        require_in_flight(in_flight)
        if in_flight == 1:
            return (self.infer(model, inputs, outputs) for inputs in requests)
        return _in_order(lambda inputs, group: self._infer(model, inputs, outputs, group), requests, in_flight)

    def _infer(self, model: str, inputs: Tensors, outputs: Sequence[str], cancellation: Cancellation) -> Answer:
        cancellation.raise_if_cancelled()
        trip = Trip(self._fleet, f"Model {model}", self.timeout_s)
        while True:
            for endpoint, known in self._fleet.due_for_a_probe():
                self._background.submit(self._probe, endpoint, known)
            with trip.leg() as endpoint:
                if self._fleet.must_ask(endpoint, model):
                    self._ask(endpoint, model, trip.left_s)
                return endpoint.wire.infer(model, inputs, outputs, trip.left_s, cancellation)
            cancellation.sleep(trip.wait_s)

    def _ask(self, endpoint: Endpoint[Wire], model: str, timeout_s: float) -> None:
        """Hear what an endpoint serves; CallFailed where it does not answer or does not fit."""
        connect_timeout_s = min(timeout_s, self._fleet.connect_timeout_s)
        self._fleet.heard(endpoint, model, endpoint.wire.look_up(model, connect_timeout_s, timeout_s))

    def _probe(self, endpoint: Endpoint[Wire], model: str) -> CallFailed | None:
        """Find out whether an endpoint may get requests."""
        try:
            self._ask(endpoint, model, self.timeout_s)
        except CallFailed as error:
            self._fleet.probed(endpoint, error)
            return error
        except BaseException:
            self._fleet.give_up_probe(endpoint)
            raise
        self._fleet.probed(endpoint, None)
        return None


def _in_order(
    answer: Callable[[Tensors, Cancellation], Answer], requests: Iterable[Tensors], in_flight: int
) -> Generator[Answer, None, None]:
    """Answers in the order of the requests, with threads that wait for them."""
    cancellation = Cancellation()
    failures: list[BaseException] = []  # the first is what is told; the others come of the cancelling
    underway: deque[Future[Answer]] = deque()
    pool = ThreadPoolExecutor(in_flight, "avedge")

    def work(inputs: Tensors) -> Answer:
        try:
            return answer(inputs, cancellation)
        except BaseException as error:
            failures.append(error)
            cancellation.cancel()
            raise

    def take() -> Answer:
        try:
            return underway.popleft().result()
        except Cancelled:
            raise failures[0] from None

    try:
        for inputs in requests:
            underway.append(pool.submit(work, inputs))
            while underway and (underway[0].done() or len(underway) >= 2 * in_flight):
                yield take()
        while underway:
            yield take()
    finally:
        cancellation.cancel()
        pool.shutdown(wait=True, cancel_futures=True)

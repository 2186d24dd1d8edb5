"""The server, or several that serve the same, for asyncio programs; the laws are those of `connection.Connection`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Protocol

from clients.contract import ServedModel
from clients.tasks import end_all
from clients.transport.address import DEFAULT_URL, Address
from clients.transport.aio_wire import AsyncGrpcWire, AsyncHttpWire
from clients.transport.enquiry import Enquiry
from clients.transport.failures import CallFailed
from clients.transport.fleet import Endpoint
from clients.transport.options import DEFAULT_TIMEOUT_S, IN_FLIGHT, open_fleet, require_in_flight
from clients.transport.shared_regions import SharedMemory
from clients.transport.tensors import Answer, Tensors
from clients.transport.tls import Tls
from clients.transport.trip import Trip


class AsyncWire(Protocol):
    """What carries calls to one endpoint; every method may raise CallFailed."""

    async def look_up(self, model: str, connect_timeout_s: float, timeout_s: float) -> Enquiry:
        """Ask whether the server lives, the model is ready, and what it is like."""

    async def infer(self, model: str, inputs: Tensors, outputs: Sequence[str], timeout_s: float) -> Answer:
        """One item's answer, checked."""

    async def close(self) -> None:
        """Cancel what is on its way."""


class AsyncConnection:
    """One or several endpoints, for the tasks of one event loop; arguments and laws are those of `Connection`."""

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: Tls | None = None,
        shared_memory: SharedMemory = False,
    ) -> None:
        def open_wire(address: Address) -> AsyncWire:
            return AsyncHttpWire(address, tls) if address.http else AsyncGrpcWire(address, tls, shared_memory)

        self._fleet = open_fleet(url, timeout_s=timeout_s, tls=tls, shared_memory=shared_memory, open_wire=open_wire)
        self._probes: set[asyncio.Task[CallFailed | None]] = set()

    @property
    def url(self) -> str:
        """All endpoints, for people."""
        return self._fleet.url

    @property
    def timeout_s(self) -> float:
        """The most that any one request may take."""
        return self._fleet.timeout_s

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the channels back; unfinished requests are cancelled."""
        self._fleet.closed = True
        await end_all(self._probes)
        for endpoint in self._fleet.endpoints:
            await endpoint.wire.close()

    async def served(self, model: str) -> ServedModel:
        """How the servers describe a model; see `Connection.served`."""
        described = await self.described(model)
        described.require_version()
        return described

    async def described(self, model: str) -> ServedModel:
        """How the servers describe a model that only ensembles call; see `Connection.described`."""
        if model not in self._fleet.served and not self._fleet.is_alone:
            asked = [self._probe(endpoint, model) for endpoint in self._fleet.begin_to_ask()]
            self._fleet.refuse_two_contracts(await asyncio.gather(*asked))
        trip = Trip(self._fleet, f"Model {model}", self.timeout_s, self._fleet.connect_timeout_s)
        while model not in self._fleet.served:
            with trip.leg() as endpoint:
                await self._ask(endpoint, model, trip.left_s)
                break
            await asyncio.sleep(trip.wait_s)
        return self._fleet.served[model]

    async def infer(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Answer:
        """Send one item and wait for its answer; see `Connection.infer_stream`."""
        trip = Trip(self._fleet, f"Model {model}", self.timeout_s)
        while True:
            for endpoint, known in self._fleet.due_for_a_probe():
                self._probes.add(probe := asyncio.create_task(self._probe(endpoint, known)))
                probe.add_done_callback(self._probes.discard)
            with trip.leg() as endpoint:
                if self._fleet.must_ask(endpoint, model):
                    await self._ask(endpoint, model, trip.left_s)
                return await endpoint.wire.infer(model, inputs, outputs, trip.left_s)
            await asyncio.sleep(trip.wait_s)

    async def infer_all(
        self,
        model: str,
        requests: Iterable[Tensors] | AsyncIterable[Tensors],
        outputs: Sequence[str],
        in_flight: int = IN_FLIGHT,
    ) -> list[Answer]:
        """Send several items and wait for all of their answers, in order; see `Connection.infer_stream`."""
        return [answer async for answer in self.infer_stream(model, requests, outputs, in_flight)]

    def infer_stream(
        self,
        model: str,
        requests: Iterable[Tensors] | AsyncIterable[Tensors],
        outputs: Sequence[str],
        in_flight: int = IN_FLIGHT,
    ) -> AsyncGenerator[Answer, None]:
        """Send items as they come, some of them on the way at once; see `Connection.infer_stream`.

        Whoever leaves the iteration early does so within `contextlib.aclosing`: an asynchronous iterator that is only
        dropped is closed some time later.
        """
        require_in_flight(in_flight)
        return self._in_order(model, requests, outputs, in_flight)

    async def _in_order(
        self,
        model: str,
        requests: Iterable[Tensors] | AsyncIterable[Tensors],
        outputs: Sequence[str],
        in_flight: int,
    ) -> AsyncGenerator[Answer, None]:
        """Answers in the order of the requests."""
        places = asyncio.Semaphore(in_flight)
        underway: deque[asyncio.Task[Answer]] = deque()
        most = 2 * in_flight if in_flight > 1 else 1

        async def answer(inputs: Tensors) -> Answer:
            async with places:
                return await self.infer(model, inputs, outputs)

        try:
            async for inputs in _each(requests):
                underway.append(asyncio.create_task(answer(inputs)))
                await asyncio.sleep(0)  # let it be sent before the next item is made
                while underway and (underway[0].done() or len(underway) >= most):
                    yield await _first(underway)
            while underway:
                yield await _first(underway)
        finally:
            await end_all(underway)

    async def _ask(self, endpoint: Endpoint[AsyncWire], model: str, timeout_s: float) -> None:
        """Hear what an endpoint serves; CallFailed where it does not answer or does not fit."""
        connect_timeout_s = min(timeout_s, self._fleet.connect_timeout_s)
        self._fleet.heard(endpoint, model, await endpoint.wire.look_up(model, connect_timeout_s, timeout_s))

    async def _probe(self, endpoint: Endpoint[AsyncWire], model: str) -> CallFailed | None:
        """Find out whether an endpoint may get requests."""
        try:
            await self._ask(endpoint, model, self.timeout_s)
        except CallFailed as error:
            self._fleet.probed(endpoint, error)
            return error
        except BaseException:
            self._fleet.give_up_probe(endpoint)
            raise
        self._fleet.probed(endpoint, None)
        return None


async def _first(underway: deque[asyncio.Task[Answer]]) -> Answer:
    """The oldest request's answer; or the failure of any of them, as soon as it is there."""
    while True:
        for task in underway:
            if task.done() and (error := task.exception()) is not None:
                raise error
        if underway[0].done():
            return underway.popleft().result()
        await asyncio.wait([task for task in underway if not task.done()], return_when=asyncio.FIRST_COMPLETED)


async def _each(requests: Iterable[Tensors] | AsyncIterable[Tensors]) -> AsyncIterator[Tensors]:
    """The requests of either kind of iterable."""
    if isinstance(requests, AsyncIterable):
        async for inputs in requests:
            yield inputs
    else:
        for inputs in requests:
            yield inputs

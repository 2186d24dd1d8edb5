"""The server behind one URL for asyncio programs; the laws are those of `connection.Connection`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import suppress
from types import TracebackType

from clients.contract import ServedModel
from clients.transport.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, IN_FLIGHT, Answer, Connection, Tensors


class AsyncConnection:
    """The server behind one URL.

    Args:
        url: host and port of the gRPC front end, without a scheme.
        timeout_s: the most that any one request may take, its retries included.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._connection = Connection(url, timeout_s=timeout_s)
        self.url = url
        self.timeout_s = timeout_s

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the channel back; unfinished requests are cancelled."""
        await asyncio.to_thread(self._connection.close)

    async def served(self, model: str) -> ServedModel:
        """How the server describes a model; see `Connection.served`."""
        return await asyncio.to_thread(self._connection.served, model)

    async def described(self, model: str) -> ServedModel:
        """How the server describes a model that only ensembles call; see `Connection.described`."""
        return await asyncio.to_thread(self._connection.described, model)

    async def infer(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Answer:
        """Send one item and wait for its answer; see `Connection.infer_stream`."""
        return await asyncio.to_thread(self._connection.infer, model, inputs, outputs)

    async def infer_all(
        self,
        model: str,
        requests: Iterable[Tensors] | AsyncIterable[Tensors],
        outputs: Sequence[str],
        in_flight: int = IN_FLIGHT,
    ) -> list[Answer]:
        """Send several items and wait for all of their answers, in order; see `Connection.infer_stream`."""
        return [answer async for answer in self.infer_stream(model, requests, outputs, in_flight)]

    async def infer_stream(
        self,
        model: str,
        requests: Iterable[Tensors] | AsyncIterable[Tensors],
        outputs: Sequence[str],
        in_flight: int = IN_FLIGHT,
    ) -> AsyncIterator[Answer]:
        """Send items as they come, some of them on the way at once; see `Connection.infer_stream`.

        Leave an iteration early within `contextlib.aclosing`, so that what is on the way is cancelled at once.
        """
        flying: deque[asyncio.Task[Answer]] = deque()
        try:
            async for inputs in _each(requests):
                flying.append(asyncio.create_task(self.infer(model, inputs, outputs)))
                if len(flying) >= in_flight:
                    yield await flying.popleft()
            while flying:
                yield await flying.popleft()
        finally:
            for task in flying:
                task.cancel()
            for task in flying:
                with suppress(asyncio.CancelledError, Exception):
                    await task


async def _each(requests: Iterable[Tensors] | AsyncIterable[Tensors]) -> AsyncIterator[Tensors]:
    """The requests of either kind of iterable."""
    if isinstance(requests, AsyncIterable):
        async for inputs in requests:
            yield inputs
    else:
        for inputs in requests:
            yield inputs

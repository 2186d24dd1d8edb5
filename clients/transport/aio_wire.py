"""Calls to one endpoint for asyncio: by gRPC, or by HTTP with threads that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from clients.transport.address import Address
from clients.transport.cancellation import Cancellation
from clients.transport.deadline import left_s
from clients.transport.enquiry import Enquiry
from clients.transport.failures import CallFailed
from clients.transport.grpc_wire import (
    answer_of,
    channel_options,
    credentials_for,
    failures,
    open_client,
    ready,
    unready,
)
from clients.transport.http_wire import HttpWire
from clients.transport.shared_regions import SharedMemory, lend, regions_for
from clients.transport.tensors import Answer, Tensors
from clients.transport.tls import Tls, told_by_tls

Result = TypeVar("Result")

_HTTP_THREADS = 32  # most HTTP requests of one endpoint on the way


class AsyncGrpcWire:
    """One channel to one server, opened in the loop that asks first."""

    def __init__(self, address: Address, tls: Tls | None, shared_memory: SharedMemory = False) -> None:
        self._address, self._tls = address, tls or Tls()
        self._credentials = credentials_for(address, tls)
        self._is_closed = False
        self._opened: triton_aio.InferenceServerClient | None = None
        self._registrar = open_client(address, self._credentials) if shared_memory else None
        self._regions = regions_for(address, shared_memory, self._registrar)

    async def look_up(self, model: str, connect_timeout_s: float, timeout_s: float) -> Enquiry:
        """Ask whether the server lives, the model is ready, and what it is like; CallFailed where nothing answers."""
        client, deadline = self._client, time.monotonic() + timeout_s
        try:
            with self._failures(sign_of_life_s=connect_timeout_s):
                live = await client.is_server_live(client_timeout=connect_timeout_s)
        except CallFailed as failure:
            told = await asyncio.to_thread(told_by_tls, failure, self._address, self._tls, connect_timeout_s)
            raise told from failure.__cause__
        with self._failures():
            if not live:
                return Enquiry(live=False)
            if not await client.is_model_ready(model, client_timeout=left_s(deadline)):
                return unready(await client.get_model_repository_index(client_timeout=left_s(deadline)))
            metadata = await client.get_model_metadata(model, client_timeout=left_s(deadline))
            return ready(model, metadata, await client.get_model_config(model, client_timeout=left_s(deadline)))

    async def infer(self, model: str, inputs: Tensors, outputs: Sequence[str], timeout_s: float) -> Answer:
        """One item's answer, checked; CallFailed where there is none. Cancelled with the task that waits for it."""
        deadline = time.monotonic() + timeout_s
        with lend(self._regions, inputs) as loan, self._failures():
            if loan.is_new:
                await asyncio.to_thread(loan.register, deadline)
            result = await self._client.infer(
                model,
                loan.inputs(deadline),
                outputs=[triton.InferRequestedOutput(name) for name in outputs],
                client_timeout=left_s(deadline),
            )
        return answer_of(model, result, outputs)

    async def close(self) -> None:
        """Give the channel back; what is on its way is cancelled."""
        self._is_closed = True
        if self._opened is not None:
            await self._opened.close()
        if self._regions is not None:
            await asyncio.to_thread(self._regions.close)
        if self._registrar is not None:
            self._registrar.close()

    @contextmanager
    def _failures(self, sign_of_life_s: float | None = None) -> Iterator[None]:
        try:
            with failures(sign_of_life_s):
                yield
        except asyncio.CancelledError:
            if self._is_closed:  # gRPC's way to say so; nobody has cancelled the task
                raise CallFailed("CANCELLED", "the channel was closed") from None
            raise

    @property
    def _client(self) -> Any:
        if self._opened is None:
            self._opened = triton_aio.InferenceServerClient(
                self._address.target,
                creds=self._credentials,
                channel_args=channel_options(self._address.target),
            )
        return self._opened


class AsyncHttpWire:
    """HTTP connections to one server, each with a thread that waits for it."""

    def __init__(self, address: Address, tls: Tls | None) -> None:
        self._wire = HttpWire(address, tls)
        self._threads = ThreadPoolExecutor(_HTTP_THREADS, "avedge-http")
        self._is_closed = False

    async def look_up(self, model: str, connect_timeout_s: float, timeout_s: float) -> Enquiry:
        """Ask whether the server lives, the model is ready, and what it is like; CallFailed where nothing answers."""
        return await self._in_thread(
            lambda left_s, mine: self._wire.look_up(model, min(connect_timeout_s, left_s), left_s, mine), timeout_s
        )

    async def infer(self, model: str, inputs: Tensors, outputs: Sequence[str], timeout_s: float) -> Answer:
        """One item's answer, checked; CallFailed where there is none. Cancelled with the task that waits for it."""
        return await self._in_thread(
            lambda left_s, mine: self._wire.infer(model, inputs, outputs, left_s, mine), timeout_s
        )

    async def close(self) -> None:
        """Close the connections; what is on its way is cancelled."""
        self._is_closed = True
        self._wire.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, call: Callable[[float, Cancellation], Result], timeout_s: float) -> Result:
        """What a call gives that gets the seconds it has, without those it waited for a thread, and what ends it."""
        cancellation, deadline = Cancellation(), time.monotonic() + timeout_s

        def work() -> Result:
            if time.monotonic() >= deadline:
                raise CallFailed("DEADLINE_EXCEEDED", "no thread was free in time")
            return call(left_s(deadline), cancellation)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except asyncio.CancelledError:
            cancellation.cancel()
            if self._is_closed:  # it had no thread yet; nobody has cancelled the task
                raise CallFailed("CANCELLED", "the connection was closed") from None
            raise

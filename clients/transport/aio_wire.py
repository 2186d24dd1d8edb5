"""Calls to one endpoint for asyncio: by gRPC, or by HTTP with threads that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from clients.transport.address import Address
from clients.transport.cancellation import Cancellation
from clients.transport.enquiry import Enquiry
from clients.transport.failures import CallFailed
from clients.transport.grpc_wire import (
    channel_options,
    credentials_for,
    failures,
    open_client,
    ready,
    unready,
)
from clients.transport.http_wire import HttpWire
from clients.transport.shared_regions import SharedMemory, lend, regions_for
from clients.transport.tensors import Answer, Tensors, only_item
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
        client = self._client
        try:
            with failures(sign_of_life_s=connect_timeout_s):
                live = await client.is_server_live(client_timeout=connect_timeout_s)
        except CallFailed as failure:
            told = await asyncio.to_thread(told_by_tls, failure, self._address, self._tls, connect_timeout_s)
            raise told from failure.__cause__
        with failures():
            if not live:
                return Enquiry(live=False)
            if not await client.is_model_ready(model, client_timeout=timeout_s):
                return unready(await client.get_model_repository_index(client_timeout=timeout_s))
            metadata = await client.get_model_metadata(model, client_timeout=timeout_s)
            return ready(model, metadata, await client.get_model_config(model, client_timeout=timeout_s))

    async def infer(self, model: str, inputs: Tensors, outputs: Sequence[str], timeout_s: float) -> Answer:
        """One item's answer, checked; CallFailed where there is none. Cancelled with the task that waits for it."""
        deadline = time.monotonic() + timeout_s
        with lend(self._regions, inputs) as loan, failures():
            if loan.is_new:
                await asyncio.to_thread(loan.register, timeout_s)
            try:
                result = await self._client.infer(
                    model,
                    loan.inputs(timeout_s),
                    outputs=[triton.InferRequestedOutput(name) for name in outputs],
                    client_timeout=max(deadline - time.monotonic(), 1e-3),
                )
            except asyncio.CancelledError:
                if self._is_closed:  # gRPC's way to say so; nobody has cancelled the task
                    raise CallFailed("CANCELLED", "the channel was closed") from None
                raise
        return {name: only_item(model, name, result.as_numpy(name)) for name in outputs}

    async def close(self) -> None:
        """Give the channel back; what is on its way is cancelled."""
        self._is_closed = True
        if self._opened is not None:
            await self._opened.close()
        if self._regions is not None:
            await asyncio.to_thread(self._regions.close)
        if self._registrar is not None:
            self._registrar.close()

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

    async def look_up(self, model: str, connect_timeout_s: float, timeout_s: float) -> Enquiry:
        """Ask whether the server lives, the model is ready, and what it is like; CallFailed where nothing answers."""
        return await self._in_thread(lambda: self._wire.look_up(model, connect_timeout_s, timeout_s), Cancellation())

    async def infer(self, model: str, inputs: Tensors, outputs: Sequence[str], timeout_s: float) -> Answer:
        """One item's answer, checked; CallFailed where there is none. Cancelled with the task that waits for it."""
        mine = Cancellation()
        return await self._in_thread(lambda: self._wire.infer(model, inputs, outputs, timeout_s, mine), mine)

    async def close(self) -> None:
        """Close the connections; what is on its way is cancelled."""
        self._wire.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, call: Callable[[], Result], cancellation: Cancellation) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise

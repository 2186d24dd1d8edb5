"""What every client of served models is: a connection of its own, given back at the end of `with`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from clients.contract import ServedModel
from clients.errors import ContractMismatch
from clients.transport.aio import AsyncConnection
from clients.transport.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, Connection
from clients.transport.options import SHARED_MEMORY
from clients.transport.shared_regions import SharedMemory
from clients.transport.tls import Tls

Self = TypeVar("Self", bound="ServedClient")  # typing has it from Python 3.11 on
AsyncSelf = TypeVar("AsyncSelf", bound="AsyncServedClient")


class ServedClient:
    """Base of the clients that wait; one may be used by several threads at once.

    Args:
        url: where the server is, or several that serve the same; see `Connection`.
        timeout_s: the most that one request may take.
        tls: certificates.
        shared_memory: "auto": tensors go through shared memory where the server is on this machine and takes part, else
            by gRPC; True: they do, or the connection is refused; False: never.
    """

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: Tls | None = None,
        shared_memory: SharedMemory = SHARED_MEMORY,
    ) -> None:
        self._connection = Connection(url, timeout_s=timeout_s, tls=tls, shared_memory=shared_memory)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; what is on its way is cancelled."""
        self._connection.close()

    def release(self, model: ServedModel) -> dict[str, tuple[str, ...]]:
        """Versions of a model and of those that it calls: an ensemble's own stays 1 when its networks are new.

        Raises:
            ServerUnavailable, Timeout: the server went away.
        """
        versions = {model.name: model.versions}
        for step in model.steps:
            with suppress(ContractMismatch):  # a server may keep its inner models to itself
                versions[step] = self._connection.described(step).versions
        return versions


class AsyncServedClient:
    """Base of the clients for asyncio, for the tasks of one event loop; the arguments are those of `ServedClient`."""

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: Tls | None = None,
        shared_memory: SharedMemory = SHARED_MEMORY,
    ) -> None:
        self._connection = AsyncConnection(url, timeout_s=timeout_s, tls=tls, shared_memory=shared_memory)

    async def __aenter__(self: AsyncSelf) -> AsyncSelf:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connection back; what is on its way is cancelled."""
        await self._connection.close()

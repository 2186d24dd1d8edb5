"""What every client of served models is: a connection of its own, given back at the end of `with`."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from clients.transport.aio import AsyncConnection
from clients.transport.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, Connection

Self = TypeVar("Self", bound="ServedClient")  # typing has it from Python 3.11 on
AsyncSelf = TypeVar("AsyncSelf", bound="AsyncServedClient")


class ServedClient:
    """Base of the clients that wait.

    Args:
        url: host and port of the server's gRPC front end.
        timeout_s: the most that one request may take.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._connection = Connection(url, timeout_s=timeout_s)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


class AsyncServedClient:
    """Base of the clients for asyncio.

    Args:
        url: host and port of the server's gRPC front end.
        timeout_s: the most that one request may take.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._connection = AsyncConnection(url, timeout_s=timeout_s)

    async def __aenter__(self: AsyncSelf) -> AsyncSelf:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connection back."""
        await self._connection.close()

"""No call outlives its deadline or its connection, however a server or a network holds it up."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import pytest
from fake_http import serving_http
from fake_triton import FakeTriton, same_voice, serving
from test_clients_transport_endpoints import OUTPUTS, numbered, until, voice

from clients.errors import Timeout
from clients.transport.address import addresses_of
from clients.transport.aio import AsyncConnection
from clients.transport.cancellation import Cancellation, Cancelled
from clients.transport.connection import Connection
from clients.transport.failures import CallFailed
from clients.transport.http_wire import HttpWire


@dataclass
class Hesitant(FakeTriton):
    """Takes its time for each question about a model."""

    hesitates_s: float = 0.3

    def ModelReady(self, request: Any, context: Any) -> Any:
        time.sleep(self.hesitates_s)
        return super().ModelReady(request, context)

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        time.sleep(self.hesitates_s)
        return super().ModelMetadata(request, context)

    def ModelConfig(self, request: Any, context: Any) -> Any:
        time.sleep(self.hesitates_s)
        return super().ModelConfig(request, context)


def hesitant(seconds: float) -> Hesitant:
    return Hesitant({"facefilter": same_voice}, hesitates_s=seconds)


def test_all_questions_about_a_model_have_one_deadline() -> None:
    async def awaiting(url: str) -> None:
        async with AsyncConnection(url, timeout_s=0.5) as connection:
            await connection.served("facefilter")

    def waiting(url: str) -> None:
        with Connection(url, timeout_s=0.5) as connection:
            connection.served("facefilter")

    with serving(hesitant(0.3)) as url:
        for ask in (waiting, lambda url: asyncio.run(awaiting(url))):
            began = time.monotonic()
            with pytest.raises(Timeout, match=r"no answer within 0.5 s"):
                ask(url)
            assert time.monotonic() - began < 0.8


def test_a_server_that_describes_its_models_slowly_has_the_whole_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.transport.fleet._CONNECT_TIMEOUT_S", 0.2)  # for the first sign of life alone
    with serving(hesitant(0.2)) as url, Connection(url, timeout_s=5) as connection:
        assert connection.served("facefilter").name == "facefilter"


@dataclass
class Reluctant(FakeTriton):
    """Takes its time for each question about shared memory."""

    def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        time.sleep(0.4)
        return super().SystemSharedMemoryStatus(request, context)

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        time.sleep(0.4)
        return super().SystemSharedMemoryRegister(request, context)


def test_showing_memory_to_a_server_has_the_deadline_of_its_request() -> None:
    with (
        serving(Reluctant({"facefilter": same_voice})) as url,
        Connection(url, timeout_s=0.5, shared_memory="auto") as connection,
    ):
        began = time.monotonic()
        with pytest.raises(Timeout, match=r"no answer within 0.5 s"):
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        assert time.monotonic() - began < 0.75


@contextmanager
def trickling(before: bytes, every_s: float = 0.05) -> Iterator[str]:
    """A server that sends the beginning of an answer, and then one byte after the other."""

    def answer(caller: socket.socket) -> None:
        with suppress(OSError), caller:
            caller.recv(1 << 16)
            caller.sendall(before)
            for _ in range(100):
                time.sleep(every_s)
                caller.sendall(b"a")

    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(door.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        door.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",  # the answer ends with the connection
    ],
)
def test_an_answer_that_comes_byte_by_byte_is_left_at_the_deadline(before: bytes) -> None:
    with trickling(before) as url, Connection(url, timeout_s=0.4) as connection:
        began = time.monotonic()
        with pytest.raises(Timeout, match=r"no answer within 0.4 s"):
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        assert time.monotonic() - began < 0.8


def test_more_http_requests_than_threads_keep_their_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.transport.aio_wire._HTTP_THREADS", 2)

    async def work(url: str) -> None:
        async with AsyncConnection(url, timeout_s=0.5) as connection:
            began = time.monotonic()
            asked = (connection.infer("facefilter", numbered(1)[0], OUTPUTS) for _ in range(6))
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(error) for error in found} == {Timeout}
            assert time.monotonic() - began < 0.9

    with serving_http(voice(delay_s=3.0)) as place:
        asyncio.run(work(f"http://{place}"))


def test_closing_ends_http_requests_that_had_no_thread_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.transport.aio_wire._HTTP_THREADS", 1)

    async def work(url: str) -> None:
        connection = AsyncConnection(url, timeout_s=5)
        tasks = [asyncio.create_task(connection.infer("facefilter", numbered(1)[0], OUTPUTS)) for _ in range(3)]
        await asyncio.sleep(0.2)
        await connection.close()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, RuntimeError) and "closed while a request was on its way" in str(error)

    with serving_http(voice(delay_s=3.0)) as place:
        asyncio.run(work(f"http://{place}"))


def test_closing_ends_a_question_about_a_model_that_another_task_waits_for() -> None:
    async def work(url: str) -> None:
        connection = AsyncConnection(url, timeout_s=5)
        task = asyncio.create_task(connection.served("facefilter"))
        await asyncio.sleep(0.2)
        await connection.close()
        with pytest.raises(RuntimeError, match="closed while a request was on its way"):
            await task

    with serving(hesitant(1.0)) as url:
        asyncio.run(work(url))


def test_a_closed_wire_opens_no_connection() -> None:
    with serving_http(voice()) as place:
        wire = HttpWire(addresses_of(f"http://{place}")[0], None)
        wire.close()
        with pytest.raises(CallFailed, match="closed"):
            wire.look_up("facefilter", 1.0, 1.0)
        assert not wire._idle and not wire._busy


@pytest.mark.parametrize("closes", [True, False])
def test_what_is_ended_while_its_connection_is_made_sends_nothing(
    monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    made, real = threading.Event(), HTTPConnection.connect

    def connect(connection: HTTPConnection) -> None:
        made.wait(5)
        real(connection)

    monkeypatch.setattr(HTTPConnection, "connect", connect)
    fake = voice()
    with serving_http(fake) as place:
        wire, group, failed = HttpWire(addresses_of(f"http://{place}")[0], None), Cancellation(), list[BaseException]()

        def ask() -> None:
            try:
                wire.infer("facefilter", numbered(1)[0], OUTPUTS, 5.0, group)
            except (CallFailed, Cancelled) as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: wire._busy)
        if closes:
            wire.close()
        else:
            group.cancel()
        made.set()
        thread.join()
    assert isinstance(failed[0], CallFailed if closes else Cancelled) and not fake.requests
    assert not wire._busy and not wire._idle


def test_endpoints_that_a_cancelled_task_was_asking_are_asked_again() -> None:
    slow, steady = hesitant(1.0), hesitant(1.0)

    async def work(urls: list[str]) -> None:
        async with AsyncConnection(urls, timeout_s=5) as connection:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.served("facefilter"), 0.2)
            slow.hesitates_s = steady.hesitates_s = 0.0
            await connection.served("facefilter")
            assert all("facefilter" in one.known for one in connection._fleet.endpoints)

    with serving(slow) as first, serving(steady) as second:
        asyncio.run(work([first, second]))

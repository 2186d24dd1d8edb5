"""The asyncio connection obeys the laws of the waiting one: scripted servers, by gRPC and by HTTP."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager

import grpc
import numpy as np
import pytest
from fake_http import serving_http
from fake_triton import FakeTriton, black_hole, changed, nobody, same_voice, serving
from test_clients_transport_endpoints import FACE, OUTPUTS, numbered, numbers, until, voice

from clients.errors import ClientError, ContractMismatch, ServerUnavailable, Timeout
from clients.transport.aio import AsyncConnection
from clients.transport.connection import Connection


@contextmanager
def by_grpc(fake: FakeTriton) -> Iterator[str]:
    with serving(fake) as url:
        yield url


@contextmanager
def by_http(fake: FakeTriton) -> Iterator[str]:
    with serving_http(fake) as place:
        yield f"http://{place}"


both = pytest.mark.parametrize("way", [by_grpc, by_http])


def run(work: Callable[[AsyncConnection], Awaitable[object]], url: str | list[str], **options: object) -> object:
    async def main() -> object:
        async with AsyncConnection(url, **options) as connection:  # type: ignore[arg-type]
            return await work(connection)

    return asyncio.run(main())


@both
def test_answers_keep_the_order_of_the_requests_and_fly_together(way: Callable) -> None:
    fake = voice(delay_s=0.02)
    with way(fake) as url:
        found = run(lambda one: one.infer_all("facefilter", numbered(12), OUTPUTS, in_flight=3), url)
    assert numbers(found) == list(range(12))
    assert way is by_http or fake.most_in_flight == 3


@both
def test_models_are_described_as_to_the_waiting_connection(way: Callable) -> None:
    with way(voice()) as url, Connection(url) as connection:
        assert run(lambda one: one.served("facefilter"), url) == connection.served("facefilter")
        assert run(lambda one: one.described("facefilter"), url) == connection.described("facefilter")


@both
def test_a_slow_server_is_left_at_the_deadline_and_the_loop_goes_on(way: Callable) -> None:
    ticks = 0

    async def work(connection: AsyncConnection) -> None:
        nonlocal ticks

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        with pytest.raises(Timeout, match=r"no answer within 0.4 s"):
            await connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        assert 0.35 < time.monotonic() - began < 1.0
        ticking.cancel()

    with way(voice(delay_s=3.0)) as url:
        run(work, url, timeout_s=0.4)
    assert ticks >= 10


@both
def test_a_server_that_comes_back_is_asked_again_and_one_that_refuses_is_not(way: Callable) -> None:
    away, wrong = (grpc.StatusCode.UNAVAILABLE, "shutting down"), (grpc.StatusCode.INVALID_ARGUMENT, "a shape")
    fake = voice(failures=[away] * 3)
    with way(fake) as url:
        found = run(lambda one: one.infer("facefilter", numbered(1)[0], OUTPUTS), url)
        assert numbers([found]) == [0.0]
        fake.failures = [wrong] * 2
        with pytest.raises(ContractMismatch, match="INVALID_ARGUMENT"):
            run(lambda one: one.infer("facefilter", numbered(1)[0], OUTPUTS), url)
    assert len(fake.failures) == 1


def test_what_the_server_cancels_is_sent_again() -> None:
    fake = voice(failures=[(grpc.StatusCode.CANCELLED, "shutting down")])
    with serving(fake) as url:
        assert numbers([run(lambda one: one.infer("facefilter", numbered(1)[0], OUTPUTS), url)]) == [0.0]


def test_retries_stay_within_the_budget() -> None:
    fake = voice(failures=[(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")] * 500)

    async def work(connection: AsyncConnection) -> None:
        asked = (connection.infer("facefilter", numbered(1)[0], OUTPUTS) for _ in range(100))
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(error, ServerUnavailable) for error in found)

    with serving(fake) as url:
        run(work, url)
    assert 100 < 500 - len(fake.failures) <= 100 * 1.1 + 10


@both
def test_the_first_failure_that_stays_ends_the_rest_at_once(way: Callable) -> None:
    def fails(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if inputs["mixture"][0] == 1:
            return same_voice(inputs) | {"speech": inputs["mixture"] * np.nan}
        time.sleep(2)
        return same_voice(inputs)

    async def work(connection: AsyncConnection) -> None:
        began = time.monotonic()
        with pytest.raises(ContractMismatch, match="no numbers"):
            await connection.infer_all("facefilter", numbered(40), OUTPUTS, in_flight=4)
        assert time.monotonic() - began < 1.5
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with way(FakeTriton({"facefilter": fails})) as url:
        run(work, url)


@both
def test_a_cancelled_task_takes_its_requests_with_it(way: Callable) -> None:
    fake = voice(delay_s=1.0)

    async def work(connection: AsyncConnection) -> None:
        task = asyncio.create_task(connection.infer_all("facefilter", numbered(8), OUTPUTS, in_flight=4))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 0.5
        assert asyncio.all_tasks() == {asyncio.current_task()}
        fake.delay_s = 0.0
        assert numbers([await connection.infer("facefilter", numbered(2)[1], OUTPUTS)]) == [1.0]

    with way(fake) as url:
        run(work, url)
        if way is by_grpc:
            until(lambda: fake.cancelled == 4)
    assert len(fake.requests) <= 5 or way is by_http


@both
def test_closing_ends_what_other_tasks_wait_for(way: Callable) -> None:
    async def work(connection: AsyncConnection) -> None:
        task = asyncio.create_task(connection.infer("facefilter", numbered(1)[0], OUTPUTS))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await connection.close()
        with pytest.raises(RuntimeError, match="closed while a request was on its way"):
            await task
        assert time.monotonic() - began < 1
        with pytest.raises(RuntimeError, match="this connection is closed"):
            await connection.infer("facefilter", numbered(1)[0], OUTPUTS)

    with way(voice(delay_s=3.0)) as url:
        run(work, url)


def test_a_stream_without_end_takes_items_only_as_answers_are_taken() -> None:
    taken = 0

    async def endless() -> AsyncIterator[dict[str, np.ndarray]]:
        nonlocal taken
        for taken in itertools.count(1):  # noqa: B007
            yield {"mixture": np.full(800, taken - 1, np.float32), "face": FACE}

    async def work(connection: AsyncConnection) -> None:
        async with aclosing(connection.infer_stream("facefilter", endless(), OUTPUTS, in_flight=3)) as stream:
            given = 0
            async for answer in stream:
                assert answer["speech"][0] == given
                given += 1
                assert taken - given <= 6
                if given == 40:
                    break
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with serving(voice()) as url:
        run(work, url)


def test_one_at_a_time_answers_before_the_next_is_taken() -> None:
    taken: list[int] = []

    def live() -> Iterator[dict[str, np.ndarray]]:
        for number, request in enumerate(numbered(4)):
            taken.append(number)
            yield request

    async def work(connection: AsyncConnection) -> None:
        given = 0
        async for _ in connection.infer_stream("facefilter", live(), OUTPUTS, in_flight=1):
            assert taken == list(range(given + 1))
            given += 1

    with serving(voice()) as url:
        run(work, url)


def test_an_endpoint_that_dies_with_requests_on_the_way_loses_none() -> None:
    dying, other = voice(delay_s=0.3), voice(delay_s=0.01)
    with ExitStack() as stack:
        life = ExitStack()
        stack.callback(life.close)
        urls = [life.enter_context(serving(dying)), stack.enter_context(serving(other))]

        async def work(connection: AsyncConnection) -> None:
            await connection.served("facefilter")
            task = asyncio.create_task(connection.infer_all("facefilter", numbered(40), OUTPUTS, 8))
            await asyncio.to_thread(until, lambda: dying.most_in_flight >= 2)
            await asyncio.to_thread(life.close)
            assert numbers(await task) == list(range(40))

        run(work, urls)


def test_an_endpoint_that_comes_back_gets_requests_again() -> None:
    first, second = voice(), voice()
    with serving(second) as other, ExitStack() as life:
        url = life.enter_context(serving(first))

        async def work(connection: AsyncConnection) -> None:
            await connection.infer_all("facefilter", numbered(8), OUTPUTS)
            await asyncio.to_thread(life.close)
            assert numbers(await connection.infer_all("facefilter", numbered(8), OUTPUTS)) == list(range(8))
            first.requests.clear()
            await asyncio.to_thread(life.enter_context, serving(first, port=int(url.rpartition(":")[2])))
            deadline = time.monotonic() + 10
            while not first.requests:
                assert time.monotonic() < deadline
                await connection.infer_all("facefilter", numbered(4), OUTPUTS)
                await asyncio.sleep(0.02)

        run(work, [url, other])


@pytest.mark.parametrize("absent", [nobody, black_hole])
def test_an_absent_endpoint_delays_nobody_for_long(absent: Callable) -> None:
    async def work(connection: AsyncConnection) -> None:
        began = time.monotonic()
        await connection.served("facefilter")
        assert time.monotonic() - began < 4
        assert numbers(await connection.infer_all("facefilter", numbered(20), OUTPUTS)) == list(range(20))

    with absent() as first, serving(voice()) as second:
        run(work, [first, second])


def test_endpoints_of_two_contracts_are_refused_with_both_named() -> None:
    other = FakeTriton(
        {"facefilter": same_voice}, configs={"facefilter": changed("facefilter", contract_digest="0" * 64)}
    )
    with (
        serving(voice()) as first,
        serving(other) as second,
        pytest.raises(ContractMismatch, match="different contracts") as caught,
    ):
        run(lambda one: one.served("facefilter"), [first, second])
    assert first in caught.value.seen and second in caught.value.seen


def test_no_server_is_told_as_by_the_waiting_connection() -> None:
    with nobody() as url:
        with pytest.raises(ClientError) as awaited:
            run(lambda one: one.served("facefilter"), url)
        with Connection(url) as connection, pytest.raises(ClientError) as waited:
            connection.served("facefilter")
    assert type(awaited.value) is type(waited.value) is ServerUnavailable
    assert awaited.value.remedy == waited.value.remedy
    assert awaited.value.seen.startswith(f"No server answers at {url}")

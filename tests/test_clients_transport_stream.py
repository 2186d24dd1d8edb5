"""Answers as a stream: their order, how much is on the way and held, and how it ends."""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from fake_triton import FakeTriton, same_voice, serving
from test_clients_transport_endpoints import FACE, OUTPUTS, numbered, numbers, until, voice

from clients.errors import BadSetting, ContractMismatch
from clients.transport.connection import Connection


def test_a_stream_without_end_is_answered_in_order() -> None:
    endless = ({"mixture": np.full(800, number, np.float32), "face": FACE} for number in itertools.count())
    with serving(voice()) as url, Connection(url) as connection:
        stream = connection.infer_stream("facefilter", endless, OUTPUTS, in_flight=3)
        assert numbers(list(itertools.islice(stream, 50))) == list(range(50))
        stream.close()


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_no_more_is_taken_than_twice_what_may_be_on_the_way(in_flight: int) -> None:
    taken = 0

    def requests() -> Iterator[dict[str, np.ndarray]]:
        nonlocal taken
        for taken, request in enumerate(numbered(40), 1):  # noqa: B007
            yield request

    fake = voice(delay_s=0.005)
    with serving(fake) as url, Connection(url) as connection:
        for given, _ in enumerate(connection.infer_stream("facefilter", requests(), OUTPUTS, in_flight), 1):
            assert taken - given <= 2 * in_flight
    assert fake.most_in_flight <= in_flight


def test_requests_and_answers_that_were_taken_are_not_held() -> None:
    living: list[weakref.ref[np.ndarray]] = []

    def requests() -> Iterator[dict[str, np.ndarray]]:
        for number in range(60):
            mixture = np.full(800, number, np.float32)
            living.append(weakref.ref(mixture))
            yield {"mixture": mixture, "face": FACE}

    fake = voice()
    with serving(fake) as url, Connection(url) as connection:
        for _ in connection.infer_stream("facefilter", requests(), OUTPUTS, in_flight=2):
            fake.requests.clear()
            assert sum(one() is not None for one in living) <= 2 * 2 + 2


def test_one_at_a_time_answers_before_the_next_is_taken() -> None:
    taken: list[int] = []

    def live() -> Iterator[dict[str, np.ndarray]]:
        for number, request in enumerate(numbered(4)):
            taken.append(number)
            yield request

    with serving(voice()) as url, Connection(url) as connection:
        for given, _ in enumerate(connection.infer_stream("facefilter", live(), OUTPUTS, in_flight=1)):
            assert taken == list(range(given + 1))


def test_the_first_failure_that_stays_ends_the_rest_at_once() -> None:
    def fails(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if inputs["mixture"][0] == 1:
            return same_voice(inputs) | {"speech": inputs["mixture"] * np.nan}
        time.sleep(2)
        return same_voice(inputs)

    fake = FakeTriton({"facefilter": fails})
    with serving(fake) as url, Connection(url) as connection:
        began = time.monotonic()
        with pytest.raises(ContractMismatch, match="no numbers"):
            connection.infer_all("facefilter", numbered(40), OUTPUTS, in_flight=4)
        assert time.monotonic() - began < 1.5, "the answers of the others were not waited for"
    assert len(fake.requests) <= 8


def test_leaving_a_stream_cancels_what_is_on_the_way() -> None:
    fake = voice(delay_s=0.5)
    with serving(fake) as url, Connection(url) as connection:
        stream = connection.infer_stream("facefilter", numbered(8), OUTPUTS, in_flight=4)
        next(stream)
        time.sleep(0.2)  # others have been sent by now
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < 0.4
        until(lambda: fake.cancelled >= 1)


def test_an_error_of_the_input_comes_through() -> None:
    def requests() -> Iterator[dict[str, np.ndarray]]:
        yield from numbered(3)
        raise KeyError("the recording ended")

    with serving(voice()) as url, Connection(url) as connection, pytest.raises(KeyError, match="the recording ended"):
        connection.infer_all("facefilter", requests(), OUTPUTS)


def test_nothing_asked_is_nothing_answered() -> None:
    with serving(voice()) as url, Connection(url) as connection:
        assert connection.infer_all("facefilter", [], OUTPUTS) == []


def test_a_stream_that_may_send_nothing_is_refused_before_it_begins() -> None:
    with Connection() as connection, pytest.raises(BadSetting, match="in_flight is 0"):
        connection.infer_stream("facefilter", numbered(1), OUTPUTS, in_flight=0)


def test_retries_of_one_request_do_not_hold_up_the_others() -> None:
    fake = voice(failures=[(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")] * 2)
    with serving(fake) as url, Connection(url) as connection:
        assert numbers(connection.infer_all("facefilter", numbered(12), OUTPUTS, in_flight=2)) == list(range(12))
    assert len(fake.requests) == 12 and not fake.failures

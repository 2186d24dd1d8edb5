"""A network that breaks: every call ends with the right answer or one of our errors, by its deadline."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from fake_http import serving_http
from fake_triton import FakeTriton, serving
from fault_proxy import Faults, faulty
from test_clients_transport_endpoints import FACE, OUTPUTS, numbered, numbers, voice

from clients.errors import ClientError, ServerUnavailable, Timeout
from clients.transport.connection import Connection

DEADLINE_S = 1.0


@contextmanager
def by_grpc(fake: FakeTriton) -> Iterator[tuple[str, Faults]]:
    with serving(fake) as url, faulty(url) as (place, faults):
        yield place, faults


@contextmanager
def by_http(fake: FakeTriton) -> Iterator[tuple[str, Faults]]:
    with serving_http(fake) as url, faulty(url) as (place, faults):
        yield f"http://{place}", faults


both = pytest.mark.parametrize("way", [by_grpc, by_http])


@both
def test_connections_that_are_reset_at_any_byte_give_the_right_answer_or_an_error_in_time(way: object) -> None:
    chance, fake = np.random.default_rng(7), voice()
    right = failed = 0
    with way(fake) as (url, faults), Connection(url, timeout_s=DEADLINE_S) as connection:  # type: ignore[operator]
        faults.cuts_after = iter(lambda: int(chance.integers(1, 2_000_000)), None)
        for number in range(60):
            request = {"mixture": np.full(8_000, number, np.float32), "face": FACE}
            began = time.monotonic()
            try:
                answer = connection.infer("facefilter", request, OUTPUTS)
            except ClientError:
                failed += 1
            else:
                right += 1
                assert (answer["speech"] == number).all() and len(answer["speech"]) == 8_000
            assert time.monotonic() - began < DEADLINE_S + 0.5
    assert right + failed == 60 and right >= 50
    assert faults.connections > 10, "hardly anything was broken"
    assert len(fake.requests) <= 60 * 1.1 + 10


@both
def test_a_network_that_falls_silent_is_noticed_at_the_deadline_and_forgiven_when_it_is_back(way: object) -> None:
    with way(voice()) as (url, faults), Connection(url, timeout_s=0.4) as connection:  # type: ignore[operator]
        assert numbers([connection.infer("facefilter", numbered(1)[0], OUTPUTS)]) == [0]
        faults.silent = True
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises((Timeout, ServerUnavailable)):
                connection.infer("facefilter", numbered(1)[0], OUTPUTS)
            assert time.monotonic() - began < 0.9
    with way(voice()) as (url, faults), Connection(url, timeout_s=5) as connection:  # type: ignore[operator]
        faults.silent = True
        time.sleep(0.1)
        faults.silent = False
        assert numbers([connection.infer("facefilter", numbered(2)[1], OUTPUTS)]) == [1]


@both
def test_a_slow_network_within_the_deadline_changes_nothing(way: object) -> None:
    with way(voice()) as (url, faults), Connection(url, timeout_s=5) as connection:  # type: ignore[operator]
        faults.delay_s = 0.02
        connection.served("facefilter")
        assert numbers(connection.infer_all("facefilter", numbered(6), OUTPUTS, in_flight=3)) == list(range(6))


@both
def test_an_endpoint_behind_a_breaking_network_leaves_its_work_to_the_other(way: object) -> None:
    breaking, steady = voice(delay_s=0.002), voice(delay_s=0.002)
    with (
        way(breaking) as (url, faults),  # type: ignore[operator]
        serving(steady) as other,
        Connection([url, other], timeout_s=10) as connection,
    ):
        faults.cuts_after = itertools.chain([400_000], itertools.repeat(1))
        connection.served("facefilter")
        assert numbers(connection.infer_all("facefilter", numbered(80), OUTPUTS, in_flight=6)) == list(range(80))
    assert len(breaking.requests) <= 10 and len(steady.requests) >= 70

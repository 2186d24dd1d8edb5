"""Several endpoints behind one connection, and one connection in the hands of several threads: scripted servers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from fake_triton import FakeTriton, black_hole, changed, nobody, same_voice, serving

from clients.errors import BadSetting, ContractMismatch, ServerUnavailable
from clients.transport.address import Address, addresses_of
from clients.transport.connection import Connection

OUTPUTS = ("speech", "attention")
FACE = np.zeros((224, 224, 3), np.uint8)


def numbered(count: int) -> list[dict[str, np.ndarray]]:
    """Requests that can be told apart by their answers."""
    return [{"mixture": np.full(1_600, number, np.float32), "face": FACE} for number in range(count)]


def numbers(answers: list[dict[str, np.ndarray]]) -> list[float]:
    return [float(answer["speech"][0]) for answer in answers]


def voice(**script: object) -> FakeTriton:
    return FakeTriton({"facefilter": same_voice}, **script)  # type: ignore[arg-type]


def until(condition: object, timeout_s: float = 10.0) -> None:
    """Wait for what happens in another thread."""
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_requests_are_shared_out_among_endpoints() -> None:
    fakes = [voice(delay_s=0.01) for _ in range(3)]
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(fake)) for fake in fakes]
        connection = stack.enter_context(Connection(urls))
        assert numbers(connection.infer_all("facefilter", numbered(60), OUTPUTS, in_flight=6)) == list(range(60))
    assert all(len(fake.requests) >= 12 for fake in fakes)


def test_a_slow_endpoint_gets_less() -> None:
    fast, slow = voice(delay_s=0.005), voice(delay_s=0.2)
    with serving(fast) as first, serving(slow) as second, Connection(f"{first}, {second}") as connection:
        assert numbers(connection.infer_all("facefilter", numbered(60), OUTPUTS, in_flight=4)) == list(range(60))
    assert len(slow.requests) < len(fast.requests) / 3


def test_an_endpoint_that_dies_with_requests_on_the_way_loses_none() -> None:
    dying, other = voice(delay_s=0.3), voice(delay_s=0.01)
    with ExitStack() as stack:
        life = ExitStack()
        urls = [life.enter_context(serving(dying)), stack.enter_context(serving(other))]
        stack.callback(life.close)
        connection = stack.enter_context(Connection(urls))
        connection.served("facefilter")
        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(connection.infer_all, "facefilter", numbered(40), OUTPUTS, 8)
            until(lambda: dying.most_in_flight >= 2)
            life.close()
            assert numbers(found.result(timeout=20)) == list(range(40))


def test_an_endpoint_that_comes_back_gets_requests_again_from_the_same_connection() -> None:
    first, second = voice(), voice()
    with serving(second) as other, ExitStack() as stack:
        with serving(first) as url:
            port = int(url.rpartition(":")[2])
            connection = stack.enter_context(Connection([url, other]))
            connection.infer_all("facefilter", numbered(8), OUTPUTS)
            assert first.requests and second.requests
        assert numbers(connection.infer_all("facefilter", numbered(8), OUTPUTS)) == list(range(8))
        first.requests.clear()
        with serving(first, port=port):

            def asked_again() -> bool:
                connection.infer_all("facefilter", numbered(4), OUTPUTS)
                return bool(first.requests)

            until(asked_again)


def test_one_server_that_was_away_is_found_again_by_the_same_connection() -> None:
    fake = voice()
    with ExitStack() as stack:
        with serving(fake) as url:
            port = int(url.rpartition(":")[2])
            connection = stack.enter_context(Connection(url))
            connection.served("facefilter")
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        with pytest.raises(ServerUnavailable, match=f"No server answers at {url}"):
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        with serving(fake, port=port):
            assert numbers([connection.infer("facefilter", numbered(2)[1], OUTPUTS)]) == [1.0]


def test_a_server_that_was_replaced_by_another_contract_gives_no_answer() -> None:
    other = FakeTriton(
        {"facefilter": same_voice}, configs={"facefilter": changed("facefilter", contract_digest="0" * 64)}
    )
    with ExitStack() as stack:
        with serving(voice()) as url:
            port = int(url.rpartition(":")[2])
            connection = stack.enter_context(Connection(url))
            connection.served("facefilter")
        with pytest.raises(ServerUnavailable):
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        with (
            serving(other, port=port),
            pytest.raises(ContractMismatch, match="by another contract than before: 000000000000"),
        ):
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
    assert not other.requests


def test_endpoints_of_two_contracts_are_refused_with_both_named() -> None:
    other = FakeTriton(
        {"facefilter": same_voice}, configs={"facefilter": changed("facefilter", contract_digest="0" * 64)}
    )
    with serving(voice()) as first, serving(other) as second, Connection([first, second]) as connection:
        with pytest.raises(ContractMismatch, match="Two endpoints serve facefilter by different contracts") as caught:
            connection.served("facefilter")
        assert first in caught.value.seen and second in caught.value.seen


def test_an_endpoint_without_the_model_is_refused() -> None:
    other = FakeTriton({"facefilter_enrolled": same_voice})
    with (
        serving(voice()) as first,
        serving(other) as second,
        Connection([first, second]) as connection,
        pytest.raises(ContractMismatch, match="does not serve facefilter; it serves facefilter_enrolled"),
    ):
        connection.served("facefilter")


def test_an_endpoint_that_is_still_loading_is_left_out() -> None:
    loading = voice(unready={"facefilter": "loading"})
    with serving(loading) as first, serving(voice()) as second, Connection([first, second]) as connection:
        connection.served("facefilter")
        assert numbers(connection.infer_all("facefilter", numbered(8), OUTPUTS)) == list(range(8))
    assert not loading.requests


@pytest.mark.parametrize("absent", [nobody, black_hole])
def test_an_absent_endpoint_delays_nobody_for_long(absent: object) -> None:
    with absent() as first, serving(voice()) as second, Connection([first, second]) as connection:  # type: ignore[operator]
        began = time.monotonic()
        connection.served("facefilter")
        assert time.monotonic() - began < 4
        began = time.monotonic()
        assert numbers(connection.infer_all("facefilter", numbered(20), OUTPUTS)) == list(range(20))
        assert time.monotonic() - began < 2


def test_where_no_endpoint_answers_the_error_names_one_and_what_to_do() -> None:
    with (
        nobody() as first,
        nobody() as second,
        Connection([first, second]) as connection,
        pytest.raises(ServerUnavailable, match="No server answers at 127.0.0.1:") as caught,
    ):
        connection.served("facefilter")
    assert "avedge serve" in caught.value.remedy


def test_all_endpoints_busy_is_told_as_busy_and_not_asked_without_end() -> None:
    full = [(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")] * 50
    fakes = [voice(failures=list(full)) for _ in range(2)]
    with (
        serving(fakes[0]) as first,
        serving(fakes[1]) as second,
        Connection([first, second]) as connection,
        pytest.raises(ServerUnavailable, match="too busy"),
    ):
        connection.infer("facefilter", numbered(1)[0], OUTPUTS)
    assert sum(50 - len(fake.failures) for fake in fakes) == 4


def test_one_connection_serves_several_threads_and_mixes_nothing_up() -> None:
    fakes = [voice(delay_s=0.002) for _ in range(2)]
    with (
        serving(fakes[0]) as first,
        serving(fakes[1]) as second,
        Connection([first, second]) as connection,
        ThreadPoolExecutor(8) as threads,
    ):

        def work(thread: int) -> bool:
            connection.served("facefilter")
            mine = [{"mixture": np.full(800, 1000 * thread + i, np.float32), "face": FACE} for i in range(25)]
            answers = connection.infer_all("facefilter", mine, OUTPUTS, in_flight=1 + thread % 3)
            return numbers(answers) == [1000 * thread + i for i in range(25)]

        assert all(threads.map(work, range(8)))


def test_closing_ends_what_other_threads_wait_for() -> None:
    with serving(voice(delay_s=5.0)) as url, ThreadPoolExecutor(1) as thread:
        connection = Connection(url)
        found = thread.submit(connection.infer, "facefilter", numbered(1)[0], OUTPUTS)
        time.sleep(0.3)
        began = time.monotonic()
        connection.close()
        with pytest.raises(RuntimeError, match="closed while a request was on its way"):
            found.result(timeout=3)
        assert time.monotonic() - began < 2
        with pytest.raises(RuntimeError, match="this connection is closed"):
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)


def test_a_closed_connection_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with serving(voice()) as first, serving(voice()) as second:
        for _ in range(3):
            with Connection([first, second]) as connection:
                connection.served("facefilter")
                connection.infer_all("facefilter", numbered(8), OUTPUTS)
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("avedge")]
    until(lambda: threading.active_count() <= before)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("127.0.0.1:8001", Address("127.0.0.1", 8001)),
        ("grpc://edge.example:9", Address("edge.example", 9)),
        ("grpcs://edge.example:9", Address("edge.example", 9, secure=True)),
        ("http://edge.example", Address("edge.example", 80, http=True)),
        ("https://edge.example/triton/", Address("edge.example", 443, http=True, secure=True, path="/triton")),
        ("[::1]:8001", Address("::1", 8001)),
    ],
)
def test_a_url_says_host_port_and_protocol(url: str, wanted: Address) -> None:
    assert addresses_of(url) == (wanted,)


def test_only_this_machine_is_this_machine() -> None:
    own = ("localhost:1", "127.0.0.1:1", "127.8.9.10:1", "[::1]:1")
    assert all(address.is_loopback for address in addresses_of(own))
    others = ("127.example.org:1", "127.0.0.1.example.org:1", "10.0.0.1:1", "[fe80::1]:1", "localhost.example.org:1")
    assert not any(address.is_loopback for address in addresses_of(others))


def test_several_urls_may_stand_in_a_list_or_behind_commas() -> None:
    assert addresses_of(["a:1", "b:2", "a:1"]) == addresses_of("a:1,b:2") == (Address("a", 1), Address("b", 2))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://a:1", "begins with ftp://"),
        ("a:70000", "port that is no number from 1 to 65535"),
        ("a:eight", "port that is no number from 1 to 65535"),
        ("a:0", "the port 0"),
        ("a", "no port"),
        (":8001", "no host"),
        ("", "no host"),
        ("a b:1", "spaces in it"),
        ("a:1/v2", "path, which gRPC does not know"),
        ("http://me:secret@a:1", "a user, a query or a fragment"),
        (f"http://{64 * 'a'}.example:1", "cannot be sent"),
        (".example:1", "cannot be sent"),
        ("http://a:1/\xe9", "cannot be sent"),
        ("a:1,,b:2", "no host"),
        ("[::1:8001", "is none"),
        ("a\x1b[31m:1", r"\\x1b"),
    ],
)
def test_a_url_by_which_nothing_can_be_reached_is_refused(url: str, said: str) -> None:
    with pytest.raises(BadSetting, match=said) as caught:
        addresses_of(url)
    assert caught.value.exit_code == 2 and "8001" in caught.value.remedy and "secret" not in str(caught.value)


def test_no_url_is_refused() -> None:
    with pytest.raises(BadSetting, match="No URL was given"):
        Connection([])


def test_certificates_and_a_url_without_tls_do_not_go_together() -> None:
    with pytest.raises(BadSetting, match="without TLS, and certificates were given"):
        addresses_of("http://a:1", secure=True)
    assert addresses_of("a:1", secure=True) == (Address("a", 1, secure=True),)

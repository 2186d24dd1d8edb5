"""HTTP obeys the laws of gRPC: the same answers, errors and deadlines, from scripted servers."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from fake_http import serving_http
from fake_triton import FakeTriton, black_hole, changed, crowd_of, nobody, same_voice, serving
from test_clients_transport_endpoints import FACE, OUTPUTS, numbered, numbers, voice

from clients.errors import ClientError, ContractMismatch, ServerUnavailable, Timeout
from clients.transport.address import addresses_of
from clients.transport.cancellation import Cancellation
from clients.transport.connection import Connection
from clients.transport.failures import CallFailed
from clients.transport.http_wire import HttpWire


@contextmanager
def connected(fake: FakeTriton, timeout_s: float = 10.0) -> Iterator[Connection]:
    with serving_http(fake) as place, Connection(f"http://{place}", timeout_s=timeout_s) as connection:
        yield connection


def test_http_describes_and_answers_as_grpc_does() -> None:
    density = np.random.default_rng(0).random((72, 128))
    fake = FakeTriton({"crowd_counting_vision": crowd_of(density)})
    request = {"picture": np.random.default_rng(1).integers(0, 255, (576, 1024, 3), np.uint8)}
    outputs = ("count", "density", "patch_counts")
    with serving(fake) as url, Connection(url) as by_grpc, connected(fake) as by_http:
        assert by_http.served("crowd_counting_vision") == by_grpc.served("crowd_counting_vision")
        wanted, found = (one.infer("crowd_counting_vision", request, outputs) for one in (by_grpc, by_http))
    assert fake.requests[0].keys() == fake.requests[1].keys()
    np.testing.assert_array_equal(fake.requests[0]["picture"], fake.requests[1]["picture"])
    for name in outputs:
        np.testing.assert_array_equal(found[name], wanted[name])
        assert found[name].dtype == wanted[name].dtype


def test_answers_keep_their_order_and_connections_are_used_again() -> None:
    fake = voice(delay_s=0.005)
    with connected(fake) as connection:
        assert numbers(connection.infer_all("facefilter", numbered(30), OUTPUTS, in_flight=3)) == list(range(30))
        (wire,) = (endpoint.wire for endpoint in connection._fleet.endpoints)
        assert 1 <= len(wire._idle) <= 3


def test_a_proxy_may_want_a_path_in_front() -> None:
    with serving_http(voice(), prefix="/edge/triton") as place, Connection(f"http://{place}") as connection:
        connection.served("facefilter")
        assert numbers([connection.infer("facefilter", numbered(2)[1], OUTPUTS)]) == [1.0]


def test_http_and_grpc_endpoints_may_be_mixed() -> None:
    fakes = [voice(delay_s=0.005), voice(delay_s=0.005)]
    with (
        serving(fakes[0]) as url,
        serving_http(fakes[1]) as place,
        Connection([url, f"http://{place}"]) as connection,
    ):
        connection.served("facefilter")
        assert numbers(connection.infer_all("facefilter", numbered(20), OUTPUTS)) == list(range(20))
    assert all(len(fake.requests) > 3 for fake in fakes)


def ask(connection: Connection) -> None:
    connection.served("facefilter")
    connection.infer("facefilter", numbered(1)[0], OUTPUTS)


def failure_of(connection: Connection) -> ClientError:
    with pytest.raises(ClientError) as caught:
        ask(connection)
    return caught.value


NAN = FakeTriton({"facefilter": lambda inputs: same_voice(inputs) | {"speech": inputs["mixture"] * np.nan}})
OTHER = FakeTriton({"facefilter": same_voice}, configs={"facefilter": changed("facefilter", contract_version="2")})


@pytest.mark.parametrize(
    ("fake", "said"),
    [
        (voice(live=False), "not ready: it says that it is not live"),
        (voice(unready={"facefilter": "loading a part"}), "facefilter: UNAVAILABLE loading a part"),
        (FakeTriton({"facefilter_enrolled": same_voice}), "does not serve facefilter; it serves facefilter_enrolled"),
        (OTHER, "its contract_version is '2'"),
        (NAN, "speech of model facefilter holds values that are no numbers"),
        (
            voice(failures=[(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape")] * 4),
            "refused the request (INVALID_ARGUMENT): unexpected shape",
        ),
        (
            voice(failures=[(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")] * 8),
            "too busy: Exceeds maximum queue size",
        ),
        (voice(failures=[(grpc.StatusCode.UNAVAILABLE, "shutting down")] * 8), "No server answers"),
    ],
)
def test_every_failure_is_told_as_by_grpc(fake: FakeTriton, said: str) -> None:
    failures = list(fake.failures)
    with serving(fake) as url, Connection(url) as connection:
        by_grpc = failure_of(connection)
    fake.failures = list(failures)
    with connected(fake) as connection:
        by_http = failure_of(connection)
        left = len(fake.failures)
    assert said in by_http.seen and said in by_grpc.seen
    assert type(by_http) is type(by_grpc)
    if failures:
        assert len(failures) - left == (1 if isinstance(by_http, ContractMismatch) else 4)


def test_a_server_that_comes_back_is_asked_again() -> None:
    fake = voice(failures=[(grpc.StatusCode.UNAVAILABLE, "shutting down")] * 3)
    with connected(fake) as connection:
        assert numbers([connection.infer("facefilter", numbered(1)[0], OUTPUTS)]) == [0.0]


def test_a_slow_server_is_left_at_the_deadline() -> None:
    with connected(voice(delay_s=3.0), timeout_s=0.3) as connection:
        began = time.monotonic()
        with pytest.raises(Timeout, match=r"no answer within 0.3 s"):
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        assert 0.25 < time.monotonic() - began < 0.8


@pytest.mark.parametrize("absent", [nobody, black_hole])
def test_an_absent_server_is_reported_within_the_deadline(absent: object) -> None:
    with absent() as place, Connection(f"http://{place}", timeout_s=0.5) as connection:  # type: ignore[operator]
        began = time.monotonic()
        with pytest.raises(ServerUnavailable, match=f"No server answers at http://{place}"):
            connection.served("facefilter")
        assert time.monotonic() - began < 2


def test_an_idle_connection_that_the_server_closed_is_no_failure() -> None:
    fake = voice()
    with connected(fake) as connection:
        connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        (wire,) = (endpoint.wire for endpoint in connection._fleet.endpoints)
        wire._idle[0].sock.shutdown(socket.SHUT_RD)  # what the server's closing looks like from here
        spent = connection._fleet.budget._credit
        assert numbers([connection.infer("facefilter", numbered(2)[1], OUTPUTS)]) == [1.0]
        assert connection._fleet.budget._credit >= spent, "no retry was needed"


def test_leaving_a_stream_ends_what_is_on_the_way() -> None:
    with connected(voice(delay_s=3.0)) as connection:
        began = time.monotonic()
        stream = connection.infer_stream("facefilter", numbered(8), OUTPUTS, in_flight=4)
        threading.Timer(0.2, connection.close).start()
        with pytest.raises(RuntimeError, match="closed while a request was on its way"):
            next(stream)
        assert time.monotonic() - began < 2


@contextmanager
def saying(answer: bytes, *, hangs_up: bool = False) -> Iterator[str]:
    """A server that answers whatever it is asked with the same bytes, and closes: at once, or when asked again."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()

        def serve() -> None:
            while True:
                try:
                    caller, _ = door.accept()
                except OSError:
                    return
                with caller, caller.makefile("rb") as asked:
                    head = b"".join(iter(asked.readline, b"\r\n"))  # all of it: closing with bytes unread is a reset
                    asked.read(int(re.search(rb"Content-Length: (\d+)", head)[1]))
                    caller.sendall(answer)
                    if hangs_up:
                        caller.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        door.shutdown(socket.SHUT_RDWR)
        thread.join()


def http(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    size = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join([b"HTTP/1.1 200 OK", size, *headers, b"", body])


JSON = b'{"outputs":[{"name":"speech","datatype":"FP32","shape":[1,%d],"parameters":{"binary_data_size":%d}}]}'


NO_DESCRIPTIONS = [
    b"<html>hello</html>",
    b"{}",
    b"[]",
    b"7",
    b'{"inputs": [{}], "outputs": 1}',
    b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [Infinity]}], "outputs": []}',
    100_000 * b"[",
]


@pytest.mark.parametrize("content", NO_DESCRIPTIONS)
def test_a_description_that_is_none_is_refused(content: bytes) -> None:
    with saying(http(content)) as url, serving(voice()) as other:
        for urls in (url, [url, other]):
            with (
                Connection(urls, timeout_s=2) as connection,
                pytest.raises(ContractMismatch, match="does not describe"),
            ):
                connection.served("facefilter")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http(b"<html>a router's page</html>"), "not made as KServe's protocol says"),
        (http(JSON % (2, 8), b"Inference-Header-Content-Length: 99999999"), "not made as KServe's protocol says"),
        (http(JSON % (2, 8), b"Inference-Header-Content-Length: %d" % len(JSON % (2, 8))), "8 bytes for FP32"),
        (http(JSON % (3, 8) + bytes(8), b"Inference-Header-Content-Length: %d" % len(JSON % (3, 8))), "8 bytes for"),
        (http(JSON % (-1, -4), b"Inference-Header-Content-Length: %d" % len(JSON % (-1, -4))), "-4 bytes for"),
        (http(100_000 * b"[", b"Inference-Header-Content-Length: 100000"), "not made as KServe's protocol says"),
        (http(b"{}", length=99), "the answer ended 97 bytes too early"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "No server answers"),
        (b"", "No server answers"),
    ],
)
def test_an_answer_that_is_none_is_refused(answer: bytes, said: str) -> None:
    with saying(answer) as url, Connection(url, timeout_s=2) as connection, pytest.raises(ClientError) as caught:
        connection.infer("facefilter", {"mixture": np.ones(2, np.float32), "face": FACE}, ["speech"])
    assert said in caught.value.seen


def test_a_server_that_closes_what_was_kept_open_is_asked_again_at_once() -> None:
    good = http(JSON % (2, 8) + bytes(8), b"Inference-Header-Content-Length: %d" % len(JSON % (2, 8)))
    request = {"mixture": np.ones(2, np.float32), "face": FACE}
    with saying(good, hangs_up=True) as url:
        wire = HttpWire(addresses_of(url)[0], None)
        for _ in range(3):
            np.testing.assert_array_equal(wire.infer("m", request, ["speech"], 2.0, Cancellation())["speech"], [0, 0])
        wire.close()
    with saying(b"") as url, pytest.raises(CallFailed, match="UNAVAILABLE"):  # not so what was opened for the question
        HttpWire(addresses_of(url)[0], None).infer("m", request, ["speech"], 2.0, Cancellation())

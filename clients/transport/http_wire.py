"""Calls to one endpoint by HTTP, waiting; for networks that let nothing else through.

It stands on the standard library, because tritonclient's HTTP client has no deadline for a call, cannot cancel one, and
needs gevent.
"""

from __future__ import annotations

import io
import json
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any

from clients.errors import printable
from clients.transport.address import Address
from clients.transport.cancellation import Cancellation
from clients.transport.deadline import left_s
from clients.transport.enquiry import Enquiry
from clients.transport.failures import CallFailed
from clients.transport.http_messages import (
    JSON_LENGTH,
    NO_JSON,
    batches_of,
    raise_unless_ok,
    ready,
    request_of,
    unready,
)
from clients.transport.tensors import Answer, Tensors, only_item, wrong_answer
from clients.transport.tls import Tls, told_by_tls

_CONNECT_TIMEOUT_S = 5.0
_BLOCK_BYTES = 1 << 20
_LARGEST_ANSWER_BYTES = 2**31 - 1


class HttpWire:
    """Connections to one server, kept open and used again; may be used by several threads."""

    def __init__(self, address: Address, tls: Tls | None) -> None:
        self._address, self._tls = address, tls or Tls()
        self._context = self._tls.context() if address.secure else None
        self._lock = threading.Lock()
        self._idle: list[HTTPConnection] = []
        self._busy: set[HTTPConnection] = set()
        self._closed = False

    def look_up(
        self, model: str, connect_timeout_s: float, timeout_s: float, cancellation: Cancellation | None = None
    ) -> Enquiry:
        """Ask whether the server lives, the model is ready, and what it is like; CallFailed where nothing answers."""
        deadline, ended_by = time.monotonic() + timeout_s, cancellation or Cancellation()
        try:
            live = self._says_yes("v2/health/live", connect_timeout_s, ended_by)
        except CallFailed as failure:
            if failure.status == "DEADLINE_EXCEEDED":
                failure = CallFailed("UNAVAILABLE", f"no sign of life within {connect_timeout_s:.1f} s")
            raise told_by_tls(failure, self._address, self._tls, connect_timeout_s) from failure.__cause__
        if not live:
            return Enquiry(live=False)
        try:
            if not self._says_yes(f"v2/models/{model}/ready", left_s(deadline), ended_by):
                return unready(self._json("POST", "v2/repository/index", left_s(deadline), ended_by))
            metadata = self._json("GET", f"v2/models/{model}", left_s(deadline), ended_by)
            return ready(model, metadata, self._json("GET", f"v2/models/{model}/config", left_s(deadline), ended_by))
        except (*NO_JSON, AttributeError) as error:
            seen = f"{self._address} does not describe model {model} as KServe's protocol says ({error!r})"
            raise CallFailed("UNFIT", "", wrong_answer(printable(seen), "JSON with its tensors and config")) from error

    def infer(
        self, model: str, inputs: Tensors, outputs: Sequence[str], timeout_s: float, cancellation: Cancellation
    ) -> Answer:
        """One item's answer, checked; CallFailed where there is none."""
        head, tensors = request_of(inputs, outputs)
        headers = {JSON_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        answer, content = self._exchange(
            "POST", f"v2/models/{model}/infer", timeout_s, cancellation, (head, *tensors), headers
        )
        raise_unless_ok(answer.status, content)
        batches = batches_of(model, answer.getheader(JSON_LENGTH), content)
        return {name: only_item(model, name, batches.get(name)) for name in outputs}

    def close(self) -> None:
        """Close the connections; what is on its way is cancelled."""
        with self._lock:
            self._closed = True
            busy, idle, self._idle = list(self._busy), self._idle, []
        for connection in busy:
            _break(connection)
        for connection in idle:
            connection.close()

    def _says_yes(self, path: str, timeout_s: float, cancellation: Cancellation) -> bool:
        """Whether the server is what the path asks: 200 for yes, 400 or (for a model that is not there) 404 for no."""
        answer, content = self._exchange("GET", path, timeout_s, cancellation)
        if answer.status not in (400, 404):
            raise_unless_ok(answer.status, content)
        return answer.status == 200

    def _json(self, method: str, path: str, timeout_s: float, cancellation: Cancellation) -> Any:
        answer, content = self._exchange(method, path, timeout_s, cancellation)
        raise_unless_ok(answer.status, content)
        return json.loads(content)

    def _exchange(
        self,
        method: str,
        path: str,
        timeout_s: float,
        cancellation: Cancellation,
        body: Sequence[Any] = (),
        headers: dict[str, str] | None = None,
    ) -> tuple[HTTPResponse, bytes]:
        """One request and its answer; sent anew where the server had just closed the connection, being idle."""
        deadline = time.monotonic() + timeout_s
        length = {"Content-Length": str(sum(map(len, body)))}
        while True:
            connection = self._take()
            kept, answer = connection.sock is not None, None
            try:
                with cancellation.ends(partial(_break, connection)):
                    _connect(connection, deadline)
                    self._require_wanted(cancellation)
                    connection.request(method, f"{self._address.path}/{path}", body, {**length, **(headers or {})})
                    answer = connection.getresponse()
                    content = _read(answer)
                self._give_back(connection, usable=True)
                return answer, content
            except TimeoutError as error:
                raise CallFailed("DEADLINE_EXCEEDED", "no answer in time") from error
            except (OSError, HTTPException) as error:
                if kept and answer is None and isinstance(error, ConnectionError) and not self._closed:
                    continue
                raise CallFailed("UNAVAILABLE", str(error) or type(error).__name__) from error
            finally:
                self._give_back(connection, usable=False)

    def _take(self) -> HTTPConnection:
        """An idle connection that the server has not closed meanwhile, or a new one."""
        while True:
            with self._lock:
                if self._closed:
                    raise CallFailed("CANCELLED", "the connection is closed")
                connection = self._idle.pop() if self._idle else self._new()
                self._busy.add(connection)
            if connection.sock is None or not _has_something_to_read(connection.sock):
                return connection
            self._give_back(connection, usable=False)

    def _new(self) -> HTTPConnection:
        host, port = self._address.host, self._address.port
        return HTTPSConnection(host, port, context=self._context) if self._context else HTTPConnection(host, port)

    def _give_back(self, connection: HTTPConnection, *, usable: bool) -> None:
        """Keep a connection for the next call, or close it; what was given back already stays as it is."""
        with self._lock:
            if connection not in self._busy:
                return
            self._busy.discard(connection)
            keep = usable and not self._closed
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def _require_wanted(self, cancellation: Cancellation) -> None:
        """Do not go on with a connection that was to be ended while it was made: there was nothing to break yet."""
        cancellation.raise_if_cancelled()
        if self._closed:
            raise CallFailed("CANCELLED", "the connection was closed")


def _connect(connection: HTTPConnection, deadline: float) -> None:
    """Connect where needed, and let the connection wait no longer than what is left of the time."""
    if connection.sock is None:
        connection.timeout = min(left_s(deadline), _CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except TimeoutError as error:
            raise OSError(f"no connection within {connection.timeout:.1f} s") from error
    connection.sock.settimeout(left_s(deadline))  # for all that is sent
    connection.response_class = partial(_TimedResponse, deadline)  # type: ignore[assignment]  # it is only called


class _TimedResponse(HTTPResponse):
    """An answer whose head and content have to be there by a deadline."""

    def __init__(self, deadline: float, sock: socket.socket, debuglevel: int = 0, method: str | None = None) -> None:
        super().__init__(sock, debuglevel, method)
        self.fp = io.BufferedReader(_Pieces(self.fp.detach(), sock, deadline))


class _Pieces(io.RawIOBase):
    """What comes from a socket until a deadline; a socket's own timeout begins anew with every piece, however small."""

    def __init__(self, pieces: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._pieces, self._sock, self._deadline = pieces, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() >= self._deadline:
            raise TimeoutError
        self._sock.settimeout(left_s(self._deadline))
        return self._pieces.readinto(buffer)

    def close(self) -> None:
        self._pieces.close()
        super().close()


def _read(answer: HTTPResponse) -> bytes:
    """The whole content."""
    blocks, size = [], 0
    while block := answer.read(_BLOCK_BYTES):
        blocks.append(block)
        size += len(block)
        if size > _LARGEST_ANSWER_BYTES:
            raise HTTPException(f"the answer has more than {_LARGEST_ANSWER_BYTES:,} bytes")
    if answer.length:  # asked for a part, http.client keeps silent on an end that came too early
        raise HTTPException(f"the answer ended {answer.length:,} bytes too early")
    return b"".join(blocks)


def _has_something_to_read(sock: socket.socket) -> bool:
    """True for an idle connection only if its other end has closed it."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _break(connection: HTTPConnection) -> None:
    """End whatever a connection does, from another thread."""
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

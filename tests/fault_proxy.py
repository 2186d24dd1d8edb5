"""A TCP proxy in front of a server, that breaks connections as a test tells it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 seconds: closing sends RST


@dataclass
class Faults:
    """What happens to bytes; may be changed at any time."""

    target: tuple[str, int]
    cuts_after: Iterator[int] = field(default_factory=lambda: iter(()))  # for every further connection: bytes until RST
    silent: bool = False  # everything that arrives is swallowed
    delay_s: float = 0.0  # for every piece, each way
    connections: int = 0


@contextmanager
def faulty(url: str) -> Iterator[tuple[str, Faults]]:
    """Stand before the server at host:port; gives the proxy's host:port."""
    host, port = url.split(":")
    faults = Faults((host, int(port)))
    ends: list[socket.socket] = []
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(64)
        thread = threading.Thread(target=_accept, args=(door, faults, ends), daemon=True)
        thread.start()
        yield f"127.0.0.1:{door.getsockname()[1]}", faults
        door.shutdown(socket.SHUT_RDWR)
        thread.join()
    for end in ends:
        _break(end)


def _accept(door: socket.socket, faults: Faults, ends: list[socket.socket]) -> None:
    while True:
        try:
            caller, _ = door.accept()
        except OSError:
            return
        faults.connections += 1
        limit = next(faults.cuts_after, None)
        try:
            server = socket.create_connection(faults.target)
        except OSError:
            _break(caller)
            continue
        ends += [caller, server]
        passed = [0]
        for source, sink in ((caller, server), (server, caller)):
            threading.Thread(target=_pass, args=(source, sink, faults, limit, passed), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, faults: Faults, limit: int | None, passed: list[int]) -> None:
    """Copy one way, until the connection ends or has passed its limit."""
    with suppress(OSError):
        while block := source.recv(1 << 16):
            time.sleep(faults.delay_s)
            if faults.silent:
                continue
            if limit is not None and passed[0] + len(block) >= limit:
                sink.sendall(block[: limit - passed[0]])
                break
            passed[0] += len(block)
            sink.sendall(block)
    _break(source)
    _break(sink)


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RDWR)
    end.close()

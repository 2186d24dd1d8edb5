"""How requests and answers travel: plain bytes to LitServe and FastAPI, the KServe protocol to both Tritons.

All contenders get binary tensors in the body of an HTTP/1.1 request. LitServe's and FastAPI's own examples send JSON
with base64 or multipart forms; raw bytes one after the other are the fastest that both accept, so they get these.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train import settings

Array = NDArray[Any]
HOST = "127.0.0.1"
OCTETS = "application/octet-stream"
_JSON_LENGTH = "inference-header-content-length"
_DATATYPES = {"float32": "FP32", "uint8": "UINT8"}
_FIRST_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Workload:
    """One chain of models that every contender serves.

    Attributes:
        name: of the ensemble, and of every peer's endpoint.
        inputs: name, type and shape in the order of the plain body; -1 is a length that only the last may have.
        outputs: names in the order of the plain answer, all float32.
        face: the input whose repetition a server may remember; empty where there is none.
    """

    name: str
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[str, ...]
    face: str = ""

    def pack(self, request: Mapping[str, Array]) -> bytes:
        """The tensors of one request as a plain body."""
        return b"".join(np.ascontiguousarray(request[name], dtype).tobytes() for name, dtype, _ in self.inputs)

    def unpack(self, body: bytes) -> dict[str, Array]:
        """The inverse of `pack`; views into the body.

        Raises:
            ValueError: the body does not hold these tensors.
        """
        found, offset = {}, 0
        for name, dtype, shape in self.inputs:
            count = -1 if -1 in shape else math.prod(shape)
            found[name] = np.frombuffer(body, dtype, count, offset).reshape(shape)
            offset += found[name].nbytes
        if offset != len(body):
            raise ValueError(f"{len(body)} bytes for {self.name}; its inputs hold {offset}")
        return found

    def pack_answer(self, answer: Mapping[str, Array]) -> bytes:
        """The tensors of one answer as a plain body."""
        return b"".join(np.ascontiguousarray(answer[name], np.float32).tobytes() for name in self.outputs)

    def unpack_answer(self, body: bytes, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
        """The inverse of `pack_answer` for answers of known shapes.

        Raises:
            ValueError: the body does not hold them.
        """
        found, offset = {}, 0
        for name in self.outputs:
            found[name] = np.frombuffer(body, np.float32, math.prod(shapes[name]), offset).reshape(shapes[name])
            offset += found[name].nbytes
        if offset != len(body):
            raise ValueError(f"{len(body)} bytes as an answer of {self.name}; {offset} were due")
        return found


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "facefilter",
            (("face", "uint8", (settings.FACE_SIZE, settings.FACE_SIZE, 3)), ("mixture", "float32", (-1,))),
            ("attention", "speech"),
            face="face",
        ),
        Workload(
            "crowd_counting",
            (
                ("picture", "uint8", (settings.PICTURE_HEIGHT, settings.PICTURE_WIDTH, 3)),
                ("sound", "float32", (settings.SOUND_SAMPLES,)),
            ),
            ("count", "density"),
        ),
    )
}


def post(path: str, body: bytes, **headers: str | int) -> bytes:
    """A whole HTTP/1.1 request; underscores of the header names become dashes."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def plain_request(workload: Workload, request: Mapping[str, Array]) -> bytes:
    """One request as LitServe and FastAPI get it."""
    return post(f"/{workload.name}", workload.pack(request), Content_Type=OCTETS)


def kserve_request(workload: Workload, request: Mapping[str, Array]) -> bytes:
    """One request in the KServe protocol with its binary extension, as both Tritons get it."""
    tensors = [(name, np.ascontiguousarray(request[name], dtype)[None]) for name, dtype, _ in workload.inputs]
    inputs = [
        {
            "name": name,
            "shape": list(tensor.shape),
            "datatype": _DATATYPES[str(tensor.dtype)],
            "parameters": {"binary_data_size": tensor.nbytes},
        }
        for name, tensor in tensors
    ]
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in workload.outputs]
    header = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    body = header + b"".join(tensor.tobytes() for _, tensor in tensors)
    path = f"/v2/models/{workload.name}/infer"
    return post(path, body, Content_Type=OCTETS, Inference_Header_Content_Length=len(header))


def kserve_answer(headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
    """The tensors of an answer in the KServe protocol, without the batch axis."""
    offset = int(headers[_JSON_LENGTH])
    found = {}
    for output in json.loads(body[:offset])["outputs"]:
        count = math.prod(output["shape"])
        found[output["name"]] = np.frombuffer(body, np.float32, count, offset).reshape(output["shape"][1:])
        offset += output["parameters"]["binary_data_size"]
    return found


@dataclass
class Line:
    """One persistent HTTP connection that sends bytes made beforehand, and does as little as it can with answers."""

    port: int
    timeout_s: float = 30.0
    _socket: socket.socket = field(init=False, repr=False)
    _buffer: bytearray = field(init=False, repr=False, default_factory=lambda: bytearray(_FIRST_BUFFER_BYTES))

    def __post_init__(self) -> None:
        """Connect."""
        self._socket = socket.create_connection((HOST, self.port), self.timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def exchange(self, request: bytes | bytearray) -> tuple[int, bytes, memoryview]:
        """Send a request and wait for the whole answer.

        Returns:
            status; head of the answer; body, valid until the next exchange.

        Raises:
            OSError: the connection broke, or the answer took too long.
            ValueError: an answer without its length.
        """
        self._socket.sendall(request)
        filled, end = 0, -1
        while end < 0:
            filled = self._receive(filled)
            end = self._buffer.find(b"\r\n\r\n", 0, filled)
        head = bytes(self._buffer[:end])
        start, length = end + 4, _content_length(head)
        while filled < start + length:
            filled = self._receive(filled)
        return int(head[9:12]), head, memoryview(self._buffer)[start : start + length]

    def _receive(self, filled: int) -> int:
        if filled == len(self._buffer):
            self._buffer = self._buffer + bytes(len(self._buffer))
        count = self._socket.recv_into(memoryview(self._buffer)[filled:])
        if not count:
            raise ConnectionError("the server hung up before its answer was whole")
        return filled + count


def _content_length(head: bytes) -> int:
    start = head.lower().find(b"\r\ncontent-length:")
    if start < 0:
        raise ValueError(f"an answer without Content-Length: {head[:80]!r}")
    return int(head[start + len(b"\r\ncontent-length:") :].split(b"\r\n", 1)[0])


def headers_of(head: bytes) -> dict[str, str]:
    """The header lines of an answer, names in lower case."""
    pairs = (line.split(":", 1) for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, value in pairs}


def relative_error(seen: Mapping[str, Array], wanted: Mapping[str, Array], names: Sequence[str]) -> float:
    """The largest RMS difference of any output from what was wanted, as a share of its RMS."""
    return max(
        float(np.sqrt(np.mean(np.square(seen[name] - wanted[name])) / np.mean(np.square(wanted[name]))))
        for name in names
    )

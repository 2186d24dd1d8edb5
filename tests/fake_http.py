"""KServe's HTTP front end before a scripted server: JSON and tensors as bytes, written from the protocol's description.

POST v2/models/NAME/infer      Inference-Header-Content-Length: bytes of JSON, behind which the tensors follow
"""

from __future__ import annotations

import json
import math
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from fake_triton import TYPES, FakeTriton
from google.protobuf import json_format
from tritonclient.grpc import service_pb2

JSON_LENGTH = "Inference-Header-Content-Length"
STATUSES = {grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.NOT_FOUND: 404}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    fake: FakeTriton
    prefix: str
    connections: list[Any]

    def setup(self) -> None:
        super().setup()
        self.connections.append(self.connection)

    def log_message(self, *words: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        match self.path.removeprefix(self.prefix).strip("/").split("/"):
            case ["v2", "health", "live"]:
                self.send(200 if self.fake.live else 400)
            case ["v2", "repository", "index"]:
                found = self.fake.RepositoryIndex(None, None)
                self.send(200, json_format.MessageToDict(found).get("models", []))
            case ["v2", "models", name, "ready"]:
                self.send(200 if name in self.fake.configs and name not in self.fake.unready else 400)
            case ["v2", "models", name, "config"]:
                self.send(200, json_format.MessageToDict(self.fake.configs[name], preserving_proto_field_name=True))
            case ["v2", "models", name, "infer"]:
                self.infer(name, body)
            case ["v2", "models", name]:
                found = self.fake.ModelMetadata(service_pb2.ModelMetadataRequest(name=name), None)
                self.send(200, json_format.MessageToDict(found))
            case _:
                self.send(404, {"error": f"no such path: {self.path}"})

    def infer(self, name: str, body: bytes) -> None:
        begin = int(self.headers[JSON_LENGTH])
        asked, inputs = json.loads(body[:begin]), {}
        for tensor in asked["inputs"]:
            size, kind = tensor["parameters"]["binary_data_size"], np.dtype(TYPES[tensor["datatype"]])
            assert size == math.prod(tensor["shape"]) * kind.itemsize
            inputs[tensor["name"]] = np.frombuffer(body[begin : begin + size], kind).reshape(tensor["shape"])[0]
            begin += size
        assert begin == len(body)
        assert all(output["parameters"] == {"binary_data": True} for output in asked["outputs"])
        time.sleep(self.fake.delay_s)
        if self.fake.failures:
            status, said = self.fake.failures.pop(0)
            return self.send(STATUSES[status], {"error": said})
        self.fake.requests.append(inputs)
        found = self.fake.answers[name](inputs)
        tensors = [np.asarray(found[output["name"]], np.float32)[None] for output in asked["outputs"]]
        described = [
            {
                "name": output["name"],
                "datatype": "FP32",
                "shape": tensor.shape,
                "parameters": {"binary_data_size": tensor.nbytes},
            }
            for output, tensor in zip(asked["outputs"], tensors, strict=True)
        ]
        return self.send(200, {"model_name": name, "outputs": described}, b"".join(map(np.ndarray.tobytes, tensors)))

    def send(self, status: int, said: Any = None, tensors: bytes = b"") -> None:
        head = b"" if said is None else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(head) + len(tensors)))
        if tensors:
            self.send_header(JSON_LENGTH, str(len(head)))
        self.end_headers()
        self.wfile.write(head + tensors)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no news."""


@contextmanager
def serving_http(fake: FakeTriton, context: ssl.SSLContext | None = None, prefix: str = "") -> Iterator[str]:
    """Serve on a free port of the loopback; gives host, port and path. At the end, connections are broken off."""
    connections: list[Any] = []
    kind = type("Bound", (Handler,), {"fake": fake, "prefix": prefix, "connections": connections})
    server = Server(("127.0.0.1", 0), kind)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
        for connection in connections:
            connection.close()
        thread.join()

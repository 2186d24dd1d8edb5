"""A KServe gRPC server on tritonclient's own servicer class: it serves the committed configs, as a test tells it.

Only the models' answers are invented here; names, types, shapes and facts come from `model_repository/`.
"""

from __future__ import annotations

import mmap
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

REPOSITORY = Path(__file__).resolve().parents[1] / "model_repository"
TYPES = {"FP32": np.float32, "UINT8": np.uint8}

Answer = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def committed_config(model: str) -> Any:
    """The config that a real server would read."""
    return text_format.Parse((REPOSITORY / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def changed(model: str, **facts: str | None) -> Any:
    """A committed config with other facts."""
    config = committed_config(model)
    for name, value in facts.items():
        if value is None:
            del config.parameters[name]
        else:
            config.parameters[name].string_value = value
    return config


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Scripted server.

    answers: what each model computes, from its inputs without the batch axis.
    failures: status and text for the next calls of ModelInfer, used up one by one.
    """

    answers: dict[str, Answer]
    configs: dict[str, Any] = field(default_factory=dict)
    live: bool = True
    unready: dict[str, str] = field(default_factory=dict)  # model to the reason
    failures: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    delay_s: float = 0.0
    requests: list[dict[str, np.ndarray]] = field(default_factory=list)
    most_in_flight: int = 0
    cancelled: int = 0  # requests whose caller did not wait for the answer
    shares: bool = True  # takes part in shared memory
    regions: dict[str, mmap.mmap] = field(default_factory=dict)
    registered: int = 0

    def __post_init__(self) -> None:
        self.configs = {model: committed_config(model) for model in self.answers} | self.configs
        self._lock = threading.Lock()
        self._in_flight = 0

    def ServerLive(self, request: Any, context: grpc.ServicerContext) -> Any:
        return service_pb2.ServerLiveResponse(live=self.live)

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        ready = request.name in self.configs and request.name not in self.unready
        return service_pb2.ModelReadyResponse(ready=ready)

    def RepositoryIndex(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = service_pb2.RepositoryIndexResponse()
        for model in self.configs:
            state = "UNAVAILABLE" if model in self.unready else "READY"
            answer.models.add(name=model, state=state, reason=self.unready.get(model, ""))
        return answer

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        config = self.configs[request.name]
        answer = service_pb2.ModelMetadataResponse(name=request.name, versions=["1"], platform="ensemble")
        for tensors, described in ((config.input, answer.inputs), (config.output, answer.outputs)):
            for tensor in tensors:
                datatype = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
                described.add(name=tensor.name, datatype=datatype, shape=[-1, *tensor.dims])
        return answer

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        return service_pb2.ModelConfigResponse(config=self.configs[request.name])

    def SystemSharedMemoryStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = service_pb2.SystemSharedMemoryStatusResponse()
        for name in self.regions:
            answer.regions[name].name = name
        return answer

    def SystemSharedMemoryRegister(self, request: Any, context: grpc.ServicerContext) -> Any:
        if not self.shares:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "shared memory is switched off")
        with open(f"/dev/shm{request.key}", "r+b") as file:
            self.regions[request.name] = mmap.mmap(file.fileno(), request.byte_size)
        self.registered += 1
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.regions.pop(request.name, None)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            failure = self.failures.pop(0) if self.failures else None
        try:
            time.sleep(self.delay_s)
            if not context.is_active():
                self.cancelled += 1
            if failure:
                context.abort(*failure)
            return self._answer(request, context)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        inputs, contents = {}, iter(request.raw_input_contents)
        for tensor in request.inputs:
            if "shared_memory_region" in tensor.parameters:
                where = {name: value.string_param or value.int64_param for name, value in tensor.parameters.items()}
                if where["shared_memory_region"] not in self.regions:
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Unable to find shared memory region: 'it'")
                begin = where.get("shared_memory_offset", 0)
                region = self.regions[where["shared_memory_region"]]
                raw = region[begin : begin + where["shared_memory_byte_size"]]
            else:
                raw = next(contents)
            inputs[tensor.name] = np.frombuffer(raw, TYPES[tensor.datatype]).reshape(tensor.shape)[0]
        with self._lock:
            self.requests.append(inputs)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        outputs = self.answers[request.model_name](inputs)
        for name in (tensor.name for tensor in request.outputs):
            values = np.asarray(outputs[name], np.float32)[None]
            answer.outputs.add(name=name, datatype="FP32", shape=values.shape)
            answer.raw_output_contents.append(values.tobytes())
        return answer


@contextmanager
def serving(fake: FakeTriton, *, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    """Serve on a port of the loopback, a free one if none is named; gives the URL. At the end, calls are broken off."""
    # 100 MB: a real server has no limit on messages, gRPC's default of 4 MB is not part of what is tested here
    limits = [("grpc.max_receive_message_length", 100 << 20), ("grpc.max_send_message_length", 100 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(16), options=limits)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, server)
    if credentials is None:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


@contextmanager
def black_hole() -> Iterator[str]:
    """A port that takes connections and never says anything."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        yield f"127.0.0.1:{mute.getsockname()[1]}"


@contextmanager
def nobody() -> Iterator[str]:
    """A port where nothing listens, nor can while within."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def same_voice(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A separator that changes nothing."""
    mixture = inputs["mixture"]
    return {"speech": mixture, "attention": np.full(len(mixture) // 160 + 1, 0.5)}


def crowd_of(density: np.ndarray) -> Answer:
    """A counter that always sees the same density (72, 128)."""

    def answer(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        patches = density.reshape(8, 9, 8, 16).sum(axis=(1, 3)).reshape(64)
        return {
            "density": density,
            "count": density.sum(keepdims=True).reshape(1),
            "patch_counts": patches,
            "patch_importance": patches / max(density.sum(), 1e-9),
            "patch_estimates": patches + 0.5,
        }

    return answer

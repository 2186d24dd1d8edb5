"""When a started server may be used: it is ours, all its models are ready, and its answers are not empty."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from serve.errors import ServeError
from serve.repository import ServedModel

_CALL_TIMEOUT_S = 2.0
_PROOF_TIMEOUT_S = 30.0
_WARM_REQUESTS = 3  # to each ensemble: more than a model has instances
_JSON_BYTES = "Inference-Header-Content-Length"  # of a body of JSON and tensors: where the tensors begin

Shapes = Mapping[str, Sequence[int]]
Ask = Callable[[ServedModel, Shapes], dict[str, int]]  # sends a model zeros; gives the bytes of each output


@dataclass(frozen=True)
class Endpoints:
    """Where one server listens; each is `host:port`. Through an encrypted gRPC only holders of certificates can ask."""

    grpc: str
    http: str
    metrics: str
    encrypted: bool = False

    def ask(self, model: ServedModel, shapes: Shapes) -> dict[str, int]:
        """Bytes of each output that a model gives to zeros.

        Raises:
            ServeError: it did not answer.
        """
        ask = _ask_by_http if self.encrypted else _ask_by_grpc
        return ask(self.http if self.encrypted else self.grpc, model, shapes)


def is_ready(endpoints: Endpoints, server_id: str, models: Sequence[ServedModel]) -> bool:
    """Whether the server of that id has every model ready and all three of its front ends up.

    The id tells our server from another that took a port first. Our own would then end itself, but the front ends
    start one after the other, metrics last: to see gRPC answer is not enough.
    """
    # The cheap question first: a refused gRPC channel waits a second before it tries again.
    return (
        b"nv_" in _get(endpoints.metrics, "/metrics")
        and server_id.encode() in _get(endpoints.http, "/v2")
        and (
            _http_is_ready(endpoints, models)
            if endpoints.encrypted
            else _grpc_is_ready(endpoints.grpc, server_id, models)
        )
    )


def _get(endpoint: str, path: str) -> bytes:
    """Body of an HTTP answer; empty when there is none."""
    try:
        return _http(endpoint, "GET", path, _CALL_TIMEOUT_S)[1]
    except (OSError, HTTPException):
        return b""


def _http(
    endpoint: str, method: str, path: str, timeout_s: float, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, str]:
    """Status, body and length of the JSON in it. No proxy is asked: the server is this machine's."""
    connection = HTTPConnection(endpoint, timeout=timeout_s)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get(_JSON_BYTES, "")
    finally:
        connection.close()


def _http_is_ready(endpoints: Endpoints, models: Sequence[ServedModel]) -> bool:
    """Whether every model is ready, and something listens for gRPC."""
    try:
        host, port = endpoints.grpc.rsplit(":", 1)
        socket.create_connection((host, int(port)), _CALL_TIMEOUT_S).close()
        return all(
            _http(endpoints.http, "GET", f"/v2/models/{model.name}/ready", _CALL_TIMEOUT_S)[0] == 200
            for model in models
        )
    except (OSError, HTTPException):
        return False


def _grpc_is_ready(url: str, server_id: str, models: Sequence[ServedModel]) -> bool:
    with _client(url) as client:
        try:
            return (
                client.get_server_metadata(client_timeout=_CALL_TIMEOUT_S).name == server_id
                and client.is_server_ready(client_timeout=_CALL_TIMEOUT_S)
                and all(client.is_model_ready(model.name, client_timeout=_CALL_TIMEOUT_S) for model in models)
            )
        except InferenceServerException:
            return False


def _client(url: str) -> grpcclient.InferenceServerClient:
    """A client that goes past any proxy of the environment."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    return grpcclient.InferenceServerClient(url, channel_args=options)


def prove_answers(ask: Ask, models: Sequence[ServedModel]) -> None:
    """Ask the model with the smallest input once, with zeros: its outputs have bytes.

    A numpy that does not fit the server's stub shows as outputs of no bytes at all, without an error.

    Raises:
        ServeError: no answer, an empty one, or no model that could be asked.
    """
    askable = [(model, shapes) for model in models if (shapes := _input_shapes(model.config)) is not None]
    if not askable:
        raise ServeError(
            "No model has inputs of fixed length or a warm-up; wanted one, to be asked once before others ask. "
            "Give a model of the repository a model_warmup."
        )
    model, shapes = min(askable, key=lambda pair: sum(math.prod(shape) for shape in pair[1].values()))
    sizes = ask(model, shapes)
    empty = [tensor.name for tensor in model.config.output if not sizes.get(tensor.name)]
    if empty:
        raise ServeError(
            f"The server answered {model.name} without bytes in {', '.join(empty)}; wanted numbers. Its Python backend "
            "does so when the numpy of this environment does not fit it: check with `avedge doctor`."
        )


def warm_ensembles(ask: Ask, models: Sequence[ServedModel]) -> None:
    """Ask every ensemble a few times, with zeros: a model's own warm-up does not reach what lies between the models.

    The first request through an ensemble was 1.4 times as slow as the tenth for a picture of 1.8 MB: front end,
    scheduler and shared memory grow their buffers with it. An ensemble whose lengths nobody states is left as it is.

    Raises:
        ServeError: an ensemble that does not answer.
    """
    for model in models:
        shapes = _ensemble_shapes(model.config) if model.is_ensemble else None
        if shapes is not None:
            for _ in range(_WARM_REQUESTS):
                ask(model, shapes)


def _ensemble_shapes(config: model_config_pb2.ModelConfig) -> dict[str, list[int]] | None:
    """Shapes of one request: the declared ones, an open length being the first that the config's facts state."""
    stated = config.parameters["padded_samples"].string_value if "padded_samples" in config.parameters else ""
    length = int(stated.split(",")[0]) if stated else -1
    shapes = {tensor.name: [length if size < 0 else size for size in tensor.dims] for tensor in config.input}
    return shapes if all(size > 0 for shape in shapes.values() for size in shape) else None


def _input_shapes(config: model_config_pb2.ModelConfig) -> dict[str, list[int]] | None:
    """Shapes of one request, without the batch: the declared ones, else those of the warm-up; None where neither is."""
    if config.platform == "ensemble":
        return None
    shapes = {tensor.name: list(tensor.dims) for tensor in config.input}
    if all(length > 0 for shape in shapes.values() for length in shape):
        return shapes
    if config.model_warmup:
        return {name: list(tensor.dims) for name, tensor in config.model_warmup[0].inputs.items()}
    return None


def _zeros(model: ServedModel, shapes: Shapes) -> list[tuple[str, str, np.ndarray[Any, Any]]]:
    """Name, KServe's word for the type, and zeros of each input, one item."""
    lead = [1] if model.config.max_batch_size else []
    words = [model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_") for tensor in model.config.input]
    return [
        (tensor.name, word, np.zeros([*lead, *shapes[tensor.name]], triton_to_np_dtype(word)))
        for tensor, word in zip(model.config.input, words, strict=True)
    ]


def _ask_by_grpc(url: str, model: ServedModel, shapes: Shapes) -> dict[str, int]:
    """As `Endpoints.ask`; the client's own decoding would fail on outputs of no bytes."""
    inputs = []
    for name, datatype, zeros in _zeros(model, shapes):
        inputs.append(grpcclient.InferInput(name, zeros.shape, datatype))
        inputs[-1].set_data_from_numpy(zeros)
    with _client(url) as client:
        try:
            response = client.infer(model.name, inputs, client_timeout=_PROOF_TIMEOUT_S).get_response()
        except InferenceServerException as error:
            raise _silent(model, error.message()) from error
    contents = zip(response.outputs, response.raw_output_contents, strict=False)
    return {output.name: len(content) for output, content in contents}


def _ask_by_http(endpoint: str, model: ServedModel, shapes: Shapes) -> dict[str, int]:
    """As `Endpoints.ask`, with the tensors as bytes after the JSON."""
    tensors = _zeros(model, shapes)
    described = [
        {
            "name": name,
            "shape": list(zeros.shape),
            "datatype": datatype,
            "parameters": {"binary_data_size": zeros.nbytes},
        }
        for name, datatype, zeros in tensors
    ]
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(zeros.tobytes() for _, _, zeros in tensors)
    path, headers = f"/v2/models/{model.name}/infer", {_JSON_BYTES: str(len(head))}
    try:
        status, answer, json_bytes = _http(endpoint, "POST", path, _PROOF_TIMEOUT_S, body, headers)
    except (OSError, HTTPException) as error:
        raise _silent(model, str(error)) from error
    if status != 200:
        raise _silent(model, answer.decode(errors="replace"))
    outputs = json.loads(answer[: int(json_bytes or len(answer))])["outputs"]
    return {output["name"]: output.get("parameters", {}).get("binary_data_size", 0) for output in outputs}


def _silent(model: ServedModel, reason: str | None) -> ServeError:
    return ServeError(
        f"The server is ready but {model.name} did not answer zeros: {reason}; wanted an answer before others ask. "
        "Look into the server's log."
    )

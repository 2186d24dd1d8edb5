"""When a started server may be used: it is ours, all its models are ready, and its answers are not empty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from serve.errors import ServeError
from serve.repository import ServedModel

_CALL_TIMEOUT_S = 2.0
_PROOF_TIMEOUT_S = 30.0
_WARM_REQUESTS = 3  # to each ensemble: more than a model has instances


@dataclass(frozen=True)
class Endpoints:
    """Where one server listens; each is `host:port`."""

    grpc: str
    http: str
    metrics: str


def is_ready(endpoints: Endpoints, server_id: str, models: Sequence[ServedModel]) -> bool:
    """Whether the server of that id has every model ready and all three of its front ends up.

    The id tells our server from another that took a port first. Our own would then end itself, but the front ends
    start one after the other, metrics last: to see gRPC answer is not enough.
    """
    # The cheap question first: a refused gRPC channel waits a second before it tries again.
    return (
        b"nv_" in _get(endpoints.metrics, "/metrics")
        and server_id.encode() in _get(endpoints.http, "/v2")
        and _grpc_is_ready(endpoints.grpc, server_id, models)
    )


def _get(endpoint: str, path: str) -> bytes:
    """Body of an HTTP answer; empty when there is none. No proxy is asked: the server is this machine's."""
    connection = HTTPConnection(endpoint, timeout=_CALL_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()


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


def prove_answers(grpc_url: str, models: Sequence[ServedModel]) -> None:
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
    sizes = _ask_zeros(grpc_url, model, shapes)
    empty = [tensor.name for tensor in model.config.output if not sizes.get(tensor.name)]
    if empty:
        raise ServeError(
            f"The server answered {model.name} without bytes in {', '.join(empty)}; wanted numbers. Its Python backend "
            "does so when the numpy of this environment does not fit it: check with `avedge doctor`."
        )


def warm_ensembles(grpc_url: str, models: Sequence[ServedModel]) -> None:
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
                _ask_zeros(grpc_url, model, shapes)


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


def _ask_zeros(grpc_url: str, model: ServedModel, shapes: dict[str, list[int]]) -> dict[str, int]:
    """Bytes of each output that the model gives to zeros; the client's own decoding would fail on none."""
    lead = [1] if model.config.max_batch_size else []
    inputs = []
    for tensor in model.config.input:
        datatype = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        zeros = np.zeros([*lead, *shapes[tensor.name]], triton_to_np_dtype(datatype))
        inputs.append(grpcclient.InferInput(tensor.name, zeros.shape, datatype))
        inputs[-1].set_data_from_numpy(zeros)
    with _client(grpc_url) as client:
        try:
            response = client.infer(model.name, inputs, client_timeout=_PROOF_TIMEOUT_S).get_response()
        except InferenceServerException as error:
            raise ServeError(
                f"The server is ready but {model.name} did not answer zeros: {error.message()}; wanted an answer "
                "before others ask. Look into the server's log."
            ) from error
    contents = zip(response.outputs, response.raw_output_contents, strict=False)
    return {output.name: len(content) for output, content in contents}

"""What the server says about itself: its ensembles, their facts, and what each model inside has done so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from perf.errors import PerfError
from perf.results import ModelShare

_CALL_S = 20.0  # deadline of one question to the server
_INFER_S = 60.0  # deadline of one request, on the slowest machine
_NS_PER_MS = 1e6


@dataclass(frozen=True)
class ServedTensor:
    """One input of an ensemble; the shape is that of one item, -1 where the length changes."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ServedEnsemble:
    """An ensemble as its served config has it."""

    name: str
    inputs: tuple[ServedTensor, ...]
    outputs: tuple[str, ...]
    steps: tuple[str, ...]
    parameters: dict[str, str]

    def fact(self, key: str) -> str:
        """One of the facts that the served config states for clients.

        Raises:
            PerfError: The config does not state it (exit code 6).
        """
        if key not in self.parameters:
            raise PerfError(
                f"The served config of {self.name} states no {key!r}; it has {', '.join(self.parameters) or 'none'}. "
                "Inputs are made to what the server states. Serve a repository of this version: avedge export, "
                "then avedge serve.",
                exit_code=6,
            )
        return self.parameters[key]


class Server:
    """A running Triton, asked over gRPC."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = triton.InferenceServerClient(url)
        try:
            ready = self.client.is_server_ready(client_timeout=_CALL_S)
        except InferenceServerException as error:
            raise PerfError(
                f"No Triton answers at {url} ({error.message()}). A sweep needs a running server: "
                "start one with `avedge serve`, or name another with --url host:port (the gRPC port).",
                exit_code=5,
            ) from error
        if not ready:
            raise PerfError(
                f"The Triton at {url} is not ready; a measurement would time its start. "
                "Wait until `avedge serve` says ready, then measure again.",
                exit_code=5,
            )

    def close(self) -> None:
        """Close the channel."""
        self.client.close()

    def version(self) -> str:
        """The server's version, such as 2.51.0."""
        return str(self.client.get_server_metadata(client_timeout=_CALL_S).version)

    def ready_models(self) -> set[str]:
        """Names of the models that answer."""
        index = self.client.get_model_repository_index(client_timeout=_CALL_S)
        return {model.name for model in index.models if model.state == "READY"}

    def ensemble(self, name: str) -> ServedEnsemble:
        """What the served config says of one ensemble."""
        config = self._config(name)
        inputs = tuple(
            ServedTensor(tensor.name, _datatype(tensor.data_type), tuple(tensor.dims)) for tensor in config.input
        )
        return ServedEnsemble(
            name,
            inputs,
            tuple(tensor.name for tensor in config.output),
            tuple(step.model_name for step in config.ensemble_scheduling.step),
            {key: value.string_value for key, value in config.parameters.items()},
        )

    def platform(self, model: str) -> str:
        """What runs the model, such as onnxruntime_onnx."""
        config = self._config(model)
        return str(config.platform or config.backend)

    def infer(self, model: str, request: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One item through a model: arrays without the batch in, arrays without the batch out.

        Raises:
            PerfError: The server refuses or does not answer in time.
        """
        tensors = []
        for name, array in request.items():
            tensor = triton.InferInput(name, [1, *array.shape], np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array[None])
            tensors.append(tensor)
        try:
            answer = self.client.infer(model, tensors, client_timeout=_INFER_S)
        except InferenceServerException as error:
            raise PerfError(
                f"{model} does not answer a real request: {error.message()}. Only answers can be timed. "
                "Look at the log of `avedge serve`.",
                exit_code=_exit_code(error),
            ) from error
        return {output.name: answer.as_numpy(output.name)[0] for output in answer.get_response().outputs}

    def counters(self, models: tuple[str, ...]) -> dict[str, Any]:
        """The statistics of each model since the server started, to be subtracted by `shares`."""
        found = {}
        for model in models:
            try:
                answer = self.client.get_inference_statistics(model, client_timeout=_CALL_S)
            except InferenceServerException as error:
                raise PerfError(
                    f"The server gives no statistics of {model}: {error.message()}. Batch sizes and shares of each "
                    "model come from them. Leave the statistics protocol open on loopback, and the server running.",
                    exit_code=_exit_code(error),
                ) from error
            found[model] = answer.model_stats[-1]
        return found

    def shares(self, before: dict[str, Any], after: dict[str, Any]) -> tuple[ModelShare, ...]:
        """What each model did between two `counters`."""
        return tuple(_share(model, self.platform(model), before[model], after[model]) for model in after)

    def _config(self, model: str) -> Any:
        try:
            return self.client.get_model_config(model, client_timeout=_CALL_S).config
        except InferenceServerException as error:
            raise PerfError(
                f"The server gives no config of {model}: {error.message()}. A sweep reads names, shapes and facts "
                "from it. See which models are ready in the log of `avedge serve`.",
                exit_code=6,
            ) from error


def _exit_code(error: InferenceServerException) -> int:
    return {"StatusCode.UNAVAILABLE": 5, "StatusCode.DEADLINE_EXCEEDED": 7}.get(str(error.status()), 6)


def _datatype(number: int) -> str:
    return str(model_config_pb2.DataType.Name(number)).removeprefix("TYPE_")


def _share(model: str, platform: str, before: Any, after: Any) -> ModelShare:
    def count(kind: str) -> int:
        return int(getattr(after.inference_stats, kind).count - getattr(before.inference_stats, kind).count)

    def mean_ms(kind: str) -> float | None:
        spent_ns = getattr(after.inference_stats, kind).ns - getattr(before.inference_stats, kind).ns
        return spent_ns / count(kind) / _NS_PER_MS if count(kind) else None

    executions = int(after.execution_count - before.execution_count)
    inferences = int(after.inference_count - before.inference_count)
    return ModelShare(
        model=model,
        platform=platform,
        requests=count("success"),
        failures=count("fail"),
        executions=executions,
        average_batch=inferences / executions if executions else None,
        cache_hits=count("cache_hit"),
        queue_ms=mean_ms("queue"),
        compute_input_ms=mean_ms("compute_input"),
        compute_ms=mean_ms("compute_infer"),
        compute_output_ms=mean_ms("compute_output"),
    )

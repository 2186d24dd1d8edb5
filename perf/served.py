"""What the server says about itself: what it serves, and what each model inside an ensemble has done so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perf.errors import PerfError
from perf.results import ModelShare

if TYPE_CHECKING:
    from tritonclient.utils import InferenceServerException

_CALL_S = 20.0  # deadline of one question to the server
_NS_PER_MS = 1e6
_EXIT_CODES = {"UNAVAILABLE": 5, "CANCELLED": 5, "DEADLINE_EXCEEDED": 7}
Counters = dict[str, Any]  # ModelStatistics by model


class Server:
    """A running Triton, asked over gRPC.

    Attributes:
        url: host and port of the gRPC front end.
        connection: the clients' own channel, for facts and requests.
    """

    def __init__(self, url: str) -> None:
        """Connect, and see that the server is ready.

        Raises:
            PerfError: It does not answer or is not ready (5).
        """
        import tritonclient.grpc as triton  # gRPC takes a moment to load, and --help does not wait for it
        from tritonclient.utils import InferenceServerException

        from clients.transport.connection import Connection, channel_options

        self.url = url
        self.connection = Connection(url)
        self._triton = triton.InferenceServerClient(url, channel_args=channel_options(url))
        try:
            ready = self._triton.is_server_ready(client_timeout=_CALL_S)
        except InferenceServerException as error:
            self.close()
            raise PerfError(
                f"No Triton answers at {url} ({error.message()}). A sweep needs a running server: "
                "start one with `avedge serve`, or name another with --url host:port (the gRPC port).",
                exit_code=5,
            ) from error
        if not ready:
            self.close()
            raise PerfError(
                f"The Triton at {url} is not ready; a measurement would time its start. "
                "Wait until `avedge serve` says ready, then measure again.",
                exit_code=5,
            )

    def close(self) -> None:
        """Close the channels."""
        self.connection.close()
        self._triton.close()

    def version(self) -> str:
        """The server's version, such as 2.51.0."""
        return str(self._triton.get_server_metadata(client_timeout=_CALL_S).version)

    def ready_models(self) -> set[str]:
        """Names of the models that answer."""
        index = self._triton.get_model_repository_index(client_timeout=_CALL_S)
        return {model.name for model in index.models if model.state == "READY"}

    def steps(self, ensemble: str) -> tuple[str, ...]:
        """Names of the models inside an ensemble."""
        return tuple(step.model_name for step in self._config(ensemble).ensemble_scheduling.step)

    def counters(self, models: Sequence[str]) -> Counters:
        """The statistics of each model since the server started; `shares` takes the difference of two.

        Raises:
            PerfError: The server gives none.
        """
        from tritonclient.utils import InferenceServerException

        found = {}
        for model in models:
            try:
                answer = self._triton.get_inference_statistics(model, client_timeout=_CALL_S)
            except InferenceServerException as error:
                raise _unanswered(f"statistics of {model}", "Batch sizes and each model's times", error) from error
            found[model] = answer.model_stats[-1]
        return found

    def shares(self, before: Counters, after: Counters) -> tuple[ModelShare, ...]:
        """What each model did between two `counters`."""
        return tuple(_share(model, self._platform(model), before[model], after[model]) for model in after)

    def _platform(self, model: str) -> str:
        config = self._config(model)
        return str(config.platform or config.backend)

    def _config(self, model: str) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return self._triton.get_model_config(model, client_timeout=_CALL_S).config
        except InferenceServerException as error:
            raise _unanswered(f"config of {model}", "The models inside an ensemble", error) from error


def _unanswered(what: str, why: str, error: InferenceServerException) -> PerfError:
    status = str(error.status() or "").rsplit(".", 1)[-1]
    return PerfError(
        f"The server gives no {what}: {error.message()}. {why} come from it. Keep the server running, and its "
        "statistics and model-config protocols open to this machine.",
        exit_code=_EXIT_CODES.get(status, 6),
    )


def _share(model: str, platform: str, before: Any, after: Any) -> ModelShare:
    def count(kind: str) -> int:
        return int(getattr(after.inference_stats, kind).count - getattr(before.inference_stats, kind).count)

    def mean_ms(kind: str) -> float | None:
        spent_ns = getattr(after.inference_stats, kind).ns - getattr(before.inference_stats, kind).ns
        return spent_ns / count(kind) / _NS_PER_MS if count(kind) else None

    executions = int(after.execution_count - before.execution_count)
    inferences = int(after.inference_count - before.inference_count)  # without those answered from the cache
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

"""One gRPC channel to the server: every call has a deadline, every failure is one of ours."""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from clients.contract import ServedModel, TensorSpec
from clients.errors import ClientError, ContractMismatch, ServerUnavailable, Timeout, printable

DEFAULT_URL = "127.0.0.1:8001"
DEFAULT_TIMEOUT_S = 60.0
IN_FLIGHT = 4

_CONNECT_TIMEOUT_S = 5.0  # for the first sign of life; a server on its feet answers in milliseconds
_ATTEMPTS = 4
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 1.0
_LARGEST_MESSAGE_BYTES = 2**31 - 1
# Given options replace tritonclient's own, so its message limits stand here again; without them 4 MB would be the most.
# The short reconnect times let a retry reach a server that has just come up; gRPC's own wait grows to two minutes.
_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", _LARGEST_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]

Tensors = Mapping[str, NDArray[Any]]
Answer = dict[str, NDArray[Any]]


@dataclass
class _Request:
    """One request on its way, with what is left of its time and its attempts."""

    index: int
    inputs: Tensors
    deadline: float = 0.0
    attempt: int = 0
    call: Any = field(default=None, repr=False)

    @property
    def left_s(self) -> float:
        return self.deadline - time.monotonic()


class Connection:
    """The server behind one URL.

    Args:
        url: host and port of the gRPC front end, without a scheme.
        timeout_s: the most that any one request may take, its retries included.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is {timeout_s}; wanted more than 0")
        self.url = url
        self.timeout_s = timeout_s
        self._client = triton.InferenceServerClient(url, channel_args=channel_options(url))
        self._served: dict[str, ServedModel] = {}

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the channel back; unfinished requests are cancelled."""
        self._client.close()

    def served(self, model: str) -> ServedModel:
        """How the server describes a model; asked for once, after checking that it is ready.

        Raises:
            ServerUnavailable: nothing answers, or the model is not ready.
            ContractMismatch: no such model, or one without or with another `contract_version`.
        """
        if model not in self._served:
            self._require_live()
            self._require_ready(model)
            described = self._describe(model)
            described.require_version()
            self._served[model] = described
        return self._served[model]

    def described(self, model: str) -> ServedModel:
        """How the server describes a model that only ensembles call; these carry no contract version of their own.

        Raises:
            ServerUnavailable, ContractMismatch: it is not ready, or not there.
        """
        self._require_ready(model)
        return self._describe(model)

    def infer(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Answer:
        """Send one item and wait for its answer; see `infer_all`."""
        return self.infer_all(model, [inputs], outputs)[0]

    def infer_all(
        self, model: str, requests: Iterable[Tensors], outputs: Sequence[str], in_flight: int = IN_FLIGHT
    ) -> list[Answer]:
        """Send several items and wait for all of their answers, in order; see `infer_stream`."""
        return list(self.infer_stream(model, requests, outputs, in_flight))

    def infer_stream(
        self, model: str, requests: Iterable[Tensors], outputs: Sequence[str], in_flight: int = IN_FLIGHT
    ) -> Iterator[Answer]:
        """Send items as they come, some of them on the way at the same time, and give the answers in order.

        Items are taken from `requests` only as answers are taken from here, so an input without end needs no more
        memory than a short one. A request that meets a server that is away or too busy is sent again, at most four
        times in all and within its deadline. The first failure that stays cancels the rest, as does closing this
        iterator.

        Args:
            model: name of the served model.
            requests: for each item its tensors by name, without the batch axis.
            outputs: names of the tensors wanted back.
            in_flight: most requests on the way, and answers not yet taken, at once.

        Yields:
            for each item, in order, its tensors by name, without the batch axis; all values are finite.

        Raises:
            Timeout: a request took longer than `timeout_s`.
            ServerUnavailable: the server is away or too busy.
            ContractMismatch: the server refused a tensor or sent another answer than asked for.
        """
        coming = enumerate(requests)
        flying: dict[int, _Request] = {}
        answers: dict[int, Answer] = {}
        arrived: queue.SimpleQueue[tuple[int, Any, Any]] = queue.SimpleQueue()
        given, ended = 0, False
        try:
            while True:
                while not ended and len(flying) + len(answers) < in_flight:
                    index, inputs = next(coming, (-1, {}))
                    ended = index < 0
                    if not ended:
                        flying[index] = _Request(index, inputs)
                        self._send(model, flying[index], outputs, arrived)
                if given in answers:
                    yield answers.pop(given)
                    given += 1
                elif flying:
                    self._take(model, flying, outputs, arrived, answers)
                else:
                    return
        finally:
            for request in flying.values():
                request.call.cancel()

    def _take(
        self,
        model: str,
        flying: dict[int, _Request],
        outputs: Sequence[str],
        arrived: queue.SimpleQueue[Any],
        answers: dict[int, Answer],
    ) -> None:
        """Wait for one outcome: an answer, a reason to send again, or the end."""
        index, result, error = arrived.get()  # gRPC's own deadlines make sure that something arrives
        request = flying.pop(index)
        if error is None:
            answers[index] = self._unpack(model, result, outputs)
        elif _may_retry(error) and self._wait_before_retry(request):
            flying[index] = request
            self._send(model, request, outputs, arrived)
        else:
            raise self._explain(error, f"Model {model}") from error

    def _send(self, model: str, request: _Request, outputs: Sequence[str], arrived: queue.SimpleQueue[Any]) -> None:
        """Start one call; its outcome lands in the queue."""
        if request.attempt == 0:
            request.deadline = time.monotonic() + self.timeout_s
        request.attempt += 1
        request.call = self._client.async_infer(
            model,
            [_input_of(name, value) for name, value in request.inputs.items()],
            callback=lambda result, error, index=request.index: arrived.put((index, result, error)),
            outputs=[triton.InferRequestedOutput(name) for name in outputs],
            client_timeout=max(request.left_s, 1e-3),
        )

    @staticmethod
    def _wait_before_retry(request: _Request) -> bool:
        """Wait a little, longer each time and out of step with others; False when attempts or time are used up."""
        wait_s = min(_FIRST_WAIT_S * 2 ** (request.attempt - 1), _LONGEST_WAIT_S) * random.uniform(0.75, 1.25)
        if request.attempt >= _ATTEMPTS or wait_s >= request.left_s:
            return False
        time.sleep(wait_s)
        return True

    def _unpack(self, model: str, result: Any, outputs: Sequence[str]) -> Answer:
        """The tensors of an answer without the batch axis."""
        answer = {}
        for name in outputs:
            values = result.as_numpy(name)
            if values is None or values.size == 0 or values.ndim == 0 or len(values) != 1:
                shape = "absent" if values is None else f"of shape {values.shape}"
                raise _wrong_answer(f"Output {name} of model {model} is {shape}", "one item")
            if not np.isfinite(values).all():
                raise _wrong_answer(f"Output {name} of model {model} holds values that are no numbers", "finite values")
            answer[name] = values[0].copy()  # (1, ...) -> (...); the original is a view of the message
        return answer

    def _require_live(self) -> None:
        """Ask for a sign of life, with the same patience as for a request but a short deadline each."""
        probe = _Request(0, {}, deadline=time.monotonic() + min(self.timeout_s, _CONNECT_TIMEOUT_S))
        while True:
            probe.attempt += 1
            try:
                live = self._client.is_server_live(client_timeout=max(probe.left_s, 1e-3))
            except InferenceServerException as error:
                if _may_retry(error) and self._wait_before_retry(probe):
                    continue
                raise self._absent(error) from error
            if not live:
                raise self._not_ready("it says that it is not live")
            return

    def _require_ready(self, model: str) -> None:
        try:
            if self._client.is_model_ready(model, client_timeout=self.timeout_s):
                return
            index = self._client.get_model_repository_index(client_timeout=self.timeout_s).models
        except InferenceServerException as error:
            raise self._explain(error, f"Model {model}") from error
        states = {entry.name: f"{entry.state or 'not loaded'} {entry.reason}".strip() for entry in index}
        if model not in states:
            raise ContractMismatch(
                f"The server at {self.url} does not serve {model}; it serves {', '.join(sorted(states)) or 'nothing'}",
                f"the model {model}",
                "these clients call it",
                "serve this project's model repository (`avedge serve`), or check --url",
            )
        unready = "; ".join(f"{name}: {state}" for name, state in sorted(states.items()) if state != "READY")
        raise self._not_ready(f"model {model} cannot be called ({printable(unready) or 'it is being loaded'})")

    def _describe(self, model: str) -> ServedModel:
        try:
            metadata = self._client.get_model_metadata(model, client_timeout=self.timeout_s)
            config = self._client.get_model_config(model, client_timeout=self.timeout_s).config
        except InferenceServerException as error:
            raise self._explain(error, f"Model {model}") from error
        batched = 1 if config.max_batch_size > 0 else 0
        return ServedModel(
            model,
            tuple(metadata.versions),
            tuple(TensorSpec(t.name, t.datatype, tuple(t.shape)[batched:]) for t in metadata.inputs),
            tuple(TensorSpec(t.name, t.datatype, tuple(t.shape)[batched:]) for t in metadata.outputs),
            {key: value.string_value for key, value in config.parameters.items()},
        )

    def _explain(self, error: InferenceServerException, subject: str) -> ClientError:
        """Our exception for one of the server's."""
        status, text = _status(error), printable(error.message() or "no reason given").rstrip(".")
        if status == "DEADLINE_EXCEEDED":
            return Timeout(
                f"{subject} gave no answer within {self.timeout_s:g} s",
                "an answer within the deadline",
                f"the server at {self.url} is overloaded, stuck or slow",
                "try again, raise --timeout, or look at the server's log",
            )
        if status in ("UNAVAILABLE", "CANCELLED") and _is_busy(error):
            return ServerUnavailable(
                f"The server at {self.url} is too busy: {text}",
                "a place in its queue",
                f"{subject} was asked {_ATTEMPTS} times",
                "try again later, or send fewer requests at once",
            )
        if status in ("UNAVAILABLE", "CANCELLED"):
            return self._absent(error)
        return ContractMismatch(
            f"{subject} at {self.url} refused the request ({status}): {text}",
            "an answer",
            "server and clients do not agree, or the server is broken",
            "serve the models exported by this version of avedge, and look at the server's log",
        )

    def _absent(self, error: InferenceServerException) -> ServerUnavailable:
        reason = printable(error.message() or _status(error)).rstrip(".")
        return ServerUnavailable(
            f"No server answers at {self.url}: {reason}",
            "a running Triton with its gRPC front end there",
            "every answer comes from it",
            "start it with `avedge serve`, or give its address with --url",
        )

    def _not_ready(self, seen: str) -> ServerUnavailable:
        return ServerUnavailable(
            f"The server at {self.url} is not ready: {seen}",
            "every model ready",
            "it cannot answer yet",
            "wait until it has loaded, or look at its log",
        )


def channel_options(url: str) -> list[tuple[str, int]]:
    """Options of the channel; a proxy of the environment must not stand between this machine and itself."""
    host = url.rpartition(":")[0].strip("[]")
    own = host in ("localhost", "::1") or host.startswith("127.")
    return [*_CHANNEL_OPTIONS, *([("grpc.enable_http_proxy", 0)] if own else [])]


def _input_of(name: str, value: NDArray[Any]) -> Any:
    """A request's tensor, with a batch of one."""
    batch = np.ascontiguousarray(value[None])  # (...) -> (1, ...)
    tensor = triton.InferInput(name, list(batch.shape), np_to_triton_dtype(batch.dtype))
    tensor.set_data_from_numpy(batch)
    return tensor


def _status(error: InferenceServerException) -> str:
    return str(error.status() or "UNKNOWN").rsplit(".", 1)[-1]


def _is_busy(error: InferenceServerException) -> bool:
    """Whether a live server turned the request away; Triton uses the status of an absent one for it."""
    text = str(error.message()).lower()
    return "maximum queue size" in text or "timeout expired" in text


def _may_retry(error: InferenceServerException) -> bool:
    """Whether the server is away, busy or stopping; it cancels when it stops, and what we cancel we do not wait for."""
    return _status(error) in ("UNAVAILABLE", "CANCELLED")


def _wrong_answer(seen: str, wanted: str) -> ContractMismatch:
    return ContractMismatch(seen, wanted, "it cannot be used", "look at the server's log, and export the models again")

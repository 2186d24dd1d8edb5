"""Calls to one endpoint by gRPC, waiting."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from clients.contract import ServedModel
from clients.transport.address import Address
from clients.transport.cancellation import Cancellation
from clients.transport.deadline import left_s
from clients.transport.enquiry import Enquiry, specs_of, state_of
from clients.transport.failures import CallFailed
from clients.transport.shared_regions import SharedMemory, lend, regions_for
from clients.transport.tensors import Answer, Tensors, only_item, wrong_answer
from clients.transport.tls import Tls, told_by_tls

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


class GrpcWire:
    """One channel to one server."""

    def __init__(self, address: Address, tls: Tls | None, shared_memory: SharedMemory = False) -> None:
        self._address, self._tls = address, tls or Tls()
        self._client = open_client(address, credentials_for(address, tls))
        self._regions = regions_for(address, shared_memory, self._client)

    def look_up(self, model: str, connect_timeout_s: float, timeout_s: float) -> Enquiry:
        """Ask whether the server lives, the model is ready, and what it is like; CallFailed where nothing answers."""
        client, deadline = self._client, time.monotonic() + timeout_s
        try:
            with failures(sign_of_life_s=connect_timeout_s):
                live = client.is_server_live(client_timeout=connect_timeout_s)
        except CallFailed as failure:
            raise told_by_tls(failure, self._address, self._tls, connect_timeout_s) from failure.__cause__
        with failures():
            if not live:
                return Enquiry(live=False)
            if not client.is_model_ready(model, client_timeout=left_s(deadline)):
                return unready(client.get_model_repository_index(client_timeout=left_s(deadline)))
            metadata = client.get_model_metadata(model, client_timeout=left_s(deadline))
            return ready(model, metadata, client.get_model_config(model, client_timeout=left_s(deadline)))

    def infer(
        self, model: str, inputs: Tensors, outputs: Sequence[str], timeout_s: float, cancellation: Cancellation
    ) -> Answer:
        """One item's answer, checked; CallFailed where there is none."""
        deadline = time.monotonic() + timeout_s
        arrived: Future[tuple[Any, InferenceServerException | None]] = Future()
        with lend(self._regions, inputs) as loan, failures():
            call = self._client.async_infer(
                model,
                loan.inputs(deadline),
                callback=lambda result, error: arrived.set_result((result, error)),
                outputs=[triton.InferRequestedOutput(name) for name in outputs],
                client_timeout=left_s(deadline),
            )
            with cancellation.ends(call.cancel):
                try:
                    result, error = arrived.result()  # gRPC's own deadline makes sure that something arrives
                except BaseException:  # an interrupt
                    call.cancel()
                    raise
                if error is not None:
                    raise error
        return answer_of(model, result, outputs)

    def close(self) -> None:
        """Give the channel back; what is on its way is cancelled."""
        if self._regions is not None:
            self._regions.close()
        self._client.close()


def channel_options(target: str) -> list[tuple[str, int]]:
    """Options of the channel; a proxy of the environment must not stand between this machine and itself."""
    host = target.rpartition(":")[0].strip("[]")
    own = Address(host, 0).is_loopback
    return [*_CHANNEL_OPTIONS, *([("grpc.enable_http_proxy", 0)] if own else [])]


def open_client(address: Address, credentials: Any) -> Any:
    """The client of tritonclient that waits."""
    return triton.InferenceServerClient(address.target, creds=credentials, channel_args=channel_options(address.target))


def credentials_for(address: Address, tls: Tls | None) -> Any:
    """What a channel within TLS needs; None for one without.

    Raises:
        BadSetting: a file of them is missing or says something else.
    """
    return (tls or Tls()).credentials() if address.secure else None


def answer_of(model: str, result: Any, outputs: Sequence[str]) -> Answer:
    """What tritonclient's result holds, checked.

    Raises:
        ContractMismatch: bytes that are not those of the shape and type beside them, or no one item of finite values.
    """
    try:
        batches = {name: result.as_numpy(name) for name in outputs}
    except (ValueError, TypeError, struct.error) as error:
        raise wrong_answer(
            f"The answer of model {model} is not made as KServe's protocol says ({error})",
            "tensors of the bytes that their shapes and types need",
        ) from error
    return {name: only_item(model, name, batch) for name, batch in batches.items()}


@contextmanager
def failures(sign_of_life_s: float | None = None) -> Iterator[None]:
    """Turn tritonclient's exceptions into CallFailed; who gives no sign of life is away, not late."""
    try:
        yield
    except InferenceServerException as error:
        failure = CallFailed.of(error)
        if failure.status == "DEADLINE_EXCEEDED" and sign_of_life_s is not None:
            failure = CallFailed("UNAVAILABLE", f"no sign of life within {sign_of_life_s:.1f} s")
        raise failure from error
    except ValueError as error:
        if "closed channel" not in str(error):  # gRPC's word for a channel that another thread has given back
            raise
        raise CallFailed("CANCELLED", str(error)) from error


def unready(index: Any) -> Enquiry:
    """What a repository's index says where a model is not ready."""
    return Enquiry(live=True, states={entry.name: state_of(entry.state, entry.reason) for entry in index.models})


def ready(model: str, metadata: Any, answer: Any) -> Enquiry:
    """What metadata and config say of a model."""
    config = answer.config
    inputs, outputs = (
        specs_of([(t.name, t.datatype, t.shape) for t in tensors], batched=config.max_batch_size > 0)
        for tensors in (metadata.inputs, metadata.outputs)
    )
    facts = {key: value.string_value for key, value in config.parameters.items()}
    steps = tuple(step.model_name for step in config.ensemble_scheduling.step)
    return Enquiry(live=True, described=ServedModel(model, tuple(metadata.versions), inputs, outputs, facts, steps))

"""KServe's HTTP messages: JSON, and behind it the tensors as bytes (Triton's binary extension)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from clients.contract import ServedModel
from clients.transport.enquiry import Enquiry, specs_of, state_of
from clients.transport.failures import CallFailed
from clients.transport.tensors import Tensors, batch_of_one, wrong_answer

JSON_LENGTH = "Inference-Header-Content-Length"  # header of both messages: bytes of JSON in front of the tensors

# What JSON of another form raises, when it is read and when it is looked into.
NO_JSON = (ValueError, KeyError, TypeError, OverflowError, RecursionError)

# What gRPC says for what HTTP says.
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def request_of(inputs: Tensors, outputs: Sequence[str]) -> tuple[bytes, list[Any]]:
    """JSON, and views of the tensors' bytes that follow it."""
    batches = {name: batch_of_one(value) for name, value in inputs.items()}
    described = {
        "inputs": [
            {
                "name": name,
                "shape": batch.shape,
                "datatype": np_to_triton_dtype(batch.dtype),
                "parameters": {"binary_data_size": batch.nbytes},
            }
            for name, batch in batches.items()
        ],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
    }
    return json.dumps(described).encode(), [batch.data.cast("B") for batch in batches.values()]


def batches_of(model: str, json_length: str | None, content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of an answer, by name.

    Raises:
        ContractMismatch: it is not made as the protocol says.
    """
    try:
        begin = int(json_length or "")
        described = json.loads(content[:begin])["outputs"]
        batches = {}
        for output in described:
            end = begin + int(output["parameters"]["binary_data_size"])
            kind, shape = np.dtype(triton_to_np_dtype(output["datatype"])), output["shape"]
            if not begin <= end <= len(content) or end - begin != math.prod(shape) * kind.itemsize:
                raise ValueError(f"{end - begin} bytes for {output['datatype']} {shape}")
            batches[str(output["name"])] = np.frombuffer(content[begin:end], kind).reshape(shape)
            begin = end
    except NO_JSON as error:
        raise wrong_answer(
            f"The answer of model {model} is not made as KServe's protocol says ({type(error).__name__}: {error})",
            "JSON, and the tensors that it describes",
        ) from error
    return batches


def raise_unless_ok(status: int, content: bytes) -> None:
    """Refuse what is no answer.

    Raises:
        CallFailed: with gRPC's word for the status and what the server says.
    """
    if status == 200:
        return
    try:
        said = str(json.loads(content)["error"])
    except NO_JSON:
        said = content[:200].decode("utf-8", "replace").strip()
    raise CallFailed(_STATUSES.get(status, "INTERNAL"), said or f"HTTP status {status}")


def unready(index: Sequence[Mapping[str, str]]) -> Enquiry:
    """What a repository's index says where a model is not ready."""
    states = {entry["name"]: state_of(entry.get("state", ""), entry.get("reason", "")) for entry in index}
    return Enquiry(live=True, states=states)


def ready(model: str, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> Enquiry:
    """What metadata and config say of a model."""
    inputs, outputs = (
        specs_of(
            [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in tensors],
            batched=config.get("max_batch_size", 0) > 0,
        )
        for tensors in (metadata["inputs"], metadata["outputs"])
    )
    facts = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
    versions = tuple(metadata.get("versions", ()))
    steps = tuple(step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ()))
    return Enquiry(live=True, described=ServedModel(model, versions, inputs, outputs, facts, steps))

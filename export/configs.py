"""Triton's configs, generated from the contract: complete, explicit, one file for each target.

`config.pbtxt` is the default target (TensorRT); `configs/<target>.pbtxt` are the others, chosen whole by the server's
`--model-config-name`. They are built as protobuf messages, so an invalid field fails here and not at the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from export.contract import (
    ENSEMBLES,
    MAX_BATCH_SIZE,
    MODELS,
    PADDED_SAMPLES,
    TARGETS,
    Ensemble,
    Model,
    Target,
    Tensor,
    contract_digest,
    is_dynamic,
    size_of,
)
from train.files import write_atomically

ARTEFACTS: dict[Target, str] = {"tensorrt": "model.plan", "onnxruntime": "model.onnx", "torchscript": "model.pt"}
_BACKENDS: dict[Target, tuple[str, str]] = {
    "tensorrt": ("tensorrt", "tensorrt_plan"),
    "onnxruntime": ("onnxruntime", "onnxruntime_onnx"),
    "torchscript": ("pytorch", "pytorch_libtorch"),
}


@dataclass(frozen=True)
class Scheduling:
    """How Triton runs one model."""

    instances: int = 1
    threads: int = 1  # of one instance; an engine has none
    delay_microseconds: int = 0  # that a request may wait for company
    preferred_batch: int = 0  # the largest batch that is made of waiting requests; 0: the contract's largest


# On a CPU an instance per core with one thread each answers 1.4 times as many pictures as one instance with two
# threads, and as many mixtures; a third instance gains less than the sweep's noise and takes its memory. No request
# waits for company: under load the queue fills by itself, and a lone request would wait in vain in each step.
# `avedge perf tune` measures all of it; perf/results/tune.json is the table behind these numbers.
_NETWORK = Scheduling(instances=2)
_PICTURE_NETWORK = Scheduling(instances=2, preferred_batch=1)  # one picture's activations fill a core's cache
_SMALL = Scheduling()  # a millisecond or less: one instance keeps up with two of the networks
_CPU = {
    "facefilter_stft": _SMALL,
    "facefilter_identity": _SMALL,
    "facefilter_separator": _NETWORK,
    "facefilter_griffin_lim": _NETWORK,
    "crowd_log_mel": _SMALL,
    "crowd_av": _PICTURE_NETWORK,
    "crowd_v": _PICTURE_NETWORK,
    "crowd_density_sum": _SMALL,
}
# Reasoned, not measured here: a GPU gains by batches, so a request may wait for company for a small part of a network's
# time there; with two instances one copies its tensors while the other computes.
_GPU_NETWORK, _GPU_SMALL = Scheduling(instances=2, delay_microseconds=500), Scheduling(delay_microseconds=100)
_NETWORKS = ("facefilter_separator", "facefilter_griffin_lim", "crowd_av", "crowd_v")
SCHEDULING: dict[Target, dict[str, Scheduling]] = {
    "tensorrt": {model.name: _GPU_NETWORK if model.name in _NETWORKS else _GPU_SMALL for model in MODELS},
    "onnxruntime": _CPU,
    "torchscript": _CPU,
}
_THREAD_PARAMETERS: dict[Target, tuple[str, str]] = {
    "onnxruntime": ("intra_op_thread_count", "inter_op_thread_count"),
    "torchscript": ("INTRA_OP_THREAD_COUNT", "INTER_OP_THREAD_COUNT"),
}


def output_name(model: Model, position: int, target: Target) -> str:
    """Name of an output on a target: Triton's PyTorch backend wants `name__index`, the others take the name."""
    name = model.outputs[position].name
    return f"{name}__{position}" if target == "torchscript" else name


def _declared(tensor: Tensor, name: str | None = None) -> dict[str, Any]:
    """A tensor as the config declares it; changing lengths are -1."""
    dims = [axis if isinstance(axis, int) else -1 for axis in tensor.shape]
    return {"name": name or tensor.name, "data_type": f"TYPE_{tensor.datatype}", "dims": dims}


def _warmup(model: Model) -> list[dict[str, Any]]:
    """One request of zeros for each padded length, so that the first real request is not the slow one."""
    lengths = PADDED_SAMPLES if is_dynamic(model.inputs) else PADDED_SAMPLES[:1]
    return [
        {
            "name": f"{length}_samples" if is_dynamic(model.inputs) else "zeros",
            "batch_size": 1,
            "inputs": {
                tensor.name: {
                    "data_type": f"TYPE_{tensor.datatype}",
                    "dims": [size_of(axis, length) for axis in tensor.shape],
                    "zero_data": True,
                }
                for tensor in model.inputs
            },
        }
        for length in lengths
    ]


def _parameters(facts: dict[str, str]) -> dict[str, Any]:
    return {key: {"string_value": value} for key, value in sorted(facts.items())}


def model_config(model: Model, target: Target) -> model_config_pb2.ModelConfig:
    """Config of one model on one target."""
    backend, platform = _BACKENDS[target]
    scheduling = SCHEDULING[target][model.name]
    facts = {"contract_digest": contract_digest()}
    if target in _THREAD_PARAMETERS:
        facts |= dict(zip(_THREAD_PARAMETERS[target], (str(scheduling.threads), "1"), strict=True))
    fields: dict[str, Any] = {
        "name": model.name,
        "backend": backend,
        "platform": platform,
        "default_model_filename": ARTEFACTS[target],
        "max_batch_size": MAX_BATCH_SIZE,
        "input": [_declared(tensor) for tensor in model.inputs],
        "output": [_declared(t, output_name(model, i, target)) for i, t in enumerate(model.outputs)],
        # Always explicit: Triton's own default is two instances for some backends.
        "instance_group": [
            {"count": scheduling.instances, "kind": "KIND_GPU" if target == "tensorrt" else "KIND_AUTO"}
        ],
        "version_policy": {"latest": {"num_versions": 1}},
        "dynamic_batching": {
            "preferred_batch_size": [scheduling.preferred_batch] if scheduling.preferred_batch else [],
            "max_queue_delay_microseconds": scheduling.delay_microseconds,
            # No queue policy. With a time limit in it, Triton 2.51 now and then forgets a request that came while all
            # instances were busy, for 500 ms. A limit of its size kills servers before 2.67 inside an ensemble. The
            # client's deadline is the bound: a request whose client has gone is dropped from the queue.
        },
        "model_warmup": _warmup(model),
        "parameters": _parameters(facts),
    }
    if model.cached:
        fields["response_cache"] = {"enable": True}
    return json_format.ParseDict(fields, model_config_pb2.ModelConfig())


def ensemble_config(ensemble: Ensemble, target: Target) -> model_config_pb2.ModelConfig:
    """Config of one ensemble on one target; its public tensors are the same on all of them."""
    models = {model.name: model for model in MODELS}
    steps = []
    for step in ensemble.steps:
        model = models[step.model]
        names = {tensor.name: output_name(model, i, target) for i, tensor in enumerate(model.outputs)}
        steps.append(
            {
                "model_name": step.model,
                "model_version": -1,
                "input_map": step.inputs,
                "output_map": {names[inner]: outer for inner, outer in step.outputs.items()},
            }
        )
    fields = {
        "name": ensemble.name,
        "platform": "ensemble",
        "max_batch_size": MAX_BATCH_SIZE,
        "input": [_declared(tensor) for tensor in ensemble.inputs],
        "output": [_declared(tensor) for tensor in ensemble.outputs],
        "ensemble_scheduling": {"step": steps},
        "parameters": _parameters(ensemble.facts | {"contract_digest": contract_digest()}),
    }
    return json_format.ParseDict(fields, model_config_pb2.ModelConfig())


def _text(config: model_config_pb2.ModelConfig) -> bytes:
    head = "# Generated from export/contract.py by `avedge export --configs-only`; edit the contract, not this file.\n"
    text: str = text_format.MessageToString(config)
    return (head + text).encode()


def config_files() -> dict[Path, bytes]:
    """Every config of the repository: path inside it, and content."""
    files: dict[Path, bytes] = {}
    for target in TARGETS:
        configs = [(m.name, model_config(m, target)) for m in MODELS]
        configs += [(e.name, ensemble_config(e, target)) for e in ENSEMBLES]
        for name, config in configs:
            path = Path(name, "config.pbtxt") if target == TARGETS[0] else Path(name, "configs", f"{target}.pbtxt")
            files[path] = _text(config)
    return files


def write_configs(repository: Path) -> None:
    """Write every config whose content differs from the contract's."""
    for path, content in config_files().items():
        file = repository / path
        if not file.is_file() or file.read_bytes() != content:
            write_atomically(file, content)

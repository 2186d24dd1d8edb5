"""The embedded server's answer to `backend: "onnxruntime"`: the container's backend of that name, on the CPU.

Parameters have the names of the container's backend, so that one config serves both:
https://github.com/triton-inference-server/onnxruntime_backend (README, "Model Config Options").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort
from batching import BatchedModel, Declared, Runner, Tensor, refuse_difference

_SHRINKAGE = "memory.enable_memory_arena_shrinkage"
_INITIALIZERS = "session.use_device_allocator_for_initializers"
_OPTIONS = frozenset(
    {
        "intra_op_thread_count",
        "inter_op_thread_count",
        "execution_mode",
        "enable_mem_arena",
        "enable_mem_pattern",
        _SHRINKAGE,
        _INITIALIZERS,
    }
)
_GRAPH_LEVELS = {
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_EXECUTION_MODES = {"0": ort.ExecutionMode.ORT_SEQUENTIAL, "1": ort.ExecutionMode.ORT_PARALLEL}
_FLAGS = {"0": False, "false": False, "1": True, "true": True}
_DATATYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(double)": "TYPE_FP64",
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(uint8)": "TYPE_UINT8",
}


def _choice(options: Mapping[str, str], key: str, allowed: Mapping[str, Any]) -> Any:
    """The meaning of an option's value.

    Raises:
        ValueError: a value that is none of the allowed ones.
    """
    value = options[key].lower()
    if value not in allowed:
        raise ValueError(f"parameter {key} is {options[key]!r}; allowed are {', '.join(allowed)}")
    return allowed[value]


def session_options(declared: Declared) -> ort.SessionOptions:
    """ONNX Runtime's options from the config."""
    options = declared.options(_OPTIONS)
    session = ort.SessionOptions()
    # Every model is a process of its own on the same cores; idle threads that spin would take them from the others.
    session.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session.add_session_config_entry("session.inter_op.allow_spinning", "0")
    session.graph_optimization_level = _GRAPH_LEVELS[declared.graph_level]
    session.intra_op_num_threads = int(options.get("intra_op_thread_count", 0))
    session.inter_op_num_threads = int(options.get("inter_op_thread_count", 0))
    if "execution_mode" in options:
        session.execution_mode = _choice(options, "execution_mode", _EXECUTION_MODES)
    if "enable_mem_arena" in options:
        session.enable_cpu_mem_arena = _choice(options, "enable_mem_arena", _FLAGS)
    if "enable_mem_pattern" in options:
        session.enable_mem_pattern = _choice(options, "enable_mem_pattern", _FLAGS)
    if _INITIALIZERS in options:
        session.add_session_config_entry(_INITIALIZERS, options[_INITIALIZERS])
    return session


def _described(node: ort.NodeArg) -> tuple[str, int]:
    return _DATATYPES.get(node.type, node.type), len(node.shape)


def _prove_declared(declared: Declared, session: ort.InferenceSession) -> None:
    """Refuse a graph whose names, types, ranks or fixed lengths are not the config's."""
    sides: list[tuple[str, list[ort.NodeArg], tuple[Tensor, ...]]] = [
        ("inputs", session.get_inputs(), declared.inputs),
        ("outputs", session.get_outputs(), declared.outputs),
    ]
    for side, nodes, tensors in sides:
        refuse_difference(
            declared.name,
            f"{side} (type, rank)",
            dict(sorted((node.name, _described(node)) for node in nodes)),
            dict(sorted((tensor.name, (tensor.datatype, len(tensor.shape))) for tensor in tensors)),
        )
        shapes = {node.name: node.shape for node in nodes}
        for tensor in tensors:
            fixed = [
                (length, wanted)
                for length, wanted in zip(shapes[tensor.name], tensor.shape, strict=True)
                if isinstance(length, int) and (wanted >= 0 or side == "inputs")  # a fixed input takes no other length
            ]
            refuse_difference(
                declared.name,
                f"fixed lengths of {tensor.name}",
                [seen for seen, _ in fixed],
                [want for _, want in fixed],
            )


class TritonPythonModel(BatchedModel):
    """One ONNX file on ONNX Runtime's CPU provider."""

    def load(self, declared: Declared) -> Runner:
        """Make the session; its answers come in the config's order of outputs."""
        session = ort.InferenceSession(declared.file, session_options(declared), providers=["CPUExecutionProvider"])
        _prove_declared(declared, session)
        run_options = ort.RunOptions()
        if _SHRINKAGE in declared.parameters:
            run_options.add_run_config_entry(_SHRINKAGE, declared.parameters[_SHRINKAGE])
        inputs = [tensor.name for tensor in declared.inputs]
        outputs = [tensor.name for tensor in declared.outputs]
        return lambda arrays: session.run(outputs, dict(zip(inputs, arrays, strict=True)), run_options)

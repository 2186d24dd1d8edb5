"""Quantised graphs in the spelling that TensorRT takes: symmetric INT8 throughout.

A published int8 graph may be spelled for a CPU (`export/cpu_spelling.py`): UINT8 from zero where nothing is negative,
UINT8 around 128 elsewhere, weights around another zero point. TensorRT knows no UINT8 and no zero point there. The
range of UINT8 from zero is 127 signed steps instead of 255; the others mean the same integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, numpy_helper

Array = npt.NDArray[Any]

_STEPS = 255 / 127  # steps of UINT8 over those of INT8, for the same range from zero
_MIDDLE = 128
_ZERO = "zero_point_int8"


def for_tensorrt(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every quantisation made symmetric INT8; the same graph where all are.

    What has no such spelling stays, and TensorRT's parser refuses it by name.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    spelled = onnx.ModelProto()
    spelled.CopyFrom(graph)
    made: dict[str, Array] = {}
    for node in spelled.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) == 3:
            respell = _weights if node.input[0] in constants else _activation
            made |= respell(node, constants)
    if not made:
        return graph
    used = {name for node in spelled.graph.node for name in node.input}
    kept = [tensor for tensor in spelled.graph.initializer if tensor.name in used]
    del spelled.graph.initializer[:], spelled.graph.value_info[:]
    spelled.graph.initializer.extend(kept)
    spelled.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in sorted(made.items()))
    return spelled


def _activation(node: NodeProto, constants: dict[str, Array]) -> dict[str, Array]:
    """UINT8 from zero or around 128 to INT8 around zero; returns the new constants."""
    zero, scale = constants.get(node.input[2]), constants.get(node.input[1])
    if zero is None or scale is None or zero.dtype != np.uint8 or not np.isin(zero, (0, _MIDDLE)).all():
        return {}
    made = {_ZERO: np.array(0, np.int8)}
    if not zero.any():
        wider = f"{node.input[1]}_int8"
        made[wider] = np.asarray(scale * _STEPS, scale.dtype)
        node.input[1] = wider
    node.input[2] = _ZERO
    return made


def _weights(node: NodeProto, constants: dict[str, Array]) -> dict[str, Array]:
    """INT8 around any zero point to INT8 around zero, where all weights find room; returns the new constants."""
    zeros, weights = constants.get(node.input[2]), constants[node.input[0]]
    if zeros is None or weights.dtype != np.int8 or not zeros.any() or (zeros != zeros.flat[0]).any():
        return {}
    moved = weights.astype(np.int16) - zeros.flat[0]
    if np.abs(moved).max() > np.iinfo(np.int8).max:
        return {}
    names = f"{node.input[0]}_int8", f"{node.input[2]}_int8"
    node.input[0], node.input[2] = names
    return {names[0]: moved.astype(np.int8), names[1]: np.zeros_like(zeros)}

"""Quantised graphs in the spelling that TensorRT takes: symmetric INT8, where a CPU is quicker with UINT8.

A published int8 graph may quantise what is never negative to UINT8 from zero, because ONNX Runtime then takes the
ReLU into the integer product. TensorRT knows no UINT8 there. The same range in signed steps is 127 of them, not 255.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

_STEPS = 255 / 127  # steps of UINT8 over those of INT8, for the same range from zero


def for_tensorrt(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every UINT8 quantisation from zero made INT8; the same graph where there is none.

    Another zero point than 0 stays, and TensorRT's parser refuses it by name.
    """
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    found = [node for node in graph.graph.node if _is_unsigned_from_zero(node, constants)]
    if not found:
        return graph
    spelled = onnx.ModelProto()
    spelled.CopyFrom(graph)
    zeros, scales = "zero_point_int8", {node.input[1] for node in found}
    spelled.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), zeros))
    for scale in sorted(scales):
        value = numpy_helper.to_array(constants[scale])
        spelled.graph.initializer.append(
            numpy_helper.from_array(np.asarray(value * _STEPS, value.dtype), f"{scale}_int8")
        )
    for node in spelled.graph.node:
        if _is_unsigned_from_zero(node, constants):
            node.input[1], node.input[2] = f"{node.input[1]}_int8", zeros
    used = {name for node in spelled.graph.node for name in node.input}
    kept = [tensor for tensor in spelled.graph.initializer if tensor.name in used]
    del spelled.graph.initializer[:], spelled.graph.value_info[:]
    spelled.graph.initializer.extend(kept)
    return spelled


def _is_unsigned_from_zero(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether a node quantises an activation to UINT8 in steps from zero, or brings it back."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3 or node.input[0] in constants:
        return False
    zero, scale = constants.get(node.input[2]), constants.get(node.input[1])
    return (
        zero is not None
        and scale is not None
        and zero.data_type == onnx.TensorProto.UINT8
        and not numpy_helper.to_array(zero).any()
    )

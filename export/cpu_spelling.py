"""Int8 graphs spelled so that ONNX Runtime takes its quick kernels on a CPU; the integers mean what they meant before.

Three spellings of one symmetric quantisation. Measured on the compact separator, 200 frames, one core of a Xeon with
AMX, fp32 5.3 ms:

    activations never negative   S8 from 0 to U8 from 0, steps half as wide: ONNX Runtime takes a ReLU into the integer
                                 convolution before it only if the type itself ends at zero (8.5 to 2.6 ms elsewhere)
    other activations            S8 around 0 to U8 around 128, the same steps: products of S8 by S8 run twenty times
                                 slower than U8 by S8
    weights, on a CPU with AMX   S8 around 0 to S8 around -1, every weight one less: symmetric weights get kernels that
                                 know no AMX, others a matrix product that does (1.75 to 1.2 ms). Exact: 127 steps to
                                 either side leave room for the shift

TensorRT wants symmetric S8 throughout; `export.engines.spelling` brings a spelled graph back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, numpy_helper

from export.precision import constants_of, finished

Array = npt.NDArray[Any]

MIDDLE_U8 = 128  # zero point of signed activations as U8
SHIFT = -1  # zero point of weights whose products shall take AMX
_STEPS_U8, _STEPS_S8 = 255, 127
_LONG, _MANY = 128, 64  # values in a product and products beside it, from which on AMX is ahead
# Hands values on, or moves the sign of none of them.
_KEEPS_SIGN = frozenset(
    ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "MaxPool", "AveragePool", "QuantizeLinear", "DequantizeLinear")
)
_NEVER_NEGATIVE = frozenset(("Relu", "Sigmoid", "Softmax", "Exp"))


def has_matrix_unit(cpu_facts: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU multiplies matrices of bytes by itself (AMX), as Linux tells."""
    try:
        return "amx_int8" in cpu_facts.read_text().split()
    except OSError:
        return False


def for_cpu(graph: onnx.ModelProto, *, matrix_unit: bool | None = None) -> onnx.ModelProto:
    """Spell the Q/DQ pairs of an int8 graph for a CPU.

    Args:
        graph: as `export.precision.convert` makes it; left as it is.
        matrix_unit: whether that CPU has AMX; None asks this machine's. The answers are equal either way.
    """
    spelled = onnx.ModelProto()
    spelled.CopyFrom(graph)
    constants = constants_of(spelled.graph)
    speller = _Speller(spelled.graph, constants)
    positive = _never_negative(spelled.graph, constants)
    for node in spelled.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in constants:
            speller.unsign(node, from_zero=node.input[0] in positive)
    if has_matrix_unit() if matrix_unit is None else matrix_unit:
        for node in spelled.graph.node:
            if node.op_type == "Conv":
                speller.shift_weights(node)
    _drop_unused_constants(spelled.graph)
    return finished(spelled, graph, "int8")


class _Speller:
    """Rewrites the constants of one graph, each once."""

    def __init__(self, graph: onnx.GraphProto, constants: dict[str, Array]) -> None:
        self._graph, self._constants = graph, constants
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._made: set[str] = set()

    def unsign(self, node: NodeProto, *, from_zero: bool) -> None:
        """Make one step of an activation U8."""
        scale, zero = node.input[1], node.input[2]
        if from_zero:
            wider = np.asarray(self._constants[scale] * _STEPS_S8 / _STEPS_U8, np.float32)
            node.input[1] = self._constant(f"{scale}_u8", wider)
            node.input[2] = self._constant(f"{zero}_u8", np.array(0, np.uint8))
        else:
            node.input[2] = self._constant(f"{zero}_middle_u8", np.array(MIDDLE_U8, np.uint8))

    def shift_weights(self, convolution: NodeProto) -> None:
        """Shift the weights of a quantised convolution that is large enough to gain by it."""
        step = self._made_by.get(convolution.input[1])
        weights = (
            self._constants.get(step.input[0]) if step is not None and step.op_type == "DequantizeLinear" else None
        )
        if step is None or weights is None or weights[0].size < _LONG or weights.shape[0] < _MANY:
            return
        zeros = self._constants[step.input[2]]
        shifted, moved = f"{step.input[0]}_shifted", f"{step.input[2]}_{step.input[0]}_shifted"
        step.input[0] = self._constant(shifted, (weights.astype(np.int16) + SHIFT).astype(np.int8))
        step.input[2] = self._constant(moved, np.full_like(zeros, SHIFT))

    def _constant(self, name: str, value: Array) -> str:
        if name not in self._made:
            self._graph.initializer.append(numpy_helper.from_array(value, name))
            self._made.add(name)
        return name


def _never_negative(graph: onnx.GraphProto, constants: dict[str, Array]) -> set[str]:
    """Tensors that hold nothing below zero whatever the input."""
    found: set[str] = {name for name, value in constants.items() if (value >= 0).all()}
    weights = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.input[:1]}
    found -= weights & set(constants)  # weights keep their own steps
    for node in graph.node:
        carried = node.input[:1] if node.op_type in _KEEPS_SIGN else node.input
        if node.op_type in _NEVER_NEGATIVE or (
            node.op_type in _KEEPS_SIGN | {"Concat", "Add", "Mul"} and all(name in found for name in carried)
        ):
            found.update(node.output)
    return found


def _drop_unused_constants(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)

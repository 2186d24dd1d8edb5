"""Operations and bytes of an ONNX graph at given input shapes, counted from the graph itself.

A multiplication and the addition that follows it are two operations. Convolutions and matrix products are counted;
what is left (activations, sums, resizing) is a few operations for each value and is bound by memory, so that its
share shows as bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import NodeProto, helper, shape_inference

from perf.errors import PerfError

Shape = tuple[int, ...]

# Position of the weights among a convolution's inputs, and of both operands of a matrix product.
_CONVOLUTIONS = {"Conv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}
_PRODUCTS = {"MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
# Only names: they move nothing.
_FREE = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Constant", "Shape"})


@dataclass(frozen=True)
class Work:
    """What one node has to do."""

    name: str
    operation: str  # such as Conv
    flops: int  # two for each multiplication and addition
    moved_bytes: int  # inputs read once, outputs written once
    product: tuple[int, int, int] | None = None  # (M, K, N) of one item's and group's matrix product


@dataclass(frozen=True)
class GraphWork:
    """What one run of a graph has to do."""

    nodes: tuple[Work, ...]
    weight_bytes: int

    @property
    def flops(self) -> int:
        """Of all convolutions and matrix products."""
        return sum(node.flops for node in self.nodes)

    @property
    def moved_bytes(self) -> int:
        """Every input and output of every node, once."""
        return sum(node.moved_bytes for node in self.nodes)


def count(graph: onnx.ModelProto, shapes: Mapping[str, Shape]) -> GraphWork:
    """Count a graph at the shapes of its inputs.

    Args:
        graph: Any precision; explicit quantisation is counted by the convolutions between the Q/DQ pairs.
        shapes: Of every input, batch axis included.

    Raises:
        PerfError: A shape is missing, or does not lead to the shape of every tensor (6).
    """
    known = _shapes(graph, shapes)
    kinds = _element_bytes(graph)
    nodes = []
    for node in graph.graph.node:
        try:
            nodes.append(_work(node, known, kinds))
        except KeyError as missing:
            raise PerfError(
                f"The shape of tensor {missing} before or after {node.op_type} {node.name} does not follow from the "
                f"inputs {dict(shapes)}; a share of the peak needs every operation. Export anew: avedge export.",
                exit_code=6,
            ) from missing
    weights = sum(math.prod(tensor.dims) * _size_of(tensor.data_type) for tensor in graph.graph.initializer)
    return GraphWork(tuple(nodes), weights)


def _shapes(graph: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shape of every tensor."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(graph)
    del fixed.graph.value_info[:]  # those of the export carry symbols, which would win
    for value in fixed.graph.input:
        if value.name not in shapes:
            raise PerfError(f"No shape is given for the graph's input {value.name}; give one for each.", exit_code=6)
        _set_shape(value, shapes[value.name])
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(fixed, data_prop=True).graph
    known: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            known[value.name] = tuple(dim.dim_value for dim in dims)
    return known


def _set_shape(value: onnx.ValueInfoProto, shape: Shape) -> None:
    value.type.CopyFrom(helper.make_tensor_type_proto(value.type.tensor_type.elem_type, shape))


def _element_bytes(graph: onnx.ModelProto) -> dict[str, int]:
    """Bytes of one element of every tensor whose type is known; 4 elsewhere."""
    inferred = shape_inference.infer_shapes(graph).graph
    sizes = {tensor.name: _size_of(tensor.data_type) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        sizes[value.name] = _size_of(value.type.tensor_type.elem_type)
    return sizes


def _size_of(kind: int) -> int:
    return int(helper.tensor_dtype_to_np_dtype(kind).itemsize) if kind else 4


def _work(node: NodeProto, shapes: Mapping[str, Shape], kinds: Mapping[str, int]) -> Work:
    tensors = [name for name in (*node.input, *node.output) if name]
    moved = 0 if node.op_type in _FREE else sum(math.prod(shapes[name]) * kinds.get(name, 4) for name in tensors)
    product = _product(node, shapes)
    if product is None:
        return Work(node.name, node.op_type, 0, moved)
    repeats, (rows, inner, columns) = product
    return Work(node.name, node.op_type, 2 * repeats * rows * inner * columns, moved, (rows, inner, columns))


def _product(node: NodeProto, shapes: Mapping[str, Shape]) -> tuple[int, tuple[int, int, int]] | None:
    """The matrix product that a node amounts to, (M, K, N), and how many of them; None for any other operation."""
    if node.op_type in _CONVOLUTIONS:
        weights = shapes[node.input[_CONVOLUTIONS[node.op_type][1]]]  # (outputs, inputs / groups, *kernel)
        batch, outputs, *places = shapes[node.output[0]]
        groups = int(_attribute(node, "group", 1))
        return batch * groups, (outputs // groups, math.prod(weights[1:]), math.prod(places))
    if node.op_type == "ConvTranspose":
        weights = shapes[node.input[1]]  # (inputs, outputs / groups, *kernel)
        batch, inputs, *places = shapes[node.input[0]]
        groups = int(_attribute(node, "group", 1))
        return batch * groups, (math.prod(weights[1:]), inputs // groups, math.prod(places))
    if node.op_type == "Gemm":
        rows, inner = shapes[node.input[0]][:: -1 if _attribute(node, "transA", 0) else 1]
        return 1, (rows, inner, shapes[node.output[0]][-1])
    if node.op_type in _PRODUCTS:
        left, right = (shapes[node.input[place]] for place in _PRODUCTS[node.op_type])
        rows = left[-2] if len(left) > 1 else 1
        columns = right[-1] if len(right) > 1 else 1
        return math.prod(shapes[node.output[0]]) // (rows * columns), (rows, left[-1], columns)
    return None


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)

"""Rewritings of exported graphs that keep their answers and take fewer steps on a CPU; engines gain or do not mind.

Each one looks for its pattern and leaves any other graph as it is. What they are worth was measured in ONNX Runtime on
two cores with AVX512, `avedge perf roofline` shows what is left:

    power_as_exponential    separator: x ** 0.3 calls `powf` value by value, 0.37 ms of 10; exp(0.3 ln x) 0.06
    convolutions_over_rows  separator: only two-dimensional convolutions have ONNX Runtime's blocked kernels; 6 % less
    picture_front           counters: cutting 2x2 blocks into channels, moving and scaling them; a convolution with
                            stride 4 that reads the pixels where they lie, rows as they are in memory, does the same
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper, shape_inference

Array = NDArray[Any]

# Work value by value, or along the channels: an axis of one before the last changes nothing for them.
_INDIFFERENT = frozenset({"Relu", "Add", "Mul", "Sigmoid", "Pow", "Log", "Exp", "BatchNormalization"})


def rewrite(graph: ModelProto) -> ModelProto:
    """Apply every pass; the graph given is left as it is."""
    rewritten = ModelProto()
    rewritten.CopyFrom(graph)
    for step in (power_as_exponential, convolutions_over_rows, picture_front):
        step(rewritten.graph)
    _drop_unused(rewritten.graph)
    del rewritten.graph.value_info[:]
    inferred: ModelProto = shape_inference.infer_shapes(rewritten)
    return inferred


def power_as_exponential(graph: GraphProto) -> None:
    """Turn x ** c into exp(c ln x), for a constant c > 0 that is no whole number.

    Equal for every x: ln 0 = -inf gives exp(-inf) = 0, and below zero both are NaN.
    """
    constants = _constants(graph)

    def replaced(node: NodeProto) -> list[NodeProto]:
        exponent = constants.get(node.input[1]) if node.op_type == "Pow" else None
        if exponent is None or exponent.size != 1 or exponent.item() <= 0 or exponent.item() % 1 == 0:
            return [node]
        base, power = node.input
        (out,) = node.output
        return [
            helper.make_node("Log", [base], [f"{out}_log"], f"{out}_log"),
            helper.make_node("Mul", [f"{out}_log", power], [f"{out}_scaled"], f"{out}_scaled"),
            helper.make_node("Exp", [f"{out}_scaled"], [out], node.name),
        ]

    _replace(graph, replaced)


def convolutions_over_rows(graph: GraphProto) -> None:
    """Convolutions over (B, C, T) to convolutions over (B, C, 1, T): an axis of one before the last, inside the graph.

    Only where every other node is indifferent to it, joins channels, or adds and takes away axes of one.
    """
    constants = _constants(graph)
    if not any(_is_one_dimensional(node, constants) for node in graph.node):
        return
    if not all(_keeps_rows(node, constants) for node in graph.node):
        return
    inputs = {value.name for value in graph.input if len(value.type.tensor_type.shape.dim) == 3}
    outputs = {value.name for value in graph.output if len(value.type.tensor_type.shape.dim) == 3}
    row, both, channel = (_constant(graph, f"axes_{'_'.join(map(str, axes))}", axes) for axes in ([2], [2, 3], [1, 2]))

    def replaced(node: NodeProto) -> list[NodeProto]:
        if node.op_type == "Conv":
            _widen_attributes(node)
        elif node.op_type in ("Unsqueeze", "Squeeze"):
            node.input[1] = both if node.op_type == "Unsqueeze" else channel
        for place, name in enumerate(node.input):
            node.input[place] = f"{name}_row" if name in inputs | outputs else name
        (out,) = node.output
        if out not in outputs:
            return [node]
        node.output[0] = f"{out}_row"
        return [node, helper.make_node("Squeeze", [f"{out}_row", row], [out], f"{out}_squeeze")]

    _replace(graph, replaced)
    for tensor in graph.initializer:
        if len(tensor.dims) == 3:
            tensor.dims.insert(2, 1)  # (outputs, inputs, kernel) to (outputs, inputs, 1, kernel): the bytes stay
    doors = [
        helper.make_node("Unsqueeze", [name, row], [f"{name}_row"], f"{name}_unsqueeze") for name in sorted(inputs)
    ]
    nodes = [*doors, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def picture_front(graph: GraphProto) -> None:
    """Pixels cut into channels, moved, scaled and convolved, to pixels centred and convolved where they lie.

    A convolution of blocks of f x f pixels is one of pixels with an f times larger kernel, stride and padding; one over
    (B, H, W, 3) is one over a single channel (B, 1, H, 3 W) with a three times wider kernel, stride and padding. The
    division by the deviation goes into the weights. The mean is still taken away before, because the padding is zero
    there and would be another thing for raw pixels.
    """
    constants, made_by = _constants(graph), {name: node for node in graph.node for name in node.output}
    for convolution in graph.node:
        found = _front_of(convolution, constants, made_by)
        if found is not None:
            _rewrite_front(graph, convolution, *found, constants)
            return


def _is_one_dimensional(node: NodeProto, constants: dict[str, Array]) -> bool:
    return node.op_type == "Conv" and node.input[1] in constants and constants[node.input[1]].ndim == 3


def _keeps_rows(node: NodeProto, constants: dict[str, Array]) -> bool:
    """Whether a node of a graph over (B, C, T) does the same over (B, C, 1, T)."""
    if node.op_type == "Conv":
        return _is_one_dimensional(node, constants) and _attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
    if node.op_type == "Concat":
        return bool(_attribute(node, "axis", 0) == 1)
    if node.op_type in ("Unsqueeze", "Squeeze"):
        axes = constants.get(node.input[1])
        return axes is not None and axes.tolist() == ([2] if node.op_type == "Unsqueeze" else [1])
    operands = (constants[name] for name in node.input if name in constants)
    return node.op_type in _INDIFFERENT and all(operand.ndim < 2 for operand in operands)


def _widen_attributes(node: NodeProto) -> None:
    """Attributes of a convolution over T to those of one over (1, T)."""
    before, after = _attribute(node, "pads", [0, 0])
    widened = {
        "kernel_shape": [1, *_attribute(node, "kernel_shape", [])],
        "strides": [1, *_attribute(node, "strides", [1])],
        "dilations": [1, *_attribute(node, "dilations", [1])],
        "pads": [0, before, 0, after],
    }
    _set_attributes(node, widened)


def _front_of(
    convolution: NodeProto, constants: dict[str, Array], made_by: dict[str, NodeProto]
) -> tuple[str, int, Array, Array] | None:
    """What a convolution sees, if it is pixels in blocks, scaled.

    Returns:
        name of the pixels (B, H, W, 3), side f of a block, mean and deviation of the colours; None for anything else.
    """

    def before(node: NodeProto | None, operation: str) -> NodeProto | None:
        found = made_by.get(node.input[0]) if node is not None and node.input else None
        return found if found is not None and found.op_type == operation else None

    divided = before(convolution, "Div") if convolution.op_type == "Conv" else None
    centred = before(divided, "Sub")
    moved = before(centred, "Transpose")
    joined = before(moved, "Concat")
    if divided is None or centred is None or moved is None or joined is None:
        return None
    gathered = [before(made_by.get(name), "Gather") for name in joined.input]
    rows = [before(row, "Reshape") for row in gathered]
    indexes = [constants[row.input[1]].item() for row in gathered if row is not None]
    factor = len(joined.input)
    if (
        list(_attribute(moved, "perm", [])) != [0, 3, 1, 2]
        or _attribute(joined, "axis", 0) != 3
        or any(row is None or _attribute(row, "axis", 0) != 2 for row in gathered)
        or indexes != list(range(factor))
        or any(row is None or row is not rows[0] for row in rows)
    ):
        return None
    assert rows[0] is not None
    mean, deviation = (constants[node.input[1]].reshape(factor**2, -1) for node in (centred, divided))
    if (mean != mean[0]).any() or (deviation != deviation[0]).any():
        return None
    return rows[0].input[0], factor, mean[0], deviation[0]


def _rewrite_front(
    graph: GraphProto,
    convolution: NodeProto,
    pixels: str,
    factor: int,
    mean: Array,
    deviation: Array,
    constants: dict[str, Array],
) -> None:
    weights = constants[convolution.input[1]].astype(np.float64)
    colours = len(mean)
    outputs, _, height, width = weights.shape
    blocks = weights.reshape(outputs, factor, factor, colours, height, width)  # row and column in the block, colour
    spread = blocks.transpose(0, 4, 1, 5, 2, 3)  # rows, then the values of a row as they lie in memory
    scaled = (spread / deviation).reshape(outputs, 1, height * factor, width * factor * colours).astype(np.float32)
    name, row = convolution.input[1], _row_values(graph, colours)
    means = _constant(graph, "front_mean", np.tile(mean, row // colours))
    shape = _constant(graph, "front_shape", [0, 1, -1, row])
    front = [
        helper.make_node("Reshape", [pixels, shape], ["front_rows"], "front_rows"),
        helper.make_node("Sub", ["front_rows", means], ["front_centred"], "front_centred"),
    ]
    grown = {
        key: [factor * value * (colours if place % 2 else 1) for place, value in enumerate(given)]
        for key, given in (
            ("pads", _attribute(convolution, "pads", [0] * 4)),  # top, left, bottom, right
            ("strides", _attribute(convolution, "strides", [1, 1])),
            ("kernel_shape", [height, width]),
        )
    }
    _set_attributes(convolution, grown)
    convolution.input[0], convolution.input[1] = "front_centred", _constant(graph, f"{name}_front", scaled)

    _replace(graph, lambda node: [*front, node] if node.output[0] == convolution.output[0] else [node])


def _row_values(graph: GraphProto, colours: int) -> int:
    """Values in a row of the picture, the graph's one input (B, H, W, C)."""
    shapes = [[axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.input]
    (width,) = [shape[2] for shape in shapes if len(shape) == 4 and shape[3] == colours]
    return int(width) * colours


def _constants(graph: GraphProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _constant(graph: GraphProto, name: str, values: Sequence[int] | Array) -> str:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)


def _set_attributes(node: NodeProto, values: dict[str, list[int]]) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in values]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])


def _replace(graph: GraphProto, replaced: Callable[[NodeProto], list[NodeProto]]) -> None:
    nodes = [new for node in graph.node for new in replaced(node)]
    del graph.node[:]
    graph.node.extend(nodes)


def _drop_unused(graph: GraphProto) -> None:
    """Drop nodes and constants that lead to no output."""
    wanted = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(constants)

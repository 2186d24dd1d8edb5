"""Lower precision, written into the graph: fp16 with islands of fp32, and int8 as explicit Q/DQ pairs.

    fp32 graph ──> convert(…, "fp16") ──> Casts around islands          ──> ONNX Runtime, TensorRT
               └─> convert(…, "int8") ──> symmetric S8 pairs ─┬─────────────> TensorRT
                                                              └─ for_cpu ──> ONNX Runtime (`export/cpu_spelling.py`)

Whoever runs a graph is asked for nothing: TensorRT builds it strongly typed, ONNX Runtime as it stands. The tensors at
the door keep the contract's types. Graphs of signal processing and the density sum (`Model.exact`) stay as they are.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import NodeProto, helper, numpy_helper

from export.contract import Model

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Array = npt.NDArray[Any]
Calibration = Sequence[dict[str, Array]]

_LARGEST_HALF = 65_504.0
# Calibration is a sample: what comes eight times nearer to the largest half than this is kept in fp32.
_HEADROOM = 8.0
# Small arguments vanish and large results overflow in logarithms and exponentials; sums over many values lose digits;
# a sigmoid's ends, a softmax and a norm are what later products are weighed with. UINT8 is cast to FP32 at the door,
# which is the only cast from it that TensorRT takes.
ISLAND_OPERATORS = (
    "Log", "Exp", "Pow", "Sqrt", "Softmax", "Sigmoid", "Cast", "Div",
    "ReduceMean", "ReduceSum", "ReduceL2", "InstanceNormalization", "LayerNormalization", "BatchNormalization",
)  # fmt: skip
_PRODUCTS = ("Conv", "MatMul", "Gemm")
_QUANTISED = ("Conv", "Add", "Sigmoid")
_WIDE = 64  # channels: one register of bytes


def convert(graph: onnx.ModelProto, model: Model, precision: str, calibration: Calibration) -> onnx.ModelProto:
    """Bring a graph to a precision.

    Args:
        graph: as exported in fp32; left as it is.
        model: the contract's entry.
        precision: one of `PRECISIONS`.
        calibration: inputs by name, with a batch axis, as the model will meet them: for fp16 they show what is too
            large for a half, for int8 how large everything is.

    Returns:
        Ordinary ONNX in the form that TensorRT takes; its fact `precision` says what it is. `cpu_spelling.for_cpu`
        makes the form of int8 that is quick on a CPU.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}; there are {', '.join(PRECISIONS)}")
    converted = onnx.ModelProto()
    converted.CopyFrom(graph)
    if precision == "fp32" or model.exact:
        return converted
    converted = _to_fp16(converted, calibration) if precision == "fp16" else _to_int8(converted, calibration)
    return finished(converted, graph, precision)


def islands(graph: onnx.ModelProto, calibration: Calibration) -> set[str]:
    """Names of the nodes that stay in fp32 when a graph becomes fp16.

    Besides `ISLAND_OPERATORS`: logits, from the product that makes them; what lies between a logarithm and its
    exponential; what takes or makes a tensor of the contract; all that follows the last convolution of a graph with a
    softmax (the patches' attention and the PIR and PCE heads: a hundredth of the work, and the answers themselves); and
    whatever comes near the largest half on the calibration's inputs.
    """
    nodes = list(graph.graph.node)
    kept = {node.name for node in nodes if node.op_type in ISLAND_OPERATORS}
    doors = {value.name for value in (*graph.graph.input, *graph.graph.output)}
    kept |= {node.name for node in nodes if doors.intersection((*node.input, *node.output))}
    kept |= _leading_to(graph.graph, {"Softmax", "Exp"})
    if any(node.op_type == "Softmax" for node in nodes):
        kept |= _after_last_convolution(nodes)
    return kept | _too_large(graph, calibration)


def _to_fp16(graph: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted: onnx.ModelProto = convert_float_to_float16(
        graph,
        keep_io_types=True,
        max_finite_val=_LARGEST_HALF,
        op_block_list=list(ISLAND_OPERATORS),
        node_block_list=sorted(islands(graph, calibration)),
    )
    _drop_repeated(converted.graph)
    _skip_round_trips(converted.graph)
    _sort(converted.graph)
    return converted


def _drop_repeated(graph: onnx.GraphProto) -> None:
    """The converter writes one cast for each island that takes a tensor, all under one name."""
    first: dict[str, NodeProto] = {}
    for node in graph.node:
        first.setdefault(node.output[0], node)
    kept = [node for node in graph.node if first[node.output[0]] is node]
    del graph.node[:]
    graph.node.extend(kept)


def _skip_round_trips(graph: onnx.GraphProto) -> None:
    """Take fp32 from where it was before it was cast to fp16 and back: doors of islands, whose digits would be lost."""
    made_by = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    short, full = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    instead: dict[str, str] = {}
    for node in graph.node:
        before = made_by.get(node.input[0]) if _casts_to(node, full) else None
        if before is not None and _casts_to(before, short):
            instead[node.output[0]] = before.input[0]
    for lost in outputs & set(instead):  # an output keeps its name, and its maker takes it over
        inner = instead.pop(lost)
        maker = made_by.get(inner)
        if maker is not None:
            instead[inner] = lost
            maker.output[list(maker.output).index(inner)] = lost
    kept = [node for node in graph.node if not (_casts_to(node, full) and node.output[0] in {*instead, *outputs})]
    for node in kept:
        for place, name in enumerate(node.input):
            while name in instead:
                name = instead[name]
            node.input[place] = name
    used = {name for node in kept for name in node.input} | outputs
    del graph.node[:]
    graph.node.extend(node for node in kept if not (node.op_type == "Cast" and node.output[0] not in used))


def _casts_to(node: NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == kind


def _sort(graph: onnx.GraphProto) -> None:
    """Every node behind those whose results it takes: the converter puts its casts at the end."""
    ready = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        able = [node for node in waiting if ready.issuperset(node.input)]
        assert able, "a graph without cycles always has a next node"
        for node in able:
            ready.update(node.output)
        ordered += able
        waiting = [node for node in waiting if not ready.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(ordered)


def _to_int8(graph: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """Quantise convolutions and the sums between them: symmetric, weights by channel, biases as they are.

    The output of a convolution is quantised behind its ReLU, where the next one or a sum takes it, and nowhere else.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            path,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            nodes_to_exclude=sorted(not_quantised(graph)),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            # The ends of the range carry the loudest and the fullest, which the answers are judged by.
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,  # TensorRT takes no INT32; ONNX Runtime makes its own at loading
                "OpTypesToExcludeOutputQuantization": list(_QUANTISED),
            },
        )
        return onnx.load(path)


def not_quantised(graph: onnx.ModelProto) -> set[str]:
    """Nodes of the quantised kinds that stay in floats, each for a reason.

    In graphs with a softmax, the counters, convolutions of less than `_WIDE` channels, in or out, and the sums beside
    them: a CPU fills a register with so many bytes, and with the narrow ones as integers, and the steps to and fro,
    counting took 1.3 times the time of fp32; without, 0.95. Sigmoids whose input is an attention's logit: one value
    per frame, where eight bits show and nothing is saved. Sums that follow the last convolution of a graph with a
    softmax: queries, keys and heads.
    """
    nodes = list(graph.graph.node)
    made_by = {name: node for node in nodes for name in node.output}
    weights = constants_of(graph.graph)
    branches = any(node.op_type == "Softmax" for node in nodes)
    kept = {
        node.name
        for node in nodes
        if branches and node.op_type == "Conv" and min(weights[node.input[1]].shape[:2]) < _WIDE
    }
    for node in nodes:
        if node.op_type == "Add" and not any(_is_quantised(made_by.get(name), made_by, kept) for name in node.input):
            kept.add(node.name)
        maker = made_by.get(node.input[0]) if node.op_type == "Sigmoid" else None
        if maker is not None and (maker.op_type != "Conv" or weights[maker.input[1]].shape[0] == 1):
            kept.add(node.name)
    if branches:
        kept |= _after_last_convolution(nodes)
    return kept


def _is_quantised(node: NodeProto | None, made_by: dict[str, NodeProto], kept: set[str]) -> bool:
    """Whether values come from a convolution or a sum that is quantised, through a ReLU or not."""
    while node is not None and node.op_type == "Relu":
        node = made_by.get(node.input[0])
    return node is not None and node.op_type in ("Conv", "Add") and node.name not in kept


class _Reader:
    """Calibration inputs, one after the other, as the quantiser asks for them."""

    def __init__(self, rows: Calibration) -> None:
        self._rows: Iterator[dict[str, Array]] = iter(rows)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._rows, None)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return self._rows


class _quiet:  # noqa: N801 - reads as a word in `with`
    """The quantiser warns of a preparation that the export has done already."""

    def __enter__(self) -> None:
        self._level = logging.root.level
        logging.root.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.root.setLevel(self._level)


def _leading_to(graph: onnx.GraphProto, ends: set[str]) -> set[str]:
    """Nodes before certain operators, back to the products, logarithms or inputs that their values come from."""
    made_by = {name: node for node in graph.node for name in node.output}
    waiting = [made_by[name] for node in graph.node if node.op_type in ends for name in node.input if name in made_by]
    found: set[str] = set()
    while waiting:
        node = waiting.pop()
        if node.name in found:
            continue
        found.add(node.name)
        if node.op_type not in (*_PRODUCTS, "Log"):
            waiting += [made_by[name] for name in node.input if name in made_by]
    return found


def _after_last_convolution(nodes: Sequence[NodeProto]) -> set[str]:
    """Nodes that no convolution follows, and that follow one."""
    last = max((place for place, node in enumerate(nodes) if node.op_type == "Conv"), default=len(nodes))
    reached, found = set(nodes[last].output) if last < len(nodes) else set(), set()
    for node in nodes[last + 1 :]:
        if reached.intersection(node.input):
            reached.update(node.output)
            found.add(node.name)
    return found


def _too_large(graph: onnx.ModelProto, calibration: Calibration) -> set[str]:
    """Nodes whose results come near the largest half on the calibration's inputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(graph)
    known = {value.name: value for value in graph.graph.value_info}
    outputs = {value.name for value in graph.graph.output}
    floats = [value for value in known.values() if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    shown.graph.output.extend(value for value in floats if value.name not in outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    peaks = dict.fromkeys(names, 0.0)
    for row in calibration:
        for name, value in zip(names, session.run(names, row), strict=True):
            peaks[name] = max(peaks[name], float(np.abs(value).max(initial=0)))
    large = {name for name, peak in peaks.items() if not peak < _LARGEST_HALF / _HEADROOM}
    return {node.name for node in graph.graph.node if large.intersection((*node.input, *node.output))}


def finished(graph: onnx.ModelProto, source: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Give a graph the facts and the words at the door of the one it was made of, and check it whole."""
    facts = {prop.key: prop.value for prop in source.metadata_props}
    del graph.metadata_props[:]
    helper.set_model_props(graph, facts | {"precision": precision})
    graph.producer_name, graph.producer_version = source.producer_name, source.producer_version
    for made, given in ((graph.graph.input, source.graph.input), (graph.graph.output, source.graph.output)):
        for value, wanted in zip(made, given, strict=True):
            value.CopyFrom(wanted)
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.checker.check_model(graph, full_check=True)
    return graph


def constants_of(graph: onnx.GraphProto) -> dict[str, Array]:
    """Every constant of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

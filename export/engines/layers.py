"""Which precision each layer has: as the graph says, as TensorRT parsed it, and as the engine runs it.

An engine that can be loaded tells through TensorRT's inspector what was really chosen. Without a GPU no engine can be
loaded, TensorRT for RTX's neither; then the parsed network speaks: it is strongly typed, so no layer may change its
type later, though fusions and kernels are unknown until the engine meets a GPU.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from export.errors import ExportError

# Where the time goes and where the digits go: sums of products.
_ONNX_PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
_NETWORK_PRODUCTS = frozenset(("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"))
_ENGINE_PRODUCTS = re.compile(r"conv|gemm|matmul|matrix_multiply|fprop|dgrad", re.IGNORECASE)
_ENGINE_MOVES = frozenset(("reformat", "noop", "constant", "shuffle", "signal", "wait", "cast"))
_ONNX_TYPES = {
    onnx.TensorProto.FLOAT: "fp32",
    onnx.TensorProto.FLOAT16: "fp16",
    onnx.TensorProto.BFLOAT16: "bf16",
    onnx.TensorProto.INT8: "int8",
}
_NETWORK_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}
# The inspector's words for a tensor: `Half`, `Half(64,1:8,...)`, `Row major linear FP32`, `N/A due to dynamic shapes`.
_FORMAT_WORDS = (
    ("bf16", r"bf16|bfloat16"), ("fp8", r"\bfp8|float8|e4m3"), ("fp16", r"\bhalf|\bfp16|float16"),
    ("int8", r"\bint8"), ("fp32", r"\bfloat|\bfp32"),
)  # fmt: skip
# Kernels bear their types: sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n, ..._i8i8_i8i32_f32, ..._f16f16_f16f32_f32.
_TACTIC_WORDS = (
    ("tf32", r"tf32"), ("int8", r"[_.]i8|[_.]s8"), ("fp8", r"e4m3"), ("bf16", r"bf16"), ("fp16", r"f16f|[_.]h?f16"),
    ("fp32", r"f32f32"),
)  # fmt: skip
_DIGITS = {"fp32": 3, "tf32": 2, "fp16": 2, "bf16": 1, "fp8": 0, "int8": 0}
_OTHER = "other"  # indices, shapes, pictures' bytes: no rounding to speak of
_THROUGH = frozenset(("Reshape", "Squeeze", "Unsqueeze", "Transpose", "UNSQUEEZE", "SQUEEZE", "SHUFFLE"))


@dataclass(frozen=True)
class Layer:
    """One layer, or one operator of a graph."""

    name: str
    kind: str
    precision: str  # fp32, tf32, fp16, bf16, int8, fp8; other for layers that do not compute with fractions
    is_product: bool  # a convolution or a matrix product
    nodes: tuple[str, ...]  # operators of the graph that it was made of
    tactic: str = ""
    certain: bool = True  # whether the precision is that of the arithmetic, not only of the tensors at the door


@dataclass(frozen=True)
class Verdict:
    """The graph's word against the engine's."""

    agreed: int
    coarser: tuple[str, ...]  # fewer digits than the graph says: answers would differ
    finer: tuple[str, ...]  # more digits than the graph says: slower than it need be
    untold: tuple[str, ...]  # not to be found again, as in a large fusion


def graph_layers(graph: onnx.ModelProto) -> list[Layer]:
    """Every operator of a graph with the type that it computes in, `int8` for products of dequantised tensors."""
    typed = onnx.shape_inference.infer_shapes(graph).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*typed.input, *typed.value_info, *typed.output)}
    types |= {tensor.name: tensor.data_type for tensor in typed.initializer}
    makers = {output: node for node in graph.graph.node for output in node.output}

    def dequantised(tensor: str) -> bool:
        maker = makers.get(tensor)
        while maker is not None and maker.op_type in _THROUGH:
            maker = makers.get(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"

    def precision(node: onnx.NodeProto) -> str:
        if node.op_type in _ONNX_PRODUCTS and all(dequantised(tensor) for tensor in node.input[:2]):
            return "int8"
        found = [_ONNX_TYPES.get(types.get(tensor, 0)) for tensor in (*node.input, *node.output) if tensor]
        return next((word for word in found if word is not None), _OTHER)

    layers = []
    for node in graph.graph.node:
        name = node.name or f"node_of_{node.output[0]}"
        layers.append(Layer(name, node.op_type, precision(node), node.op_type in _ONNX_PRODUCTS, (name,)))
    return layers


def network_layers(network: Any) -> list[Layer]:
    """Every layer of a parsed, strongly typed network."""
    all_layers = [network.get_layer(place) for place in range(network.num_layers)]
    makers = {layer.get_output(i).name: layer for layer in all_layers for i in range(layer.num_outputs)}

    def dequantised(tensor: Any) -> bool:
        maker = makers.get(tensor.name)
        while maker is not None and maker.type.name in _THROUGH:
            maker = makers.get(maker.get_input(0).name)
        return maker is not None and maker.type.name == "DEQUANTIZE"

    def precision(layer: Any) -> str:
        tensors = [layer.get_input(i) for i in range(layer.num_inputs)]
        tensors = [tensor for tensor in tensors if tensor is not None]
        if layer.type.name in _NETWORK_PRODUCTS and len(tensors) > 1 and all(map(dequantised, tensors[:2])):
            return "int8"
        tensors += [layer.get_output(i) for i in range(layer.num_outputs)]
        found = [_NETWORK_TYPES.get(tensor.dtype.name) for tensor in tensors]
        return next((word for word in found if word is not None), _OTHER)

    return [
        Layer(
            layer.name,
            layer.type.name,
            precision(layer),
            layer.type.name in _NETWORK_PRODUCTS,
            _nodes_in(layer.metadata) or (layer.name,),
        )
        for layer in all_layers
    ]


def inspected_layers(report: str) -> list[Layer]:
    """Every layer of a built engine, from the inspector's JSON at detailed verbosity.

    Raises:
        ExportError: the report is not what TensorRT 10 and 11 write.
    """
    try:
        described = json.loads(report)["Layers"]
        return [_inspected(entry) for entry in described]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"TensorRT's inspector wrote something else than layers ({type(error).__name__}: {error}); wanted each "
            "layer's types, which prove the engine's precision. Report it with the TensorRT version."
        ) from error


def _inspected(entry: dict[str, Any]) -> Layer:
    kind, tactic = str(entry.get("LayerType", "")), str(entry.get("TacticName", ""))
    nodes = _nodes_in(str(entry.get("Metadata", ""))) or tuple(str(entry["Name"]).split(" + "))
    weights = entry.get("Weights")
    weight_type = str(weights.get("Type", "")) if isinstance(weights, dict) else ""
    doors = [str(tensor.get("Format/Datatype", "")) for tensor in (*entry.get("Inputs", ()), *entry.get("Outputs", ()))]
    is_move = kind.lower() in _ENGINE_MOVES
    is_product = not is_move and bool(_ENGINE_PRODUCTS.search(kind) or _ENGINE_PRODUCTS.search(tactic))
    inner = (_word(tactic, _TACTIC_WORDS) if is_product else None) or _word(weight_type, _FORMAT_WORDS)
    outer = next((word for word in (_word(door, _FORMAT_WORDS) for door in doors) if word), _OTHER)
    certain = not is_move and (inner is not None or len(nodes) == 1)
    return Layer(str(entry["Name"]), kind, inner or outer, is_product, nodes, tactic, certain)


def _word(text: str, words: Iterable[tuple[str, str]]) -> str | None:
    return next((word for word, pattern in words if re.search(pattern, text, re.IGNORECASE)), None)


def _nodes_in(metadata: str) -> tuple[str, ...]:
    """Operators named in a layer's metadata: `[ONNX Layer: a]`, separated by control characters."""
    return tuple(re.findall(r"\[ONNX Layer: ([^\]]+)\]", metadata))


def compare(said: Sequence[Layer], done: Sequence[Layer], *, tf32: bool = False) -> Verdict:
    """Hold what an engine or a network does against what the graph says.

    Args:
        said: of the graph.
        done: of the network or the engine.
        tf32: whether FP32 products may be computed in TF32.
    """
    of_node: dict[str, list[Layer]] = {}
    for layer in done:
        for node in layer.nodes if layer.certain else ():
            of_node.setdefault(node, []).append(layer)
    agreed, coarser, finer, untold = 0, [], [], []
    for wanted in said:
        found = [
            layer
            for layer in of_node.get(wanted.name, ())
            if layer.precision != _OTHER and layer.is_product == wanted.is_product
        ]
        if wanted.precision == _OTHER or (not found and not wanted.is_product):
            continue
        if not found:
            untold.append(wanted.name)
            continue
        seen = min((layer.precision for layer in found), key=_DIGITS.__getitem__)
        line = f"{wanted.kind} {wanted.name}: {seen}, the graph says {wanted.precision}"
        if seen == wanted.precision or (tf32 and (seen, wanted.precision) == ("tf32", "fp32")):
            agreed += 1
        elif _DIGITS[seen] > _DIGITS[wanted.precision]:
            finer.append(line)
        else:
            coarser.append(line)
    return Verdict(agreed, tuple(coarser), tuple(finer), tuple(untold))


def require_agreement(model_name: str, said: Sequence[Layer], verdict: Verdict) -> None:
    """Refuse an engine that computes with fewer digits than its graph says, or one of which not one product is as said.

    Raises:
        ExportError: names the layers.
    """
    wrong = verdict.coarser
    if not wrong and verdict.finer and not _any_as_said(said, verdict):
        wrong = verdict.finer  # the whole engine in another precision: an option ignored without a word
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ExportError(
            f"{model_name}: the engine computes {'; '.join(wrong[:3])}{more}; wanted what the graph says, because its "
            "answers were proven in that precision. Report it with the TensorRT version; another one may do it right."
        )


def _any_as_said(said: Sequence[Layer], verdict: Verdict) -> bool:
    """Whether at least one product of reduced precision was found as the graph says it."""
    missed = {line.split(":")[0].split(" ", 1)[1] for line in verdict.finer} | set(verdict.untold)
    reduced = [layer.name for layer in said if layer.is_product and layer.precision not in ("fp32", _OTHER)]
    return not reduced or any(name not in missed for name in reduced)


def counts(layers: Sequence[Layer]) -> dict[str, dict[str, int]]:
    """Layers and, of these, products, by precision."""
    every = Counter(layer.precision for layer in layers)
    products = Counter(layer.precision for layer in layers if layer.is_product)
    order = sorted(every, key=lambda word: -_DIGITS.get(word, -1))
    return {word: {"layers": every[word], "products": products[word]} for word in order}

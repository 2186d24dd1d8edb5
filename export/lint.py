"""Lint of exported graphs: what no file may hold in any precision, and what each must say of itself.

`lint` looks at the graph, `lint_facts` at what the graph tells of itself, `lint_file` at both in a file as published.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from export.contract import CONTRACT_VERSION, Axis, Model, contract_digest, model_named
from export.errors import ExportError

# Every file carries these in `metadata_props`, and its version's manifest repeats them.
FACTS = ("model", "summary", "contract_version", "contract_digest", "precision", "opset", "weights_sha256", "license")
LICENSE = "Apache-2.0"

# TensorRT has no importer for DFT, lowers STFT by its own rules, and cannot build Loop with dynamic lengths. Random
# operators and control flow would make an answer depend on more than its input. Of the quantised forms only explicit
# QuantizeLinear and DequantizeLinear are understood by every runtime.
FORBIDDEN_OPERATORS = frozenset(
    (
        "STFT", "DFT",
        "Loop", "If", "Scan", "SequenceMap",
        "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout",
        "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
    )
)  # fmt: skip
_ELEMENT_TYPES = {"FP32": onnx.TensorProto.FLOAT, "UINT8": onnx.TensorProto.UINT8}
_SHORT_FLOATS = frozenset((onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16))
_ABSOLUTE_PATH = re.compile(r"(?:^|[\s\"'(=:])(?:(?:/[\w.+@-]+){2,}|[A-Za-z]:\\\w)")
_SHORTEST_FOLDER = 5  # characters; a shorter name of a folder would be found in weights by chance


def lint_file(path: Path, model: Model | None = None) -> None:
    """Hold one exported file against every rule.

    Args:
        path: an ONNX file.
        model: the contract's entry; the one that the file names when None.

    Raises:
        ExportError: the file cannot be read, or what is wrong with it, all of it.
    """
    graph = _loaded(path)
    try:
        model = model or model_named(facts_of(graph).get("model", ""))
    except KeyError as error:
        raise ExportError(f"{path}: its facts name {error.args[0]}. Make it again: avedge export.") from error
    found = [*faults(graph, model), *fact_faults(graph, model)]
    if found:
        raise ExportError(f"{path}: " + " ".join(found))


def lint(graph: onnx.ModelProto, model: Model) -> None:
    """Refuse a graph whose tensors differ from the contract, or that cannot become an engine or a file of its own.

    Raises:
        ExportError: says which tensor or operator, what was seen and what was wanted.
    """
    if found := faults(graph, model):
        raise ExportError(f"{model.name}: " + " ".join(found))


def lint_facts(graph: onnx.ModelProto, model: Model) -> None:
    """Refuse a graph that says too little, or other than what it is, in its `metadata_props`.

    Raises:
        ExportError: names the fact, what it says and what is true.
    """
    if found := fact_faults(graph, model):
        raise ExportError(f"{model.name}: " + " ".join(found))


def facts_of(graph: onnx.ModelProto) -> dict[str, str]:
    """What a graph says of itself."""
    return {prop.key: prop.value for prop in graph.metadata_props}


def graph_facts(path: Path) -> dict[str, str]:
    """What the graph in a file says of itself; ExportError when it cannot be read."""
    return facts_of(_loaded(path))


def _loaded(path: Path) -> onnx.ModelProto:
    """A graph without what may lie outside its file, which is refused and not fetched: the path may lead anywhere."""
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ExportError(
            f"{path} cannot be read as ONNX ({error}); wanted a whole graph. Make it again: avedge export."
        ) from error


def faults(graph: onnx.ModelProto, model: Model) -> list[str]:
    """Every breach of the contract and of the rules for graphs, in words; empty for a good one."""
    return [
        *_tensor_faults(graph, model),
        *_operator_faults(graph),
        *_external_faults(graph),
        *_note_faults(graph),
        *_folder_faults(graph),
    ]


def fact_faults(graph: onnx.ModelProto, model: Model) -> list[str]:
    """Every fact that is missing or false."""
    facts = facts_of(graph)
    missing = [name for name in FACTS if name not in facts]
    found = [f"metadata_props lack {', '.join(missing)}; wanted {', '.join(FACTS)}."] if missing else []
    opsets = [str(entry.version) for entry in graph.opset_import if entry.domain in ("", "ai.onnx")]
    true = {
        "model": model.name,
        "summary": model.summary,
        "contract_version": str(CONTRACT_VERSION),
        "contract_digest": contract_digest(),
        "precision": precision_of(graph),
        "opset": ", ".join(opsets),
        "license": LICENSE,
    }
    found += [
        f"metadata_props say {name} {facts[name]!r}; the truth is {value!r}."
        for name, value in true.items()
        if name in facts and facts[name] != value
    ]
    digest = facts.get("weights_sha256", "")
    if digest and not re.fullmatch("[0-9a-f]{64}", digest):
        found.append(f"metadata_props say weights_sha256 {digest!r}, which is no SHA-256.")
    if model.exact and precision_of(graph) != "fp32":
        found.append(f"its sums and phases are {precision_of(graph)}; wanted fp32 in every precision.")
    return found


def precision_of(graph: onnx.ModelProto) -> str:
    """Precision that a graph really computes in: `int8` with quantised tensors, `fp16` with short floats, else `fp32`.

    Weights as well as casts count, so a graph with islands of float32 is `fp16` all the same.
    """
    operators = {node.op_type for node in _nodes(graph)}
    if operators & {"QuantizeLinear", "DequantizeLinear"}:
        return "int8"
    stored = {tensor.data_type for tensor in _tensors(graph)}
    cast = {a.i for node in _nodes(graph) if node.op_type == "Cast" for a in node.attribute if a.name == "to"}
    return "fp16" if (stored | cast) & _SHORT_FLOATS else "fp32"


def _tensor_faults(graph: onnx.ModelProto, model: Model) -> Iterator[str]:
    for kind, values, tensors in (
        ("input", graph.graph.input, model.inputs),
        ("output", graph.graph.output, model.outputs),
    ):
        seen = [_seen(value) for value in values]
        wanted = [(t.name, _ELEMENT_TYPES[t.datatype], ("batch", *t.shape)) for t in tensors]
        if seen != wanted:
            yield f"{kind}s are {seen}, the contract wants {wanted}."


def _seen(value: onnx.ValueInfoProto) -> tuple[str, int, tuple[Axis, ...]]:
    """Name, element type and axes of a graph's input or output."""
    kind = value.type.tensor_type
    return value.name, kind.elem_type, tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)


def _operator_faults(graph: onnx.ModelProto) -> Iterator[str]:
    nodes = list(_nodes(graph))
    if bad := sorted({node.op_type for node in nodes} & FORBIDDEN_OPERATORS):
        yield f"the graph uses {', '.join(bad)}, which TensorRT cannot build or repeat; unroll or replace it."
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in nodes if n.domain not in ("", "ai.onnx")})
    if foreign or graph.functions:
        named = ", ".join((*foreign, *(function.name for function in graph.functions)))
        yield f"the graph uses {named}, operators outside ONNX's own; no other runtime knows them."


def _external_faults(graph: onnx.ModelProto) -> Iterator[str]:
    outside = [t for t in _tensors(graph) if t.data_location == onnx.TensorProto.EXTERNAL or t.external_data]
    if outside:
        named = ", ".join(sorted(tensor.name or "a constant" for tensor in outside)[:3])
        yield f"weights lie outside the file ({named}); a served model must be one file."


def _note_faults(graph: onnx.ModelProto) -> Iterator[str]:
    """Notes of exporters are stack traces and paths; the facts are the only note that a file needs."""
    noted = [node.name or node.op_type for node in _nodes(graph) if node.doc_string or node.metadata_props]
    if noted:
        yield f"{', '.join(noted[:3])} of {len(noted)} nodes carry notes of the exporter; strip them."
    for text in _words(graph):
        if _ABSOLUTE_PATH.search(text):
            yield f"it holds a path of the machine that made it: {text[:80]!r}."


def _folder_faults(graph: onnx.ModelProto) -> Iterator[str]:
    """This machine's own folders, looked for in every byte: in names of nodes and tensors, too."""
    content = graph.SerializeToString()
    for folder in _own_folders():
        if os.fsencode(folder) in content:
            yield f"it holds the path {folder} of this machine."


def _own_folders() -> set[str]:
    project = Path(__file__).resolve().parents[1]
    folders = {str(project), str(Path.home()), sys.prefix, tempfile.gettempdir(), str(Path(onnx.__file__).parents[1])}
    return {folder for folder in folders if len(folder) >= _SHORTEST_FOLDER and folder.count("/") > 1}


def _words(graph: onnx.ModelProto) -> Iterator[str]:
    """Texts for people in a file: what it says of itself and of its maker, and every text among the attributes."""
    yield from (graph.producer_name, graph.producer_version, graph.domain, graph.doc_string, graph.graph.doc_string)
    for holder in (graph, graph.graph):
        for prop in holder.metadata_props:
            yield prop.value
    for node in _nodes(graph):
        for attribute in node.attribute:
            yield from (text.decode(errors="replace") for text in (attribute.s, *attribute.strings))


def _graphs(graph: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside it, however deep."""
    waiting = [graph.graph]
    while waiting:
        current = waiting.pop()
        yield current
        waiting += _inner_graphs(current.node)
    for function in graph.functions:
        for inner in _inner_graphs(function.node):
            yield from _graphs(onnx.ModelProto(graph=inner))


def _inner_graphs(nodes: Iterable[onnx.NodeProto]) -> list[onnx.GraphProto]:
    held = [attribute for node in nodes for attribute in node.attribute]
    return [g for attribute in held for g in ((attribute.g,) if attribute.HasField("g") else attribute.graphs)]


def _nodes(graph: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for inner in _graphs(graph):
        yield from inner.node
    for function in graph.functions:
        yield from function.node


def _tensors(graph: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor: weights, sparse ones, and constants among the attributes."""
    for inner in _graphs(graph):
        yield from inner.initializer
        for sparse in inner.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(graph):
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
                yield from (sparse.values, sparse.indices)

"""Tiny models for the tests of serving, so that these need no exported network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

DIGEST = "0123456789abcdef"
FLOATS = "TYPE_FP32"
INDICES = "TYPE_INT64"
_ONNX_TYPES = {FLOATS: TensorProto.FLOAT, INDICES: TensorProto.INT64}
_FILES = {"onnxruntime": "model.onnx", "torchscript": "model.pt"}
_BACKENDS = {"onnxruntime": "onnxruntime", "torchscript": "pytorch"}

Tensors = dict[str, tuple[str, int]]  # name to type and length of one item


def onnx_graph(nodes: list[NodeProto], inputs: Tensors, outputs: Tensors, tables: dict[str, list[float]]) -> ModelProto:
    """A graph over batches of vectors; `tables` are its constants."""

    def described(tensors: Tensors) -> list[ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, _ONNX_TYPES[kind], ["batch", length if length > 0 else "length"])
            for name, (kind, length) in tensors.items()
        ]

    constants = [helper.make_tensor(name, TensorProto.FLOAT, [len(row)], row) for name, row in tables.items()]
    graph = helper.make_graph(nodes, "toy", described(inputs), described(outputs), initializer=constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def doubling() -> bytes:
    """y = x + x, for any length."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    return onnx_graph(nodes, {"x": (FLOATS, -1)}, {"y": (FLOATS, -1)}, {}).SerializeToString()


def looking_up() -> bytes:
    """value = table[index]; an index outside 0 to 3 is an error of the graph."""
    nodes = [helper.make_node("Gather", ["table", "index"], ["value"])]
    table = {"table": [0.0, 10.0, 20.0, 30.0]}
    return onnx_graph(nodes, {"index": (INDICES, 1)}, {"value": (FLOATS, 1)}, table).SerializeToString()


def add_model(
    repository: Path,
    name: str,
    content: bytes,
    inputs: Tensors,
    outputs: Tensors,
    *,
    target: str = "onnxruntime",
    parameters: dict[str, str] | None = None,
    extra: str = "",
) -> Path:
    """Write one model as export does: config of the target, version 1, manifest; returns the model's folder."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "configs").mkdir()
    file = _FILES[target]
    (folder / "1" / file).write_bytes(content)
    manifest = {"contract_digest": DIGEST, "artefacts": {file: {"sha256": hashlib.sha256(content).hexdigest()}}}
    (folder / "1" / "manifest.json").write_text(json.dumps(manifest))
    lines = [
        f'name: "{name}" backend: "{_BACKENDS[target]}" default_model_filename: "{file}" max_batch_size: 8',
        *(f'input {{ name: "{n}" data_type: {kind} dims: {length} }}' for n, (kind, length) in inputs.items()),
        *(f'output {{ name: "{n}" data_type: {kind} dims: {length} }}' for n, (kind, length) in outputs.items()),
        "instance_group { count: 1 }",
        *_parameters({"contract_digest": DIGEST, **(parameters or {})}),
        extra,
    ]
    (folder / "configs" / f"{target}.pbtxt").write_text("\n".join(lines))
    return folder


def add_doubling(repository: Path, name: str = "double", length: int = 4, **options: object) -> Path:
    """The doubling model under a name."""
    return add_model(repository, name, doubling(), {"x": (FLOATS, length)}, {"y": (FLOATS, length)}, **options)  # type: ignore[arg-type]


def add_doubling_twice(repository: Path, name: str = "quadruple", model: str = "double", length: int = 4) -> None:
    """An ensemble of two steps of the doubling model."""
    (repository / name / "1").mkdir(parents=True)
    steps = [("x", "between"), ("between", "y")]
    wired = "\n".join(
        f'step {{ model_name: "{model}" model_version: -1 input_map {{ key: "x" value: "{source}" }} '
        f'output_map {{ key: "y" value: "{sink}" }} }}'
        for source, sink in steps
    )
    lines = [
        f'name: "{name}" platform: "ensemble" max_batch_size: 8',
        f'input {{ name: "x" data_type: {FLOATS} dims: {length} }}',
        f'output {{ name: "y" data_type: {FLOATS} dims: {length} }}',
        *_parameters({"contract_digest": DIGEST}),
        f"ensemble_scheduling {{ {wired} }}",
    ]
    (repository / name / "config.pbtxt").write_text("\n".join(lines))


def _parameters(values: dict[str, str]) -> list[str]:
    return [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in values.items()]

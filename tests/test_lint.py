"""Every rule of the lint, each with a planted fault."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export import lint_repository, publish
from export.contract import CONTRACT_VERSION, MODELS, Model, contract_digest, model_named
from export.errors import ExportError
from export.lint import FACTS, FORBIDDEN_OPERATORS, facts_of, lint, lint_facts, lint_file, precision_of
from export.modules import served_module
from export.to_onnx import OPSET, export_onnx

IDENTITY, SUM = model_named("facefilter_identity"), model_named("crowd_density_sum")


def told(model: Model, **changed: str) -> dict[str, str]:
    facts = {
        "model": model.name,
        "summary": model.summary,
        "contract_version": str(CONTRACT_VERSION),
        "contract_digest": contract_digest(),
        "precision": "fp32",
        "opset": str(OPSET),
        "weights_sha256": "",
        "license": "Apache-2.0",
    }
    return facts | changed


def clean(model: Model) -> onnx.ModelProto:
    """A graph with nothing wrong for the lint, though it computes nothing."""
    kinds = {"FP32": TensorProto.FLOAT, "UINT8": TensorProto.UINT8}
    values = [
        [helper.make_tensor_value_info(t.name, kinds[t.datatype], ["batch", *t.shape]) for t in tensors]
        for tensors in (model.inputs, model.outputs)
    ]
    nodes = [helper.make_node("Identity", [model.inputs[0].name], [model.outputs[0].name], name="node_identity")]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [2], [1.0, 2.0])
    graph = helper.make_graph(nodes, "main_graph", *values, initializer=[weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="pytorch")
    helper.set_model_props(made, told(model))
    return made


def nested(operator: str) -> onnx.NodeProto:
    """The operator two graphs deep."""
    node = helper.make_node(operator, [], [])
    for _ in range(2):
        node = helper.make_node("Sequence", [], [], body=helper.make_graph([node], "inner", [], []))
    return node


def plant_constant_outside(graph: onnx.ModelProto) -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], b"\0\0\0\0", raw=True)
    onnx.external_data_helper.set_external_data(tensor, "../weights.bin")
    graph.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def plant_weight_outside(graph: onnx.ModelProto) -> None:
    graph.graph.initializer[0].data_location = TensorProto.EXTERNAL


def plant_short_weight(graph: onnx.ModelProto) -> None:
    graph.graph.initializer.append(helper.make_tensor("short", TensorProto.FLOAT16, [1], [1.0]))


def plant_function(graph: onnx.ModelProto) -> None:
    imports = [helper.make_opsetid("", OPSET)]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph.functions.append(helper.make_function("own", "mine", ["x"], ["y"], [node], imports))


FAULTS: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "another name": (lambda g: setattr(g.graph.input[0], "name", "308"), "'308'.*the contract wants"),
    "another type": (lambda g: setattr(g.graph.input[0].type.tensor_type, "elem_type", 10), "the contract wants"),
    "another shape": (lambda g: setattr(g.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 2), "wants"),
    "a fixed batch": (lambda g: setattr(g.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2), "wants"),
    "one output less": (lambda g: g.graph.output.pop(), "outputs are .* the contract wants"),
    "one input more": (lambda g: g.graph.input.append(g.graph.output[0]), "inputs are .* the contract wants"),
    "another domain": (lambda g: setattr(g.graph.node[0], "domain", "com.microsoft"), r"com\.microsoft\.Identity"),
    "a function": (plant_function, "uses mine, operators outside"),
    "weights outside": (plant_weight_outside, "lie outside the file .weight"),
    "a constant outside": (plant_constant_outside, "lie outside the file .t"),
    "a note": (lambda g: setattr(g.graph.node[0], "doc_string", "made here"), "node_identity of 1 nodes carry notes"),
    "a trace": (lambda g: g.graph.node[0].metadata_props.add(key="stack", value="line 3"), "carry notes"),
    "a path in the facts": (lambda g: g.metadata_props.add(key="by", value="/home/ann/run.py"), "'/home/ann/run.py'"),
    "a path of another system": (lambda g: setattr(g.graph, "doc_string", r"from C:\Users\ann"), "holds a path"),
    "a path in an attribute": (
        lambda g: g.graph.node[0].attribute.append(helper.make_attribute("file", "at /srv/models/a.bin")),
        "it holds a path",
    ),
    "this machine's folder in a name": (
        lambda g: setattr(g.graph.initializer[0], "name", f"w{Path(__file__).parents[1]}"),
        "of this machine",
    ),
}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_clean_graph_passes(model: Model) -> None:
    lint(clean(model), model)
    lint_facts(clean(model), model)


@pytest.mark.parametrize("operator", sorted(FORBIDDEN_OPERATORS))
@pytest.mark.parametrize("depth", ["on top", "in a graph inside a graph", "in a function"])
def test_a_forbidden_operator_is_named_wherever_it_stands(operator: str, depth: str) -> None:
    graph = clean(SUM)
    if depth == "in a function":
        plant_function(graph)
        graph.functions[0].node.append(nested(operator))
    else:
        graph.graph.node.append(nested(operator) if "inside" in depth else helper.make_node(operator, [], []))
    with pytest.raises(ExportError, match=f"crowd_density_sum: .*the graph uses {operator}, which TensorRT"):
        lint(graph, SUM)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_refused_in_words(name: str) -> None:
    plant, words = FAULTS[name]
    graph = clean(SUM)
    plant(graph)
    with pytest.raises(ExportError, match=words):
        lint(graph, SUM)


def test_all_faults_of_a_graph_are_told_at_once() -> None:
    graph = clean(SUM)
    graph.graph.node.append(helper.make_node("DFT", [], []))
    plant_weight_outside(graph)
    with pytest.raises(ExportError, match=r"DFT.*outside the file"):
        lint(graph, SUM)


@pytest.mark.parametrize("fact", FACTS)
def test_a_missing_fact_is_named(fact: str) -> None:
    graph = clean(IDENTITY)
    facts = told(IDENTITY)
    del facts[fact]
    helper.set_model_props(graph, facts)
    with pytest.raises(ExportError, match=f"lack {fact}; wanted"):
        lint_facts(graph, IDENTITY)


@pytest.mark.parametrize("fact", FACTS)
def test_a_false_fact_is_named_with_the_truth(fact: str) -> None:
    graph = clean(IDENTITY)
    helper.set_model_props(graph, told(IDENTITY) | {fact: "int9"})
    with pytest.raises(ExportError, match=f"say {fact} 'int9'"):
        lint_facts(graph, IDENTITY)


def quantised() -> onnx.ModelProto:
    graph = clean(IDENTITY)
    graph.graph.node.append(helper.make_node("QuantizeLinear", ["x", "scale"], ["q"]))
    graph.graph.node.append(helper.make_node("DequantizeLinear", ["q", "scale"], ["d"]))
    return graph


def halved() -> onnx.ModelProto:
    graph = clean(IDENTITY)
    plant_short_weight(graph)
    return graph


def cast_short() -> onnx.ModelProto:
    graph = clean(IDENTITY)
    graph.graph.node.append(helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16))
    return graph


@pytest.mark.parametrize(("make", "precision"), [(quantised, "int8"), (halved, "fp16"), (cast_short, "fp16")])
def test_explicit_quantisation_and_half_floats_pass_where_they_are_told(
    make: Callable[[], onnx.ModelProto], precision: str
) -> None:
    graph = make()
    lint(graph, IDENTITY)
    assert precision_of(graph) == precision
    with pytest.raises(ExportError, match=f"precision 'fp32'; the truth is '{precision}'"):
        lint_facts(graph, IDENTITY)
    helper.set_model_props(graph, told(IDENTITY, precision=precision))
    lint_facts(graph, IDENTITY)


def test_sums_and_phases_stay_in_full_floats() -> None:
    graph = clean(SUM)
    plant_short_weight(graph)
    helper.set_model_props(graph, told(SUM, precision="fp16"))
    with pytest.raises(ExportError, match="are fp16; wanted fp32 in every precision"):
        lint_facts(graph, SUM)


def test_a_file_is_held_against_the_model_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(clean(SUM), path)
    lint_file(path)
    lint_file(path, SUM)
    with pytest.raises(ExportError, match=r"model\.onnx: inputs are .*the truth is 'facefilter_identity'"):
        lint_file(path, IDENTITY)


def test_a_file_that_fetches_its_weights_elsewhere_is_refused_without_reading_them(tmp_path: Path) -> None:
    graph = clean(SUM)
    plant_constant_outside(graph)
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ExportError, match="weights lie outside the file"):
        lint_file(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", b"PK\x03\x04 no graph at all"])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="cannot be read as ONNX|facts name no model"):
        lint_file(path)


def test_an_exported_graph_passes_with_its_own_notes_stripped(root: Path) -> None:
    graph = export_onnx(served_module(SUM, root), SUM, told(SUM))
    assert facts_of(graph) == told(SUM)
    lint_facts(graph, SUM)
    content = graph.SerializeToString()
    assert all(folder.encode() not in content for folder in (str(root), str(Path.home()) + "/", tempfile.gettempdir()))


def published(repository: Path, model: Model, **manifest: str) -> None:
    content = clean(model).SerializeToString()
    staged = publish.stage(repository / model.name, {"model.onnx": content}, told(model) | manifest)
    publish.publish(repository, {model.name: staged})


def told_by_the_verb(repository: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    code = lint_repository.run(argparse.Namespace(repository=repository, json=True))
    return code, json.loads(capsys.readouterr().out)


def test_the_verb_names_what_is_wrong_with_a_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in MODELS:
        published(tmp_path, model)
    assert told_by_the_verb(tmp_path, capsys) == (0, {model.name: "" for model in MODELS})
    published(tmp_path, SUM, weights_sha256="ab" * 32)
    shutil.rmtree(tmp_path / "crowd_av")
    code, found = told_by_the_verb(tmp_path, capsys)
    assert code == 6 and [name for name, fault in found.items() if fault] == ["crowd_av", "crowd_density_sum"]
    assert "has no version" in found["crowd_av"] and "says otherwise than its manifest" in found["crowd_density_sum"]
    (tmp_path / "crowd_v" / str(publish.versions(tmp_path / "crowd_v")[-1]) / "model.onnx").unlink()
    assert "is missing" in told_by_the_verb(tmp_path, capsys)[1]["crowd_v"]


def test_every_graph_of_a_fresh_export_passes(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told_by_the_verb(repository, capsys) == (0, {model.name: "" for model in MODELS})

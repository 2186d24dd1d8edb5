"""Laws of lower precision: which parts of a graph change, how, and that the rest does not."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import NodeProto, TensorProto, numpy_helper
from torch import nn

from export import precision
from export.contract import MODELS, Model, model_named
from export.cpu_spelling import for_cpu, has_matrix_unit
from export.engines.spelling import for_tensorrt
from export.lint import lint, precision_of
from export.modules import WEIGHTS, served_module
from export.parity import relative_error
from export.samples import sample_inputs
from export.to_onnx import export_onnx
from train.crowd.models import build_counter
from train.crowd.network import CrowdDensitySum

SEPARATOR, COUNTER, SUM = (model_named(name) for name in ("facefilter_separator", "crowd_v", "crowd_density_sum"))
Rows = list[dict[str, np.ndarray]]
OPSETS = [onnx.helper.make_opsetid("", 18)]
FACTS = {"model": "facefilter_separator", "precision": "fp32", "note": "kept"}


def rows_of(model: Model, *seeds: int) -> Rows:
    return [{name: value.numpy() for name, value in sample_inputs(model, batch=1, seed=seed).items()} for seed in seeds]


@pytest.fixture(scope="module")
def separator() -> onnx.ModelProto:
    return export_onnx(served_module(SEPARATOR, WEIGHTS), SEPARATOR, FACTS)


@pytest.fixture(scope="module")
def counter() -> onnx.ModelProto:
    torch.manual_seed(0)
    network = build_counter("crowd_v", "compact", units_per_structure=1)
    for part in network.modules():  # an untrained unit passes its input on, and would have nothing to quantise
        if isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
    return export_onnx(network.eval().requires_grad_(False), COUNTER, FACTS | {"model": "crowd_v"})


@pytest.fixture(scope="module")
def half(separator: onnx.ModelProto) -> onnx.ModelProto:
    return precision.convert(separator, SEPARATOR, "fp16", rows_of(SEPARATOR, 1))


@pytest.fixture(scope="module")
def half_counter(counter: onnx.ModelProto) -> onnx.ModelProto:
    return precision.convert(counter, COUNTER, "fp16", rows_of(COUNTER, 1))


@pytest.fixture(scope="module")
def eighth(separator: onnx.ModelProto) -> onnx.ModelProto:
    return precision.convert(separator, SEPARATOR, "int8", rows_of(SEPARATOR, 1, 2))


@pytest.fixture(scope="module")
def eighth_counter(counter: onnx.ModelProto) -> onnx.ModelProto:
    return precision.convert(counter, COUNTER, "int8", rows_of(COUNTER, 1))


def types_of(graph: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor, inferred anew."""
    stripped = onnx.ModelProto()
    stripped.CopyFrom(graph)
    del stripped.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(stripped, strict_mode=True).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    known |= {value.name: value.type.tensor_type.elem_type for value in inferred.input}
    return known | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def constants_of(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def pairs(graph: onnx.ModelProto) -> Iterator[tuple[NodeProto, np.ndarray, np.ndarray]]:
    """Every Q and DQ with its scale and zero point."""
    constants = constants_of(graph)
    for node in graph.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield node, constants[node.input[1]], constants[node.input[2]]


def optimised(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "run.onnx")
        onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def answers(graph: onnx.ModelProto, row: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, row)  # type: ignore[no-any-return]


@pytest.mark.parametrize("made", ["half", "half_counter", "eighth", "eighth_counter"])
def test_a_converted_graph_keeps_the_contract_and_its_facts_and_says_what_it_is(
    made: str, request: pytest.FixtureRequest
) -> None:
    graph = request.getfixturevalue(made)
    model = COUNTER if "counter" in made else SEPARATOR
    wanted = "fp16" if "half" in made else "int8"
    for form in (graph, for_cpu(graph)) if wanted == "int8" else (graph,):
        lint(form, model)
        onnx.checker.check_model(form, full_check=True)
        facts = {prop.key: prop.value for prop in form.metadata_props}
        assert facts == FACTS | {"model": model.name, "precision": wanted} and precision_of(form) == wanted


def test_the_graph_given_is_left_as_it_is(separator: onnx.ModelProto) -> None:
    before = separator.SerializeToString(deterministic=True)
    for wanted in precision.PRECISIONS:
        precision.convert(separator, SEPARATOR, wanted, rows_of(SEPARATOR, 1))
    assert separator.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("model", [model for model in MODELS if model.exact], ids=lambda model: model.name)
def test_signal_processing_stays_fp32(model: Model) -> None:
    graph = (
        export_onnx(served_module(model, WEIGHTS), model, {"precision": "fp32"}) if model is SUM else onnx.ModelProto()
    )
    for wanted in precision.PRECISIONS:
        assert precision.convert(graph, model, wanted, []) == graph


def test_an_unknown_precision_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'bf16'; there are fp32, fp16, int8"):
        precision.convert(onnx.ModelProto(), SEPARATOR, "bf16", [])


# ---- fp16 ----


@pytest.mark.parametrize("made", ["half", "half_counter"])
def test_products_are_halves_and_islands_are_fp32_by_the_graphs_own_types(
    made: str, request: pytest.FixtureRequest
) -> None:
    graph: onnx.ModelProto = request.getfixturevalue(made)
    types = types_of(graph)
    for node in graph.graph.node:
        if node.op_type in precision.ISLAND_OPERATORS and node.op_type != "Cast":
            assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT}, node.name
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    assert convolutions and all(types[node.output[0]] == TensorProto.FLOAT16 for node in convolutions)


def test_logits_and_everything_after_the_counters_last_convolution_are_fp32(half_counter: onnx.ModelProto) -> None:
    types, made_by = types_of(half_counter), {name: n for n in half_counter.graph.node for name in n.output}
    softmaxes = [node for node in half_counter.graph.node if node.op_type == "Softmax"]
    for node in softmaxes:
        maker = made_by[node.input[0]]
        while maker.op_type not in ("MatMul", "Gemm"):
            assert types[maker.output[0]] == TensorProto.FLOAT, maker.name
            maker = made_by[maker.input[0]]
        assert types[maker.output[0]] == TensorProto.FLOAT, f"{maker.name} makes logits"
    places = [place for place, node in enumerate(half_counter.graph.node) if node.op_type == "Conv"]
    last = set(half_counter.graph.node[max(places)].output)
    for node in half_counter.graph.node:
        if last.intersection(node.input):
            assert types[node.output[0]] == TensorProto.FLOAT, node.name
            last.update(node.output)
    assert softmaxes and {"density", "patch_importance", "patch_estimates"} <= last


def test_the_picture_is_cast_to_fp32_at_the_door(half_counter: onnx.ModelProto) -> None:
    (door,) = (node for node in half_counter.graph.node if "picture" in node.input)
    assert door.op_type == "Cast" and door.attribute[0].i == TensorProto.FLOAT


def test_nothing_is_cast_to_a_half_and_back(half: onnx.ModelProto, half_counter: onnx.ModelProto) -> None:
    for graph in (half, half_counter):
        made_by = {name: node for node in graph.graph.node for name in node.output}
        for node in graph.graph.node:
            if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT and node.input[0] in made_by:
                assert made_by[node.input[0]].op_type != "Cast"


def test_what_comes_near_the_largest_half_on_real_inputs_is_an_island() -> None:
    """A stronger law than a list: the same graph, with louder inputs, keeps more in fp32."""
    x = onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    nodes = [onnx.helper.make_node(op, [a], [b], op) for op, a, b in (("Neg", "x", "a"), ("Abs", "a", "b"))]
    nodes += [onnx.helper.make_node("Mul", ["b", "b"], ["c"], "Mul"), onnx.helper.make_node("Relu", ["c"], ["d"], "Re")]
    nodes.append(onnx.helper.make_node("Neg", ["d"], ["y"], "End"))
    graph = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [x], [y]), opset_imports=OPSETS)
    graph = onnx.shape_inference.infer_shapes(graph)
    quiet, loud = ([{"x": np.full((1, 4), level, np.float32)}] for level in (1, 200))
    assert "Mul" not in precision.islands(graph, quiet) and {"Mul", "Re"} <= precision.islands(graph, loud)


def test_fp16_answers_within_a_hundredth_and_not_exactly(separator: onnx.ModelProto, half: onnx.ModelProto) -> None:
    (row,) = rows_of(SEPARATOR, 3)
    for found, wanted in zip(answers(half, row), answers(separator, row), strict=True):
        assert 1e-6 < relative_error(found, wanted) < 1e-2


# ---- int8 ----


@pytest.mark.parametrize("made", ["eighth", "eighth_counter"])
def test_pairs_are_symmetric_around_zero_and_weights_have_a_scale_for_each_channel(
    made: str, request: pytest.FixtureRequest
) -> None:
    graph: onnx.ModelProto = request.getfixturevalue(made)
    constants, seen = constants_of(graph), 0
    for node, scale, zero in pairs(graph):
        assert zero.dtype == np.int8 and not zero.any() and (scale > 0).all()
        if node.input[0] in constants:
            weights = constants[node.input[0]]
            assert weights.dtype == np.int8 and scale.shape == (weights.shape[0],) and weights.min() >= -127
            seen += 1
        else:
            assert scale.shape == ()
    kept = precision.not_quantised(request.getfixturevalue("counter" if "counter" in made else "separator"))
    assert seen == sum(node.op_type == "Conv" and node.name not in kept for node in graph.graph.node) > 0


def test_narrow_convolutions_of_a_counter_stay_in_floats_with_the_sums_beside_them(
    counter: onnx.ModelProto, eighth_counter: onnx.ModelProto
) -> None:
    weights, kept = constants_of(counter), precision.not_quantised(counter)
    widths = {node.name: min(weights[node.input[1]].shape[:2]) for node in counter.graph.node if node.op_type == "Conv"}
    assert {name for name, width in widths.items() if width < 64} <= kept
    assert any(name not in kept for name, width in widths.items() if width >= 64)
    sums = [node.name for node in counter.graph.node if node.op_type == "Add"]
    assert sums and set(sums) <= kept  # all of them lie between narrow ones
    assert len(list(pairs(eighth_counter))) < 3 * len(widths)


@pytest.mark.parametrize("made", ["eighth", "eighth_counter"])
def test_activations_of_a_cpus_form_are_unsigned_from_zero_where_nothing_is_negative_else_around_the_middle(
    made: str, request: pytest.FixtureRequest
) -> None:
    graph = for_cpu(request.getfixturevalue(made))
    made_by = {name: node for node in graph.graph.node for name in node.output}
    for node, _, zero in pairs(graph):
        if node.input[0] not in constants_of(graph):
            assert zero.dtype == np.uint8 and int(zero) in (0, 128)
        if node.op_type == "QuantizeLinear" and node.input[0] in made_by and made_by[node.input[0]].op_type == "Relu":
            assert zero == 0


@pytest.mark.parametrize("made", ["eighth", "eighth_counter"])
def test_the_form_for_a_cpu_with_a_matrix_unit_answers_bit_for_bit_the_same(
    made: str, request: pytest.FixtureRequest
) -> None:
    graph = request.getfixturevalue(made)
    model = COUNTER if "counter" in made else SEPARATOR
    plain, shifted = for_cpu(graph, matrix_unit=False), for_cpu(graph, matrix_unit=True)
    moved = [node for node, _, zero in pairs(shifted) if node.input[0] in constants_of(shifted) and zero.any()]
    assert moved and all((constants_of(shifted)[node.input[2]] == -1).all() for node in moved)
    (row,) = rows_of(model, 3)
    for one, other in zip(answers(plain, row), answers(shifted, row), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("matrix_unit", [False, True])
@pytest.mark.parametrize("made", ["eighth", "eighth_counter"])
def test_a_cpus_form_is_spelled_back_to_the_symmetric_one_for_tensorrt(
    made: str, matrix_unit: bool, request: pytest.FixtureRequest
) -> None:
    graph = request.getfixturevalue(made)
    back = for_tensorrt(for_cpu(graph, matrix_unit=matrix_unit))
    wanted = {node.name: (scale, zero) for node, scale, zero in pairs(graph)}
    for node, scale, zero in pairs(back):
        np.testing.assert_allclose(scale, wanted[node.name][0], rtol=1e-6)
        np.testing.assert_array_equal(zero, wanted[node.name][1])
    weights = {
        node.name: constants_of(graph)[node.input[0]]
        for node, _, _ in pairs(graph)
        if node.input[0] in constants_of(graph)
    }
    for node, _, _ in pairs(back):
        if node.name in weights:
            np.testing.assert_array_equal(constants_of(back)[node.input[0]], weights[node.name])


def test_a_matrix_unit_is_seen_in_what_linux_tells_of_the_cpu(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("flags\t\t: avx512_vnni amx_tile amx_int8\n")
    assert has_matrix_unit(told)
    told.write_text("flags\t\t: avx512_vnni\n")
    assert not has_matrix_unit(told) and not has_matrix_unit(tmp_path / "absent")


def test_integer_convolutions_really_run(eighth: onnx.ModelProto) -> None:
    run = [node.op_type for node in optimised(for_cpu(eighth)).graph.node]
    given = sum(node.op_type == "Conv" for node in eighth.graph.node)
    assert run.count("QLinearConv") >= given - 2  # but the attention's logits
    assert run.count("Conv") + run.count("FusedConv") <= 2
    assert run.count("QLinearAdd") == sum(node.op_type == "Add" for node in eighth.graph.node)
    slow = [node.op_type for node in optimised(eighth).graph.node]  # why the form matters
    assert slow.count("QLinearConv") < run.count("QLinearConv")


def test_scales_follow_the_inputs_that_they_were_calibrated_on(separator: onnx.ModelProto) -> None:
    def scales(rows: Rows) -> dict[str, float]:
        graph = precision.convert(separator, SEPARATOR, "int8", rows)
        return {node.input[0]: float(scale) for node, scale, _ in pairs(graph) if scale.shape == ()}

    rows = rows_of(SEPARATOR, 1)
    louder = [{name: value * (4 if name == "magnitude" else 1) for name, value in row.items()} for row in rows]
    first, again, loud = scales(rows), scales(rows), scales(louder)
    assert first == again
    (compressed,) = (node.output[0] for node in separator.graph.node if node.op_type == "Exp")  # magnitude ** 0.3
    assert loud[compressed] == pytest.approx(4**0.3 * first[compressed], rel=1e-4)


def test_a_wrong_scale_is_seen(separator: onnx.ModelProto, eighth: onnx.ModelProto) -> None:
    (row,) = rows_of(SEPARATOR, 1)
    wanted = answers(separator, row)[0]
    sound = relative_error(answers(for_cpu(eighth), row)[0], wanted)
    spoiled = onnx.ModelProto()
    spoiled.CopyFrom(eighth)
    scale = next(node.input[1] for node, value, _ in pairs(eighth) if value.shape == ())
    tensor = next(tensor for tensor in spoiled.graph.initializer if tensor.name == scale)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / np.float32(8), scale))
    assert relative_error(answers(for_cpu(spoiled), row)[0], wanted) > 2 * sound


def test_the_density_sum_is_never_asked() -> None:
    graph = export_onnx(CrowdDensitySum().eval(), SUM, {"precision": "fp32"})
    assert precision_of(precision.convert(graph, SUM, "int8", [])) == "fp32"

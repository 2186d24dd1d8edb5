"""Every exported graph becomes a TensorRT engine in every precision; TensorRT for RTX proves it without a GPU."""

import hashlib
import json
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.contract import MAX_BATCH_SIZE, MODELS, PADDED_SAMPLES, Model, contract_digest, model_named
from export.engines import MANIFEST_FILE, PLAN_FILE, Options, build
from export.engines.layers import Layer, compare, graph_layers, inspected_layers, require_agreement
from export.engines.library import CONTAINER_IMAGE, find_gpu, load_library, member, require_known_release
from export.engines.profiles import Profile, Range, corners_of, profile_of, require_fit
from export.engines.proof import prove
from export.errors import ExportError
from export.parity import TOLERANCES, onnx_runner
from export.publish import versions
from export.samples import sample_inputs

SUM = model_named("crowd_density_sum")
SUM_PROFILE = profile_of(SUM)


def published(repository: Path, model: Model) -> bytes:
    newest = versions(repository / model.name)[-1]
    return (repository / model.name / str(newest) / "model.onnx").read_bytes()


def sum_graph(operator: str = "ReduceSum", node: str = "the_sum", *, half: bool = False) -> onnx.ModelProto:
    """`count` of a density by one operator, in fp16 when asked; `patch_counts` by a product with ones."""
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    ones = np.ones((72 * 128, 64), np.float16 if half else np.float32)
    nodes = [
        helper.make_node("Reshape", ["density", "row"], ["flat"], name="flatten"),
        helper.make_node("Cast", ["flat"], ["typed"], name="cast", to=kind),
        helper.make_node("MatMul", ["typed", "ones"], ["product"], name="product"),
        helper.make_node("Cast", ["product"], ["patch_counts"], name="back", to=TensorProto.FLOAT),
        helper.make_node(operator, ["flat", *(["axis"] if operator == "ReduceSum" else [])], ["count"], name=node),
    ]
    constants = {"row": np.array([-1, 72 * 128]), "axis": np.array([1]), "ones": ones}
    inputs = [helper.make_tensor_value_info("density", TensorProto.FLOAT, ["batch", 72, 128])]
    outputs = [
        helper.make_tensor_value_info("count", TensorProto.FLOAT, ["batch", 1]),
        helper.make_tensor_value_info("patch_counts", TensorProto.FLOAT, ["batch", 64]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def built(graph: onnx.ModelProto, **options: Any) -> dict[str, Any]:
    files = build(graph.SerializeToString(), SUM, "fp32", library="tensorrt_rtx", **options)
    facts: dict[str, Any] = json.loads(files[MANIFEST_FILE])
    return facts


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_published_graph_becomes_an_engine_that_computes_as_the_graph_says(
    repository: Path, model: Model
) -> None:
    graph = published(repository, model)
    files = build(graph, model, "fp32", library="tensorrt_rtx")
    facts = json.loads(files[MANIFEST_FILE])
    assert len(files[PLAN_FILE]) > 10_000
    assert set(facts["layers"]["by_precision"]) <= {"fp32", "other"}
    assert facts["layers"]["untold"] == [] and facts["layers"]["finer"] == []
    assert facts["layers"]["agreed"] > 0 and facts["flags"] == ["STRONGLY_TYPED"]


NETWORKS = [model for model in MODELS if not model.exact]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: model.name)
def test_every_network_becomes_an_engine_in_fp16_and_int8(repository: Path, model: Model, precision: str) -> None:
    from export.precision import convert

    full = onnx.load_from_string(published(repository, model))
    calibration = [
        {name: tensor.numpy() for name, tensor in sample_inputs(model, batch=1, seed=seed).items()} for seed in (1, 2)
    ]
    graph = convert(full, model, precision, calibration)
    facts = json.loads(build(graph.SerializeToString(), model, precision, library="tensorrt_rtx")[MANIFEST_FILE])
    assert facts["layers"]["by_precision"][precision]["products"] > facts["layers"]["by_precision"]["fp32"]["products"]
    assert facts["layers"]["by_precision"]["fp32"]["layers"] > 0  # the islands
    assert facts["layers"]["untold"] == [] and facts["layers"]["finer"] == []


def test_a_manifest_says_of_what_by_what_and_for_what_the_engine_is() -> None:
    import tensorrt_rtx

    graph = sum_graph().SerializeToString()
    files = build(graph, SUM, "fp32", library="tensorrt_rtx")
    facts = json.loads(files[MANIFEST_FILE])
    assert facts["onnx_sha256"] == hashlib.sha256(graph).hexdigest()
    assert facts["plan_sha256"] == hashlib.sha256(files[PLAN_FILE]).hexdigest()
    assert (facts["library"], facts["library_version"]) == ("tensorrt_rtx", tensorrt_rtx.__version__)
    assert facts["contract_digest"] == contract_digest() and facts["precision"] == "fp32"
    assert facts["profile"]["density"]["largest"] == [MAX_BATCH_SIZE, 72, 128]
    assert facts["build_s"] > 0
    if find_gpu() is None:
        assert facts["gpu"] is None and facts["parity"] is None and "no GPU" in facts["parity_missing"]
        assert facts["layers"]["source"] == "network"


def test_a_half_precision_product_is_one_in_the_engine_and_its_neighbours_are_not() -> None:
    facts = built(sum_graph(half=True))
    kinds = {name: precision for name, _, precision, _ in facts["layers"]["list"]}
    assert kinds["product"] == "fp16" and kinds["the_sum"] == "fp32"
    assert facts["layers"]["by_precision"]["fp16"]["products"] == 1
    assert facts["layers"]["finer"] == [] and facts["layers"]["untold"] == []


def test_tf32_is_off_for_signal_processing_even_when_networks_may_use_it() -> None:
    assert built(sum_graph(), options=Options(tf32=True))["flags"] == ["STRONGLY_TYPED"]
    identity = model_named("facefilter_identity")
    face = helper.make_tensor_value_info("face", TensorProto.UINT8, ["batch", 224, 224, 3])
    found = helper.make_tensor_value_info("identity", TensorProto.FLOAT, ["batch", 224, 224, 3])
    node = helper.make_node("Cast", ["face"], ["identity"], name="cast", to=TensorProto.FLOAT)
    graph = helper.make_model(
        helper.make_graph([node], "g", [face], [found]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    for wanted in (True, False):
        files = build(graph.SerializeToString(), identity, "fp32", library="tensorrt_rtx", options=Options(tf32=wanted))
        assert ("TF32" in json.loads(files[MANIFEST_FILE])["flags"]) == wanted


@pytest.mark.parametrize("operator", ["DFT", "DynamicQuantizeLinear", "NotAnOperator"])
def test_an_operator_that_tensorrt_lacks_is_refused_by_its_name_and_its_node(operator: str) -> None:
    with pytest.raises(ExportError, match=f"tensorrt_rtx does not take the graph.*{operator}.*culprit"):
        built(sum_graph(operator, "culprit"))


def test_a_file_that_is_no_graph_is_refused() -> None:
    with pytest.raises(ExportError, match=r"crowd_density_sum: .*no ONNX graph"):
        build(b"\x08\x01not a graph", SUM, "fp32", library="tensorrt_rtx")


SHAPE = (1, 72, 128)
WRONG_PROFILES: dict[str, tuple[Profile, str]] = {
    "a tensor is missing": ({}, "has no shapes for density"),
    "a tensor too many": (SUM_PROFILE | {"sound": Range((1, 1), (1, 1), (1, 1))}, "has shapes for sound"),
    "smallest above largest": (
        {"density": Range((8, 72, 128), (4, 72, 128), SHAPE)},
        "gives density .* wanted smallest <= usual <= largest",
    ),
    "another picture": ({"density": Range(SHAPE, SHAPE, (8, 72, 256))}, r"gives density the shape \(8, 72, 256\)"),
    "an axis is missing": ({"density": Range((72, 128), SHAPE, SHAPE)}, r"gives density the shape \(72, 128\)"),
    "no items": ({"density": Range((0, 72, 128), SHAPE, SHAPE)}, r"gives density the shape \(0, 72, 128\)"),
}


@pytest.mark.parametrize("fault", WRONG_PROFILES)
def test_a_wrong_profile_is_refused_with_the_tensors_name(fault: str) -> None:
    profile, message = WRONG_PROFILES[fault]
    with pytest.raises(ExportError, match=f"crowd_density_sum: the optimisation profile {message}"):
        require_fit(SUM.name, profile, sum_graph())
    if profile:
        with pytest.raises(ExportError, match="the optimisation profile"):
            built(sum_graph(), profile=profile)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_profile_holds_every_padded_length_and_batch(model: Model) -> None:
    for name, sizes in profile_of(model).items():
        assert [shape[0] for shape in sizes.shapes] == [1, MAX_BATCH_SIZE // 2, MAX_BATCH_SIZE]
        if name == "waveform":
            assert (sizes.smallest[1], sizes.largest[1]) == (PADDED_SAMPLES[0], PADDED_SAMPLES[-1])
        if name == "magnitude":
            assert (sizes.smallest[2], sizes.largest[2]) == (200, 800)


def named(name: str, precision: str, *, product: bool = True) -> Layer:
    return Layer(name, "Conv" if product else "Softmax", precision, product, (name,))


def test_an_engine_with_fewer_digits_than_its_graph_is_refused_by_layer() -> None:
    said = [named("a", "fp16"), named("b", "fp32"), named("soft", "fp32", product=False)]
    done = [named("a", "fp16"), named("b", "tf32"), named("soft", "fp16", product=False)]
    verdict = compare(said, done)
    assert verdict.agreed == 1 and len(verdict.coarser) == 2
    with pytest.raises(ExportError, match="Conv b: tf32, the graph says fp32; Softmax soft: fp16"):
        require_agreement("x", said, verdict)
    assert compare(said[:2], done[:2], tf32=True).coarser == ()


def test_an_engine_that_ignored_its_graphs_precision_altogether_is_refused() -> None:
    """TensorRT 11 did so for callers of the old options: one warning, exit 0, an FP32 engine."""
    said = [named("a", "fp16"), named("b", "fp16")]
    with pytest.raises(ExportError, match="Conv a: fp32, the graph says fp16"):
        require_agreement("x", said, compare(said, [named("a", "fp32"), named("b", "fp32")]))
    partly = compare(said, [named("a", "fp32"), named("b", "fp16")])
    require_agreement("x", said, partly)
    assert partly.finer == ("Conv a: fp32, the graph says fp16",)


def test_a_quantised_product_is_int8_in_the_graph_and_the_rest_is_not() -> None:
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="d"),
        helper.make_node("Unsqueeze", ["d", "axis"], ["u"], name="u"),
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["wd"], name="wd"),
        helper.make_node("Conv", ["u", "wd"], ["y"], name="quantised"),
        helper.make_node("Conv", ["y", "v"], ["z"], name="plain"),
    ]
    weights = {
        "scale": scale, "zero": zero, "axis": np.array([1]),
        "w": np.ones((2, 1, 1), np.int8), "v": np.ones((2, 2, 1), np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 2, 8])],
        initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    said = {layer.name: layer.precision for layer in graph_layers(model)}
    assert (said["quantised"], said["plain"], said["q"], said["d"]) == ("int8", "fp32", "fp32", "int8")


# Written as TensorRT 10 and 11 write it; no engine of theirs can be built or loaded without a GPU.
INSPECTED = {
    "Layers": [
        {"Name": "Reformatting CopyNode for Input Tensor 0 to conv", "LayerType": "Reformat", "Metadata": "",
         "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP32"}],
         "Outputs": [{"Name": "y", "Format/Datatype": "Half(64,1:8,...)"}]},
        {"Name": "conv + relu", "LayerType": "CaskConvolution", "Weights": {"Type": "Half", "Count": 9408},
         "Inputs": [{"Name": "y", "Format/Datatype": "N/A due to dynamic shapes"}], "Outputs": [],
         "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckcrs_nhwc_tilesize256x128x32",
         "Metadata": "[ONNX Layer: conv]\x1f[ONNX Layer: relu]"},
        {"Name": "quantised", "LayerType": "CaskGemmConvolution", "Metadata": "[ONNX Layer: quantised]",
         "Inputs": [{"Name": "q", "Format/Datatype": "Int8"}], "Outputs": [{"Name": "r", "Format/Datatype": "Float"}],
         "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs"},
        {"Name": "sum", "LayerType": "gemm", "Metadata": "[ONNX Layer: sum]",
         "Inputs": [{"Name": "s", "Format/Datatype": "Float"}], "Outputs": [{"Name": "t", "Format/Datatype": "Float"}],
         "TacticName": "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize32x32x64"},
        {"Name": "__myl_CastSoftCast", "LayerType": "kgen", "TacticName": "__myl_CastSoftCast_0x1",
         "Metadata": "[ONNX Layer: up]\x1e[ONNX Layer: soft]\x1f[ONNX Layer: down]",
         "Inputs": [{"Name": "t", "Format/Datatype": "Half"}], "Outputs": [{"Name": "u", "Format/Datatype": "Half"}]},
    ]
}  # fmt: skip


def test_the_inspectors_report_is_read_by_kernel_then_weights_then_tensors() -> None:
    layers = {layer.name: layer for layer in inspected_layers(json.dumps(INSPECTED))}
    assert layers["conv + relu"].precision == "fp16" and layers["conv + relu"].nodes == ("conv", "relu")
    assert layers["quantised"].precision == "int8" and layers["sum"].precision == "tf32"
    assert [layer.is_product for layer in layers.values()] == [False, True, True, True, False]


def test_a_fusion_that_may_compute_otherwise_than_its_tensors_proves_nothing_against_it() -> None:
    done = inspected_layers(json.dumps(INSPECTED))
    said = [named("conv", "fp16"), named("soft", "fp32", product=False), named("lost", "fp16"), named("sum", "fp32")]
    verdict = compare(said, done)
    assert verdict.untold == ("lost",) and verdict.agreed == 1
    assert verdict.coarser == ("Conv sum: tf32, the graph says fp32",)


def test_a_report_of_another_kind_is_refused() -> None:
    for report in ("", "[]", '{"Layers": ["conv", "relu"]}'):  # the last is what less than detailed verbosity gives
        with pytest.raises(ExportError, match="inspector wrote something else than layers"):
            inspected_layers(report)


def test_proof_holds_for_the_graph_itself_and_at_every_corner() -> None:
    run = onnx_runner(sum_graph().SerializeToString())
    tolerances = {"count": 1e-5, "patch_counts": 1e-5}
    proof = prove(SUM, run, run, tolerances)
    assert list(proof) == [f"{corner.batch} x {corner.samples}" for corner in corners_of(SUM)]
    assert all(error == 0 for errors in proof.values() for error in errors.values())


def spoilt(fault: str) -> Any:
    """The graph with a fault such as GPUs have shown."""
    run = onnx_runner(sum_graph().SerializeToString())

    def engine(inputs: dict[str, Any]) -> dict[str, Any]:
        found = {name: value.copy() for name, value in run(inputs).items()}
        if fault == "all":
            found["count"] *= 1.001
        elif fault == "nan":
            found["patch_counts"][-1, 3] = np.nan
        elif len(found["count"]) == MAX_BATCH_SIZE and np.ptp(inputs["density"][:, 0, 0]) == 0:
            found["count"][5] *= 1.00001  # only rows that are alike show it: far below the tolerance of the answer
        return found

    return engine


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("all", r"at 1 x 31840 samples: count differs by 1\.0\de-03 of its peak"),
        ("nan", r"at 1 x 31840 samples: patch_counts is NaN or infinite"),
        ("row", r"at 8 x 31840 samples: count differs by .* between rows that are alike"),
    ],
)
def test_proof_refuses_wrong_rows_values_and_nan_by_corner(fault: str, message: str) -> None:
    run = onnx_runner(sum_graph().SerializeToString())
    with pytest.raises(ExportError, match=message):
        prove(SUM, spoilt(fault), run, {"count": 5e-5, "patch_counts": 5e-5})


def test_a_missing_tensorrt_says_what_to_run_in_which_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ExportError) as refused:
        load_library("tensorrt")
    assert refused.value.exit_code == 6
    words = "docker run", "--gpus all", CONTAINER_IMAGE, "tensorrt==${TRT_VERSION", "--target tensorrt"
    assert all(word in str(refused.value) for word in words)


def test_the_container_that_builds_is_the_one_that_serves() -> None:
    from serve.commands import CONTAINER_IMAGE as SERVING

    assert CONTAINER_IMAGE == SERVING


@pytest.mark.parametrize("release", ["10.3.0", "10.16.1.11", "11.0.0.114", "11.4.0.106"])
def test_every_release_from_10_3_to_11_is_taken(release: str) -> None:
    require_known_release(release)


@pytest.mark.parametrize("release", ["8.6.1", "10.2.0.19", "12.0.0"])
def test_releases_with_another_interface_are_refused(release: str) -> None:
    with pytest.raises(ExportError, match=f"TensorRT is {release}; wanted 10.3 to 11.x"):
        require_known_release(release)


def test_an_option_that_a_release_lacks_is_refused_not_left_out() -> None:
    import tensorrt_rtx

    with pytest.raises(ExportError, match=r"has no BuilderFlag\.FP16, only .*TF32"):
        member(tensorrt_rtx.BuilderFlag, "FP16")


@pytest.mark.gpu
@pytest.mark.skipif(util.find_spec("tensorrt") is None, reason="TensorRT is not installed")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_an_engine_on_a_gpu_answers_as_its_graph_and_is_seen_from_inside(repository: Path, model: Model) -> None:
    facts = json.loads(build(published(repository, model), model, "fp32")[MANIFEST_FILE])
    assert facts["layers"]["source"] == "engine" and facts["gpu"]["compute_capability"]
    assert all(e <= TOLERANCES[name] for errors in facts["parity"].values() for name, e in errors.items())
    assert facts["timing_cache"]["sha256"]

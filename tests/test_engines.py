"""Every exported graph becomes a TensorRT engine in every precision; TensorRT for RTX proves it without a GPU."""

import hashlib
import json
import sys
from importlib import util
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from engine_graphs import sum_graph
from onnx import TensorProto, helper

from export.contract import MAX_BATCH_SIZE, MODELS, PADDED_SAMPLES, Model, contract_digest, model_named
from export.engines import MANIFEST_FILE, PLAN_FILE, Options, build
from export.engines.library import CONTAINER_IMAGE, load_library, member, require_known_release
from export.engines.profiles import Profile, Range, profile_of, require_fit
from export.errors import ExportError
from export.publish import versions
from export.samples import sample_inputs
from export.thresholds import peak_tolerances

SUM = model_named("crowd_density_sum")
SUM_PROFILE = profile_of(SUM)


def published(repository: Path, model: Model) -> bytes:
    newest = versions(repository / model.name)[-1]
    return (repository / model.name / str(newest) / "model.onnx").read_bytes()


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
    from export.cpu_spelling import for_cpu
    from export.precision import convert

    full = onnx.load_from_string(published(repository, model))
    calibration = [
        {name: tensor.numpy() for name, tensor in sample_inputs(model, batch=1, seed=seed).items()} for seed in (1, 2)
    ]
    # As it is published: int8 in the spelling that is quick on a CPU.
    graph = convert(full, model, precision, calibration)
    graph = for_cpu(graph) if precision == "int8" else graph
    facts = json.loads(build(graph.SerializeToString(), model, precision, library="tensorrt_rtx")[MANIFEST_FILE])
    products = {kind: layers["products"] for kind, layers in facts["layers"]["by_precision"].items()}
    # Counters in int8 keep their narrow convolutions in fp32.
    assert products[precision] > (0 if precision == "int8" and "crowd" in model.name else products["fp32"])
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
    # Ahead of time, whatever the machine: nothing was loaded, and the manifest says so.
    assert facts["gpu"] is None and facts["built_for"] == ["8.6", "8.9", "12.0"]
    assert facts["parity"] is None and "neither be inspected nor run" in facts["parity_missing"]
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
    allowed = peak_tolerances("fp32")
    assert all(error <= allowed[name] for errors in facts["parity"].values() for name, error in errors.items())
    assert facts["timing_cache"]["sha256"]

"""Counted operations equal closed forms and torch's own count; the measurement runs whole at tiny settings."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from perf import bare_runtime, roofline, roofs
from perf.errors import PerfError
from perf.flops import count
from perf.record import Record


def graph_of(
    nodes: list[onnx.NodeProto], shapes: dict[str, list[int | str]], weights: dict[str, tuple[int, ...]]
) -> onnx.ModelProto:
    """A graph with one output `y`, ones for weights."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv1d(6, 8, 5, padding=2), (3, 6, 20)),
        (nn.Conv2d(6, 8, (3, 5), stride=2, padding=1, groups=2), (2, 6, 15, 21)),
        (nn.ConvTranspose1d(6, 4, 7, stride=3), (2, 6, 11)),
        (nn.Conv2d(6, 6, 3, dilation=2, groups=6), (1, 6, 12, 9)),
        (nn.Linear(12, 7), (5, 12)),
    ],
    ids=["convolution in time", "grouped and strided", "transposed", "depth-wise and dilated", "linear"],
)
def test_operations_equal_torchs_own_count(module: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape)
    program = torch.onnx.export(module.eval(), (inputs,), dynamo=True, verbose=False)
    assert program is not None
    graph = program.model_proto
    with FlopCounterMode(display=False) as counter:
        module(inputs)
    assert count(graph, {graph.graph.input[0].name: shape}).flops == counter.get_total_flops()


def test_a_product_of_stacks_counts_every_matrix_and_broadcasting_counts_what_is_computed() -> None:
    graph = graph_of([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": ["n", 3, 4, 5], "b": [5, 6]}, {})
    work = count(graph, {"a": (2, 3, 4, 5), "b": (5, 6)})
    assert work.flops == 2 * (2 * 3) * 4 * 5 * 6
    assert work.nodes[0].product == (4, 5, 6)
    assert work.nodes[0].moved_bytes == 4 * (2 * 3 * 4 * 5 + 5 * 6 + 2 * 3 * 4 * 6)


def test_activations_move_bytes_and_names_move_nothing() -> None:
    nodes = [
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Squeeze", ["b", "axes"], ["y"]),
    ]
    graph = graph_of(nodes, {"a": ["n", 1, 7]}, {})
    graph.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    work = count(graph, {"a": (2, 1, 7)})
    assert (work.flops, work.moved_bytes) == (0, 2 * 4 * 14)


def test_a_batch_of_four_is_four_times_the_work(tiny_repository: Path) -> None:
    graph = onnx.load(tiny_repository / "crowd_v/1/model.onnx")
    one, four = (count(graph, {"picture": (batch, 8, 16, 3)}) for batch in (1, 4))
    assert four.flops == 4 * one.flops
    assert four.weight_bytes == one.weight_bytes == 4 * (5 * 3 * 3 * 3)


def test_a_missing_shape_is_named() -> None:
    graph = graph_of([helper.make_node("Relu", ["a"], ["y"])], {"a": ["n", 4]}, {})
    with pytest.raises(PerfError, match="input a"):
        count(graph, {})


def test_every_library_computes_the_same_product() -> None:
    found = [np.asarray(call()).reshape(8, 4) for call in roofs.products(8, 16, 4, 1).values()]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-5)


@pytest.fixture
def tiny_repository(tmp_path: Path) -> Path:
    """One network: a convolution of a picture, as exported networks begin."""
    nodes = [
        helper.make_node("Cast", ["picture"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["moved"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["moved", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    graph = graph_of(nodes, {"picture": ["batch", 8, 16, 3]}, {"w": (5, 3, 3, 3)})
    graph.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    for name in ("crowd_v", "facefilter_separator"):
        folder = tmp_path / "repository" / name / "1"
        folder.mkdir(parents=True)
        onnx.save(graph, folder / "model.onnx")
    return tmp_path / "repository"


def test_a_profile_names_operations_and_its_shares_make_a_whole(tiny_repository: Path) -> None:
    shares = bare_runtime.profile(tiny_repository / "crowd_v/1/model.onnx", batch=2, length=10)
    assert {"Conv", "Cast"} <= {share.operation for share in shares}
    assert sum(share.share for share in shares) == pytest.approx(1)


def test_the_measurement_gives_every_level_its_share_and_its_percentiles(tiny_repository: Path, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    roofline.add_arguments(parser)
    words = (
        f"--repository {tiny_repository} --int8-repository {tiny_repository} --networks facefilter_separator,crowd_v "
        "--batches 1,2 --rounds 2 --seconds 0.02 --sgemm-size 64"
    )
    record = roofline.measure(parser.parse_args(words.split()), lambda message: None)
    network = record.figures["networks"]["crowd_v"]
    assert network["gflop"] == pytest.approx(2 * 5 * 27 * 8 * 16 / 1e9)
    ways = 3 if record.figures["cores"] > 1 else 1
    assert len(network["levels"]) == ways * 2 * 2
    for level in network["levels"]:
        assert level["p50_ms"] <= level["p95_ms"] <= level["p99_ms"]
        assert level["gflops"] == pytest.approx(level["items_per_s"] * network["gflop"])
        assert level["of_sgemm"] > 0
    assert len(network["int8"]) == ways * 2
    assert any("int8 over fp32" in aim.what for aim in record.aims)
    assert all(aim.because for aim in record.aims)
    record.write(tmp_path / "roofline.json")
    again = Record.read(tmp_path / "roofline.json")
    assert json.dumps(again.as_json()) == json.dumps(record.as_json())
    assert [table.markdown() for table in roofline.tables(again)]
    roofline.plot(again, tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").stat().st_size > 1000


def test_a_stretch_in_which_nothing_ended_is_measured_anew() -> None:
    class Interrupted:
        """Its first run is quick, as the machine was before others wanted it."""

        runs = 0

        def get_inputs(self) -> list[object]:
            return []

        def run(self, outputs: None, inputs: dict[str, object]) -> None:
            self.runs += 1
            time.sleep(0.0 if self.runs == 1 else 0.03)

    found = roofline._stretch(Interrupted(), roofline.Way("one core", 1, 1), 1, seconds=0.005)
    assert found.p50_ms >= 30


def test_a_repository_without_the_network_is_refused(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    roofline.add_arguments(parser)
    with pytest.raises(PerfError, match="avedge export"):
        roofline.measure(parser.parse_args(["--repository", str(tmp_path), "--sgemm-size", "64"]), lambda message: None)

"""Every runtime answers or says why it cannot; the limit is a closed form."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from perf import runtimes
from perf.devices import Device, Peak, highest
from perf.errors import PerfError
from perf.record import Record
from perf.runtime_sides import SHAPES, Network, UnavailableError, inputs_for, module_of, torch_compiled
from train.dsp import Stft

TINY = "--batches 1,2 --rounds 2 --seconds 0.01 --compile-s 0"


def measured(words: str) -> Record:
    """The record of a command line."""
    parser = argparse.ArgumentParser()
    runtimes.add_arguments(parser)
    return runtimes.measure(parser.parse_args(words.split()), lambda message: None)


@pytest.fixture
def tiny_repository(tmp_path: Path) -> Path:
    """The STFT as TorchScript, and a graph with its input under its name."""
    folder = tmp_path / "repository" / "facefilter_stft" / "1"
    folder.mkdir(parents=True)
    torch.jit.trace(Stft().eval(), torch.randn(2, *SHAPES["facefilter_stft"]["waveform"])).save(folder / "model.pt")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "n"]) for name in ("waveform", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["waveform"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return tmp_path / "repository"


def side_of(record: Record, model: str, runtime: str, precision: str) -> dict[str, Any]:
    """One side's figures."""
    (found,) = (
        side
        for side in record.figures["models"][model]["sides"]
        if (side["runtime"], side["precision"]) == (runtime, precision)
    )
    side: dict[str, Any] = found
    return side


def test_each_runtime_is_measured_or_says_why_not(tiny_repository: Path, tmp_path: Path) -> None:
    record = measured(f"--repository {tiny_repository} --models facefilter_stft {TINY}")
    for runtime in ("torch eager", "TorchScript", "ONNX Runtime"):
        side = side_of(record, "facefilter_stft", runtime, "fp32")
        assert side["p50_ms"] <= side["p95_ms"] <= side["p99_ms"]
        assert [level["batch"] for level in side["batches"]] == [1, 2]
        assert side["best_items_per_s"] == max(level["items_per_s"] for level in side["batches"])
        assert side["of_limit_latency"] == pytest.approx(side["limit_ms"] / side["p50_ms"])
    assert "GPU" in side_of(record, "facefilter_stft", "TensorRT", "fp32")["skipped"]
    assert "compilations" in side_of(record, "facefilter_stft", "torch.compile", "fp32")["skipped"]
    assert "stay fp32" in side_of(record, "facefilter_stft", "torch eager", "fp16")["skipped"]
    record.write(tmp_path / "runtimes.json")
    again = Record.read(tmp_path / "runtimes.json")
    assert json.dumps(again.as_json()) == json.dumps(record.as_json())
    _, table = runtimes.tables(again)
    assert len(table.rows) == 3
    assert "TensorRT fp32" in table.note


def test_a_repository_without_artefacts_leaves_torch(tmp_path: Path) -> None:
    record = measured(f"--repository {tmp_path} --models facefilter_stft --precisions fp32 {TINY}")
    assert "p50_ms" in side_of(record, "facefilter_stft", "torch eager", "fp32")
    assert "model.onnx" in side_of(record, "facefilter_stft", "ONNX Runtime", "fp32")["skipped"]
    assert "model.pt" in side_of(record, "facefilter_stft", "TorchScript", "fp32")["skipped"]


def test_the_limit_is_the_larger_of_operations_and_bytes() -> None:
    peak = Peak({"fp32": 2.0, "fp16": 8.0}, gb_per_s=100.0)
    assert peak.limit_ms(4e12, 1e9, "fp32") == pytest.approx(2000)
    assert peak.limit_ms(4e12, 1e9, "fp16") == pytest.approx(500)
    assert peak.limit_ms(1e9, 5e9, "fp16") == pytest.approx(50)


def test_the_highest_peak_is_taken_of_each_and_halves_are_never_slower_than_fp32() -> None:
    found = highest([Peak({"fp32": 2.0, "fp16": 0.1}, 30.0), Peak({"fp32": 1.0, "fp16": 0.2}, 40.0)])
    assert found == Peak({"fp32": 2.0, "fp16": 2.0}, 40.0)


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_inputs_fit_the_modules(preset: str) -> None:
    name = "facefilter_identity"
    module = module_of(name, preset)
    answer = module(*inputs_for(name, 2, Device("cpu")).values())
    assert answer.shape == (2, 1024)


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"C\+\+ compiler"):
        torch_compiled(Network("facefilter_stft", Stft(), tmp_path), Device("cpu"), "fp32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(PerfError, match="--device cpu") as refused:
        measured("--device cuda")
    assert refused.value.exit_code == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU, or a torch without CUDA")
def test_the_gpu_is_measured_in_both_precisions(tmp_path: Path) -> None:
    record = measured(
        f"--device cuda --repository {tmp_path} --models facefilter_stft,facefilter_separator "
        "--batches 1,8 --rounds 2 --seconds 0.02 --compile-s 120"
    )
    assert record.figures["peak"]["tflops"]["fp16"] > record.figures["peak"]["tflops"]["fp32"] > 1
    for runtime in ("torch eager", "torch.compile"):
        for precision in ("fp32", "fp16"):
            side = side_of(record, "facefilter_separator", runtime, precision)
            assert "skipped" in side or 0 < side["of_limit_latency"] < 1.1, side
    assert "p50_ms" in side_of(record, "facefilter_separator", "torch eager", "fp16")

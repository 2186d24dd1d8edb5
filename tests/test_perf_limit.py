"""Serving against the bare graphs: the bare side's answers, what the comparison holds, and its tables."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from toy_repository import FLOATS, add_doubling, add_doubling_twice
from tritonclient.grpc import model_config_pb2

from perf import bare, limit, limit_tables
from perf.errors import PerfError
from perf.record import Record
from perf.served import Server
from perf.trial import copy_repository
from serve.launcher import EmbeddedTriton


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    add_doubling(tmp_path / "toys")
    add_doubling_twice(tmp_path / "toys")
    return tmp_path / "toys"


def test_bare_graphs_are_wired_as_the_served_config_says(toys: Path) -> None:
    graphs = bare.BareEnsemble(toys, "quadruple", threads=1, spinning=False)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(graphs.answer({"x": x})["y"], 4 * x)


def test_a_repository_without_the_ensemble_is_refused(toys: Path) -> None:
    with pytest.raises(PerfError, match="no ensemble double") as caught:
        bare.BareEnsemble(toys, "double", threads=1, spinning=False)
    assert caught.value.exit_code == 6


def test_a_cached_graph_runs_once_for_each_distinct_row() -> None:
    seen: list[float] = []

    def run(known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.extend(known["x"][:, 0])
        return {"y": known["x"] * 3}

    cached = bare._Cached(run, ("x",))
    rows = np.array([[1.0], [2.0], [1.0]], np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(cached({"x": rows})["y"], rows * 3)
    assert seen == [1.0, 2.0]


def test_a_batch_counts_as_so_many_requests(toys: Path) -> None:
    requests = [{"x": np.full(4, value, np.float32)} for value in range(3)]
    graphs = bare.BareEnsemble(toys, "quadruple", threads=1, spinning=False)
    rates = bare.load(graphs, bare.Way(workers=1, threads=1, batch=4), requests, seconds=0.2)
    assert rates.count > 0 and rates.count % 4 == 0
    assert rates.per_s == pytest.approx(rates.count / 0.2)


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_the_bare_side_is_tried_with_a_worker_per_core_and_with_one_for_all(cores: int) -> None:
    tried = bare.ways(cores)
    assert len(set(tried)) == len(tried)
    assert any(way.workers == cores and way.threads == 1 for way in tried)
    assert any(way.workers == 1 and way.threads == cores for way in tried)


def test_a_copied_repository_is_served_with_its_changes_and_the_source_stays(toys: Path, tmp_path: Path) -> None:
    before = (toys / "double" / "configs" / "onnxruntime.pbtxt").read_bytes()

    def two(config: model_config_pb2.ModelConfig) -> None:
        if config.name == "double":
            config.instance_group[0].count = 2

    copied = copy_repository(toys, tmp_path / "copied", "onnxruntime", two)
    assert (toys / "double" / "configs" / "onnxruntime.pbtxt").read_bytes() == before
    read = text_format.Parse((copied / "double" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert read.instance_group[0].count == 2 and str(read.input[0].data_type) == str(
        model_config_pb2.DataType.Value(FLOATS)
    )
    with EmbeddedTriton(copied, stop_timeout_s=0) as running:
        assert running.models == ["double", "quadruple"]


def test_no_rounds_are_refused() -> None:
    args = argparse.Namespace(rounds=0, starts=1, window_s=1)
    with pytest.raises(PerfError, match="--rounds"):
        limit.measure(args, lambda text: None)


def test_both_sides_first_requests_and_batches_come_out_whole(repository: Path, samples: Path, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    limit.add_arguments(parser)
    args = parser.parse_args(
        ["--repository", str(repository), "--samples", str(samples), "--ensembles", "facefilter_enrolled"]
        + ["--rounds", "1", "--window-s", "1", "--starts", "1", "--concurrency", "2", "--batches", "1"]
        + ["--no-in-process"]
    )
    record = limit.measure(args, lambda text: None)
    found = record.figures["ensembles"]["facefilter_enrolled"]
    assert set(found["ratio"]) == {"grpc", "shared_memory"}
    assert found["ratio"]["grpc"] == found["rounds"][0]["grpc"]["per_s"] / found["rounds"][0]["bare"]["per_s"]
    spent = found["cpu_ms"]["served"]
    assert spent["total"] == pytest.approx(spent["front"] + spent["models"] + spent["client"])
    assert spent["models"] > spent["front"] > 0
    assert record.figures["first_request"]["facefilter_enrolled"]["first_ms"] > 0
    models = record.figures["together"]["recording"]["models"]
    assert models["facefilter_separator"]["average_batch"] > 1  # windows of one recording travel together
    identity = models["facefilter_identity"]
    assert identity["executions"] <= 1 and identity["requests"] - identity["cache_hits"] <= 8
    record.write(tmp_path / "limit.json")
    for table in limit_tables.tables(Record.read(tmp_path / "limit.json")):
        assert table.rows and all(len(row) == len(table.columns) for row in table.rows)


def test_a_repeated_face_is_not_looked_at_again(server: EmbeddedTriton, samples: Path) -> None:
    from clients.separator import SpeechSeparator

    served = Server(server.grpc_url)
    rng = np.random.default_rng(20_261_127)
    face = rng.integers(0, 255, (224, 224, 3), np.uint8)  # seen nowhere else
    recording = rng.standard_normal(31_840).astype(np.float32) * 0.1
    names = ("facefilter_identity", "facefilter_separator")
    with SpeechSeparator(server.grpc_url) as separator:
        before = served.counters(names)
        for _ in range(3):
            separator.separate(recording, face, sample_rate_hz=16_000, face_crop=True)
        deadline = time.monotonic() + 20
        while True:
            identity, network = served.shares(before, served.counters(names))
            if (identity.requests, network.requests) == (3, 3) or time.monotonic() > deadline:
                break
            time.sleep(0.02)  # Triton counts a moment after it answers
    served.close()
    assert (identity.executions, identity.cache_hits) == (1, 2)
    assert network.executions == 3

"""The sweep behind the configs: what it tries, how it judges, and that the committed configs are its winners."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from export.configs import SCHEDULING
from perf import tune
from perf.record import Record

TOLERANCE = 0.05  # of throughput; the recorded noise may be smaller by luck


def _levels(fast: float, slow: float) -> list[dict]:
    return [
        {"ensemble": "a", "in_flight": 1, "per_s": slow, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0},
        {"ensemble": "a", "in_flight": 4, "per_s": fast, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0},
    ]


def test_the_best_level_counts_and_the_committed_configs_are_the_measure() -> None:
    rows = [
        {"factor": tune.COMMITTED, "value": tune.COMMITTED, "levels": _levels(90, 50)},
        {"factor": "threads", "value": "1", "levels": _levels(150, 10)},
        {"factor": "threads", "value": "2", "levels": _levels(50, 50)},
        {"factor": tune.COMMITTED, "value": tune.COMMITTED, "levels": _levels(110, 40)},
    ]
    found = tune._judged(rows)
    assert [row["score"] for row in found["candidates"]] == pytest.approx([0.9, 1.5, 0.5, 1.1])
    assert found["noise"] == pytest.approx(0.1)
    assert found["winners"] == {"threads": {"value": "1", "score": pytest.approx(1.5)}}


def test_a_factor_without_anything_better_is_won_by_the_committed_configs() -> None:
    rows = [
        {"factor": tune.COMMITTED, "value": tune.COMMITTED, "levels": _levels(100, 50)},
        {"factor": "threads", "value": "2", "levels": _levels(90, 50)},
    ]
    assert tune._judged(rows)["winners"] == {"threads": {"value": tune.COMMITTED, "score": 1.0}}


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_every_candidate_changes_a_model_that_there_is_and_none_comes_twice(cores: int) -> None:
    tried = tune.candidates(cores)
    assert tried[0] == tried[-1] and len(set(tried)) == len(tried) - 1
    assert {model for one in tried for model in one.models} == set(SCHEDULING["onnxruntime"])


def test_the_committed_setting_is_among_the_candidates_of_every_factor() -> None:
    own = SCHEDULING["onnxruntime"]["facefilter_separator"]
    tried = [one for one in tune.candidates(2) if one.instances is not None and one.threads is not None]
    assert (own.instances, own.threads) in {(one.instances, one.threads) for one in tried}


def test_a_quick_sweep_measures_servers_on_changed_configs(
    repository: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = argparse.ArgumentParser()
    tune.add_arguments(parser)
    args = parser.parse_args(
        ["--repository", str(repository), "--samples", str(samples), "--quick", "--targets", "onnxruntime"]
        + ["--ensembles", "crowd_counting_vision", "--concurrency", "2", "--window-s", "0.6"]
    )
    said: list[str] = []
    kept = tune.candidates(2)
    # Two servers, not eight; the committed setting is no candidate of its own.
    own = [one for one in kept if one.value in ("1 x 1", "2 x 1")]
    monkeypatch.setattr(tune, "candidates", lambda cores: [kept[0], *own])
    record = tune.measure(args, said.append)
    found = record.figures["targets"]["onnxruntime"]
    assert [row["value"] for row in found["candidates"]] == ["committed", "1 x 1"]
    assert found["winners"]["networks: instances x threads"]["value"] in ("1 x 1", "committed")
    assert found["committed"] == _recorded("onnxruntime")
    record.write(tmp_path / "tune.json")
    (table,) = tune.tables(Record.read(tmp_path / "tune.json"))
    assert len(table.rows) == 2 and all(len(row) == len(table.columns) for row in table.rows)


def _recorded(target: str) -> dict[str, dict[str, int]]:
    return {name: dataclasses.asdict(scheduling) for name, scheduling in SCHEDULING[target].items()}


@pytest.mark.parametrize("target", tune.TARGETS)
def test_the_committed_configs_are_the_sweeps_winners(root: Path, target: str) -> None:
    path = root / "perf" / "results" / "tune.json"
    if not path.is_file():
        pytest.skip("no committed sweep: avedge perf tune")
    targets = Record.read(path).figures["targets"]
    if target not in targets:
        pytest.skip(f"the committed sweep is of {', '.join(targets)}: avedge perf tune --targets {target}")
    found = targets[target]
    assert found["committed"] == _recorded(target), "the configs changed since the sweep: avedge perf tune"
    allowed = 1 + max(TOLERANCE, 2 * found["noise"])
    better = {factor: won for factor, won in found["winners"].items() if won["score"] > allowed}
    assert not better, f"better than the committed configs by more than the noise: {better}"

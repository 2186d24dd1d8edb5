"""The real perf_analyzer against a real server with two tiny models under the names that a sweep feeds."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper

from perf import commands
from perf.analyzer import find_analyzer
from perf.errors import PerfError
from perf.measure import SweepSettings
from perf.results import SweepResult
from perf.sweep import sweep
from serve.launcher import EmbeddedTriton

CLIP_SAMPLES, FACE_SIZE, RATE_HZ = 1600, 8, 16_000
DIGEST = 'parameters { key: "contract_digest" value { string_value: "tiny" } }'
QUICK = SweepSettings(concurrencies=(2,), window_s=0.3, attempts=1)

IDENTITY_CONFIG = f"""
backend: "onnxruntime" platform: "onnxruntime_onnx" default_model_filename: "model.onnx" max_batch_size: 8
input {{ name: "face" data_type: TYPE_UINT8 dims: [{FACE_SIZE}, {FACE_SIZE}, 3] }}
output {{ name: "identity" data_type: TYPE_FP32 dims: [3] }}
instance_group {{ count: 1 kind: KIND_CPU }}
dynamic_batching {{ }}
response_cache {{ enable: true }}
{DIGEST}
"""
SEPARATOR_CONFIG = f"""
backend: "onnxruntime" platform: "onnxruntime_onnx" default_model_filename: "model.onnx" max_batch_size: 8
input {{ name: "mixture" data_type: TYPE_FP32 dims: [-1] }}
input {{ name: "identity" data_type: TYPE_FP32 dims: [3] }}
output {{ name: "speech" data_type: TYPE_FP32 dims: [-1] }}
instance_group {{ count: 1 kind: KIND_CPU }}
dynamic_batching {{ }}
{DIGEST}
"""
FACTS = {
    "contract_version": 1,
    "sample_rate_hz": RATE_HZ,
    "padded_samples": f"{CLIP_SAMPLES},3200",
    "mixture_rms": 0.1,
    "face_size": FACE_SIZE,
}
STATED = "".join(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} ' for key, value in FACTS.items())
ENSEMBLE_CONFIG = f"""
platform: "ensemble" max_batch_size: 8
input {{ name: "mixture" data_type: TYPE_FP32 dims: [-1] }}
input {{ name: "face" data_type: TYPE_UINT8 dims: [{FACE_SIZE}, {FACE_SIZE}, 3] }}
output {{ name: "speech" data_type: TYPE_FP32 dims: [-1] }}
ensemble_scheduling {{
  step {{ model_name: "facefilter_identity" model_version: -1
          input_map {{ key: "face" value: "face" }} output_map {{ key: "identity" value: "identity" }} }}
  step {{ model_name: "facefilter_separator" model_version: -1
          input_map {{ key: "mixture" value: "mixture" }} input_map {{ key: "identity" value: "identity" }}
          output_map {{ key: "speech" value: "speech" }} }}
}}
{DIGEST} {STATED}
"""
ENROLLED_CONFIG = f"""
platform: "ensemble" max_batch_size: 8
input {{ name: "mixture" data_type: TYPE_FP32 dims: [-1] }}
input {{ name: "identity" data_type: TYPE_FP32 dims: [3] }}
output {{ name: "speech" data_type: TYPE_FP32 dims: [-1] }}
ensemble_scheduling {{
  step {{ model_name: "facefilter_separator" model_version: -1
          input_map {{ key: "mixture" value: "mixture" }} input_map {{ key: "identity" value: "identity" }}
          output_map {{ key: "speech" value: "speech" }} }}
}}
{DIGEST} {STATED}
"""


def _identity() -> onnx.GraphProto:
    """Mean colour of the face."""
    nodes = [
        helper.make_node("Cast", ["face"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["identity"], axes=[1, 2], keepdims=0),
    ]
    face = helper.make_tensor_value_info("face", TensorProto.UINT8, ["batch", FACE_SIZE, FACE_SIZE, 3])
    identity = helper.make_tensor_value_info("identity", TensorProto.FLOAT, ["batch", 3])
    return helper.make_graph(nodes, "identity", [face], [identity])


def _separator() -> onnx.GraphProto:
    """The mixture times the mean of the identity."""
    nodes = [
        helper.make_node("ReduceMean", ["identity"], ["gain"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mixture", "gain"], ["speech"]),
    ]
    mixture = helper.make_tensor_value_info("mixture", TensorProto.FLOAT, ["batch", "samples"])
    identity = helper.make_tensor_value_info("identity", TensorProto.FLOAT, ["batch", 3])
    speech = helper.make_tensor_value_info("speech", TensorProto.FLOAT, ["batch", "samples"])
    return helper.make_graph(nodes, "separator", [mixture, identity], [speech])


def _publish(repository: Path, name: str, config: str, graph: onnx.GraphProto | None) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"{config}')
    if graph is None:
        return
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content = model.SerializeToString()
    (version / "model.onnx").write_bytes(content)
    artefacts = {"model.onnx": {"sha256": hashlib.sha256(content).hexdigest()}}
    (version / "manifest.json").write_text(json.dumps({"contract_digest": "tiny", "artefacts": artefacts}))


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repository = tmp_path_factory.mktemp("repository")
    _publish(repository, "facefilter_identity", IDENTITY_CONFIG, _identity())
    _publish(repository, "facefilter_separator", SEPARATOR_CONFIG, _separator())
    _publish(repository, "facefilter", ENSEMBLE_CONFIG, None)
    _publish(repository, "facefilter_enrolled", ENROLLED_CONFIG, None)
    with EmbeddedTriton(repository) as server:
        yield server.grpc_url


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tenths of a second of noise at another rate, and two faces of one colour each."""
    folder = tmp_path_factory.mktemp("samples")
    noise = 0.3 * np.random.default_rng(0).standard_normal((6615, 2)).clip(-3, 3)
    soundfile.write(folder / "mixture_1.wav", noise, 22_050)
    for index in (1, 2):
        cv2.imwrite(str(folder / f"face_{index}.png"), np.full((224, 224, 3), 60 * index, np.uint8))
    return folder


@pytest.fixture(scope="module")
def result(server_url: str, samples: Path) -> SweepResult:
    return sweep(server_url, samples, settings=QUICK)


def test_a_sweep_measures_every_known_ensemble_that_is_served(result: SweepResult) -> None:
    assert [ensemble.ensemble for ensemble in result.ensembles] == ["facefilter", "facefilter_enrolled"]
    assert result.not_served == ("crowd_counting", "crowd_counting_vision")
    assert result.complete


def test_a_level_has_ordered_percentiles_and_three_windows(result: SweepResult) -> None:
    (level,) = result.ensembles[0].levels
    client = level.client
    assert level.concurrency == 2
    assert client.inferences_per_s > 10
    assert 0 < client.p50_ms <= client.p90_ms <= client.p95_ms <= client.p99_ms
    assert len(level.windows) >= 3
    # Little's law: requests in flight = throughput x mean latency; and a median is at most twice the mean.
    assert 0.2 < client.inferences_per_s * client.p50_ms / 1000 < 4.4


def test_sound_per_second_is_throughput_times_the_clip(result: SweepResult) -> None:
    ensemble = result.ensembles[0]
    (level,) = ensemble.levels
    assert level.audio_seconds_per_s is not None and level.real_time_factor is not None
    assert ensemble.clip_s == pytest.approx(CLIP_SAMPLES / RATE_HZ)
    assert level.audio_seconds_per_s == pytest.approx(0.1 * level.client.inferences_per_s)
    assert level.real_time_factor * level.audio_seconds_per_s == pytest.approx(1)


def test_every_pair_of_mixture_and_face_is_a_request_of_its_own(result: SweepResult) -> None:
    ensemble = result.ensembles[0]
    assert ensemble.inputs == {"mixture": (CLIP_SAMPLES,), "face": (FACE_SIZE, FACE_SIZE, 3)}
    assert ensemble.distinct_inputs == 6  # three cuts of the recording, two faces


def test_the_servers_statistics_tell_the_cache_from_the_computed(result: SweepResult) -> None:
    ensemble = result.ensembles[0]
    first = {share.model: share for share in ensemble.first_pass}
    assert first["facefilter_identity"].executions == 2  # each face once, then from the cache
    assert first["facefilter_identity"].cache_hits == 4
    shares = {share.model: share for share in ensemble.levels[0].models}
    identity, separator = shares["facefilter_identity"], shares["facefilter_separator"]
    assert identity.cache_hits == identity.requests and identity.average_batch is None
    assert separator.average_batch is not None and 1 <= separator.average_batch <= 2
    assert separator.compute_ms is not None and separator.compute_ms > 0
    assert separator.cache_hits == 0 and separator.failures == 0
    assert separator.platform == "onnxruntime_onnx"


def test_enrolled_faces_are_sent_as_the_identities_that_the_server_gives(result: SweepResult) -> None:
    enrolled = result.ensembles[1]
    assert enrolled.inputs == {"mixture": (CLIP_SAMPLES,), "identity": (3,)}
    assert enrolled.distinct_inputs == 6
    assert [share.model for share in enrolled.levels[0].models] == ["facefilter_separator"]


def test_windows_that_do_not_agree_are_flagged_and_still_reported(server_url: str, samples: Path) -> None:
    strict = SweepSettings(concurrencies=(1,), window_s=0.1, attempts=2, stability_percent=1e-6)
    (ensemble,) = sweep(server_url, samples, ensembles=["facefilter"], settings=strict).ensembles
    (level,) = ensemble.levels
    assert not level.stable
    assert level.client.inferences_per_s > 10
    assert level.spread_percent > 1e-6


def test_a_level_that_perf_analyzer_refuses_is_listed_with_what_it_said_and_the_others_stay(
    server_url: str, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    real = find_analyzer(links)
    wrapper = tmp_path / "perf_analyzer"  # the real one, sent to a model that is not there at two in flight
    wrapper.write_text(
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={':'.join(map(str, real.library_folders))}\n"
        f'case "$*" in *2:2:1*) set -- "$@" -m absent;; esac\nexec {real.binary} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    settings = SweepSettings(concurrencies=(1, 2), window_s=0.1, attempts=1)
    result = sweep(server_url, samples, ensembles=["facefilter"], settings=settings)
    assert not result.complete
    assert [level.concurrency for level in result.ensembles[0].levels] == [1]
    (failure,) = result.ensembles[0].failures
    assert failure.concurrency == 2
    assert "code 99" in failure.message and "unknown model: 'absent'" in failure.message


def test_another_served_length_can_be_chosen_and_no_other(server_url: str, samples: Path) -> None:
    long = SweepSettings(concurrencies=(1,), window_s=0.1, attempts=1, clip_samples=3200)
    assert sweep(server_url, samples, ensembles=["facefilter"], settings=long).ensembles[0].inputs["mixture"] == (3200,)
    odd = SweepSettings(concurrencies=(1,), clip_samples=1601)
    with pytest.raises(PerfError, match=r"1601.*1600, 3200") as caught:
        sweep(server_url, samples, settings=odd)
    assert caught.value.exit_code == 2


def test_an_ensemble_that_is_not_served_is_refused_by_name(server_url: str, samples: Path) -> None:
    with pytest.raises(PerfError, match=r"does not serve crowd_counting; it has facefilter") as caught:
        sweep(server_url, samples, ensembles=["crowd_counting"], settings=QUICK)
    assert caught.value.exit_code == 6


def test_the_command_writes_its_result_and_ends_stdout_with_it(
    server_url: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    commands.add_arguments(parser)
    output = tmp_path / "results" / "sweep.json"
    options = [
        "sweep",
        "--url",
        server_url,
        "--ensembles",
        "facefilter",
        "--samples",
        str(samples),
        "--output",
        str(output),
        "--json",
    ]
    args = parser.parse_args([*options, "--concurrency", "1", "--window-s", "0.1", "--attempts", "1"])
    assert commands.run(args) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1]) == json.loads(output.read_text())
    assert "facefilter_separator" in err
    assert list(output.parent.iterdir()) == [output]

"""`avedge doctor`: the golden sample through a server, and what is told of it."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from fake_triton import FakeTriton, committed_config, crowd_of, same_voice, serving
from tritonclient.grpc import service_pb2

import avedge_doctor
from export import golden

CROWD = np.full((72, 128), 0.001, np.float32)
WRONG = {"facefilter": same_voice, "crowd_counting": crowd_of(CROWD), "crowd_counting_vision": crowd_of(CROWD)}
INNER = {model: committed_config(model) for model in ("facefilter_separator", "crowd_av", "crowd_v")}
SERVER = ["separation", "counting by picture and sound", "counting by the picture"]


def doctor(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, dict[str, Any]]]:
    parser = argparse.ArgumentParser()
    avedge_doctor.add_arguments(parser)
    code = avedge_doctor.run(parser.parse_args([*map(str, words), "--json"]))
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["schema_version"] == 1 and said["exit_code"] == code
    return code, {check["name"]: check for check in said["checks"]}


@pytest.fixture
def wrong() -> Iterator[str]:
    """A server that answers finite nonsense."""
    with serving(FakeTriton(dict(WRONG), configs=dict(INNER))) as url:
        yield url


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A repository whose only release has the demonstration's golden answers."""
    for ensemble, holder in golden.HOLDERS.items():
        folder = tmp_path / "repository" / holder / "1"
        folder.mkdir(parents=True)
        facts = golden.manifest_facts(holder, {ensemble: golden.shipped(ensemble)})
        (folder / "manifest.json").write_text(json.dumps({"precision": "fp32", **facts}))
    return tmp_path / "repository"


def test_wrong_answers_of_a_known_release_exit_6_with_the_figure(
    capsys: pytest.CaptureFixture[str], wrong: str, released: Path
) -> None:
    code, found = doctor(capsys, "--url", wrong, "--repository", released)
    assert code == 6
    for name in SERVER:
        assert found[name]["ok"] is False and "wrong answer: " in found[name]["detail"]
    assert "torch says" in found["separation"]["detail"] and "allowed are 0.01" in found["separation"]["detail"]
    assert (
        "patch_counts[6] is 0.576, torch says 25.449: 0.98 of the largest" in found["counting by the picture"]["detail"]
    )


def test_unknown_weights_only_answer(capsys: pytest.CaptureFixture[str], wrong: str, tmp_path: Path) -> None:
    code, found = doctor(capsys, "--url", wrong, "--repository", tmp_path)
    assert code == 0
    for name in SERVER:
        assert found[name]["ok"] is None and "nothing more can be said" in found[name]["detail"]


def test_people_read_a_line_for_each_thing(capsys: pytest.CaptureFixture[str], wrong: str, released: Path) -> None:
    parser = argparse.ArgumentParser()
    avedge_doctor.add_arguments(parser)
    assert avedge_doctor.run(parser.parse_args(["--url", wrong, "--repository", str(released)])) == 6
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok  numpy") for line in lines)
    assert any(line.startswith("--  separation ") and "wrong answer" in line for line in lines)


class Odd(FakeTriton):
    """A server that says its release late, and in colours."""

    late_s = 0.0

    def ServerMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        time.sleep(self.late_s)
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51\x1b[31m")


def test_what_a_server_says_of_itself_does_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    parser = argparse.ArgumentParser()
    avedge_doctor.add_arguments(parser)
    with serving(Odd(dict(WRONG), configs=dict(INNER))) as url:
        avedge_doctor.run(parser.parse_args(["--url", url, "--repository", str(tmp_path)]))
    said = capsys.readouterr().out
    assert r"2.51\x1b[31m" in said and "\x1b" not in said


def test_the_release_is_not_waited_for_beyond_the_timeout(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    server = Odd(dict(WRONG), configs=dict(INNER))
    server.late_s = 8
    with serving(server) as url:
        began = time.monotonic()
        code, found = doctor(capsys, "--url", url, "--repository", tmp_path, "--timeout", 2)
        assert time.monotonic() - began < 7
    assert code == 0 and f"Triton at {url}" not in found


def test_no_server_exits_5_and_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys, "--url", "127.0.0.1:1", "--timeout", 1)
    assert code == 5
    assert "No server answers at 127.0.0.1:1" in found["separation"]["detail"]
    assert [found[name]["detail"] for name in SERVER[1:]] == ["the same", "the same"]


def test_a_server_of_other_models_exits_6(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(FakeTriton({"crowd_counting": WRONG["crowd_counting"]})) as url:
        code, found = doctor(capsys, "--url", url)
    assert code == 6 and "does not serve facefilter" in found["separation"]["detail"]


def test_a_server_that_is_too_slow_exits_7(capsys: pytest.CaptureFixture[str]) -> None:
    late = [(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")] * 3
    with serving(FakeTriton(dict(WRONG), failures=late)) as url:
        code, found = doctor(capsys, "--url", url)
    assert code == 7 and "gave no answer within" in found["separation"]["detail"]


@pytest.mark.parametrize("name", golden.HOLDERS)
def test_golden_inputs_are_those_of_the_contract_and_the_same_everywhere(name: str) -> None:
    inputs = golden.inputs_of(name)
    for tensor in golden._ensemble(name).inputs:
        value = inputs[tensor.name]
        assert value.dtype == {"FP32": np.float32, "UINT8": np.uint8}[tensor.datatype]
        assert value.shape == tuple(axis if isinstance(axis, int) else 31_840 for axis in tensor.shape)
        assert value.min() >= tensor.low and value.max() <= tensor.high and value.std() > 0


def test_drawn_pictures_are_the_same_to_the_last_bit() -> None:
    digests = {
        name: hashlib.sha256(value.tobytes()).hexdigest()[:12]
        for name, value in (golden.inputs_of("facefilter") | golden.inputs_of("crowd_counting")).items()
        if value.dtype == np.uint8
    }
    assert digests == {"face": FACE_DIGEST, "picture": PICTURE_DIGEST}


FACE_DIGEST, PICTURE_DIGEST = "4776d74588b6", "bbef2fefdc2b"


@pytest.mark.parametrize(
    ("found", "share"),
    [
        ({"count": [10.0], "patch_counts": [1.0, 4.0]}, 0.0),
        ({"count": [10.5], "patch_counts": [1.0, 4.0]}, 0.05),
        ({"count": [10.0], "patch_counts": [2.0, 4.0]}, 0.25),
        ({"count": [float("nan")], "patch_counts": [1.0, 4.0]}, float("inf")),
        ({"patch_counts": [1.0, 4.0]}, float("inf")),
        ({"count": [10.0], "patch_counts": [1.0]}, float("inf")),
    ],
)
def test_the_figure_that_differs_most_is_found(found: golden.Figures, share: float) -> None:
    compared = golden.compare(found, {"count": [10.0], "patch_counts": [1.0, 4.0]})
    assert compared.share == pytest.approx(share)
    assert compared.holds("fp32") == (share <= 0.01)


def test_every_band_and_quarter_of_the_voice_is_held() -> None:
    """A tone in one band of one quarter is that level there, and nothing elsewhere."""
    speech = np.zeros(32_000)
    quarter = np.arange(8_000, 16_000) / 16_000
    speech[8_000:16_000] = 0.5 * np.sin(2 * np.pi * 1_000 * quarter)  # 500 whole periods
    levels = golden.figures_of("facefilter", {"speech": speech, "attention": np.ones(201)})["speech"]
    wanted = np.zeros((4, 8))
    wanted[1, 3] = 0.5 / np.sqrt(2)  # 700 to 1,100 Hz
    np.testing.assert_allclose(np.reshape(levels, (4, 8)), wanted, atol=1e-5)


def test_shipped_answers_are_torchs_for_the_committed_weights_and_tell_other_inputs_apart(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = golden.answers(root / "train" / "weights")
    for name, answer in found.items():
        wanted = golden.shipped(name)
        assert answer.weights == wanted.weights, "trained anew: python -m export.golden"
        assert golden.compare(answer.figures, wanted.figures).share < 1e-3, "changed: python -m export.golden"
    assert set(json.loads(golden.SHIPPED.read_text())) == set(found) == set(golden.HOLDERS)
    assert asdict(found["facefilter"])["weights"].keys() == {"facefilter_identity", "facefilter_separator"}
    # Colours in another order, as a forgotten conversion leaves them.
    for drawn in ("_face", "_picture"):
        made = getattr(golden, drawn)()
        monkeypatch.setattr(golden, drawn, lambda made=made: made[..., ::-1].copy())
    for name, answer in golden.answers(root / "train" / "weights").items():
        compared = golden.compare(answer.figures, golden.shipped(name).figures)
        assert compared.share > 3 * golden.TOLERANCES["fp32"], (name, compared)

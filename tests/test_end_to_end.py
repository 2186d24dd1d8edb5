"""The whole way on real parts: exported weights, the real server, the clients, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
import tritonclient.grpc as grpcclient

from export.contract import ENSEMBLES, MODELS, Model, is_dynamic, model_named
from export.modules import WEIGHTS, served_module
from export.parity import TOLERANCES, relative_error
from export.samples import LONG_SAMPLES, SHORT_SAMPLES, sample_inputs
from serve.launcher import EmbeddedTriton
from train.facefilter.metrics import sdr_db

Array = npt.NDArray[np.float32]


def run_avedge(root: Path, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avedge", *map(str, words)]
    whole = os.environ | environment
    return subprocess.run(command, cwd=root, env=whole, capture_output=True, text=True, check=False)


def infer(server: EmbeddedTriton, model: str, inputs: dict[str, torch.Tensor]) -> dict[str, Array]:
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        sent = []
        for name, tensor in inputs.items():
            datatype = "UINT8" if tensor.dtype == torch.uint8 else "FP32"
            sent.append(grpcclient.InferInput(name, tensor.shape, datatype))
            sent[-1].set_data_from_numpy(tensor.numpy())
        answer = client.infer(model, sent, client_timeout=60)
        return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}


def torch_facefilter(mixture: torch.Tensor, face: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    stft, identity, separator, griffin_lim = (
        served_module(model_named(f"facefilter_{part}"), WEIGHTS)
        for part in ("stft", "identity", "separator", "griffin_lim")
    )
    magnitude, spectrum = stft(mixture)
    separated, attention = separator(magnitude, identity(face))
    return griffin_lim(separated, spectrum), attention


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_served_model_answers_as_torch_does(server: EmbeddedTriton, model: Model) -> None:
    module = served_module(model, WEIGHTS)
    for samples in (SHORT_SAMPLES, LONG_SAMPLES) if is_dynamic(model.inputs) else (SHORT_SAMPLES,):
        inputs = sample_inputs(model, batch=2, seed=11, samples=samples)
        with torch.no_grad():
            wanted = module(*inputs.values())
        found = infer(server, model.name, inputs)
        for tensor, value in zip(model.outputs, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            assert float(value.std()) > 0, "a constant answer would prove nothing"
            assert relative_error(found[tensor.name], value.numpy()) <= TOLERANCES[tensor.name]


def test_the_separation_ensemble_is_the_torch_pipeline(server: EmbeddedTriton) -> None:
    inputs = sample_inputs(model_named("facefilter_stft"), batch=1, seed=3)
    face = sample_inputs(model_named("facefilter_identity"), batch=1, seed=3)["face"]
    found = infer(server, "facefilter", {"mixture": inputs["waveform"], "face": face})
    with torch.no_grad():
        speech, attention = torch_facefilter(inputs["waveform"], face)
    assert relative_error(found["speech"], speech.numpy()) < 5e-3
    assert relative_error(found["attention"], attention.numpy()) < 1e-4


def test_a_face_and_its_identity_give_the_same_voice(server: EmbeddedTriton) -> None:
    mixture = sample_inputs(model_named("facefilter_stft"), batch=1, seed=4)["waveform"]
    face = sample_inputs(model_named("facefilter_identity"), batch=1, seed=4)
    identity = torch.from_numpy(infer(server, "facefilter_identity", face)["identity"].copy())
    by_face = infer(server, "facefilter", {"mixture": mixture, **face})["speech"]
    by_identity = infer(server, "facefilter_enrolled", {"mixture": mixture, "identity": identity})["speech"]
    assert relative_error(by_identity, by_face) < 1e-4


def test_the_count_is_the_sum_of_the_density(server: EmbeddedTriton) -> None:
    inputs = sample_inputs(model_named("crowd_v"), batch=2, seed=5)
    found = infer(server, "crowd_counting_vision", inputs)
    np.testing.assert_allclose(found["count"][:, 0], found["density"].sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["count"][:, 0], found["patch_counts"].sum(1), rtol=1e-4)
    np.testing.assert_allclose(found["patch_importance"].sum(1), 1, rtol=1e-4)
    assert (found["density"] >= 0).all()


@pytest.mark.slow
def test_torchscript_answers_as_onnxruntime_does(repository: Path, server: EmbeddedTriton) -> None:
    mixture = sample_inputs(model_named("facefilter_stft"), batch=1, seed=6)["waveform"]
    face = sample_inputs(model_named("facefilter_identity"), batch=1, seed=6)["face"]
    picture = sample_inputs(model_named("crowd_v"), batch=1, seed=6)["picture"]
    sound = sample_inputs(model_named("crowd_log_mel"), batch=1, seed=6)["sound"]
    requests = {
        "facefilter": {"mixture": mixture, "face": face},
        "crowd_counting": {"picture": picture, "sound": sound},
        "crowd_counting_vision": {"picture": picture},
    }
    with EmbeddedTriton(repository, target="torchscript") as other:
        assert set(other.models) == {part.name for part in (*MODELS, *ENSEMBLES)}
        for ensemble, inputs in requests.items():
            wanted, found = infer(server, ensemble, inputs), infer(other, ensemble, inputs)
            assert set(wanted) == set(found)
            for name, value in wanted.items():
                assert relative_error(found[name], value) < 5e-3, (ensemble, name)


@pytest.mark.parametrize("number", [2, 3], ids=["man_from_woman", "woman_from_man"])
def test_the_command_line_brings_out_the_voice_of_the_face(
    root: Path, server: EmbeddedTriton, samples: Path, tmp_path: Path, number: int
) -> None:
    mixture = samples / f"mixture_{number}.wav"
    face = samples / f"portrait_{number}.png"
    words = ["separate", mixture, "--face", face, "--output", tmp_path, "--url", server.grpc_url, "--json"]
    done = run_avedge(root, *words)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["outputs"]
    voice, rate_hz = soundfile.read(next(tmp_path.glob("*.wav")), dtype="float64")
    mixed, mixed_rate_hz = soundfile.read(mixture, dtype="float64")
    target, _ = soundfile.read(samples / f"target_{number}.wav", dtype="float64")
    assert (len(voice), rate_hz) == (len(mixed), mixed_rate_hz)
    gain_db = [float(sdr_db(torch.from_numpy(heard), torch.from_numpy(target))) for heard in (voice, mixed)]
    assert gain_db[0] - gain_db[1] > 2
    picture = cv2.imread(str(next(tmp_path.glob("*.png"))))
    assert picture is not None and picture.std() > 10


def test_the_command_line_counts_with_and_without_sound(
    root: Path, server: EmbeddedTriton, samples: Path, tmp_path: Path
) -> None:
    truth = {scene["number"]: scene["people"] for scene in json.loads((samples / "samples.json").read_text())["scenes"]}
    for sound in ([], ["--sound", samples / "scene_3.wav"]):
        words = ["count", samples / "scene_3.jpg", *sound, "--output", tmp_path, "--url", server.grpc_url, "--json"]
        done = run_avedge(root, *words, "--overwrite")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["result"]["model"] == ("crowd_counting" if sound else "crowd_counting_vision")
        assert abs(found["result"]["count"] - truth[3]) < 0.5 * truth[3]
    assert cv2.imread(str(next(tmp_path.glob("*.png")))) is not None


def test_a_proxy_does_not_stand_between_a_machine_and_itself(root: Path, server: EmbeddedTriton) -> None:
    done = run_avedge(
        root, "doctor", "--url", server.grpc_url, http_proxy="http://127.0.0.1:9", grpc_proxy="http://127.0.0.1:9"
    )
    assert done.returncode == 0, done.stdout


def test_doctor_finds_the_server_and_that_it_agrees(root: Path, server: EmbeddedTriton) -> None:
    done = run_avedge(root, "doctor", "--url", server.grpc_url, "--json")
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("separation", "counting by picture and sound", "counting by the picture"):
        assert checks[name]["ok"] and "as torch does with this release's weights" in checks[name]["detail"]


def test_doctor_without_a_server_says_so_and_fails(root: Path) -> None:
    done = run_avedge(root, "doctor", "--url", "127.0.0.1:9", "--json")
    assert done.returncode == 5
    assert "avedge serve" in done.stdout

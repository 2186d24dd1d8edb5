"""Nothing of a picture, a sound or a face is logged, cached on a disk or kept, unless it was asked for.

Noise goes through the real server by every command and by the library, with all logs at their most talkative. Then what
has come to be on the disk and in shared memory is searched for it; `test_the_search_finds_...` shows that it would be
found.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
import tritonclient.grpc as grpcclient
from deploy_files import read_compose
from toy_repository import add_doubling
from traces import Traces

from clients import (
    Connection,
    CrowdCounter,
    FaceIdentity,
    Portrait,
    SeparatedSpeech,
    SpeechBlock,
    SpeechSeparator,
)
from clients.transport.cancellation import Cancellation
from serve import commands as serve_commands
from serve.launcher import EmbeddedTriton
from serve.runtime import find_wheel, server_environment

SHM = Path("/dev/shm")
WORD = "qvxw"  # begins the names of all inputs, and nothing else
# `avedge` with a log of everything that anybody says, libraries too.
TALKATIVE = """
import logging, sys
logging.basicConfig(filename=sys.argv[1], level=logging.DEBUG)
import avedge
avedge.OUR_PACKAGES = ()  # or it would make ours less talkative
sys.exit(avedge.main(sys.argv[2:]))
"""


@dataclass
class Run:
    """One run of everything, and what was found meanwhile."""

    folder: Path
    traces: Traces
    private: dict[str, np.ndarray]  # what must be found nowhere
    said: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    before_enroll: set[str] = field(default_factory=set)  # files then
    held: set[str] = field(default_factory=set)  # found in shared memory while the server ran
    modes: set[int] = field(default_factory=set)  # of the server's shared memory
    scratch: dict[str, set[str]] = field(default_factory=dict)  # found in its scratch folder while it ran

    def results(self) -> set[str]:
        """Everything in the output folders."""
        return {str(path.relative_to(self.folder)) for path in files_below(self.folder / "out")}


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_inputs(folder: Path) -> dict[str, Path]:
    """Noise as a photo of a crowd, as a face's crop and as recordings, of sizes at which nothing is resized."""
    folder.mkdir()
    rng = np.random.default_rng(20_261_126)
    files = {name: folder / f"{WORD}_{name}" for name in ("face.png", "square.png", "talk.wav", "square.wav")}
    for name, size in (("face.png", (224, 224, 3)), ("square.png", (576, 1024, 3))):
        assert cv2.imwrite(str(files[name]), rng.integers(0, 256, size, np.uint8))
    for name, seconds in (("talk.wav", 3), ("square.wav", 2)):
        soundfile.write(files[name], rng.normal(0, 0.05, 16_000 * seconds), 16_000)
    return files


def learn(url: str, files: dict[str, Path]) -> dict[str, np.ndarray]:
    """What goes to the server and comes back, by asking once and listening in; and the files themselves."""
    # Files without their heads and ends, which are those of many.
    seen = {f"file {name}": np.frombuffer(path.read_bytes()[128:-128], np.uint8) for name, path in files.items()}
    seen |= {f"sound of {name}": soundfile.read(files[name], dtype="float32")[0] for name in ("talk.wav", "square.wav")}
    ask = Connection._infer

    def listen(self: Connection, model: str, inputs: Any, outputs: Any, cancellation: Cancellation) -> Any:
        answer = ask(self, model, inputs, outputs, cancellation)
        seen.update({f"{name} to {model}": np.array(value) for name, value in inputs.items()})
        seen.update({f"{name} of {model}": np.array(answer[name]) for name in ("speech", "identity") if name in answer})
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "_infer", listen)
        with SpeechSeparator(url) as separator, CrowdCounter(url) as counter:
            separator.separate(files["talk.wav"], files["face.png"], face_crop=True)
            identity = separator.enroll(files["face.png"], face_crop=True)
            seen["identity"] = identity.values
            counter.count(files["square.png"], files["square.wav"])
    wanted = {"mixture to facefilter", "face to facefilter", "picture to crowd_counting", "speech of facefilter"}
    assert wanted <= seen.keys()
    for gone in ("face to facefilter_identity", "identity of facefilter_identity"):  # the probe, which is no secret
        seen.pop(gone, None)
    return seen


def avedge(run: Run, name: str, environment: dict[str, str], *words: object) -> None:
    command = [sys.executable, "-c", TALKATIVE, run.folder / "logs" / f"{name}.log", *words]
    done = subprocess.run(
        [str(word) for word in command], cwd=run.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run.said[name] = done


def ask_everything(run: Run, url: str, files: dict[str, Path]) -> None:
    """Every command; first those that store no identity."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "GRPC_VERBOSITY": "debug"}
    shared = ("--url", url, "--json")
    face = ("--face", files["face.png"], "--face-crop")
    avedge(run, "separate", environment, "separate", files["talk.wav"], *face, "--output", "out/voice", *shared)
    sound = ("--sound", files["square.wav"], "--shared-memory", "always")
    avedge(run, "count", environment, "count", files["square.png"], *sound, "--output", "out/count", *shared)
    run.before_enroll = {str(path.relative_to(run.folder)) for path in files_below(run.folder)}
    avedge(run, "enroll", environment, "enroll", files["face.png"], "--face-crop", "--output", "out/people", *shared)
    identity = f"out/people/{WORD}_face.identity"
    words = (files["talk.wav"], "--identity", identity, "--output", "out/enrolled", *shared)
    avedge(run, "enrolled", environment, "separate", *words)


def look_at_the_living(run: Run, server: EmbeddedTriton) -> None:
    """Scratch folder and shared memory of the server while it runs."""
    (scratch,) = (run.folder / "temporary").glob("avedge-*")
    run.scratch = {str(path): run.traces.in_file(path) for path in files_below(scratch)}
    for region in SHM.glob(f"{scratch.name}*"):
        run.held |= run.traces.in_file(region)
        run.modes.add(stat.S_IMODE(region.stat().st_mode))


@pytest.fixture(scope="module")
def run(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    files = write_inputs(tmp_path_factory.mktemp("elsewhere") / "inputs")
    for name in ("home", "temporary", "logs", "out"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("TMPDIR", str(folder / "temporary"))
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR"):
            patch.delenv(name, raising=False)
        patch.setattr(tempfile, "tempdir", None)  # read TMPDIR anew
        logged = logging.FileHandler(folder / "logs" / "library.log")
        root = logging.getLogger()
        level = root.level
        root.addHandler(logged)
        root.setLevel(logging.DEBUG)
        logging.getLogger("clients").debug("everything is heard")
        verbose = ("--log-verbose=3",)
        log_path = folder / "logs" / "server.log"
        try:
            with EmbeddedTriton(repository, log_path=log_path, more_options=verbose) as server:
                private = learn(server.grpc_url, files)
                run = Run(folder, Traces.of(private), private)
                ask_everything(run, server.grpc_url, files)
                look_at_the_living(run, server)
        finally:
            root.removeHandler(logged)
            root.setLevel(level)
            logged.close()
    return run


def log_texts(run: Run) -> dict[str, str]:
    logs = {path.name: path.read_text(errors="replace") for path in (run.folder / "logs").iterdir()}
    return logs | {f"{name}, standard error": done.stderr for name, done in run.said.items()}


FORMS = {
    "a part of the tensor": lambda values: b"x" * 5 + values.tobytes()[100:164] + b"y" * 3,
    "a NumPy file": lambda values: _written(lambda path: np.save(path, values), ".npy"),
    "hexadecimal": lambda values: b"sent " + values.tobytes()[64:128].hex().encode(),
    "hexadecimal with spaces": lambda values: values.tobytes()[64:128].hex(" ").encode(),
    "base64": lambda values: b'{"data": "' + base64.b64encode(values.tobytes()[:96]) + b'"}',
    "a list": lambda values: f"first values: {values.ravel()[:12].tolist()}".encode(),
    "NumPy's own print": lambda values: repr(values.ravel()[:900]).encode(),
    "NumPy's short print": lambda values: repr(values.ravel()).encode() if values.dtype == np.float32 else None,
    "rounded": lambda values: " ".join(f"{value:.4g}" for value in values.ravel()[50:80]).encode(),
    "float64": lambda values: values.astype(np.float64).tobytes()[:160] if values.dtype == np.float32 else None,
    "a WAV of 16 bits": lambda values: (
        _written(lambda path: soundfile.write(path, values, 16_000), ".wav")
        if values.ndim == 1 and len(values) > 1_024 and values.dtype == np.float32
        else None
    ),
    "a bitmap": lambda values: cv2.imencode(".bmp", values)[1].tobytes() if values.ndim == 3 else None,
    "divided by 255": lambda values: (values / np.float32(255)).tobytes()[:64] if values.dtype == np.uint8 else None,
}


def _written(write: Any, ending: str) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=ending) as file:
        write(file.name)
        return Path(file.name).read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_the_search_finds_values_in_every_form(run: Run, form: str) -> None:
    planted = {name: FORMS[form](values) for name, values in run.private.items() if not name.startswith("file")}
    assert any(planted.values())
    for name, content in planted.items():
        if content is not None:
            assert name in run.traces.in_content(content), (name, form)


def test_the_search_finds_copies_of_files_and_nothing_where_nothing_is(run: Run, root: Path) -> None:
    for name, values in run.private.items():
        if name.startswith("file"):
            assert name in run.traces.in_content(b"-" * 3 + values.tobytes()[1_000:9_000])
    for harmless in (root / "README.md", root / "train" / "weights" / "crowd_v.safetensors", Path(sys.executable)):
        assert run.traces.in_file(harmless) == set()


def test_the_search_finds_what_the_server_holds_while_it_runs_and_only_its_user_may_read_that(run: Run) -> None:
    assert {"mixture to facefilter", "picture to crowd_counting"} <= run.held
    assert run.modes == {0o600}


def test_results_are_what_was_asked_for_and_nothing_more(run: Run) -> None:
    asked = {
        "out/voice": (f"{WORD}_talk.voice.wav", f"{WORD}_talk.spectrogram.png", f".avedge/{WORD}_talk.separate.json"),
        "out/enrolled": (
            f"{WORD}_talk.voice.wav",
            f"{WORD}_talk.spectrogram.png",
            f".avedge/{WORD}_talk.separate.json",
        ),
        "out/count": (f"{WORD}_square.density.png", f"{WORD}_square.density.npy", f".avedge/{WORD}_square.count.json"),
        "out/people": (f"{WORD}_face.identity", f".avedge/{WORD}_face.enroll.json"),
    }
    assert run.results() == {f"{folder}/{name}" for folder, names in asked.items() for name in names}
    for record in (path for path in files_below(run.folder / "out") if path.parent.name == ".avedge"):
        assert run.traces.in_file(record) == set(), record
    for folder in ("voice", "enrolled", "count"):  # voice and density, and nothing of what they were made of
        for path in files_below(run.folder / "out" / folder):
            assert run.traces.in_file(path) <= {"speech of facefilter"}, path


def test_no_other_file_holds_any_of_it(run: Run) -> None:
    assert files_below(run.folder / "temporary") == []
    home = files_below(run.folder / "home")
    assert all("matplotlib" in path.parts for path in home), home  # its list of fonts
    for path in (*home, *files_below(run.folder / "logs")):
        assert run.traces.in_file(path) == set(), path
    assert {path: found for path, found in run.scratch.items() if found} == {}


def test_no_shared_memory_is_left(run: Run) -> None:
    names = [name for name in os.listdir(SHM) if name.startswith("avedge_client")]
    for region in (SHM / name for name in names):  # of other programs, maybe
        assert run.traces.in_file(region) == set()
    server = next(iter(run.scratch)).split("/temporary/")[1].split("/")[0]
    assert not list(SHM.glob(f"{server}*"))


def test_logs_say_nothing_of_values_and_name_no_files(run: Run) -> None:
    logs = log_texts(run)
    assert "facefilter" in logs["server.log"] and len(logs["server.log"]) > 100_000  # it did talk
    assert logs["library.log"].startswith("everything is heard") and logs["separate.log"] and logs["count.log"]
    for name, text in logs.items():
        assert run.traces.in_content(text.encode()) == set(), name
        assert WORD not in text, f"{name}: {next(line for line in text.splitlines() if WORD in line)}"


def test_json_holds_no_samples_no_pixels_and_no_identity(run: Run) -> None:
    for name, done in run.said.items():
        (line,) = done.stdout.splitlines()
        assert run.traces.in_content(line.encode()) == set(), name
        assert max(len(json.dumps(value)) for value in json.loads(line)["result"].values()) < 1_000


def test_an_identity_is_stored_by_enroll_alone_and_for_its_owners_eyes(run: Run) -> None:
    assert not [name for name in run.before_enroll if name.endswith(".identity")]
    (stored,) = run.folder.rglob("*.identity")
    assert stored.parent == run.folder / "out" / "people" and stat.S_IMODE(stored.stat().st_mode) == 0o600
    np.testing.assert_array_equal(FaceIdentity.load(stored).values, run.private["identity"])
    assert run.traces.in_file(stored) == {"identity"}


def test_what_is_printed_of_an_answer_holds_no_values() -> None:
    values = np.linspace(0.123456, 0.987654, 7, dtype=np.float32)
    picture = np.full((2, 2, 3), 123, np.uint8)
    for answer in (FaceIdentity(values, values, "digest", "1", "today"), SpeechBlock(0.0, values, values)):
        assert "0.123" not in repr(answer) and "array" not in repr(answer)
    assert "123" not in repr(Portrait(picture, None))
    shown = {one.name for one in fields(SeparatedSpeech) if one.repr}
    assert shown.isdisjoint({"speech", "mixture", "attention", "face", "model"})


def test_serve_without_a_cache_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Recorded(EmbeddedTriton):
        def start(self) -> EmbeddedTriton:
            asked.append(self._cache_options(Path("caches")))
            raise KeyboardInterrupt

    monkeypatch.setattr("serve.launcher.EmbeddedTriton", Recorded)
    for words in ([], ["--no-cache"]):
        parser = argparse.ArgumentParser()
        serve_commands.add_arguments(parser)
        assert serve_commands.run(parser.parse_args(words)) == 0
    assert len(asked[0]) == 2 and asked[1] == []


def executions_of(client: grpcclient.InferenceServerClient) -> int:
    return int(client.get_inference_statistics("cached").model_stats[0].execution_count)


def test_a_server_without_a_cache_keeps_no_answers(tmp_path: Path) -> None:
    add_doubling(tmp_path, "cached", extra="response_cache { enable: true }")
    values = np.ones((1, 4), np.float32)
    with (
        EmbeddedTriton(tmp_path, stop_timeout_s=0, cache_bytes=0) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        executions = [executed := executions_of(client)]
        for _ in range(3):
            tensor = grpcclient.InferInput("x", values.shape, "FP32")
            tensor.set_data_from_numpy(values)
            np.testing.assert_array_equal(client.infer("cached", [tensor]).as_numpy("y"), 2 * values)
            deadline = time.monotonic() + 20  # Triton counts a moment after it answers
            while executed == executions[-1] and time.monotonic() < deadline:
                executed = executions_of(client)
            executions.append(executed)
        counted = client.get_inference_statistics("cached", as_json=True)["model_stats"][0]
    assert np.diff(executions).tolist() == [1, 1, 1]
    assert "count" not in counted["inference_stats"]["cache_hit"]


def test_onnx_runtime_tells_nobody_anything(root: Path) -> None:
    assert server_environment(find_wheel())["ORT_DISABLE_TELEMETRY"] == "1"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    for package in ("export", "perf"):
        program = f"import os, {package}; print(os.environ['ORT_DISABLE_TELEMETRY'])"
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "1\n"
    assert read_compose()["services"]["triton"]["environment"]["ORT_DISABLE_TELEMETRY"] == "1"

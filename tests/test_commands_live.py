"""The commands with a server: what they share, seen through real work."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from fake_triton import FakeTriton, crowd_of, same_voice, serving
from matplotlib import cbook

if TYPE_CHECKING:
    from serve.launcher import EmbeddedTriton

PORTRAIT = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
DENSITY = np.full((72, 128), 0.001, np.float32)


@pytest.fixture
def fake() -> FakeTriton:
    return FakeTriton({"facefilter": same_voice, "crowd_counting_vision": crowd_of(DENSITY)})


@pytest.fixture
def url(fake: FakeTriton) -> Iterator[str]:
    with serving(fake) as address:
        yield address


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", np.random.default_rng(0).normal(0, 0.1, 160_000), 16_000)
    return tmp_path / "talk.wav"


def start(root: Path, *words: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "avedge", *map(str, words)]
    usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": root}
    return subprocess.Popen(command, **(usual | options))


def run(root: Path, *words: object, **options: Any) -> tuple[int, list[dict[str, Any]], str]:
    process = start(root, *words, "--json", **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_waits_for_the_server_ends_within_two_seconds(
    root: Path, tmp_path: Path, fake: FakeTriton, url: str, recording: Path, number: signal.Signals, code: int
) -> None:
    fake.delay_s = 6
    process = start(root, "separate", recording, "--face", PORTRAIT, "--url", url, "-o", tmp_path / "out")
    deadline = time.monotonic() + 30
    while not fake.most_in_flight and time.monotonic() < deadline:
        time.sleep(0.05)
    sent = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code and time.monotonic() - sent < 2.5
    assert "Traceback" not in err and list((tmp_path / "out").iterdir()) == []


def test_a_voice_that_finds_no_room_leaves_nothing(root: Path, tmp_path: Path, url: str, recording: Path) -> None:
    """RLIMIT_FSIZE stands for a disk that fills up."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    words = ("separate", recording, "--face", PORTRAIT, "--url", url, "-o", tmp_path / "out")
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    code, (said,), err = run(root, *words, preexec_fn=limit, env=environment)
    assert code == 8 and said["error"]["kind"] == "OutputFailed" and "File too large" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_is_counted_by_two_jobs_and_not_again(
    root: Path, tmp_path: Path, samples: Path, server: EmbeddedTriton
) -> None:
    photos = tmp_path / "photos" / "square"
    photos.mkdir(parents=True)
    for number in (1, 2, 3):
        (photos / f"{number}.jpg").write_bytes((samples / f"scene_{number}.jpg").read_bytes())
    words = ("count", tmp_path / "photos", "--url", server.grpc_url, "-o", tmp_path / "out")
    code, first, err = run(root, *words, "--jobs", 2)
    assert code == 0, err
    assert {one["status"] for one in first} == {"done"} and len(first) == 3
    assert (tmp_path / "out" / "square" / "3.density.npy").is_file()
    began = time.monotonic()
    code, second, _ = run(root, *words)
    assert code == 0 and time.monotonic() - began < 60
    assert sorted(second, key=str) == sorted([one | {"status": "skipped"} for one in first], key=str)
    code, third, err = run(root, *words, "--flip")
    assert code == 3 and err.count("is there already, made with another --flip") == 3


def test_standard_input_is_separated(root: Path, tmp_path: Path, url: str, recording: Path) -> None:
    words = ("separate", "-", "--face", PORTRAIT, "--url", url, "-o", tmp_path / "out")
    with recording.open("rb") as file:
        code, (said,), err = run(root, *words, stdin=file)
    assert code == 0, err
    assert said["input"] == "stdin" and (tmp_path / "out" / "stdin.voice.wav").is_file()
    code, (said,), err = run(root, *words, stdin=subprocess.DEVNULL)
    assert code == 4 and "Standard input is empty" in err
    with (root / "README.md").open("rb") as file:  # no recording: the message calls it by its name
        code, (said,), err = run(root, *words, "--overwrite", stdin=file)
    assert code == 4 and said["error"]["seen"].startswith("stdin begins with") and str(tmp_path) not in err

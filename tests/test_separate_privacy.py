"""Nothing of a person is kept, logged or left behind unless it was asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import soundfile
from fake_triton import FakeTriton, same_voice, serving
from separation_parts import PORTRAIT, fake_separation, noise

ROOT = Path(__file__).resolve().parents[1]


class Watched:
    """A home, a folder for temporary files, a working and an output folder, all empty, and who uses them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = {name: folder / name for name in ("home", "tmp", "work", "out")}
        for place in self.places.values():
            place.mkdir()
        (folder / "in").mkdir()
        self.recording = folder / "in" / "talk.wav"
        soundfile.write(self.recording, noise(600_000), 16_000)

    def start(self, *words: object) -> subprocess.Popen[str]:
        home, temporary = str(self.places["home"]), str(self.places["tmp"])
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "AVEDGE_"))},
            "HOME": home,
            "TMPDIR": temporary,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MPLCONFIGDIR": str(self.folder / "fonts"),  # matplotlib's list of fonts
        }
        command = [sys.executable, "-m", "avedge", *map(str, words)]
        return subprocess.Popen(
            command, cwd=self.places["work"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def files(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.folder))
            for place in self.places.values()
            for path in place.rglob("*")
            if not path.is_dir()
        )


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.fixture
def fake() -> FakeTriton:
    return fake_separation()


@pytest.fixture
def url(fake: FakeTriton) -> Iterator[str]:
    with serving(fake) as address:
        yield address


def test_only_the_results_are_there_afterwards_and_before_that_only_in_their_folder(
    watched: Watched, fake: FakeTriton, url: str
) -> None:
    during: set[str] = set()

    def looking(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        during.update(watched.files())
        return same_voice(inputs)

    fake.answers["facefilter"] = looking
    process = watched.start(
        "separate", watched.recording, "--face", PORTRAIT, "--url", url, "-o", watched.places["out"]
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert during and all(name.startswith("out/.avedge-") for name in during)
    assert watched.files() == ["out/.avedge/talk.separate.json", "out/talk.spectrogram.png", "out/talk.voice.wav"]
    record = (watched.places["out"] / ".avedge" / "talk.separate.json").read_text()
    assert len(record) < 3_000 and "grace_hopper" not in record and "identity_values" not in record
    assert "grace_hopper" not in out + err


def test_enrolling_keeps_the_identity_and_nothing_else(watched: Watched, url: str) -> None:
    process = watched.start("enroll", PORTRAIT, "--url", url, "-o", watched.places["out"])
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert watched.files() == ["out/.avedge/grace_hopper.enroll.json", "out/grace_hopper.identity"]


def test_a_failure_leaves_nothing(watched: Watched, fake: FakeTriton, url: str) -> None:
    answers = iter(range(100))

    def failing(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if next(answers) == 2:
            fake.failures += [(grpc.StatusCode.INTERNAL, "broken")] * 20
        return same_voice(inputs)

    fake.answers["facefilter"] = failing
    process = watched.start(
        "separate", watched.recording, "--face", PORTRAIT, "--url", url, "-o", watched.places["out"]
    )
    process.communicate(timeout=60)
    assert process.returncode == 6 and watched.files() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_an_end_from_outside_leave_nothing(
    watched: Watched, fake: FakeTriton, url: str, number: signal.Signals, code: int
) -> None:
    fake.delay_s = 3.0  # longer than it takes to see that it began
    words = ["separate", watched.recording, "--face", PORTRAIT, "--url", url, "-o", watched.places["out"]]
    process = watched.start(*words)
    deadline = time.monotonic() + 60
    while not any("scratch" in name or ".part" in name for name in watched.files()):
        assert time.monotonic() < deadline and process.poll() is None, "it never began to write"
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert watched.files() == []

"""The README's commands are run as they stand, and what it shows exists."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_crowds import write_shanghaitech_pictures
from tiny_librispeech import write_tiny_librispeech

# The long ones with so little data and so few steps that they end in seconds; everything else runs as printed.
SHORTENED = {
    "avedge synthesize talkers": "--talkers 4 --val-talkers 4 --test-talkers 4",
    "avedge prepare librispeech": "--held-out 4 --validation 4 --variants 1",
    "avedge mix": "--per-subset 2 --val 4",
    "avedge synthesize scenes": "--scenes 8",
    "avedge train identity": "-- --fit.steps=1 --speakers_per_batch=2",
    "avedge train facefilter": "-- --fit.steps=1 --face_variants=1",
    "avedge train crowd": "-- --fit.steps=1",
    "avedge evaluate facefilter": "--limit 8",
    "avedge evaluate identity": "--pieces 1",
    "avedge perf": "--window-s 0.5 --concurrency 1",
}
NOT_RUN_HERE = {"make test": "this is it", "make demo": "its recipe, `avedge demo`, is run instead"}


def commands(readme: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", readme, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line[2:].split("  #")[0].strip() for line in lines]


def shortened(command: str) -> str:
    extra = next((flags for start, flags in SHORTENED.items() if command.startswith(start)), "")
    return f"{command} {extra}".strip()


@pytest.fixture
def workplace(root: Path, repository: Path, tmp_path: Path) -> Path:
    """A folder as a newcomer's clone looks to the commands; weights are written to a copy."""
    for name in ("model_repository", "perf"):
        (tmp_path / name).symlink_to(root / name)
    weights = tmp_path / "train" / "weights"
    weights.mkdir(parents=True)
    (tmp_path / "train" / "configs").symlink_to(root / "train" / "configs")
    for file in (root / "train" / "weights").glob("*.safetensors"):
        (weights / file.name).write_bytes(file.read_bytes())
    write_tiny_librispeech(tmp_path / "LibriSpeech")
    for part in ("part_A", "part_B"):
        write_shanghaitech_pictures(tmp_path / "data" / "ShanghaiTech" / part / "train_data", 4)
    rng = np.random.default_rng(0)
    for name in ("ambient/street.wav", "ambient/market.wav", "speech/ann/1.wav", "speech/bob/1.wav"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 16 * 16_000), 16_000)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_readme_works(root: Path, workplace: Path) -> None:
    found = commands((root / "README.md").read_text())
    assert {"make demo", "make test", "avedge serve"} <= set(found)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    servers: list[subprocess.Popen[str]] = []
    try:
        for command in ["avedge demo --no-perf", *found]:
            if command in NOT_RUN_HERE:
                continue
            if command == "avedge serve":
                servers.append(_serve(workplace, environment))
                continue
            words = shlex.split(shortened(command))
            done = subprocess.run(words, cwd=workplace, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
        for program in re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), flags=re.DOTALL):
            subprocess.run([sys.executable, "-c", program], cwd=workplace, env=environment, check=True)
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    assert (workplace / "demo" / "report.md").read_text().count("![") == 8


def _serve(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        ["avedge", "serve"], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert server.stdout is not None
    line = server.stdout.readline()  # one line when every model is ready
    assert "8001" in line, line
    return server


def test_what_the_readme_points_to_is_there(root: Path) -> None:
    for document in (root / "README.md", *(root / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} points to {link}"


def test_every_flag_in_the_readme_exists(root: Path) -> None:
    for command in commands((root / "README.md").read_text()):
        words = shlex.split(command)
        if words[0] != "avedge":
            continue
        kind = words[1:3] if words[1] in ("train", "evaluate", "synthesize", "prepare", "perf") else words[1:2]
        help_text = subprocess.run(
            [sys.executable, "-m", "avedge", *kind, "--help"], cwd=root, capture_output=True, text=True, check=True
        ).stdout
        for word in words:
            if word.startswith("--") and len(word) > 2:
                assert word.split("=")[0] in help_text, f"{word} of {command}"

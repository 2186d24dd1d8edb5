"""Files that promise far more than they hold are refused at once, before memory is taken, and by one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from media_bombs import write_bombs

MOST_CPU_S = 0.2
MOST_MB = 64

SENTENCES = {
    "head_65500x65500.png by load_picture": "is 65500x65500 pixels",
    "real_30000x30000.png by load_picture": "is 30000x30000 pixels",
    "line_1x1000000000.png by load_picture": "is 1x1000000000 pixels",
    "promise_7000x7000.png by load_picture": "promises 7000x7000 pixels in 65 bytes",
    "animated.png by load_picture": "is an animation of 100,000 pictures",
    "animated.gif by load_picture": "which is neither JPEG nor PNG",
    "animated.webp by load_picture": "which is neither JPEG nor PNG",
    "head_65500x65500.jpg by load_picture": "is 65500x65500 pixels",
    "promise_7000x7000.jpg by load_picture": "promises 7000x7000 pixels in",
    "thousand_scans.jpg by load_picture": "goes over its pixels 1,00",
    "channels_65535.wav by load_sound": "has 65535 channels",
    "four_gibibytes.wav by load_sound": "promises 4294967294 bytes of sound, it holds 3200",
    "rate_1_hz.wav by load_sound": "sample rate of 1 Hz",
    "rate_10_mhz.wav by load_sound": "sample rate of 10000000 Hz",
    "million_chunks.wav by load_sound": "more than 1000 chunks",
    "adpcm.wav by load_sound": "is a WAV of type IMA_ADPCM",
    "24_hours_of_silence.flac by load_sound": "holds 24.0 h in",
    "24_hours_of_silence.flac by listen": "holds 24.0 h in",
    "25_hours_by_its_head.flac by listen": "is 25.0 h long",
    "says_16384x16384.mp4 by watch": "is 16384x16384 pixels",
    "real_16000x16000.mov by watch": "is 16000x16000 pixels",
    "hidden_16000x16000.mov by watch": "holds no picture that can be decoded",
    "million_per_second.mp4 by watch": "pictures per second",
    "samples_of_one_size.mp4 by watch": "has 4,294,967,280 samples",
    "samples_in_a_run.mp4 by watch": "has 4,294,967,280 samples",
    "million_within_each_other.mp4 by watch": "has boxes within boxes without an end",
    "empty.wav by load_sound": "is empty",
    "empty.png by load_picture": "is empty",
    "empty.mp4 by watch": "is empty",
    "folder.wav by load_sound": "is a folder",
    "pipe.wav by load_sound": "is a device or a pipe",
    "zero.wav by load_sound": "is a device or a pipe",
    "loop.wav by load_sound": "cannot be opened: Too many levels of symbolic links",
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[str, Any]:
    """What was said of every file, and at what cost."""
    folder = tmp_path_factory.mktemp("bombs")
    write_bombs(folder)
    command = [sys.executable, "tests/media_bombs.py", folder]
    done = subprocess.run(
        command, cwd=root, env={"PYTHONPATH": "."}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", SENTENCES)
def test_it_is_said_what_is_wrong(refusals: dict[str, Any], name: str) -> None:
    seen, *rest = refusals[name]["said"].splitlines()
    assert SENTENCES[name] in seen and name.partition(" by ")[0] in seen
    assert [line.split(":")[0].strip() for line in rest] == ["wanted", "why", "do"]


def test_all_of_them_are_refused_at_once_and_in_little_memory(refusals: dict[str, Any]) -> None:
    costs = {name: (one["cpu_s"], one["grown_mb"]) for name, one in refusals.items()}
    assert {name for name, one in refusals.items() if one["said"] == "nothing"} == set()
    assert {name: cost for name, cost in costs.items() if cost[0] > MOST_CPU_S or cost[1] > MOST_MB} == {}


def test_the_measurement_sees_memory(tmp_path: Path, root: Path) -> None:
    """Large files that are right: the limits would show if they were passed."""
    code = (
        "import numpy, sys; from pathlib import Path; sys.path.insert(0, 'tests'); import media_bombs as bombs\n"
        "print(bombs.measured(lambda path: numpy.ones(10_000_000), Path())['grown_mb'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert float(done.stdout) > MOST_MB

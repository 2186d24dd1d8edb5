"""Recordings of growing length and pictures of growing size through the clients: time, and memory on both sides."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile

from perf import media
from perf.errors import PerfError
from perf.memory import Watch
from train.environment import ROOT

RATE_HZ = 16_000
_FLOAT_BYTES = 4
_CHILD_S = 300.0
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]


@dataclass(frozen=True)
class Point:
    """One input; memory is None where it cannot be told."""

    name: str
    size: float  # seconds of a recording, pixels of a picture
    input_bytes: int  # as the client holds it: float32 samples, RGB pixels
    seconds: float  # from the file to the answer; median
    repeats: int
    requests: int  # that it was cut into
    client_bytes: int | None  # peak while it is asked for the first time, beyond what the process had before
    server_bytes: int | None  # peak of all its processes meanwhile
    held: bool = True  # whether the client holds the input as a whole; a recording goes from file to file

    @property
    def beyond_bytes(self) -> int | None:
        """What the client takes beside an input that it holds."""
        return None if self.client_bytes is None else self.client_bytes - (self.input_bytes if self.held else 0)


class Inputs:
    """Writes inputs of any size from the samples; content repeats.

    Args:
        samples: Folder with `mixture_*.wav`, `face_*.png`, `scene_*.jpg`, `scene_*.wav`.
        folder: Where they are written.

    Raises:
        PerfError: A kind of sample is missing (4).
    """

    def __init__(self, samples: Path, folder: Path) -> None:
        self._folder = folder
        mixtures = _samples(samples, "mixture_*.wav")
        self._talk = np.concatenate([media.read_sound(path, RATE_HZ) for path in mixtures])
        self._scene = cv2.imread(str(_samples(samples, "scene_*.jpg")[0]), cv2.IMREAD_COLOR)
        self.face, self.sound = _samples(samples, "face_*.png")[0], _samples(samples, "scene_*.wav")[0]

    def recording(self, seconds: float) -> Path:
        """A mono WAV of 16-bit integers at 16 kHz."""
        path = self._folder / f"{seconds:g}s.wav"
        if not path.exists():
            soundfile.write(path, np.resize(self._talk, round(seconds * RATE_HZ)), RATE_HZ, subtype="PCM_16")
        return path

    def picture(self, width: int, height: int) -> Path:
        """A JPEG that repeats a scene."""
        path = self._folder / f"{width}x{height}.jpg"
        if not path.exists():
            tall, wide, _ = self._scene.shape
            tiled = np.tile(self._scene, (-(-height // tall), -(-width // wide), 1))[:height, :width]
            cv2.imwrite(str(path), tiled, _QUALITY)
        return path


def sound_point(url: str, inputs: Inputs, seconds: float, smallest: float, repeats: int) -> Point:
    """One recording through `SpeechSeparator`, from file to file, in a process of its own.

    Raises:
        PerfError: The client gave no answer; its own exit code.
    """
    task = {
        "kind": "sound",
        "url": url,
        "small": str(inputs.recording(smallest)),
        "file": str(inputs.recording(seconds)),
        "face": str(inputs.face.resolve()),
        "voice": str(inputs.recording(seconds).with_suffix(".voice.wav")),
        "repeats": repeats,
    }
    return _point(f"{seconds:g} s", seconds, round(seconds * RATE_HZ) * _FLOAT_BYTES, url, task, held=False)


def picture_point(url: str, inputs: Inputs, size: tuple[int, int], smallest: tuple[int, int], repeats: int) -> Point:
    """One picture (width, height) through `CrowdCounter` at its own resolution, in a process of its own.

    Raises:
        PerfError: The client gave no answer; its own exit code.
    """
    task = {
        "kind": "picture",
        "url": url,
        "small": str(inputs.picture(*smallest)),
        "file": str(inputs.picture(*size)),
        "sound": str(inputs.sound.resolve()),
        "repeats": repeats,
    }
    width, height = size
    return _point(f"{width}x{height}", width * height, 3 * width * height, url, task)


def _point(name: str, size: float, input_bytes: int, url: str, task: dict[str, Any], *, held: bool = True) -> Point:
    with Watch(url) as watch:
        answer = _in_child(name, task)
    start, peak = answer["start_bytes"], answer["peak_bytes"]
    return Point(
        name=name,
        size=size,
        input_bytes=input_bytes,
        seconds=statistics.median(answer["seconds"]),
        repeats=len(answer["seconds"]),
        requests=answer["requests"],
        client_bytes=None if peak is None else max(0, peak - start),
        server_bytes=watch.peak,
        held=held,
    )


def _in_child(name: str, task: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "perf.scale_child", json.dumps(task)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_CHILD_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PerfError(
            f"{name} was not answered {task['repeats']} times within {_CHILD_S:.0f} s; wanted so many for a median. "
            "Leave that size out, or see what else the machine does.",
            exit_code=7,
        ) from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        raise PerfError(f"{name} gave no figures; the client said: {said}", exit_code=done.returncode)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _samples(folder: Path, pattern: str) -> Sequence[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise PerfError(
            f"No {pattern} in {folder.name!r}; inputs of every size are made of real samples. Run `avedge demo`, "
            "which makes them, or give a folder with --samples.",
            exit_code=4,
        )
    return found

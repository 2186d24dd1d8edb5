"""Real recordings and photographs go the whole way; the weights know drawings, so the path is what is judged."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile

from serve.launcher import EmbeddedTriton

# Two people of the GRID corpus, a woman and a man.
TARGET, INTERFERER = "grid_brbk7n", "grid_swiz3n"
PICTURES = (
    "part_A/train_data/images/IMG_1.jpg",
    "part_A/train_data/images/IMG_100.jpg",
    "part_B/train_data/images/IMG_1.jpg",
)


def avedge(root: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avedge", *map(str, words)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def mixture(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both at 0 dB, as long as the shorter one."""
    with (shared_data / "faces" / "clips.csv").open() as file:
        people = {row["clip"]: row["person"] for row in csv.DictReader(file)}
    assert people[TARGET] != people[INTERFERER]
    voices = [soundfile.read(shared_data / "faces" / f"{clip}.flac") for clip in (TARGET, INTERFERER)]
    length = min(len(voice) for voice, _ in voices)
    levelled = [voice[:length] / np.sqrt(np.mean(voice[:length] ** 2)) for voice, _ in voices]
    path = tmp_path_factory.mktemp("real") / "mixture.wav"
    soundfile.write(path, 0.05 * sum(levelled), voices[0][1], subtype="FLOAT")
    return path


@pytest.mark.parametrize("face", [f"{TARGET}_face1.jpg", f"{TARGET}.mpg"], ids=["face_crop", "whole_frame"])
def test_a_real_mixture_is_separated_by_a_crop_and_by_a_whole_frame(
    root: Path, server: EmbeddedTriton, shared_data: Path, mixture: Path, tmp_path: Path, face: str
) -> None:
    photo = shared_data / "faces" / face
    done = avedge(root, "separate", mixture, "--face", photo, "--output", tmp_path, "--url", server.grpc_url, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    voice, rate_hz = soundfile.read(tmp_path / "mixture.voice.wav")
    mixed, mixed_rate_hz = soundfile.read(mixture)
    assert (len(voice), rate_hz) == (len(mixed), mixed_rate_hz)
    assert np.isfinite(voice).all() and 0.1 < np.std(voice) / np.std(mixed) < 1.1
    assert 60 < result["face_box"]["width"] < 220  # GRID's faces are about 130 of 360 pixels, crops about 160 of 224


def test_a_video_gives_both_its_sound_and_its_face(
    root: Path, server: EmbeddedTriton, shared_data: Path, tmp_path: Path
) -> None:
    clip = shared_data / "faces" / f"{TARGET}.mpg"
    done = avedge(root, "separate", clip, "--output", tmp_path, "--url", server.grpc_url, "--json")
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / f"{TARGET}.spectrogram.png")) is not None


def test_real_crowds_are_counted(root: Path, server: EmbeddedTriton, shared_data: Path, tmp_path: Path) -> None:
    for picture in PICTURES:
        path = shared_data / "crowd" / picture
        done = avedge(root, "count", path, "--output", tmp_path, "--url", server.grpc_url, "--json", "--overwrite")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)["result"]
        density = np.load(next(tmp_path.glob(f"{path.stem}.density.npy")))
        assert result["model"] == "crowd_counting_vision" and result["count"] >= 0
        assert density.shape[1] / density.shape[0] == pytest.approx(_aspect(path), rel=0.05)


def _aspect(path: Path) -> float:
    height, width = cv2.imread(str(path)).shape[:2]
    return float(width / height)


def test_two_faces_in_one_photo_are_not_guessed_between(
    root: Path, server: EmbeddedTriton, shared_data: Path, mixture: Path, tmp_path: Path
) -> None:
    pair = np.hstack([cv2.imread(str(shared_data / "faces" / f"{clip}_face1.jpg")) for clip in (TARGET, INTERFERER)])
    photo = tmp_path / "pair.png"
    cv2.imwrite(str(photo), pair)
    words = ["separate", mixture, "--face", photo, "--output", tmp_path / "out", "--url", server.grpc_url]
    done = avedge(root, *words)
    assert done.returncode == 4 and "2 faces were found" in done.stderr and "--face-index" in done.stderr
    assert not list((tmp_path / "out").glob("*"))
    assert avedge(root, *words, "--face-index", "1").returncode == 0

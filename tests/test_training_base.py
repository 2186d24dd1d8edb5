"""What all trainings share: weights on disk, settings, the loop."""

from __future__ import annotations

import logging
import pickle
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import small_training
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from train.batches import share
from train.benchmark import benchmark
from train.checkpoint import load_weights, read_options, save_weights
from train.errors import TrainError
from train.files import write_atomically
from train.fit import FitSettings, Learner, Prepared, fit, load_settings
from train.processes import check_precision


@dataclass(frozen=True)
class Example:
    """A config."""

    name: str
    fit: FitSettings = field(default_factory=lambda: FitSettings(steps=1))


def network(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width))


def test_weights_come_back_exactly_with_their_options(tmp_path: Path) -> None:
    path, saved, loaded = tmp_path / "a.safetensors", network(), network()
    nn.init.ones_(loaded[0].weight)
    save_weights(path, saved, model="a", options={"width": 3, "names": ["x"]})
    assert read_options(path, model="a") == {"width": 3, "names": ["x"]}
    load_weights(path, loaded, model="a")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_weights_of_another_model_or_shape_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, network(), model="a", options={})
    with pytest.raises(TrainError, match="holds 'a', wanted 'b'"):
        load_weights(path, network(), model="b")
    with pytest.raises(TrainError, match="does not fit the network"):
        load_weights(path, network(4), model="a")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path, broken = tmp_path / "a.safetensors", network()
    nn.init.constant_(broken[0].bias, float("nan"))
    save_weights(path, broken, model="a", options={})
    with pytest.raises(TrainError, match="NaN or infinity in 0.bias"):
        load_weights(path, network(), model="a")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainError, match="not a whole safetensors file"):
        load_weights(path, network(), model="a")
    with pytest.raises(TrainError, match="No weights at"):
        load_weights(tmp_path / "b.safetensors", network(), model="b")


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_in_the_place_of_weights_is_refused_and_not_run(tmp_path: Path) -> None:
    path, canary = tmp_path / "a.safetensors", tmp_path / "canary"
    path.write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(TrainError):
        load_weights(path, network(), model="a")
    assert not canary.exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_settings_are_typed_and_a_wrong_key_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("name: x\nfit:\n  steps: 7\n")
    assert load_settings(Example, config, ["--fit.seed=3"]) == Example("x", FitSettings(steps=7, seed=3))
    config.write_text("name: x\nfit:\n  stepps: 7\n")
    with pytest.raises(SystemExit):
        load_settings(Example, config)
    assert "stepps" in capsys.readouterr().err
    with pytest.raises(TrainError, match=r"fit\.steps 0; wanted at least 1"):
        FitSettings(steps=0)


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        ({"learning_rate": 0.0}, "a positive number"),
        ({"learning_rate": float("nan")}, "a positive number"),
        ({"ema_decay": 1.5}, "between 0 and 1"),
        ({"workers": -1}, "at least 0"),
        ({"devices": 0}, "at least 1"),
        ({"accumulate_batches": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_train_are_refused_by_name_and_with_what_is_wanted(
    wrong: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(TrainError, match=rf"Saw fit\.{next(iter(wrong))} .*; wanted {wanted}.*--fit\."):
        FitSettings(steps=5, **wrong)


def test_a_precision_that_the_device_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_precision("bf16-mixed")
    with pytest.raises(TrainError, match="16-mixed on a CPU; wanted one of 32-true, bf16-mixed"):
        check_precision("16-mixed")


class Line(Learner):
    """Learns y = 2 x."""

    def __init__(self, settings: FitSettings) -> None:
        super().__init__(settings)
        self.weight = nn.Parameter(torch.zeros(()))

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        return {"total": (self.weight * batch - 2 * batch).square().mean()}


class Noise:
    def batch(self, step: int, part: int, parts: int) -> Tensor:
        draw = torch.Generator().manual_seed(step)
        return torch.randn(16, generator=draw)[list(share(16, part, parts))]


def trained(steps: int, run_folder: Path, *, resume: bool = False) -> Line:
    settings = FitSettings(steps=steps, learning_rate=0.05, warmup_steps=5, ema_decay=0.9, validate_every_steps=50)
    learner = Line(settings)
    fit(Prepared(settings, learner, Noise(), [torch.ones(4)], run_folder), resume=resume)
    return learner


def test_the_loop_learns_a_line_and_leaves_log_and_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "train.fit"):
        learner = trained(150, tmp_path)
    assert learner.weight.item() == pytest.approx(2, abs=0.05)
    assert (tmp_path / "metrics.csv").is_file() and (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert "step 150/150" in caplog.text and "validation at step 150" in caplog.text


def test_a_resumed_run_goes_on_where_it_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(50, tmp_path)
    with caplog.at_level(logging.INFO, "train.fit"):
        trained(100, tmp_path, resume=True)
    assert "step 75/100" in caplog.text and "step 25/100" not in caplog.text
    logs = [(tmp_path / name).read_text() for name in ("metrics.1.csv", "metrics.csv")]
    assert ",49," in logs[0] and ",99," in logs[1]  # neither run's figures are lost


class Breaks(Line):
    """Its loss, or only its gradient, is no number at the third step."""

    def __init__(self, settings: FitSettings, *, gradient_only: bool) -> None:
        super().__init__(settings)
        self.gradient_only = gradient_only

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        total = super().losses(batch)["total"]
        if self.global_step == 2:
            zero = self.weight * 0
            total = total + (zero.sqrt() if self.gradient_only else zero / zero)  # the root's slope at 0 is infinite
        return {"total": total}


@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_loss_or_gradient_that_is_no_number_stops_before_it_is_learnt(tmp_path: Path, gradient_only: bool) -> None:
    settings = FitSettings(steps=5, validate_every_steps=2, log_every_steps=1)
    learner = Breaks(settings, gradient_only=gradient_only)
    what = "gradient's norm" if gradient_only else "loss"
    with pytest.raises(TrainError, match=rf"Saw nan as the {what} of step 3; wanted a number.*--resume"):
        fit(Prepared(settings, learner, Noise(), [torch.ones(4)], tmp_path))
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2 and torch.isfinite(learner.weight)


def test_every_validation_leaves_pictures_sounds_and_a_board(tmp_path: Path) -> None:
    small_training.trained(tmp_path)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    steps = ("0000002", "0000004", "0000006")
    assert names == [f"grey_{step}.png" for step in steps] + [f"tone_{step}.wav" for step in steps]
    assert cv2.imread(str(tmp_path / "samples" / "grey_0000002.png")).shape == (5, 7, 3)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert tags["images"] == ["grey"] and tags["audio"] == ["tone"]
    assert {"train/total", "val/total", "optimizer/gradient_norm", "optimizer/learning_rate"} <= set(tags["scalars"])
    assert {"pace/steps_per_s", "pace/wait_share"} <= set(tags["scalars"])
    rates = [event.value for event in board.Scalars("optimizer/learning_rate")]
    assert rates[:2] == pytest.approx([0.005, 0.01]) and rates[2:] == sorted(rates[2:], reverse=True)


def test_averaged_weights_are_the_exponential_average_and_leave_what_is_frozen(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Watched(small_training.SmallLearner):
        def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
            seen.append(self.net[0].weight.detach().clone())  # what the step before has made

    prepared = small_training.prepare(tmp_path)
    learner = Watched(prepared.config)
    frozen = learner.frozen.weight.clone()
    fit(replace(prepared, learner=learner))
    seen.append(small_training.checkpoint(tmp_path)["current_model_state"]["net.0.weight"])
    average = seen[1]
    for weight in seen[2:]:
        average = 0.5 * average + 0.5 * weight
    torch.testing.assert_close(learner.net[0].weight.detach(), average)
    assert torch.equal(learner.frozen.weight, frozen)


@dataclass(frozen=True)
class Slow(Noise):
    """Batches that take their time."""

    seconds: float

    def batch(self, step: int, part: int, parts: int) -> Tensor:
        time.sleep(self.seconds)
        return super().batch(step, part, parts)


def test_the_benchmark_finds_who_waits_for_whom(tmp_path: Path) -> None:
    settings = FitSettings(steps=10_000)
    slow = benchmark(Prepared(settings, Line(settings), Slow(0.05), [], tmp_path), 6)
    assert slow["items_per_step"] == 16 and slow["wait_share"] > 0.7
    assert slow["data_items_per_s"] == pytest.approx(16 / 0.05, rel=0.4)
    assert slow["step_items_per_s"] > 2 * slow["together_items_per_s"]
    ahead = benchmark(Prepared(settings, SlowLine(replace(settings, workers=1)), Slow(0.01), [], tmp_path), 6)
    assert ahead["wait_share"] < 0.3
    assert not list(tmp_path.iterdir())


class SlowLine(Line):
    """A step that takes its time."""

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        time.sleep(0.05)
        return super().losses(batch)

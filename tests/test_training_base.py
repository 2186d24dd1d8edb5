"""What all trainings share: weights on disk, settings, the loop."""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from train.batches import share
from train.checkpoint import load_weights, read_options, save_weights
from train.errors import TrainError
from train.files import write_atomically
from train.fit import FitSettings, Learner, Prepared, fit, load_settings


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
    with pytest.raises(TrainError, match="fit.steps 0"):
        FitSettings(steps=0)


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

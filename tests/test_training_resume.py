"""A training that is interrupted loses nothing: resumed it equals one that was not, whatever happened in between."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest
import torch
from small_training import checkpoint, prepare, rows, run, trained

from train.errors import OutputError, StoppedError, TrainError
from train.files import whole_file
from train.fit import fit
from train.resuming import settings_of


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight")
    trained(folder)
    return folder


def assert_same(one: Path, other: Path) -> None:
    torch.testing.assert_close(checkpoint(one), checkpoint(other), rtol=0, atol=0)


@pytest.mark.parametrize("asked", [3, 4])  # the loop reads one batch ahead: stopped after step 2, validated, and 3
@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_and_resumed_is_straight_bit_for_bit_and_row_for_row(
    straight: Path, tmp_path: Path, asked: int, workers: int
) -> None:
    with pytest.raises(StoppedError, match=f"Saw SIGTERM at step {asked - 1} of 6") as stopped:
        trained(tmp_path, signals={asked: signal.SIGTERM})
    assert stopped.value.exit_code == 143
    trained(tmp_path, resume=True, workers=workers)
    assert_same(straight, tmp_path)
    assert rows(tmp_path, "metrics.1.csv") + rows(tmp_path) == rows(straight)


def test_an_interrupt_from_the_keyboard_is_130(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError, match="SIGINT") as stopped:
        trained(tmp_path, signals={2: signal.SIGINT})
    assert stopped.value.exit_code == 130 and signal.getsignal(signal.SIGINT) is before


def test_a_killed_run_goes_on_from_its_last_checkpoint_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    code, _ = run({"run_folder": str(tmp_path), "signals": {5: signal.SIGKILL}, "checkpoint_every_minutes": 0})
    assert code == -signal.SIGKILL
    leftover = tmp_path / "checkpoints" / ".last.ckpt.1.tmp"
    leftover.write_bytes(b"half of a checkpoint that was being written")
    trained(tmp_path, resume=True)
    assert_same(straight, tmp_path)
    kept = [row for row in rows(tmp_path, "metrics.1.csv") if row["step"] in "012"]
    assert kept + rows(tmp_path) == rows(straight)  # the batch that killed it was made ahead: step 3 had been saved
    assert list(leftover.parent.iterdir()) == [leftover.with_name("last.ckpt")]


def test_a_finished_training_resumed_gives_its_averaged_weights_again(straight: Path) -> None:
    averages = checkpoint(straight)["state_dict"]
    torch.testing.assert_close(dict(trained(straight, resume=True).state_dict()), dict(averages), rtol=0, atol=0)


def test_accumulated_parts_are_resumed_at_whole_steps(tmp_path: Path) -> None:
    trained(tmp_path / "straight", accumulate_batches=2)
    with pytest.raises(StoppedError):
        trained(tmp_path / "cut", accumulate_batches=2, signals={3: signal.SIGTERM})
    trained(tmp_path / "cut", accumulate_batches=2, resume=True)
    assert_same(tmp_path / "straight", tmp_path / "cut")


def test_resume_without_a_checkpoint_says_so_and_begins(
    straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "train.fit"):
        trained(tmp_path, resume=True)
    assert "training starts from the beginning" in caplog.text
    assert_same(straight, tmp_path)


def test_a_checkpoint_of_another_config_is_refused_by_the_names_that_differ(straight: Path) -> None:
    before = checkpoint(straight)
    with pytest.raises(
        TrainError, match=r"another config.*fit\.learning_rate \(0\.01 there, 0\.5 here\), width \(8 th"
    ):
        trained(straight, resume=True, learning_rate=0.5, width=9)
    with pytest.raises(TrainError, match=r"shares \(1 there, 2 here\)"):
        trained(straight, resume=True, accumulate_batches=2)
    torch.testing.assert_close(checkpoint(straight), before, rtol=0, atol=0)


def test_places_logs_and_workers_are_no_part_of_what_is_trained(tmp_path: Path) -> None:
    one = settings_of(prepare(tmp_path).config)
    other = settings_of(prepare(tmp_path, workers=3, log_every_steps=9, devices=2, steps=99).config)
    assert one == other and one["fit.seed"] == 0 and one["width"] == 8
    assert settings_of({"run": tmp_path, "sources": [{"root": tmp_path, "share": 2.0}]}) == {"sources.0.share": 2.0}


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(TrainError, match=r"in .*last\.ckpt; wanted a checkpoint of this training"):
        trained(tmp_path, resume=True)


def test_a_full_disk_while_saving_leaves_the_old_checkpoint_and_nothing_else(straight: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        trained(tmp_path, signals={3: signal.SIGTERM})
    path = tmp_path / "checkpoints" / "last.ckpt"
    before = path.read_bytes()
    code, said = run({"run_folder": str(tmp_path), "resume": True}, file_limit=len(before) // 2)
    assert code == OutputError.exit_code == 8
    assert "File too large while writing" in said and "go on with --resume" in said and "Traceback" not in said
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
    trained(tmp_path, resume=True)
    assert_same(straight, tmp_path)


def test_a_writer_that_fails_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half of the n", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_longer_training_goes_on_from_a_finished_one(straight: Path, tmp_path: Path) -> None:
    trained(tmp_path)
    longer = prepare(tmp_path, steps=8)
    fit(longer, resume=True)
    assert [row["step"] for row in rows(tmp_path) if "train/total" in row] == ["6", "7"]

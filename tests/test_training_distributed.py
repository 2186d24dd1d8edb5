"""Several processes that share a batch train as one process does."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import ITEMS, SmallBatches, checkpoint, rows, run, trained

from train.batches import share
from train.errors import StoppedError, TrainError
from train.processes import trainer_layout

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds of loss, by two processes that Lightning starts."""
    folder = tmp_path_factory.mktemp("two")
    plain = {"run_folder": str(folder / "plain"), "devices": 2}
    matching = {"run_folder": str(folder / "matching"), "devices": 2, "matching": True, "normalised": False}
    code, said = run(plain, matching)
    assert code == 0, said
    assert said.count("step 6/6") == 2  # once each: the second process keeps quiet
    return folder


def assert_same_training(one: Path, other: Path) -> None:
    """Equal up to the order of a sum; running statistics and their averages are the first process's own."""

    def learnt(folder: Path) -> dict[str, Any]:
        saved = checkpoint(folder)
        for name in ("current_model_state", "state_dict"):
            saved[name] = {key: value for key, value in saved[name].items() if key.endswith(("weight", "bias"))}
        return saved

    torch.testing.assert_close(learnt(one), learnt(other), rtol=1e-5, atol=1e-6)


def test_shares_are_equal_neighbouring_and_whole_together() -> None:
    assert [list(share(6, part, 3)) for part in range(3)] == [[0, 1], [2, 3], [4, 5]]
    whole = SmallBatches({}).batch(3, 0, 1)
    assert torch.equal(torch.cat([SmallBatches({}).batch(3, part, 4) for part in range(4)]), whole)
    with pytest.raises(TrainError, match="8 items for 3 shares"):
        share(ITEMS, 0, 3)


def test_two_processes_equal_one_that_accumulates_two_parts(two_processes: Path, tmp_path: Path) -> None:
    """One that took the batch whole would normalise it by other statistics; parts are what processes see."""
    trained(tmp_path, accumulate_batches=2)
    assert_same_training(two_processes / "plain", tmp_path)
    norms = [
        [row["optimizer/gradient_norm"] for row in rows(folder) if "train/total" in row]
        for folder in (two_processes / "plain", tmp_path)
    ]
    torch.testing.assert_close(*(torch.tensor([float(norm) for norm in run]) for run in norms))


def test_a_loss_over_all_processes_equals_one_over_the_whole_batch(two_processes: Path, tmp_path: Path) -> None:
    trained(tmp_path, matching=True, normalised=False)
    assert_same_training(two_processes / "matching", tmp_path)


def test_torchrun_goes_on_from_one_process_that_accumulated(tmp_path: Path) -> None:
    trained(tmp_path / "straight", accumulate_batches=2)
    with pytest.raises(StoppedError):
        trained(tmp_path / "cut", accumulate_batches=2, signals={3: signal.SIGTERM})
    code, said = run({"run_folder": str(tmp_path / "cut"), "resume": True}, launcher=TORCHRUN)
    assert code == 0, said
    assert_same_training(tmp_path / "straight", tmp_path / "cut")
    assert (tmp_path / "cut" / "metrics.1.csv").is_file()


def test_torchruns_numbers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert trainer_layout("auto")["devices"] == 1 and trainer_layout(2)["strategy"] == "ddp"
    for name, value in {"RANK": 5, "WORLD_SIZE": 6, "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, str(value))
    layout = trainer_layout(1)
    assert (layout["devices"], layout["num_nodes"], layout["strategy"]) == (2, 3, "ddp")


def test_more_gpus_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(TrainError, match="Saw 1 GPUs; wanted 2"):
        trainer_layout(2)

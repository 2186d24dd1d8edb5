"""A training of a fraction of a second, with all that makes resuming and sharing hard: statistics, dropout, averages.

As a program, for tests of what happens to processes: small_training.py '[{"run_folder": "...", "resume": true}]'
"""

from __future__ import annotations

import csv
import json
import logging
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from train.batches import share
from train.errors import TrainError
from train.fit import FitSettings, Learner, Prepared, Shown, fit

ITEMS, FEATURES = 8, 4


@dataclass(frozen=True)
class SmallTraining:
    """A config."""

    fit: FitSettings
    width: int = 8
    matching: bool = False  # the loss compares every item with every other, of all processes
    normalised: bool = True


class SmallBatches:
    """Random inputs; may send its own process a signal when a step is asked for."""

    def __init__(self, signals: dict[int, int]) -> None:
        self.signals = signals

    def batch(self, step: int, part: int, parts: int) -> Tensor:
        """(ITEMS / parts, FEATURES)."""
        if step in self.signals:
            os.kill(os.getpid(), self.signals[step])
        rows = [
            np.random.default_rng([step, item]).normal(size=FEATURES).astype(np.float32)
            for item in share(ITEMS, part, parts)
        ]
        return torch.from_numpy(np.stack(rows))


class SmallLearner(Learner):
    """Learns the sum of its inputs."""

    def __init__(self, config: SmallTraining) -> None:
        super().__init__(config.fit)
        self.matching = config.matching
        norm = nn.BatchNorm1d(config.width) if config.normalised else nn.Identity()
        drop = nn.Dropout(0.0 if config.matching else 0.2)
        self.net = nn.Sequential(nn.Linear(FEATURES, config.width), norm, nn.ReLU(), drop, nn.Linear(config.width, 1))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        """Squared error; or cross-entropy of each answer with each truth."""
        answer, truth = self.net(batch)[:, 0], batch.sum(dim=1)
        if self.matching:
            answer, truth = self.of_all_processes(answer), self.of_all_processes(truth)
            scores = -(answer[:, None] - truth[None]).square()
            return {"total": nn.functional.cross_entropy(scores, torch.arange(len(answer)))}
        return {"total": (answer - truth).square().mean()}

    def show(self, batch: Tensor) -> Shown:
        """A grey picture and a tone."""
        grey = np.full((5, 7, 3), 128, np.uint8)
        return Shown({"grey": grey}, {"tone": np.sin(np.arange(160, dtype=np.float32))})


def prepare(
    run_folder: Path,
    *,
    signals: dict[int, int] | None = None,
    width: int = 8,
    matching: bool = False,
    normalised: bool = True,
    **changes: Any,
) -> Prepared[SmallLearner]:
    """A training of 6 steps, validated every 2."""
    values = {"steps": 6, "learning_rate": 0.01, "warmup_steps": 2, "ema_decay": 0.5, "log_every_steps": 1}
    config = SmallTraining(FitSettings(**{**values, "validate_every_steps": 2, **changes}), width, matching, normalised)
    torch.manual_seed(0)
    learner = SmallLearner(config)
    batches = SmallBatches(signals or {})
    return Prepared(config, learner, batches, [SmallBatches({}).batch(1000, 0, 1)], run_folder)


def trained(run_folder: Path, *, resume: bool = False, **changes: Any) -> SmallLearner:
    """Train; returns the learner with its averaged weights."""
    prepared = prepare(run_folder, **changes)
    fit(prepared, resume=resume)
    return prepared.learner


def run(*trainings: dict[str, Any], launcher: tuple[str, ...] = (), file_limit: int | None = None) -> tuple[int, str]:
    """Train in a process of its own; returns its exit code and what it said. No file may exceed `file_limit` bytes."""
    program = [sys.executable, *launcher, __file__, json.dumps(list(trainings))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}

    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    done = subprocess.run(
        program, capture_output=True, text=True, check=False, timeout=180, env=environment, preexec_fn=limit
    )
    return done.returncode, done.stderr


def checkpoint(run_folder: Path) -> dict[str, Any]:
    """The last checkpoint's weights, averages, optimiser and schedule."""
    path = run_folder / "checkpoints" / "last.ckpt"
    read = torch.load(path, weights_only=True)
    return {name: read[name] for name in ("current_model_state", "state_dict", "optimizer_states", "lr_schedulers")}


def rows(run_folder: Path, name: str = "metrics.csv", first_step: int = 0) -> list[dict[str, str]]:
    """The log from a step on, without what depends on the clock."""
    with (run_folder / name).open(newline="") as file:
        return [
            {key: value for key, value in row.items() if value and not key.startswith("pace/")}
            for row in csv.DictReader(file)
            if int(row["step"]) >= first_step
        ]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    for options in json.loads(sys.argv[1]):
        options["signals"] = {int(step): number for step, number in options.get("signals", {}).items()}
        try:
            trained(Path(options.pop("run_folder")), **options)
        except TrainError as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(error.exit_code)

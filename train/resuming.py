"""Checkpoints of a training: when they are written, whole or not at all, and which run may go on from them."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from train.errors import OutputError, StoppedError, TrainError
from train.files import whole_file
from train.learner import FREE_TO_CHANGE

log = logging.getLogger(__name__)
_SETTINGS = "avedge_settings"  # key of a checkpoint
_SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}  # and their exit codes


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that replace the old one when they are on the disk, not before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OutputError: no room or no permission; the old checkpoint is as it was.
        """
        try:
            with whole_file(Path(path)) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            reason = error if isinstance(error, OSError) else error.__context__  # torch hides what the file says
            if not isinstance(reason, OSError):
                raise
            raise OutputError(
                f"Saw {reason} while writing {path}; wanted room and permission for a checkpoint, without which a "
                "training cannot be taken up again. The one before it is as it was: make room, then go on with "
                "--resume."
            ) from error


def settings_of(config: Any) -> dict[str, Any]:
    """What decides what a training computes: the typed config as dotted names, without paths and `FREE_TO_CHANGE`."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            for name, inner in value.items():
                walk(f"{prefix}.{name}" if prefix else str(name), inner)
        elif isinstance(value, (list, tuple)):
            for number, inner in enumerate(value):
                walk(f"{prefix}.{number}", inner)
        elif not isinstance(value, Path) and prefix.rpartition(".")[2] not in FREE_TO_CHANGE:
            found[prefix] = value

    walk("", config)
    return found


def step_of(path: Path, settings: dict[str, Any]) -> int:
    """The step that a checkpoint was written at, if a run of these settings may go on from it.

    Raises:
        TrainError: damaged, or of a run with other settings, which are named.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        step, known = int(checkpoint["global_step"]), dict(checkpoint[_SETTINGS])
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise TrainError(
            f"Saw {type(error).__name__} in {path}; wanted a checkpoint of this training, from which alone it can go "
            "on. Train from the beginning (without --resume), or bring back the file."
        ) from error
    differing = [
        f"{name} ({known[name]} there, {settings[name]} here)"
        for name in sorted(known.keys() & settings.keys())
        if known[name] != settings[name]
    ]
    if differing:
        raise TrainError(
            f"Saw a checkpoint of another config in {path}: {', '.join(differing)}; wanted the same settings, because "
            "a training that changes them halfway is neither. Put them back, name another run folder, or train from "
            "the beginning (without --resume)."
        )
    return step


class Checkpoints(pl.Callback):
    """Saves at every validation, every so many minutes, at the end, and when the training is told to stop.

    A step is saved when the next one begins: then it is validated and its row of the log is written, and a run that
    goes on from there repeats nothing and leaves nothing out.
    """

    def __init__(self, path: Path, every_steps: int, every_minutes: float, settings: dict[str, Any]) -> None:
        self.path = path
        self.every_steps = every_steps
        self.every_s = every_minutes * 60
        self.settings = settings
        self.seen_step = 0
        self.saved_s = 0.0
        self.signal: int | None = None
        self.earlier: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals that ask for an end; Lightning's own handler would not save."""
        trainer.fit_loop.epoch_loop.restarting = False  # nothing is half done, see `on_load_checkpoint`
        self.seen_step, self.saved_s = trainer.global_step, time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self.earlier = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def on_train_batch_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Save the step before this one, if it is time."""
        if trainer.global_step > self.seen_step:  # else a part of a batch, whose gradient is still to be added to
            self.seen_step = trainer.global_step
            self._save_if(trainer, due=self.seen_step % self.every_steps == 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last step; there is one epoch."""
        self._save_if(trainer, due=True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the settings."""
        checkpoint[_SETTINGS] = self.settings

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Set Lightning's counters to the end of a step in the middle of the only epoch.

        They were saved as those of the next step, and the run before may have shared batches differently.
        """
        loops = checkpoint["loops"]["fit_loop"]
        batches = checkpoint["global_step"] * trainer.accumulate_grad_batches
        for counts in (loops["epoch_loop.batch_progress"]["total"], loops["epoch_loop.batch_progress"]["current"]):
            counts.update(ready=batches, started=batches, processed=batches, completed=batches)
        for counts in (loops["epoch_progress"]["total"], loops["epoch_progress"]["current"]):
            counts.update(ready=1, started=1, processed=0, completed=0)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self.earlier.items():
            signal.signal(number, handler)
        self.earlier = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Stop after this step; the second time at once."""
        self.signal = number
        signal.signal(number, self.earlier[number])

    def _save_if(self, trainer: pl.Trainer, due: bool) -> None:
        late = int(time.monotonic() - self.saved_s >= self.every_s)
        stop, late = _largest(trainer, self.signal or 0, late)
        if not (due or late or stop):
            return
        trainer.save_checkpoint(self.path, weights_only=False)
        self.saved_s = time.monotonic()
        if stop:
            step = trainer.global_step
            raise StoppedError(
                f"Saw {signal.Signals(stop).name} at step {step} of {trainer.max_steps}; the training has stopped "
                f"before its end, so there are no weights yet. It is saved in {self.path}: go on with --resume.",
                _SIGNALS[signal.Signals(stop)],
            )


def _largest(trainer: pl.Trainer, *values: int) -> list[int]:
    """The largest of every process's values: all must save together, or one would wait for ever."""
    if trainer.world_size == 1:
        return list(values)
    agreed = torch.tensor(values, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MAX)
    return agreed.tolist()

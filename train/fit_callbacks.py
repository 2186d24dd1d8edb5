"""What happens beside the steps of a training: averaged weights, seeds, log lines, a bar, samples."""

from __future__ import annotations

import io
import logging
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
import soundfile
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from train.batches import TimedLoader
from train.errors import OutputError
from train.files import write_atomically
from train.learner import Learner
from train.settings import SAMPLE_RATE_HZ

log = logging.getLogger("train.fit")
_SEED_BITS = 63  # torch takes seeds up to here


def averaged_weights(decay: float) -> WeightAveraging:
    """An exponential average of weights and buffers, updated at every step, used to validate, left in the learner.

    Every process averages its own copy of the same weights. Buffers (running statistics) are those of the first
    process, which DDP hands to the others. `lerp` leaves what is frozen exactly as it is.
    """
    return WeightAveraging(use_buffers=True, multi_avg_fn=get_ema_multi_avg_fn(decay))


class StepSeeds(pl.Callback):
    """Seeds torch for each step and share, so that dropout is the same after a resume or in another process."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Seed."""
        micro = trainer.accumulate_grad_batches
        share = trainer.global_rank * micro + index % micro
        state = np.random.SeedSequence([self.seed, trainer.global_step, share]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(state) >> (64 - _SEED_BITS))


class StepLog(pl.Callback):
    """A line every so many steps with losses, rate, time left and time lost to waiting; also for the loggers."""

    def __init__(self, every_steps: int, *, steps: bool, validations: bool) -> None:
        self.every_steps = every_steps
        self.steps, self.validations = steps, validations  # which lines are wanted

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note when and where this run began; a resumed one does not begin at zero."""
        self.started_s = time.monotonic()
        self.first_step = trainer.global_step
        self._begin_window(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *unused: Any) -> None:
        """Report."""
        step = trainer.global_step
        if step % self.every_steps or step == self.window_step:
            return
        now_s = time.monotonic()
        elapsed_s = now_s - self.window_s
        pace = (step - self.window_step) / elapsed_s
        wait = (_waited_s(trainer) - self.window_waited_s) / elapsed_s
        pl_module.log_dict({"pace/steps_per_s": pace, "pace/wait_share": wait})
        if self.steps:
            left_minutes = (trainer.max_steps - step) * (now_s - self.started_s) / (step - self.first_step) / 60
            losses = _line_of(trainer, "train/")
            log.info(
                "step %d/%d  %s  %.2f steps/s  waited %.0f %%  %.1f min left",
                *(step, trainer.max_steps, losses, pace, 100 * wait, left_minutes),
            )
        self._begin_window(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the validation scores; its time counts in no step's rate."""
        if self.validations:
            log.info("validation at step %d  %s", trainer.global_step, _line_of(trainer, "val/"))
        if trainer.global_step % self.every_steps == 0:
            self._begin_window(trainer)

    def _begin_window(self, trainer: pl.Trainer) -> None:
        self.window_step, self.window_s, self.window_waited_s = (
            trainer.global_step,
            time.monotonic(),
            _waited_s(trainer),
        )


def _waited_s(trainer: pl.Trainer) -> float:
    loader = trainer.train_dataloader
    return loader.waited_s if isinstance(loader, TimedLoader) else 0.0


def _line_of(trainer: pl.Trainer, prefix: str) -> str:
    """The latest values of what begins so, as `name value  name value`."""
    return "  ".join(
        f"{name[len(prefix) :]} {float(value):.4g}"
        for name, value in trainer.callback_metrics.items()
        if name.startswith(prefix)
    )


class StepBar(pl.Callback):
    """A bar with rate and time left, for a terminal; Lightning's own knows no end of endless batches."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw it."""
        self.bar = tqdm(total=trainer.max_steps, initial=trainer.global_step, unit=" steps", file=sys.stderr)

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Move it on."""
        if trainer.global_step > self.bar.n:
            self.bar.set_postfix_str(f"loss{_line_of(trainer, 'train/total')}", refresh=False)
            self.bar.update(trainer.global_step - self.bar.n)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the line to the validation's scores."""
        self.bar.clear()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the terminal as it was."""
        if hasattr(self, "bar"):
            self.bar.close()


class Samples(pl.Callback):
    """Pictures and sounds of the first validation batch, as files and in TensorBoard, at every validation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *unused: Any
    ) -> None:
        """Write them; the averaged weights are in the network now.

        Raises:
            OutputError: no room or no permission.
        """
        if batch_idx or not trainer.is_global_zero or not isinstance(pl_module, Learner):
            return
        step = trainer.global_step
        boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        with torch.no_grad():
            shown = pl_module.show(batch)
        try:
            for name, picture in shown.pictures.items():
                write_atomically(self.folder / f"{name}_{step:07d}.png", _png(picture))
                for board in boards:
                    board.add_image(name, picture, step, dataformats="HWC")
            for name, sound in shown.sounds.items():
                write_atomically(self.folder / f"{name}_{step:07d}.wav", _wav(sound))
                for board in boards:
                    board.add_audio(name, torch.from_numpy(sound), step, SAMPLE_RATE_HZ)
        except OSError as error:
            raise OutputError(
                f"Saw {error} while writing samples to {self.folder}; wanted room and permission, because checkpoints "
                "go to the same disk. The last checkpoint is whole: make room, then go on with --resume."
            ) from error


def _png(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def _wav(sound: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()

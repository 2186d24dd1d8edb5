"""The one way to train here: a Lightning loop with warm-up, cosine rate, averaged weights, logs and checkpoints."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import lightning.pytorch as pl
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from train.batches import Batches, Share, loader

log = logging.getLogger(__name__)
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class FitSettings:
    """How long and how hard to train."""

    steps: int  # optimiser steps
    learning_rate: float = 1e-3  # after the warm-up, before the cosine
    final_rate_ratio: float = 0.02  # of the learning rate, at the last step
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 5.0
    ema_decay: float = 0.998  # of the averaged weights, which are what is kept
    log_every_steps: int = 25
    validate_every_steps: int = 500
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    threads: int = 1  # torch threads
    workers: int = 0  # processes that make batches ahead; 0: the training makes them itself
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        if self.steps < 1 or self.learning_rate <= 0:
            raise ValueError(f"fit.steps ({self.steps}) and fit.learning_rate ({self.learning_rate}) must be positive")


class Learner(pl.LightningModule):
    """A network with its loss; subclasses say what a batch costs and how it is judged."""

    def __init__(self, settings: FitSettings) -> None:
        super().__init__()
        self.settings = settings

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Scalars of one training batch; the optimiser minimises `total`."""
        raise NotImplementedError

    def scores(self, batch: Any) -> dict[str, Tensor]:
        """Scalars of one validation batch, averaged over batches."""
        return self.losses(batch)

    def training_step(self, batch: Any, index: int) -> Tensor:
        """One step of Lightning's loop."""
        losses = self.losses(batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        return losses["total"]

    def validation_step(self, batch: Any, index: int) -> None:
        """One validation batch."""
        self.log_dict({f"val/{name}": value for name, value in self.scores(batch).items()}, batch_size=1)

    def configure_optimizers(self) -> Any:
        """AdamW on what requires a gradient; linear warm-up, then cosine to `final_rate_ratio`."""
        chosen = self.settings
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)

        def ratio(step: int) -> float:
            if step < chosen.warmup_steps:
                return (step + 1) / chosen.warmup_steps
            progress = (step - chosen.warmup_steps) / max(1, chosen.steps - chosen.warmup_steps)
            return chosen.final_rate_ratio + (1 - chosen.final_rate_ratio) * 0.5 * (
                1 + math.cos(math.pi * min(1.0, progress))
            )

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, ratio)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class TrainingData(pl.LightningDataModule):
    """The batches of this process, from the step on that the trainer has come to."""

    def __init__(self, batches: Batches[Any], validation: Sequence[Any], settings: FitSettings) -> None:
        super().__init__()
        self.batches, self.validation, self.settings = batches, validation, settings

    def train_dataloader(self) -> DataLoader[Any]:
        """Asked for by Lightning once processes are numbered and a checkpoint is read."""
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("no trainer is attached")
        shares = Share(self.batches, trainer.global_rank, trainer.world_size, 1)
        return loader(shares, trainer.global_step, self.settings.steps, self.settings.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation batches, in order."""
        return DataLoader(list(self.validation), batch_size=None)  # type: ignore[arg-type]  # Lightning takes a bare list for several loaders


class StepLog(pl.Callback):
    """A line every so many steps with the losses, the rate and the time left, for logs that are no terminal."""

    def __init__(self, every_steps: int) -> None:
        self.every_steps = every_steps
        self.started = 0.0
        self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note when and where this run began; a resumed one does not begin at zero."""
        self.started, self.first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Report."""
        step = trainer.global_step
        if step % self.every_steps or step == self.first_step:
            return
        rate = (step - self.first_step) / (time.monotonic() - self.started)
        left_minutes = (trainer.max_steps - step) / rate / 60
        losses = "  ".join(
            f"{name[6:]} {float(value):.4g}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/")
        )
        log.info("step %d/%d  %s  %.2f steps/s  %.1f min left", step, trainer.max_steps, losses, rate, left_minutes)

    def on_validation_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Report the validation scores."""
        scores = "  ".join(
            f"{name[4:]} {float(value):.4g}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        )
        log.info("validation at step %d  %s", trainer.global_step, scores)


def fit(
    learner: Learner,
    train_batches: Batches[Any],
    validation_batches: Sequence[Any],
    run_folder: Path,
    *,
    resume: bool = False,
) -> None:
    """Train a learner in place; at the end it holds the averaged weights.

    Args:
        learner: network and loss.
        train_batches: any step's batch, see `Batches`.
        validation_batches: a few ready batches, gone through every `validate_every_steps`; may be none.
        run_folder: gets `metrics.csv` (an earlier one becomes `metrics.1.csv`, and so on) and `checkpoints/last.ckpt`;
            private to the run, never published.
        resume: go on from `checkpoints/last.ckpt` where there is one.
    """
    chosen = learner.settings
    torch.set_num_threads(chosen.threads)
    pl.seed_everything(chosen.seed, verbose=False)
    last = run_folder / "checkpoints" / "last.ckpt"
    _keep_earlier_log(run_folder)
    trainer = pl.Trainer(
        max_steps=chosen.steps,
        max_epochs=-1,
        precision=chosen.precision,
        gradient_clip_val=chosen.clip_norm,
        val_check_interval=min(chosen.validate_every_steps, chosen.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=chosen.log_every_steps,
        logger=CSVLogger(run_folder, name="", version=""),
        callbacks=[
            EMAWeightAveraging(decay=chosen.ema_decay, use_buffers=True),
            ModelCheckpoint(
                last.parent,
                save_last=True,
                save_top_k=0,
                every_n_train_steps=chosen.validate_every_steps,
                enable_version_counter=False,
            ),
            StepLog(chosen.log_every_steps),
            *([TQDMProgressBar()] if sys.stderr.isatty() else []),
        ],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        use_distributed_sampler=False,  # each process asks for its own share
        limit_val_batches=None if validation_batches else 0,
    )
    # The run's own folder is trusted; published weights are safetensors.
    trainer.fit(
        learner,
        datamodule=TrainingData(train_batches, validation_batches, chosen),
        ckpt_path=str(last) if resume and last.is_file() else None,
        weights_only=False,
    )


def _keep_earlier_log(run_folder: Path) -> None:
    """Give the log of an earlier run a number: Lightning's logger begins by deleting what it finds."""
    log_file = run_folder / "metrics.csv"
    if log_file.is_file():
        number = len(list(run_folder.glob("metrics.*.csv"))) + 1
        log_file.rename(run_folder / f"metrics.{number}.csv")


def load_settings(kind: type[Settings], config: Path, overrides: list[str] | None = None) -> Settings:
    """Read a typed YAML config; a wrong key or type is refused by name.

    Args:
        kind: the dataclass that the file describes.
        config: the YAML file.
        overrides: `--key value` pairs from the command line, dotted for nested keys.
    """
    parser = ArgumentParser(exit_on_error=True)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(kind, nested_key=None, as_group=False)
    parsed = parser.parse_args(["--config", str(config), *(overrides or [])])
    parsed.pop("config", None)
    return kind(**parser.instantiate(parsed).as_dict())

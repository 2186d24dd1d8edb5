"""The one way to train here: a Lightning loop with warm-up, cosine rate, averaged weights, logs and checkpoints.

One process or many, interrupted or not, with loader workers or without: the weights are the same. Batches and random
numbers are functions of the step (`train.batches`, `StepSeeds`), and checkpoints hold the rest. On CPU a resumed run
equals an uninterrupted one bit for bit. Processes that share a batch equal one that accumulates as many parts up to the
order of a sum; they do not equal one that takes the batch whole, whose batch normalisation sees all of it at once.
Every process validates on everything; the first one logs and writes.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning.pytorch as pl
import torch
from jsonargparse import ArgumentParser
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from train.batches import Batches, Share, TimedLoader, loader
from train.errors import OutputError
from train.files import remove_leftovers
from train.fit_callbacks import Samples, StepBar, StepLog, StepSeeds, averaged_weights
from train.learner import FitSettings, Learner, Shown
from train.processes import check_precision, is_first_process, trainer_layout
from train.resuming import Checkpoints, WholeFiles, settings_of, step_of

__all__ = ["Batches", "FitSettings", "Learner", "Prepared", "Shown", "fit", "load_settings"]
log = logging.getLogger(__name__)
Settings = TypeVar("Settings")
SomeLearner = TypeVar("SomeLearner", bound=Learner)


@dataclass(frozen=True)
class Prepared(Generic[SomeLearner]):
    """All that a training needs.

    Args:
        config: the whole typed config, `learner.settings` among it; a checkpoint of another one is refused.
        learner: network and loss.
        train_batches: any step's batch, see `Batches`.
        validation_batches: a few ready batches, gone through every `validate_every_steps`; may be none.
        run_folder: private to the run, never published. Gets `metrics.csv` (an earlier one becomes `metrics.1.csv`,
            and so on), `tensorboard/`, `samples/` and `checkpoints/last.ckpt`.
    """

    config: Any
    learner: SomeLearner
    train_batches: Batches[Any]
    validation_batches: Sequence[Any]
    run_folder: Path


class TrainingData(pl.LightningDataModule):
    """The batches of this process, from the step on that the trainer has come to."""

    def __init__(self, batches: Batches[Any], validation: Sequence[Any], workers: int) -> None:
        super().__init__()
        self.batches, self.validation, self.workers = batches, validation, workers

    def train_dataloader(self) -> TimedLoader[Any]:
        """Asked for by Lightning once processes are numbered and a checkpoint is read."""
        trainer = self.trainer
        assert trainer is not None
        shares = Share(self.batches, trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches)
        on_gpu = trainer.strategy.root_device.type == "cuda"
        return loader(shares, trainer.global_step, self.workers, pin_memory=on_gpu)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation batches, in order."""
        return DataLoader(list(self.validation), batch_size=None)  # type: ignore[arg-type]  # Lightning takes a bare list for several loaders


def fit(prepared: Prepared[Any], *, resume: bool = False) -> None:
    """Train a learner in place; at the end it holds the averaged weights.

    Args:
        prepared: learner, batches and where to.
        resume: go on from `checkpoints/last.ckpt`; without one begin at the beginning.

    Raises:
        TrainError: a checkpoint of another config, a loss that is no number, a precision or devices not to be had.
        OutputError: a log, sample or checkpoint could not be written; the old checkpoint is whole.
        StoppedError: by SIGINT or SIGTERM, with a checkpoint of the step it had come to.
    """
    learner, run_folder = prepared.learner, prepared.run_folder
    chosen = learner.settings
    last = run_folder / "checkpoints" / "last.ckpt"
    loggers = [
        CSVLogger(run_folder, name="", version="", flush_logs_every_n_steps=1),
        TensorBoardLogger(run_folder, name="", version="tensorboard"),
    ]
    layout = trainer_layout(chosen.devices)
    shares = layout["devices"] * layout["num_nodes"] * chosen.accumulate_batches
    settings = settings_of(prepared.config) | {"shares": shares}
    callbacks = _callbacks(prepared, last, settings)
    trainer = new_trainer(chosen, callbacks, loggers, validates=bool(prepared.validation_batches))
    first_step = _first_step(last, settings, chosen.steps) if resume else 0
    if first_step >= chosen.steps:
        learner.load_state_dict(torch.load(last, map_location="cpu", weights_only=True)["state_dict"])
        return
    if is_first_process():
        remove_leftovers(last)
        _keep_earlier_log(run_folder)
    data = TrainingData(prepared.train_batches, prepared.validation_batches, chosen.workers)
    try:
        # a run's own folder is trusted, and still nothing in it is run
        trainer.fit(learner, datamodule=data, ckpt_path=str(last) if first_step else None, weights_only=True)
    except OSError as error:
        raise OutputError(
            f"Saw {error} while training; wanted readable data, and room and permission in {run_folder}, without which "
            "there is nothing to go on with. The last checkpoint is whole: repair this, then go on with --resume."
        ) from error


def _callbacks(prepared: Prepared[Any], last: Path, settings: dict[str, Any]) -> list[pl.Callback]:
    """What goes on beside the steps; the averages come first, since what is saved and shown must be up to date."""
    chosen = prepared.learner.settings
    first = is_first_process()
    on_terminal = first and sys.stderr.isatty()
    return [
        averaged_weights(chosen.ema_decay),
        StepSeeds(chosen.seed),
        StepLog(chosen.log_every_steps, steps=first and not on_terminal, validations=first),
        Samples(prepared.run_folder / "samples"),
        *([StepBar()] if on_terminal else []),
        Checkpoints(last, chosen.validate_every_steps, chosen.checkpoint_every_minutes, settings),
    ]


def new_trainer(
    chosen: FitSettings, callbacks: list[pl.Callback], loggers: list[Logger], *, validates: bool
) -> pl.Trainer:
    """Lightning's trainer as every training here uses it.

    Raises:
        TrainError: a precision or devices not to be had.
    """
    check_precision(chosen.precision)
    torch.set_num_threads(chosen.threads)
    _quieten_lightning()
    return pl.Trainer(
        **trainer_layout(chosen.devices),
        max_steps=chosen.steps,
        max_epochs=-1,
        precision=chosen.precision,
        accumulate_grad_batches=chosen.accumulate_batches,
        use_distributed_sampler=False,  # each process asks for its own share
        val_check_interval=min(chosen.validate_every_steps, chosen.steps) * chosen.accumulate_batches,
        check_val_every_n_epoch=None,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=chosen.log_every_steps,
        logger=loggers,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        enable_checkpointing=False,  # Lightning's; ours are `Checkpoints`
        enable_progress_bar=False,  # Lightning's; ours is `StepBar`
        enable_model_summary=False,
    )


def _quieten_lightning() -> None:
    """Keep to ourselves what nobody here can act on; warnings of other kinds are shown."""
    for name in ("lightning.pytorch", "lightning.fabric"):  # devices found, products of theirs
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)  # advice on workers and log intervals
    warnings.filterwarnings("ignore", "Experiment logs directory")  # an earlier log is kept under another name
    for old in (".*LeafSpec", "torch.distributed.nn.functional.all_gather"):  # parts of torch that Lightning uses
        warnings.filterwarnings("ignore", f"{old}.* is deprecated")


def _first_step(last: Path, settings: dict[str, Any], steps: int) -> int:
    """Where a run that is to be resumed goes on."""
    if not last.is_file():
        log.info("no checkpoint at %s: training starts from the beginning", last)
        return 0
    step = step_of(last, settings)
    log.info("%s is of step %d of %d: %s", last, step, steps, "training goes on" if step < steps else "nothing to do")
    return step


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

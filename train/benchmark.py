"""How fast a training is, and whether it waits for its data: the pipeline alone, the step alone, and both together."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from train.batches import AHEAD, Batches, Share, TimedLoader, loader
from train.fit import Prepared, TrainingData, new_trainer
from train.fit_callbacks import StepSeeds, averaged_weights
from train.learner import FitSettings

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Repeated(Generic[Batch]):
    """The same batch at every step; costs nothing to make."""

    ready: Batch

    def batch(self, step: int, part: int, parts: int) -> Batch:
        """That batch."""
        return self.ready


class Stopwatch(pl.Callback):
    """Seconds from the end of one step to the end of the last, and how many of them were spent waiting for data."""

    def __init__(self, first_step: int) -> None:
        self.first_step = first_step
        self.started_s = self.elapsed_s = self.started_waited_s = self.waited_s = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Start, go on, or stop."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        data, now_s = trainer.train_dataloader, time.perf_counter()
        assert isinstance(data, TimedLoader)
        if trainer.global_step <= self.first_step:
            self.started_s, self.started_waited_s = now_s, data.waited_s
        self.elapsed_s, self.waited_s = now_s - self.started_s, data.waited_s - self.started_waited_s


def benchmark(prepared: Prepared[Any], steps: int) -> dict[str, Any]:
    """Measure a training's parts on this machine; trains the learner a little and writes nothing.

    What the loader's workers made before the clock started is used up first, so the figures are those of a long run.
    With several processes they are this one's, and the items all processes' together.

    Args:
        prepared: what would be trained.
        steps: how many to time.

    Returns:
        Items per second of the data pipeline (`data`), of the step (`step`) and of both (`together`); the share of the
        time that both together waited for data; and what they were measured with.
    """
    chosen = prepared.learner.settings
    warm = 2 + chosen.workers * AHEAD
    first = prepared.train_batches.batch(0, 0, chosen.accumulate_batches)
    alone, _ = _timed_steps(prepared, Repeated(first), steps, warm)
    together, wait_share = _timed_steps(prepared, prepared.train_batches, steps, warm)
    items = _items(first) * chosen.accumulate_batches
    return {
        "items_per_step": items,
        "data_items_per_s": round(items * _data_steps_per_s(prepared.train_batches, chosen, steps, warm), 2),
        "step_items_per_s": round(items * alone, 2),
        "together_items_per_s": round(items * together, 2),
        "wait_share": round(wait_share, 4),
        "steps": steps,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "precision": chosen.precision,
        "threads": chosen.threads,
        "workers": chosen.workers,
    }


def _items(batch: Any) -> int:
    """Rows of a batch's first tensor."""
    return next(len(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))


def _data_steps_per_s(batches: Batches[Any], chosen: FitSettings, steps: int, warm: int) -> float:
    micro = chosen.accumulate_batches
    made = iter(loader(Share(batches, 0, 1, micro), 0, chosen.workers))
    for _ in itertools.islice(made, warm * micro):
        pass
    started_s = time.perf_counter()
    for _ in itertools.islice(made, steps * micro):
        pass
    return steps / (time.perf_counter() - started_s)


def _timed_steps(prepared: Prepared[Any], batches: Batches[Any], steps: int, warm: int) -> tuple[float, float]:
    """Steps per second, and the share of the time that was spent waiting."""
    chosen = replace(prepared.learner.settings, steps=warm + steps)
    watch = Stopwatch(warm)
    callbacks = [averaged_weights(chosen.ema_decay), StepSeeds(chosen.seed), watch]
    trainer = new_trainer(chosen, callbacks, [], validates=False)
    trainer.fit(prepared.learner, datamodule=TrainingData(batches, [], chosen.workers))
    return steps / watch.elapsed_s, watch.waited_s / watch.elapsed_s

"""What can be trained: a network with its loss, its optimiser, and what it shows of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.errors import TrainError
from train.processes import Precision

Picture = NDArray[np.uint8]  # (height, width, 3), RGB
Sound = NDArray[np.float32]  # (samples,), 16 kHz

# What may differ between a checkpoint and the run that goes on from it: none of these changes a step's arithmetic,
# and more `steps` is how a training is made longer.
FREE_TO_CHANGE = frozenset(
    {
        "steps",
        "log_every_steps",
        "validate_every_steps",
        "checkpoint_every_minutes",
        "threads",
        "workers",
        "devices",
        "accumulate_batches",  # with `devices` it is compared as the number of shares
    }
)


@dataclass(frozen=True)
class FitSettings:
    """How long and how hard to train, and on what."""

    steps: int  # optimiser steps
    learning_rate: float = 1e-3  # after the warm-up, before the cosine
    final_rate_ratio: float = 0.02  # of the learning rate, at the last step
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 5.0  # of the gradient; 0: not clipped
    ema_decay: float = 0.998  # of the averaged weights, which are what is kept
    log_every_steps: int = 25
    validate_every_steps: int = 500
    checkpoint_every_minutes: float = 10.0  # besides one at every validation; 0: at every step
    precision: Precision = "32-true"  # `mixed`: matrix products in 16 bits; losses and spectra stay in 32
    threads: int = 1  # torch threads of each process
    workers: int = 0  # processes that make batches ahead, for each that trains; 0: that one makes them itself
    devices: int | Literal["auto"] = 1  # GPUs, or processes on CPU, that share every batch; torchrun's number counts
    accumulate_batches: int = 1  # parts of a step's batch that a process goes through one after the other
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not value >= least:
                _refuse(name, value, f"at least {least}")
        if not 0 < self.learning_rate < math.inf:
            _refuse("learning_rate", self.learning_rate, "a positive number")
        for name in ("ema_decay", "final_rate_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                _refuse(name, getattr(self, name), "between 0 and 1")


_LEAST = {
    "steps": 1,
    "warmup_steps": 0,
    "weight_decay": 0,
    "clip_norm": 0,
    "log_every_steps": 1,
    "validate_every_steps": 1,
    "checkpoint_every_minutes": 0,
    "threads": 1,
    "workers": 0,
    "devices": 1,
    "accumulate_batches": 1,
    "seed": 0,
}


def _refuse(name: str, value: object, wanted: str) -> None:
    raise TrainError(
        f"Saw fit.{name} {value}; wanted {wanted}, without which there is nothing to train by. Change it in the "
        f"config, or give --fit.{name}=… after `--`."
    )


class Shown(NamedTuple):
    """What a learner shows of a validation batch; names are file names without their ending."""

    pictures: dict[str, Picture]
    sounds: dict[str, Sound]


class Learner(pl.LightningModule):
    """A network with its loss; subclasses say what a batch costs and how it is judged.

    Everything random in `losses` draws from torch's generator, which is seeded anew for every step and share: a resumed
    run and one of several processes draw what an uninterrupted single one would.
    """

    def __init__(self, settings: FitSettings) -> None:
        super().__init__()
        self.settings = settings

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Scalars of one training batch; the optimiser minimises `total`."""
        raise NotImplementedError

    def scores(self, batch: Any) -> dict[str, Tensor]:
        """Scalars of one validation batch, averaged over batches."""
        return self.losses(batch)

    def show(self, batch: Any) -> Shown:
        """Pictures and sounds of a validation batch, made by the averaged weights; nothing unless a learner says so."""
        return Shown({}, {})

    def of_all_processes(self, values: Tensor) -> Tensor:
        """Join (B, ...) of every process to (processes * B, ...), with gradients, for a loss over the whole batch.

        Each process then computes the same loss, and the mean of their gradients is that of one process with the whole
        batch. Validation is the same in every process, so nothing is joined there. Parts of a batch that one process
        goes through in turn (`accumulate_batches`) are never joined.
        """
        if not self.training or self.trainer.world_size == 1:
            return values
        joined = self.all_gather(values, sync_grads=True)
        assert isinstance(joined, Tensor)
        return joined.flatten(0, 1)  # (processes, B, ...) -> (processes * B, ...)

    def training_step(self, batch: Any, index: int) -> Tensor:
        """One step of Lightning's loop; what is logged is of the first process, and of the last part of a batch.

        Raises:
            TrainError: the loss is no longer a number; nothing has been learnt from it yet.
        """
        losses = self.losses(batch)
        total = losses["total"]
        if not torch.isfinite(total):
            self._give_up("loss", total.item())
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        return total

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, and log the norm that the gradient had.

        Raises:
            TrainError: it is not a number; with fp16 such steps are skipped while the loss's scale is being found.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm or math.inf)
        if self.settings.precision != "16-mixed" and not torch.isfinite(norm):
            self._give_up("gradient's norm", norm.item())
        rate = optimizer.param_groups[0]["lr"]
        self.log_dict({"optimizer/gradient_norm": norm, "optimizer/learning_rate": rate})

    def _give_up(self, what: str, value: float) -> None:
        raise TrainError(
            f"Saw {value} as the {what} of step {self.global_step + 1}; wanted a number, because weights that learn "
            "from it are lost. The last checkpoint is whole: go on from it (--resume) with a lower fit.learning_rate "
            "or fit.clip_norm, or with --fit.precision=32-true."
        )

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

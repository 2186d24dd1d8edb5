"""Training of CC-AV and CC-V from a typed config; `train/configs/crowd_*.yaml` are such configs."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.checkpoint import save_weights
from train.crowd.data import CrowdBatch, EndlessScenes, SceneFiles, batches, read_index
from train.crowd.losses import LossSettings, density_loss, estimate_loss, importance_loss, patch_sum_loss, total_loss
from train.crowd.network import CrowdCounter, CrowdDensitySum, build_crowd_counter, model_name, stored_options
from train.crowd.options import CrowdOptions, options_of
from train.dsp import CrowdLogMel
from train.fit import FitSettings, Learner, fit
from train.settings import DENSITY_HEIGHT, DENSITY_WIDTH

log = logging.getLogger(__name__)

_MEAN_RELU_OF_NORMAL = 1 / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class CrowdTraining:
    """One training run."""

    audio: bool  # CC-AV, else CC-V
    data: Path  # folder of scenes with an index.csv
    run: Path  # checkpoints and logs; private
    weights: Path  # where the result goes
    fit: FitSettings
    preset: str = "compact"
    options: dict[str, Any] = field(default_factory=dict)  # changes to the preset
    losses: LossSettings = LossSettings()
    batch_size: int = 4
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse what `load_crowd_counter` could not find again."""
        if (
            not self.weights.name.startswith(model_name(self.audio))
            or self.weights.name.startswith("crowd_av") != self.audio
        ):
            raise ValueError(
                f"weights ({self.weights}) must be named {model_name(self.audio)}….safetensors for audio={self.audio}"
            )


class CrowdLearner(Learner):
    """A counter with the losses of Eq. 13."""

    def __init__(self, counter: CrowdCounter, losses: LossSettings, settings: FitSettings) -> None:
        super().__init__(settings)
        self.counter = counter
        self.loss_settings = losses
        self.log_mel = CrowdLogMel() if counter.audio else None
        self.density_sum = CrowdDensitySum()

    def forward(self, batch: CrowdBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Density, PIR and PCE of a batch."""
        if self.log_mel is None:
            answer = self.counter(batch.picture)
        else:
            with torch.no_grad():
                log_mel = self.log_mel(batch.sound)
            answer = self.counter(batch.picture, log_mel)
        density, importance, estimates = answer
        return density, importance, estimates

    def losses(self, batch: CrowdBatch) -> dict[str, Tensor]:
        """The parts of Eq. 13 and their sum, and the mean absolute error of the count in people."""
        density, importance, estimates = self(batch)
        count, patch_sums = self.density_sum(density.float())
        least = self.loss_settings.least_people
        parts = {
            "importance": importance_loss(importance, batch.patch_counts),
            "estimate": estimate_loss(estimates.float(), batch.patch_counts, least_people=least),
            "density": density_loss(density.float(), batch.density),
            "patch_sum": patch_sum_loss(patch_sums, batch.patch_counts),
        }
        error = (count[:, 0] - batch.patch_counts.sum(dim=1)).abs().mean()
        return {"total": total_loss(parts, self.loss_settings), **parts, "mae": error}


def density_scale_of(files: list[SceneFiles], options: CrowdOptions) -> float:
    """People per cell for one unit of DM_PRE, such that the untrained network answers the training set's mean count.

    Behind an untrained batch normalisation and ReLU the mean of V is 0.40. The co-attention's mixture has the same
    mean; the residual form `add` doubles it.
    """
    mean_people = float(np.mean([len(scene.points) for scene in files]))
    mean_value = _MEAN_RELU_OF_NORMAL * (2 if options.co_attention_residual == "add" else 1)
    return mean_people / (mean_value * DENSITY_HEIGHT * DENSITY_WIDTH)


def train_crowd(config: CrowdTraining) -> Path:
    """Train and store the averaged weights.

    Returns:
        The weights file; it carries every option that `load_crowd_counter` needs.

    Raises:
        TrainError: no scenes, or an option that the network does not have.
    """
    scenes, validation = read_index(config.data, "train"), read_index(config.data, "val")
    changes = {"density_scale": density_scale_of(scenes, options_of(config.preset, **config.options)), **config.options}
    torch.manual_seed(config.fit.seed)
    counter = build_crowd_counter(config.preset, config.audio, **changes)
    counter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast in bf16 on a CPU; the numbers are the same
    log.info("%s, %s: %d parameters", config.weights.stem, config.preset, sum(p.numel() for p in counter.parameters()))
    learner = CrowdLearner(counter, config.losses, config.fit)
    endless = EndlessScenes(scenes, batch_size=config.batch_size, seed=config.fit.seed)
    fit(learner, endless, list(batches(validation, config.batch_size)), config.run, resume=config.resume)
    save_weights(config.weights, counter, model=model_name(config.audio), options=stored_options(counter))
    return config.weights

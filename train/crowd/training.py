"""Training of a counting network from a typed config: `crowd_*`, `table1_*` and `table3_*` of `train/configs`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from train.crowd.augment import AugmentSettings
from train.crowd.data import CrowdBatch, SceneBatches, Source, batches
from train.crowd.interface import Counter
from train.crowd.layouts import read_scenes
from train.crowd.losses import (
    LossSettings,
    count_loss,
    density_loss,
    estimate_loss,
    importance_loss,
    patch_sum_loss,
    total_loss,
)
from train.crowd.models import build_counter, load_counter, save_counter
from train.crowd.network import CrowdDensitySum
from train.dsp import CrowdLogMel
from train.fit import FitSettings, Learner, Prepared, Shown, fit
from train.pictures import coloured, in_a_column, in_a_row, titled

log = logging.getLogger(__name__)

_SHOWN_SCENES = 3
_SHOWN_SIZE = 384, 216  # pixels of each


@dataclass(frozen=True)
class CrowdTraining:
    """One training run."""

    model: str  # crowd_av, crowd_v, mcnn, csrnet, cannet or audiocsrnet
    data: list[Source]  # data sets in any layout of `train.crowd.layouts`; the first one's `val` is validated on
    run: Path  # checkpoints and logs; private
    weights: Path  # where the result goes
    fit: FitSettings
    preset: str = "compact"
    options: dict[str, Any] = field(default_factory=dict)  # changes to the preset
    losses: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    batch_size: int = 4
    frozen_statistics_step: int | None = None  # from here on batch normalisation keeps its running statistics
    start_from: Path | None = None  # weights of another crowd network; what fits by name and shape is taken over


class CrowdLearner(Learner):
    """A counter with the losses of Eq. 13."""

    def __init__(
        self,
        counter: Counter,
        losses: LossSettings,
        settings: FitSettings,
        frozen_statistics_step: int | None = None,
        mean_people: float = 0.0,
    ) -> None:
        super().__init__(settings)
        self.mean_people = mean_people  # of the training pictures; what an answer without looking would be
        self.frozen_statistics_step = frozen_statistics_step
        self.counter = counter
        self.loss_settings = losses
        self.log_mel = CrowdLogMel() if counter.audio else None
        self.density_sum = CrowdDensitySum()

    def forward(self, batch: CrowdBatch) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Density of a batch, and PIR and PCE of networks that have them."""
        if self.log_mel is None:
            answer = self.counter(batch.picture)
        else:
            with torch.no_grad():
                log_mel = self.log_mel(batch.sound)
            answer = self.counter(batch.picture, log_mel)
        density, importance, estimates = answer
        return density, importance, estimates

    def on_train_batch_start(self, batch: CrowdBatch, batch_idx: int) -> None:
        """Hold the statistics of batch normalisation from the wanted step on.

        A batch of four scenes normalises their common density away, so that counts are learnt up to a factor only. And
        averaged weights fit no statistics but their own: at step 500 they counted 6 people in place of 86.
        """
        if self.frozen_statistics_step is not None and self.global_step >= self.frozen_statistics_step:
            for module in self.counter.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def losses(self, batch: CrowdBatch) -> dict[str, Tensor]:
        """The parts of Eq. 13 and their sum, and the mean absolute error of the count in people."""
        density, importance, estimates = self(batch)
        count, patch_sums = self.density_sum(density.float())
        parts = {
            "density": density_loss(density.float(), batch.density),
            "patch_sum": patch_sum_loss(patch_sums, batch.patch_counts),
            "count": count_loss(patch_sums, batch.patch_counts),
        }
        if importance is not None:
            parts["importance"] = importance_loss(importance, batch.patch_counts)
        if estimates is not None:
            least = self.loss_settings.least_people
            parts["estimate"] = estimate_loss(estimates.float(), batch.patch_counts, least_people=least)
        error = (count[:, 0] - batch.patch_counts.sum(dim=1)).abs().mean()
        return {"total": total_loss(parts, self.loss_settings), **parts, "mae": error}

    def show(self, batch: CrowdBatch) -> Shown:
        """The first scenes: picture, true density and the network's, each on its own scale, with their counts."""
        density = self(batch)[0].float().reshape(batch.density.shape)
        rows = []
        for scene in range(min(_SHOWN_SCENES, len(batch.picture))):
            picture = cv2.resize(batch.picture[scene].cpu().numpy(), _SHOWN_SIZE, interpolation=cv2.INTER_AREA)
            truth, answer = (maps[scene].cpu().numpy() for maps in (batch.density, density))
            row = [titled(picture.astype(np.uint8, copy=False), "picture")]
            for name, values in (("truth", truth), ("answer", answer)):
                row.append(titled(coloured(values, float(values.max()), _SHOWN_SIZE), f"{name}: {values.sum():.1f}"))
            rows.append(in_a_row(row))
        return Shown({"density": in_a_column(rows)}, {})


def take_over(counter: Counter, weights: Path) -> int:
    """Start from another crowd network: copy every tensor that has the same name and shape; returns how many.

    CC-AV from CC-V takes the visual branches and the patches' estimates, and leaves what listens to be learnt.
    """
    known = load_counter(weights).state_dict()
    own = counter.state_dict()
    fitting = {name: tensor for name, tensor in known.items() if name in own and own[name].shape == tensor.shape}
    counter.load_state_dict(fitting, strict=False)
    log.info("took over %d of %d tensors from %s", len(fitting), len(own), weights)
    return len(fitting)


def prepare_crowd(config: CrowdTraining) -> Prepared[CrowdLearner]:
    """Read the scenes and build the network.

    Raises:
        TrainError: no scenes, or an option that the network does not have.
    """
    torch.manual_seed(config.fit.seed)
    counter = build_counter(config.model, config.preset, **config.options)
    train_batches = SceneBatches(
        config.data,
        batch_size=config.batch_size,
        seed=config.fit.seed,
        augment=config.augment,
        geometry=counter.geometry,
    )
    if "density_scale" not in config.options:
        counter.scale_to(train_batches.mean_people)
    counter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast in bf16 on a CPU; the numbers are the same
    log.info("%s, %s: %d parameters", config.weights.stem, config.preset, sum(p.numel() for p in counter.parameters()))
    if config.start_from is not None:
        take_over(counter, config.start_from)
    learner = CrowdLearner(counter, config.losses, config.fit, config.frozen_statistics_step, train_batches.mean_people)
    checked = list(batches(read_scenes(config.data[0].folder, "val"), config.batch_size, counter.geometry))
    return Prepared(config, learner, train_batches, checked, config.run)


def train_crowd(config: CrowdTraining, *, resume: bool = False) -> Path:
    """Train and store the averaged weights.

    Returns:
        The weights file; it carries every option that `load_counter` needs.

    Raises:
        TrainError: as `prepare_crowd` and `fit`.
    """
    prepared = prepare_crowd(config)
    fit(prepared, resume=resume)
    learner = prepared.learner
    save_counter(config.weights, learner.counter, mean_people=learner.mean_people)
    log.info("wrote %s", config.weights)
    return config.weights

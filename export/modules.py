"""The torch module behind every served model: with its trained weights, or with random ones in a preset's sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from export.contract import Model
from export.recipe import WEIGHTS, weights_of
from export.samples import sample_inputs
from train.crowd.models import build_counter, load_counter
from train.crowd.network import CrowdDensitySum
from train.dsp import CrowdLogMel, GriffinLim, Stft
from train.facefilter.identity import build_face_identity, load_face_identity
from train.facefilter.separator import build_separator, load_separator

__all__ = ["WEIGHTS", "is_network", "served_module", "untrained_module", "weights_digest", "weights_file"]
_TRAINED: dict[str, Callable[[Path], nn.Module]] = {
    "facefilter_identity": load_face_identity,
    "facefilter_separator": load_separator,
    "crowd_av": partial(load_counter, model="crowd_av"),
    "crowd_v": partial(load_counter, model="crowd_v"),
}
_BUILT: dict[str, Callable[[str], nn.Module]] = {
    "facefilter_identity": build_face_identity,
    "facefilter_separator": build_separator,
    "crowd_av": partial(build_counter, "crowd_av"),
    "crowd_v": partial(build_counter, "crowd_v"),
}
_COMPUTED: dict[str, Callable[[], nn.Module]] = {
    "facefilter_stft": Stft,
    "facefilter_griffin_lim": GriffinLim,
    "crowd_log_mel": CrowdLogMel,
    "crowd_density_sum": CrowdDensitySum,
}
_SEED = 2026
_SETTLING_BATCH = 4


def is_network(model: Model) -> bool:
    """Whether a served model has weights."""
    return model.name in _TRAINED


def weights_file(model: Model, weights: Path) -> Path | None:
    """Where the weights of a served model lie; None for one that has none."""
    return weights_of(model.name, weights) if is_network(model) else None


def served_module(model: Model, weights: Path) -> nn.Module:
    """Build one served model in evaluation mode.

    Raises:
        TrainError: its weights are missing, damaged, or another model's.
    """
    file = weights_file(model, weights)
    module = _COMPUTED[model.name]() if file is None else _TRAINED[model.name](file)
    return module.eval().requires_grad_(False)


def untrained_module(model: Model, preset: str) -> nn.Module:
    """Build one served model with seeded random weights in a preset's sizes: as fast as a trained one, no other use.

    Batch normalisations take their means and deviations from sample inputs, so that activations have the sizes of a
    trained network's and neither die out nor overflow on their way.
    """
    if not is_network(model):
        return _COMPUTED[model.name]().eval().requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        module = _BUILT[model.name](preset).requires_grad_(False)
        _settle(module, model)
    return module.eval()


def weights_digest(model: Model, weights: Path) -> str:
    """SHA-256 of a model's weights; empty for one that has none."""
    file = weights_file(model, weights)
    return "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()


@torch.no_grad()
def _settle(module: nn.Module, model: Model) -> None:
    """One pass in training mode, whose statistics the batch normalisations keep."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the average of what was seen: of this one batch
    module.train()
    module(*sample_inputs(model, batch=_SETTLING_BATCH, seed=_SEED).values())

"""The torch module behind every served model, with its trained weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from export.contract import Model
from train.crowd.models import load_counter
from train.crowd.network import CrowdDensitySum
from train.dsp import CrowdLogMel, GriffinLim, Stft
from train.facefilter.identity import load_face_identity
from train.facefilter.separator import load_separator

WEIGHTS = Path(__file__).resolve().parents[1] / "train" / "weights"

_TRAINED: dict[str, Callable[[Path], nn.Module]] = {
    "facefilter_identity": load_face_identity,
    "facefilter_separator": load_separator,
    "crowd_av": partial(load_counter, model="crowd_av"),
    "crowd_v": partial(load_counter, model="crowd_v"),
}
_COMPUTED: dict[str, Callable[[], nn.Module]] = {
    "facefilter_stft": Stft,
    "facefilter_griffin_lim": GriffinLim,
    "crowd_log_mel": CrowdLogMel,
    "crowd_density_sum": CrowdDensitySum,
}


def weights_file(model: Model, weights: Path) -> Path | None:
    """Where the weights of a served model lie; None for one that has none."""
    return weights / f"{model.name}.safetensors" if model.name in _TRAINED else None


def served_module(model: Model, weights: Path) -> nn.Module:
    """Build one served model in evaluation mode.

    Raises:
        TrainError: its weights are missing, damaged, or another model's.
    """
    file = weights_file(model, weights)
    module = _COMPUTED[model.name]() if file is None else _TRAINED[model.name](file)
    return module.eval().requires_grad_(False)


def weights_digest(model: Model, weights: Path) -> str:
    """SHA-256 of a model's weights; empty for one that has none."""
    file = weights_file(model, weights)
    return "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()

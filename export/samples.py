"""Inputs to try an artefact on: seeded, shaped by the contract, and made as the stages before it would make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from export import contract
from export.contract import Model, size_of
from export.task_sets import TaskSets
from train.dsp import CrowdLogMel, Stft
from train.settings import IDENTITY_SIZE, MIXTURE_RMS, SOUND_SAMPLES

Array = NDArray[Any]
SHORT_SAMPLES, LONG_SAMPLES = contract.PADDED_SAMPLES[:2]
_UNTRAINED_CALIBRATION = 8
_CALIBRATION_SEED = 1000  # far from those that artefacts are tried on


def sample_inputs(model: Model, *, batch: int, seed: int, samples: int = SHORT_SAMPLES) -> dict[str, Tensor]:
    """Inputs of one model by name, each with its batch axis.

    Args:
        model: the contract's entry.
        batch: number of items.
        seed: same seed, same inputs.
        samples: length of the waveform that all changing axes follow.
    """
    made = _sounds(batch, samples, seed) | _pictures(batch, seed)
    inputs = {tensor.name: made[tensor.name] for tensor in model.inputs}
    for tensor in model.inputs:
        wanted = (batch, *(size_of(axis, samples) for axis in tensor.shape))
        assert tuple(inputs[tensor.name].shape) == wanted, (tensor.name, inputs[tensor.name].shape, wanted)
    return inputs


def calibration_inputs(model: Model, sets: TaskSets, identify: Callable[[Tensor], Tensor]) -> list[dict[str, Array]]:
    """Real-like inputs of a network, one item each, that are not among those it is judged on.

    Args:
        model: a network of the contract.
        sets: where mixtures and scenes for calibration lie.
        identify: faces (B, 224, 224, 3) to identities (B, 1024), the separator's other input.
    """
    rows = _from_scenes(sets) if model.name.startswith("crowd") else _from_mixtures(sets, identify)
    return [{tensor.name: row[tensor.name] for tensor in model.inputs} for row in rows]


def untrained_calibration(model: Model) -> list[dict[str, Array]]:
    """The same for a network of random weights, to which nothing is real: seeded samples."""
    made = (sample_inputs(model, batch=1, seed=_CALIBRATION_SEED + i) for i in range(_UNTRAINED_CALIBRATION))
    return [{name: tensor.numpy() for name, tensor in inputs.items()} for inputs in made]


@torch.no_grad()
def _from_mixtures(sets: TaskSets, identify: Callable[[Tensor], Tensor]) -> Iterator[dict[str, Array]]:
    from train.facefilter.listed import Loaded, load, requests_for

    stft = Stft()
    for request in requests_for(sets.root, sets.calibration_mixtures):
        loaded = load(request)
        assert isinstance(loaded, Loaded), loaded
        magnitude, _ = stft(torch.from_numpy(loaded.mixture[np.newaxis]))
        yield {
            "face": loaded.face,
            "magnitude": magnitude.numpy(),
            "identity": identify(torch.from_numpy(loaded.face)).numpy(),
        }


@torch.no_grad()
def _from_scenes(sets: TaskSets) -> Iterator[dict[str, Array]]:
    from train.crowd.data import read_sound
    from train.crowd.frame import place
    from train.crowd.scene import read_picture

    log_mel = CrowdLogMel()
    for scene in sets.calibration_scenes:
        sound = torch.from_numpy(read_sound(scene.sound, None)[np.newaxis])
        yield {"picture": place(read_picture(scene.picture))[np.newaxis], "log_mel": log_mel(sound).numpy()}


def _sounds(batch: int, samples: int, seed: int) -> dict[str, Tensor]:
    """A mixture that swells and fades like speech, and all that follows from it."""
    draw = torch.Generator().manual_seed(seed)
    envelope = functional.interpolate(torch.rand(batch, 1, 12, generator=draw), samples, mode="linear")[:, 0]
    waveform = torch.randn(batch, samples, generator=draw) * envelope.square()
    waveform *= MIXTURE_RMS / waveform.square().mean(dim=1, keepdim=True).sqrt()
    waveform[-1, -samples // 4 :] = 0  # clients pad with digital silence, where a forgotten guard divides by zero
    magnitude, spectrum = Stft()(waveform)
    sound = torch.randn(batch, SOUND_SAMPLES, generator=draw) * MIXTURE_RMS
    return {
        "waveform": waveform,
        "magnitude": magnitude,
        "spectrum": spectrum,
        "separated_magnitude": magnitude * torch.rand(magnitude.shape, generator=draw),
        "identity": functional.normalize(torch.randn(batch, IDENTITY_SIZE, generator=draw)),
        "sound": sound,
        "log_mel": CrowdLogMel()(sound),
    }


def _pictures(batch: int, seed: int) -> dict[str, Tensor]:
    """Smooth pictures with grain, and a density like that of a sparse crowd."""
    draw = torch.Generator().manual_seed(seed + 1)
    made = {}
    for tensor in (contract.FACE, contract.PICTURE):
        height, width, _ = (int(axis) for axis in tensor.shape)
        smooth = functional.interpolate(torch.rand(batch, 3, 9, 16, generator=draw), (height, width), mode="bilinear")
        grain = 0.1 * torch.randn(batch, 3, height, width, generator=draw)
        made[tensor.name] = ((smooth + grain).clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    height, width = (int(axis) for axis in contract.DENSITY.shape)
    made["density"] = torch.rand(batch, height, width, generator=draw).pow(8)
    return made

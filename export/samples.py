"""Inputs to try an artefact on: seeded, shaped by the contract, and made as the stages before it would make them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from export import contract
from export.contract import Model, size_of
from train.dsp import CrowdLogMel, Stft
from train.settings import IDENTITY_SIZE, MIXTURE_RMS, SOUND_SAMPLES

SHORT_SAMPLES, LONG_SAMPLES = contract.PADDED_SAMPLES[:2]


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

"""A module to a TorchScript file for Triton's PyTorch backend."""

from __future__ import annotations

import io
import warnings

import torch
from torch import nn

from export.contract import Model
from export.errors import ExportError
from export.samples import sample_inputs


def export_torchscript(module: nn.Module, model: Model) -> bytes:
    """Trace one served model; batch and lengths stay free, which the parity check at other sizes proves.

    Raises:
        ExportError: the module cannot be traced.
    """
    arguments = tuple(sample_inputs(model, batch=2, seed=0).values())
    try:
        # TorchScript is deprecated and says so at every call; Triton's backend still takes nothing else.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            traced = torch.jit.freeze(torch.jit.trace(module, arguments, check_trace=False))
            content = io.BytesIO()
            torch.jit.save(traced, content)
    except Exception as error:
        raise ExportError(f"{model.name} could not be traced to TorchScript: {error}") from error
    return content.getvalue()

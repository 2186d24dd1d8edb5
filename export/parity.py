"""The proof that an artefact answers as its module does; a miss stops the export.

Every artefact is run on inputs that it was not exported with: two batch sizes, two lengths where lengths change. The
error of an output is its largest difference from torch, as a share of the output's largest value.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from export.contract import Model, is_dynamic
from export.errors import ExportError
from export.samples import LONG_SAMPLES, SHORT_SAMPLES, sample_inputs

Array = npt.NDArray[Any]
Runner = Callable[[dict[str, Array]], dict[str, Array]]
BATCHES = (1, 3)

# Largest difference allowed, as a share of the output's peak.
TOLERANCES: dict[str, float] = {
    # One sum of 400 products in another order.
    "magnitude": 1e-5,
    "spectrum": 1e-5,
    "log_mel": 1e-5,
    # Convolutions in another order through some ten to thirty layers, then a sigmoid or a softmax.
    "identity": 1e-4,
    "separated_magnitude": 1e-4,
    "attention": 1e-4,
    "density": 1e-4,
    "patch_importance": 1e-4,
    "patch_estimates": 1e-4,
    # Iterations renormalise the phase of bins that are all but silent, where rounding decides it.
    "speech": 1e-3,
    # A sum of 9,216 cells.
    "count": 1e-5,
    "patch_counts": 1e-5,
}


@dataclass(frozen=True)
class Parity:
    """Largest error seen for one output, and what was allowed."""

    output: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the artefact may be published; NaN never holds."""
        return self.error <= self.tolerance


def onnx_runner(content: bytes) -> Runner:
    """Run an ONNX graph with ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def torchscript_runner(content: bytes, model: Model) -> Runner:
    """Run a TorchScript file made by this export, reloaded from its bytes."""
    module = torch.jit.load(io.BytesIO(content))

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(inputs[tensor.name]) for tensor in model.inputs))
        return _named(model, found)

    return run


def _named(model: Model, found: torch.Tensor | tuple[torch.Tensor, ...]) -> dict[str, Array]:
    outputs = found if isinstance(found, tuple) else (found,)
    return {tensor.name: value.numpy() for tensor, value in zip(model.outputs, outputs, strict=True)}


def measure(module: nn.Module, model: Model, runner: Runner) -> list[Parity]:
    """Compare an artefact with its module at two batch sizes and, where lengths change, two lengths."""
    lengths = (SHORT_SAMPLES, LONG_SAMPLES) if is_dynamic(model.inputs) else (SHORT_SAMPLES,)
    worst = dict.fromkeys((tensor.name for tensor in model.outputs), 0.0)
    for seed, (batch, samples) in enumerate(itertools.product(BATCHES, lengths), start=1):
        inputs = sample_inputs(model, batch=batch, seed=seed, samples=samples)
        with torch.no_grad():
            wanted = _named(model, module(*inputs.values()))
        found = runner({name: tensor.numpy() for name, tensor in inputs.items()})
        for name in worst:
            worst[name] = float(np.maximum(worst[name], relative_error(found[name], wanted[name])))
    return [Parity(name, error, TOLERANCES[name]) for name, error in worst.items()]


def relative_error(found: Array, wanted: Array) -> float:
    """Largest difference over the largest wanted value; infinity when shapes differ, NaN when a value is."""
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))


def require(model: Model, artefact: str, measured: list[Parity]) -> None:
    """Refuse an artefact that misses.

    Raises:
        ExportError: names the artefact, the output, the error seen and the error allowed.
    """
    for parity in measured:
        if not parity.holds:
            raise ExportError(
                f"{model.name}/{artefact}: {parity.output} differs from torch by {parity.error:.2e} of its peak, "
                f"allowed are {parity.tolerance:.0e}. "
                "It would answer otherwise than the trained module; nothing published."
            )

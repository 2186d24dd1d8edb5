"""The proof that an artefact answers as its module does; a miss stops the export.

Every artefact is run on inputs that it was not exported with: two batch sizes, two lengths where lengths change. The
error of an output is its largest difference from torch, as a share of the output's largest value; its SNR is the
output's energy over that of all differences. What is allowed stands in `export.thresholds`.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from export.contract import Model, is_dynamic
from export.errors import ExportError
from export.precision import Precision
from export.samples import LONG_SAMPLES, SHORT_SAMPLES, sample_inputs
from export.thresholds import TENSORS, TOLERANCES

__all__ = [
    "BATCHES", "TOLERANCES", "Array", "Parity", "Runner", "measure", "onnx_runner", "relative_error", "require",
    "sample_cases", "torch_runner", "torchscript_runner",
]  # fmt: skip
Array = npt.NDArray[Any]
Runner = Callable[[dict[str, Array]], dict[str, Array]]
BATCHES = (1, 3)
_ERRORS_ONLY = 3  # ONNX Runtime warns of every constant that its fusing leaves over


@dataclass(frozen=True)
class Parity:
    """Largest error and smallest SNR seen for one output, and what was allowed."""

    output: str
    error: float
    tolerance: float
    snr_db: float = math.inf
    least_snr_db: float = -math.inf

    @property
    def holds(self) -> bool:
        """Whether the artefact may be published; NaN never holds."""
        return self.error <= self.tolerance and self.snr_db >= self.least_snr_db


def onnx_runner(content: bytes) -> Runner:
    """Run an ONNX graph with ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def torchscript_runner(content: bytes, model: Model) -> Runner:
    """Run a TorchScript file made by this export, reloaded from its bytes."""
    return torch_runner(torch.jit.load(io.BytesIO(content)), model)


def torch_runner(module: Callable[..., Any], model: Model) -> Runner:
    """Run a module as it stands."""

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(inputs[tensor.name]) for tensor in model.inputs))
        outputs = found if isinstance(found, tuple) else (found,)
        return {tensor.name: value.numpy() for tensor, value in zip(model.outputs, outputs, strict=True)}

    return run


def sample_cases(model: Model) -> Iterator[dict[str, Array]]:
    """Inputs that nothing was exported or calibrated with: two batch sizes and, where lengths change, two lengths."""
    lengths = (SHORT_SAMPLES, LONG_SAMPLES) if is_dynamic(model.inputs) else (SHORT_SAMPLES,)
    for seed, (batch, samples) in enumerate(itertools.product(BATCHES, lengths), start=1):
        made = sample_inputs(model, batch=batch, seed=seed, samples=samples)
        yield {name: tensor.numpy() for name, tensor in made.items()}


def measure(
    module: nn.Module,
    model: Model,
    runner: Runner,
    precision: Precision = "fp32",
    cases: Iterable[dict[str, Array]] | None = None,
) -> list[Parity]:
    """Compare an artefact with its module.

    Args:
        module: what was trained.
        model: the contract's entry.
        runner: runs the artefact.
        precision: whose tolerances hold.
        cases: inputs by name, each with a batch axis; `sample_cases` when None.
    """
    reference = torch_runner(module, model)
    worst = {tensor.name: (0.0, math.inf) for tensor in model.outputs}
    for inputs in sample_cases(model) if cases is None else cases:
        wanted, found = reference(inputs), runner(inputs)
        for name, (error, snr_db) in worst.items():
            seen = relative_error(found[name], wanted[name]), signal_to_noise_db(found[name], wanted[name])
            worst[name] = float(np.maximum(error, seen[0])), float(np.minimum(snr_db, seen[1]))
    allowed = TENSORS[precision]
    return [
        Parity(name, error, allowed[name].peak, snr_db, allowed[name].snr_db) for name, (error, snr_db) in worst.items()
    ]


def relative_error(found: Array, wanted: Array) -> float:
    """Largest difference over the largest wanted value; infinity when shapes differ, NaN when a value is."""
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))


def signal_to_noise_db(found: Array, wanted: Array) -> float:
    """Energy of the wanted values over that of the differences, dB; minus infinity when shapes differ."""
    if found.shape != wanted.shape:
        return -math.inf
    noise = float(np.square(found - wanted, dtype=np.float64).sum())
    signal = float(np.square(wanted, dtype=np.float64).sum())
    if not math.isfinite(noise):
        return -math.inf
    return 10 * math.log10(max(signal, 1e-300) / noise) if noise else math.inf


def require(model: Model, artefact: str, measured: list[Parity]) -> None:
    """Refuse an artefact that misses.

    Raises:
        ExportError: names the artefact, the output, the error seen and the error allowed.
    """
    for parity in measured:
        if not parity.holds:
            raise ExportError(
                f"{model.name}/{artefact}: {parity.output} differs from torch by {parity.error:.2e} of its peak, "
                f"allowed are {parity.tolerance:.0e}; its SNR is {parity.snr_db:.1f} dB, wanted is "
                f"{parity.least_snr_db:.0f}. It would answer otherwise than the trained module; nothing published."
            )

"""The proof that an artefact answers as its module does; a miss stops the export.

Every artefact is run on inputs that it was not exported with: two batch sizes, two lengths where lengths change. What
is allowed of each output, and why, stands in `export.thresholds`.
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
from export.samples import LONG_SAMPLES, SHORT_SAMPLES, sample_inputs
from export.thresholds import Tolerance, peak_tolerances, tensor_tolerance

Array = npt.NDArray[Any]
Runner = Callable[[dict[str, Array]], dict[str, Array]]
BATCHES = (1, 3)
TOLERANCES = peak_tolerances("fp32")
_EQUAL_DB = 150.0  # beyond the 24 bits of a float32
_ERRORS_ONLY = 3  # ONNX Runtime warns of every constant that its fusing leaves over


@dataclass(frozen=True)
class Parity:
    """How far one output was from torch, and what was allowed."""

    output: str
    error: float  # largest difference, as a share of the peak of its batch
    snr_db: float
    tolerance: Tolerance

    @property
    def holds(self) -> bool:
        """Whether the artefact may be published; NaN never holds."""
        return self.error <= self.tolerance.peak and self.snr_db >= self.tolerance.snr_db

    def as_json(self) -> dict[str, float]:
        """Figures beside what they are held against."""
        return {
            "error": self.error,
            "snr_db": round(self.snr_db, 2),
            "allowed_error": self.tolerance.peak,
            "least_snr_db": self.tolerance.snr_db,
        }


@dataclass
class Comparison:
    """Differences of one output, gathered batch by batch."""

    error: float = 0.0
    power: float = 0.0
    lost: float = 0.0
    rows: int = 0

    def add(self, found: Array, wanted: Array) -> None:
        """Take one batch in."""
        self.error = float(np.maximum(self.error, relative_error(found, wanted)))
        self.rows += len(wanted)
        if found.shape == wanted.shape:
            self.power += float(np.square(wanted, dtype=np.float64).sum())
            self.lost += float(np.square(np.subtract(found, wanted, dtype=np.float64)).sum())

    def parity(self, output: str, precision: str) -> Parity:
        """What came of it, beside what is allowed."""
        return Parity(output, self.error, snr_of(self.power, self.lost), tensor_tolerance(output, precision))


def snr_of(power: float, lost: float) -> float:
    """Power over power in dB, at most what a float32 can hold; NaN for NaN."""
    if math.isnan(power) or math.isnan(lost):
        return math.nan
    if lost <= power * 10 ** (-_EQUAL_DB / 10):
        return _EQUAL_DB
    return max(10 * math.log10(power / lost), -_EQUAL_DB) if power > 0 else -_EQUAL_DB


def onnx_runner(content: bytes) -> Runner:
    """Run an ONNX graph with ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def torchscript_runner(content: bytes, model: Model) -> Runner:
    """Run a TorchScript file made by this export, reloaded from its bytes."""
    return module_runner(torch.jit.load(io.BytesIO(content)), model)


def module_runner(module: Callable[..., Any], model: Model) -> Runner:
    """Run a module on arrays."""

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(inputs[tensor.name]) for tensor in model.inputs))
        outputs = found if isinstance(found, tuple) else (found,)
        return {tensor.name: value.numpy() for tensor, value in zip(model.outputs, outputs, strict=True)}

    return run


def trials(model: Model) -> Iterator[dict[str, Array]]:
    """Inputs to try an artefact on: two batch sizes and, where lengths change, two lengths."""
    lengths = (SHORT_SAMPLES, LONG_SAMPLES) if is_dynamic(model.inputs) else (SHORT_SAMPLES,)
    for seed, (batch, samples) in enumerate(itertools.product(BATCHES, lengths), start=1):
        inputs = sample_inputs(model, batch=batch, seed=seed, samples=samples)
        yield {name: tensor.numpy() for name, tensor in inputs.items()}


def measure(
    module: nn.Module,
    model: Model,
    runner: Runner,
    precision: str = "fp32",
    inputs: Iterable[dict[str, Array]] | None = None,
) -> list[Parity]:
    """Compare an artefact with its module.

    Args:
        module: in fp32.
        model: the contract's entry.
        runner: runs the artefact.
        precision: of the artefact, which decides what is allowed.
        inputs: to try it on; by default `trials`.
    """
    compared = {tensor.name: Comparison() for tensor in model.outputs}
    reference = module_runner(module, model)
    for given in trials(model) if inputs is None else inputs:
        wanted, found = reference(given), runner(given)
        for name, comparison in compared.items():
            comparison.add(found[name], wanted[name])
    return [comparison.parity(name, precision) for name, comparison in compared.items()]


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
            allowed = parity.tolerance
            raise ExportError(
                f"{model.name}/{artefact}: {parity.output} differs from torch by {parity.error:.2e} of its peak and "
                f"{parity.snr_db:.1f} dB, allowed are {allowed.peak:.0e} and at least {allowed.snr_db:g} dB "
                f"({allowed.because}). It would answer otherwise than the trained module; nothing published."
            )

"""The proof of an engine on its GPU: against ONNX Runtime on the same graph, at every corner of its profile.

TensorRT has given silently wrong numbers for some rows of a batch (NVIDIA/TensorRT issue 4813), so every corner is also
run with all rows alike, which must give answers alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.contract import Model
from export.engines.profiles import Corner, corners_of
from export.errors import ExportError

Array = npt.NDArray[Any]
Runner = Callable[[dict[str, Array]], dict[str, Array]]


def prove(
    model: Model, engine: Runner, reference: Runner, tolerances: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Hold an engine against its graph.

    Args:
        model: the contract's entry.
        engine: runs the engine.
        reference: runs the graph it was built from.
        tolerances: largest difference allowed for each output, as a share of the output's peak.

    Returns:
        For each corner, as `8 x 127840`: the largest difference of each output.

    Raises:
        ExportError: an output differs, is NaN or infinite, or depends on the row; names the corner and the figure.
    """
    from export.parity import relative_error
    from export.samples import sample_inputs

    proof: dict[str, dict[str, float]] = {}
    for seed, corner in enumerate(corners_of(model), start=101):
        made = sample_inputs(model, batch=corner.batch, seed=seed, samples=corner.samples)
        inputs = {name: tensor.numpy() for name, tensor in made.items()}
        found, wanted = engine(inputs), reference(inputs)
        place = f"{corner.batch} x {corner.samples}"
        proof[place] = {name: relative_error(found[name], wanted[name]) for name in tolerances}
        for name, error in proof[place].items():
            # Its own test, because a reference that is infinite as well would hide it.
            if not np.isfinite(found[name]).all():
                raise _refusal(model, name, place, "is NaN or infinite")
            if not error <= tolerances[name]:
                raise _refusal(
                    model, name, place, f"differs by {error:.2e} of its peak, allowed are {tolerances[name]:.0e}"
                )
        _require_rows_alike(model, engine, inputs, corner, tolerances)
    return proof


def _require_rows_alike(
    model: Model, engine: Runner, inputs: dict[str, Array], corner: Corner, tolerances: Mapping[str, float]
) -> None:
    """Every row of a batch of one item, repeated, gets the answer of the first row."""
    same = {name: np.repeat(value[:1], corner.batch, axis=0) for name, value in inputs.items()}
    found = engine(same)
    for name, tolerance in tolerances.items():
        peak = max(float(np.abs(found[name]).max()), 1e-12)
        spread = float(np.abs(found[name] - found[name][:1]).max()) / peak
        if not spread <= tolerance / 10:
            place = f"{corner.batch} x {corner.samples}"
            raise _refusal(model, name, place, f"differs by {spread:.2e} of its peak between rows that are alike")


def _refusal(model: Model, output: str, place: str, seen: str) -> ExportError:
    return ExportError(
        f"{model.name}/model.plan at {place} samples: {output} {seen}; wanted the answers of the graph, because "
        "TensorRT was to change their speed alone; nothing published. Another TensorRT release may choose other "
        "kernels; report it with the manifest."
    )

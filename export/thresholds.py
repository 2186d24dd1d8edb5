"""How far an artefact may be from torch: every tolerance, for each precision, with its reason.

A tensor is held by the largest difference of any value, as a share of the output's peak, and by the signal-to-noise
ratio of the whole output: the first finds a single wrong value, the second an output that is wrong everywhere by a
little. A task is held by how much its own measure changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Tolerance:
    """What is allowed of one output at one precision."""

    peak: float  # largest difference, as a share of the output's peak
    snr_db: float  # least power of the output over that of the difference
    because: str


@dataclass(frozen=True)
class TaskTolerance:
    """Largest change allowed of one measure of a task at one precision."""

    change: float
    unit: str  # `dB`; `share`: of the inputs; `relative`: of torch's own figure
    because: str


# ---- tensors ----

_SUM = Tolerance(1e-5, 100, "a sum of some hundred products or cells in another order")
_ITERATED = Tolerance(1e-3, 60, "iterations renormalise the phase of bins all but silent, where rounding decides it")
_EXACT = dict.fromkeys(("magnitude", "spectrum", "log_mel", "count", "patch_counts"), _SUM) | {"speech": _ITERATED}

_ORDER = "convolutions in another order through ten to thirty layers, then a sigmoid or a softmax"
_ROUNDED = "every layer rounds its output to 11 bits, 5e-4 of a value; over thirty layers errors add up like noise"
_STEPS = "8 bits are steps of 1/127 of the largest activation seen, 1 % to 5 % of noise in each layer"

_NETWORKS = ("identity", "separated_magnitude", "attention", "density", "patch_importance", "patch_estimates")
_FP32 = _EXACT | dict.fromkeys(_NETWORKS, Tolerance(1e-4, 80, _ORDER))
_FP16 = _EXACT | {
    "identity": Tolerance(1e-2, 45, _ROUNDED),
    "separated_magnitude": Tolerance(1e-2, 45, _ROUNDED),
    "attention": Tolerance(1e-2, 45, f"{_ROUNDED}; a sigmoid is steep in its middle"),
    "density": Tolerance(2e-2, 40, f"{_ROUNDED}; single cells, whose sum is held by the task's measure"),
    "patch_importance": Tolerance(2e-2, 40, f"{_ROUNDED}; a softmax multiplies the error of its logits"),
    "patch_estimates": Tolerance(2e-2, 40, _ROUNDED),
}
_INT8 = _EXACT | {
    "identity": Tolerance(0.25, 15, f"{_STEPS}; at 15 dB the cosine with the fp32 identity is 0.98"),
    "separated_magnitude": Tolerance(0.3, 18, f"{_STEPS}; single bins at the edge of a mask"),
    "attention": Tolerance(0.3, 20, f"{_STEPS}; a sigmoid is steep in its middle"),
    "density": Tolerance(0.5, 15, f"{_STEPS}; single cells, whose sum is held by the task's measure"),
    "patch_importance": Tolerance(0.5, 15, f"{_STEPS}; a softmax multiplies the error of its logits"),
    "patch_estimates": Tolerance(0.5, 15, _STEPS),
}
TENSORS: dict[str, dict[str, Tolerance]] = {"fp32": _FP32, "fp16": _FP16, "int8": _INT8}

# ---- tasks ----

_ONE_IN_A_HUNDRED = "one mixture of a hundred whose two voices come out almost equally loud may fall to either side"
_SEPARATION = {
    "fp32": {
        "sdri_db": TaskTolerance(0.01, "dB", "nothing but the order of sums differs"),
        "accuracy": TaskTolerance(0.01, "share", _ONE_IN_A_HUNDRED),
    },
    "fp16": {
        "sdri_db": TaskTolerance(0.02, "dB", "a fifth of what the served path may cost, which is 0.1 dB"),
        "accuracy": TaskTolerance(0.01, "share", _ONE_IN_A_HUNDRED),
    },
    "int8": {
        "sdri_db": TaskTolerance(
            0.1, "dB", "all that the served path may cost; int8 takes it where speed is asked for"
        ),
        "accuracy": TaskTolerance(0.02, "share", f"{_ONE_IN_A_HUNDRED}, and with 8 bits a second one"),
    },
}
_COUNTING = {
    "fp32": {"mae": TaskTolerance(0.001, "relative", "a fifth of what the served path may cost, which is 0.5 %")},
    "fp16": {"mae": TaskTolerance(0.005, "relative", "as much as the served path may cost")},
    "int8": {"mae": TaskTolerance(0.03, "relative", "single scenes move by some people to either side; whoever chooses "
                                  "int8 accepts as much")},
}  # fmt: skip
TASKS: dict[str, dict[str, dict[str, TaskTolerance]]] = {
    "facefilter_identity": _SEPARATION,
    "facefilter_separator": _SEPARATION,
    "crowd_av": _COUNTING,
    "crowd_v": _COUNTING,
}


def tensor_tolerance(output: str, precision: str) -> Tolerance:
    """What is allowed of an output in a graph of that precision."""
    return TENSORS[precision][output]


def peak_tolerances(precision: str) -> dict[str, float]:
    """Largest difference allowed of every output, as a share of its peak."""
    return {name: tolerance.peak for name, tolerance in TENSORS[precision].items()}


def task_misses(model_name: str, precision: str, torch: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    """Measures that changed by more than is allowed, in words; NaN is always a miss.

    Args:
        model_name: whose artefact was judged.
        precision: of the artefact.
        torch: the measures with the module in fp32.
        found: the same with the artefact.
    """
    misses = []
    for measure, tolerance in TASKS[model_name][precision].items():
        change = change_of(measure, torch, found, tolerance.unit)
        if not abs(change) <= tolerance.change:
            misses.append(
                f"{measure} is {found[measure]:.4g}, torch's {torch[measure]:.4g}: changed by {change:.3g} "
                f"({tolerance.unit}), allowed are {tolerance.change:g}"
            )
    return misses


def change_of(measure: str, torch: Mapping[str, float], found: Mapping[str, float], unit: str) -> float:
    """The change of a measure in the unit of its tolerance; NaN where a relative one has nothing to relate to."""
    change = found[measure] - torch[measure]
    if unit != "relative":
        return change
    return change / torch[measure] if torch[measure] else (0.0 if change == 0 else math.nan)

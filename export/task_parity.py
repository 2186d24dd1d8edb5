"""The proof in the task's own measure: on a hundred mixtures or scenes, does an artefact do its work as torch does?

    separator: mixture ─> STFT ─> artefact ─> Griffin-Lim ─> SDR improvement, and whose voice came out
    counters:  scene   ─> artefact ─> density's sum        ─> MAE against the heads that were drawn
    identity:  face    ─> artefact                         ─> cosine to torch's identity

Everything around the artefact is torch in fp32, the same on both sides, so that every difference is the artefact's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from export import real_inputs
from export.contract import Model
from export.errors import ExportError
from export.parity import Array, Runner, torch_runner
from export.precision import Precision
from export.thresholds import TASKS
from train.crowd.metrics import mean_absolute_error
from train.dsp import GriffinLim, Stft
from train.facefilter.metrics import sdr_db


@dataclass(frozen=True)
class TaskParity:
    """One measure of one artefact on `inputs` inputs: how far it is from torch's, and what was allowed."""

    measure: str  # a key of `thresholds.TASKS`
    difference: float
    allowed: float
    torch: float  # the measure itself; of counts the mean, of a cosine 1
    artefact: float
    inputs: int

    @property
    def holds(self) -> bool:
        """Whether the artefact may be published; NaN never holds."""
        return self.difference <= self.allowed

    def facts(self) -> dict[str, Any]:
        """For reports and manifests."""
        return {
            "difference": self.difference,
            "allowed": self.allowed,
            "torch": self.torch,
            "artefact": self.artefact,
            "inputs": self.inputs,
        }


class Judge:
    """Runs the tasks.

    Args:
        identify: the face network.
        count: mixtures and scenes, at least 100 for a verdict.
        seed: of both.
    """

    def __init__(
        self, identify: nn.Module, *, count: int = real_inputs.JUDGED, seed: int = real_inputs.JUDGING_SEED
    ) -> None:
        self.identify = identify
        self.count, self.seed = count, seed

    def measure(self, module: nn.Module, model: Model, runner: Runner, precision: Precision) -> list[TaskParity]:
        """Judge an artefact; an empty list for a model that has no task of its own."""
        rows = real_inputs.rows_of(model, self.identify, count=self.count, seed=self.seed)
        if not rows:
            return []
        wanted, found = _answers(torch_runner(module, model), rows), _answers(runner, rows)
        if model.name == "facefilter_separator":
            compared = self._separation(wanted["separated_magnitude"], found["separated_magnitude"])
        elif model.name == "facefilter_identity":
            compared = _identities(wanted["identity"], found["identity"])
        else:
            compared = self._counting(wanted["density"], found["density"])
        allowed = TASKS[precision]
        return [
            TaskParity(name, difference, allowed[name], of_torch, of_artefact, self.count)
            for name, (difference, of_torch, of_artefact) in compared.items()
        ]

    def _separation(self, wanted: Array, found: Array) -> dict[str, tuple[float, float, float]]:
        talking = real_inputs.mixtures(self.count, self.seed)
        mixture, target, interferer = map(torch.from_numpy, (talking.mixture, talking.target, talking.interferer))
        _, spectrum = Stft()(mixture)
        heard = sdr_db(mixture, target)

        def judged(magnitude: Array) -> tuple[float, float]:
            voice = GriffinLim()(torch.from_numpy(magnitude), spectrum)
            sdr = sdr_db(voice, target)
            right = sdr > sdr_db(voice, interferer)
            return float((sdr - heard).mean()), float(right.double().mean())

        with torch.no_grad():
            (sdri, accuracy), (sdri_found, accuracy_found) = judged(wanted), judged(found)
        return {
            "sdri_difference_db": (abs(sdri_found - sdri), sdri, sdri_found),
            "isolation_accuracy_difference": (abs(accuracy_found - accuracy), accuracy, accuracy_found),
        }

    def _counting(self, wanted: Array, found: Array) -> dict[str, tuple[float, float, float]]:
        people = real_inputs.scenes(self.count, self.seed).people.astype(np.float64)
        counts, counts_found = (density.sum(axis=(1, 2), dtype=np.float64) for density in (wanted, found))
        mae, mae_found = mean_absolute_error(counts, people), mean_absolute_error(counts_found, people)
        apart = mean_absolute_error(counts_found, counts)
        return {
            "mae_difference_share": (abs(mae_found - mae) / mae, mae, mae_found),
            "count_difference_share": (apart / float(counts.mean()), float(counts.mean()), float(counts_found.mean())),
        }


def require(model: Model, artefact: str, measured: list[TaskParity]) -> None:
    """Refuse an artefact that does its task otherwise than torch.

    Raises:
        ExportError: names the artefact, the measure, the difference seen and the one allowed.
    """
    for found in measured:
        if not found.holds:
            raise ExportError(
                f"{model.name}/{artefact}: {found.measure} is {found.difference:.3g} on {found.inputs} inputs (torch "
                f"{found.torch:.4g}, artefact {found.artefact:.4g}), allowed are {found.allowed:g}. It would do its "
                "task otherwise than the trained module; nothing published."
            )


def _answers(run: Runner, rows: list[dict[str, Array]]) -> dict[str, Array]:
    given = [run(row) for row in rows]
    return {name: np.concatenate([answer[name] for answer in given]) for name in given[0]}


def _identities(wanted: Array, found: Array) -> dict[str, tuple[float, float, float]]:
    cosines = (wanted.astype(np.float64) * found).sum(axis=1)
    cosines /= np.linalg.norm(wanted.astype(np.float64), axis=1) * np.linalg.norm(found.astype(np.float64), axis=1)
    return {"identity_distance": (float(1 - cosines.min()), 1.0, float(cosines.min()))}

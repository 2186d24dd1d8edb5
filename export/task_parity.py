"""The task's own measure with torch and with an artefact in torch's place, on the same inputs.

    facefilter_identity     SDRi and right talkers of the chain STFT, identity (artefact), separator, Griffin-Lim
    facefilter_separator    the same with both networks as artefacts: what is served
    crowd_av, crowd_v       mean absolute error of the count that the density sums up to

Both sides are judged by the same code, that of `avedge evaluate`. Every call of an artefact is compared with torch's
answer to the same input as well, so that the tensors are held on real-like inputs too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from export.contract import Model, model_named
from export.errors import ExportError
from export.parity import Array, Comparison, Parity, Runner, module_runner, require
from export.recipe import weights_of
from export.task_sets import LEAST_JUDGED, TaskSets
from export.thresholds import TASKS, change_of, task_misses
from train.crowd.interface import Counter
from train.facefilter.identity import FaceIdentity
from train.facefilter.separator import Separator
from train.facefilter.systems import Decoder, FaceSystem

log = logging.getLogger(__name__)
JUDGED = tuple(TASKS)
_COUNTERS = ("crowd_av", "crowd_v")
_ACTS = ("facefilter_identity", "facefilter_separator")


@dataclass(frozen=True)
class TaskParity:
    """One network's figures with torch and with the artefact."""

    model: str
    precision: str
    inputs: int
    torch: Mapping[str, float]
    artefact: Mapping[str, float]
    tensors: tuple[Parity, ...]  # over the same inputs
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Figures beside what they are held against."""
        measures = {
            name: {
                "torch": self.torch[name],
                "artefact": self.artefact[name],
                "change": change_of(name, self.torch, self.artefact, allowed.unit),
                "allowed_change": allowed.change,
                "unit": allowed.unit,
            }
            for name, allowed in TASKS[self.model][self.precision].items()
        }
        tensors = {parity.output: parity.as_json() for parity in self.tensors}
        return {"inputs": self.inputs, "measures": measures, "tensors": tensors, "seconds": round(self.seconds, 1)}


class Artefact(nn.Module):
    """An artefact in the place of its module; each answer is compared with the module's."""

    def __init__(self, model: Model, runner: Runner, module: nn.Module) -> None:
        super().__init__()
        self._model, self._runner = model, runner
        self._reference = module_runner(module, model)
        self.compared = {tensor.name: Comparison() for tensor in model.outputs}

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Answer by the artefact."""
        given: dict[str, Array] = {
            tensor.name: value.contiguous().numpy() for tensor, value in zip(self._model.inputs, tensors, strict=True)
        }
        found, wanted = self._runner(given), self._reference(given)
        for name, comparison in self.compared.items():
            comparison.add(found[name], wanted[name])
        answers = tuple(torch.from_numpy(found[tensor.name]) for tensor in self._model.outputs)
        return answers if len(answers) > 1 else answers[0]

    def parities(self, precision: str) -> tuple[Parity, ...]:
        """What the comparisons came to."""
        return tuple(comparison.parity(name, precision) for name, comparison in self.compared.items())


class _Chain(FaceSystem):
    """The chain that is served, of modules and artefacts mixed."""

    def describe(self) -> dict[str, Any]:
        return {"kind": "artefacts"}


def judge(
    sets: TaskSets, weights: Path, modules: Mapping[str, nn.Module], runners: Mapping[str, Runner], precision: str
) -> list[TaskParity]:
    """Judge every network that has a task.

    Args:
        sets: what to judge on.
        weights: folder of the trained weights.
        modules: the networks in torch, by model name.
        runners: the artefacts.
        precision: of the artefacts.

    Raises:
        TrainError: the sets or the weights cannot be read.
    """
    placed = {name: Artefact(model_named(name), runners[name], modules[name]) for name in JUDGED}
    return [*_separation(sets, modules, placed, precision), *_counting(sets, weights, placed, precision)]


def require_tasks(found: list[TaskParity], *, least: int = LEAST_JUDGED) -> None:
    """Refuse artefacts that change the task's measure, or were judged on too few inputs.

    Args:
        found: as `judge` gives it.
        least: inputs of each.

    Raises:
        ExportError: names the model, the measure, the change seen and the change allowed.
    """
    for one in found:
        require(model_named(one.model), f"model.onnx on {one.inputs} drawn inputs", list(one.tensors))
        misses = task_misses(one.model, one.precision, one.torch, one.artefact)
        if one.inputs < least:
            misses.append(f"it was judged on {one.inputs} inputs, wanted are {least}")
        if misses:
            raise ExportError(
                f"{one.model}/model.onnx in {one.precision}: {'; '.join(misses)}. It would do its task otherwise than "
                "the trained network; nothing published. Keep more of it in fp32, or calibrate on other inputs."
            )


def _separation(
    sets: TaskSets, modules: Mapping[str, nn.Module], placed: Mapping[str, Artefact], precision: str
) -> list[TaskParity]:
    from train.facefilter.evaluation import evaluate

    decoder = Decoder()

    def judged(face: nn.Module, separator: nn.Module) -> tuple[dict[str, float], int, float]:
        system = _Chain(cast(FaceIdentity, face), cast(Separator, separator), decoder)
        report = evaluate(sets.root, sets.mixtures, system, decoder)
        figures = {name: float(report["overall"][name]) for name in ("sdri_db", "accuracy")}
        return figures, int(report["overall"]["n"]), float(report["seconds"])

    face, separator = (modules[name] for name in _ACTS)
    log.info("judging separation on %d mixtures, with torch, then with artefacts", len(sets.mixtures))
    own, _, _ = judged(face, separator)
    sides = {
        "facefilter_identity": (placed["facefilter_identity"], separator),
        "facefilter_separator": (placed["facefilter_identity"], placed["facefilter_separator"]),
    }
    found = []
    for name, (first, second) in sides.items():
        figures, inputs, seconds = judged(first, second)
        found.append(TaskParity(name, precision, inputs, own, figures, placed[name].parities(precision), seconds))
        log.info("%-24s %s SDRi %.3f dB, torch %.3f dB", name, precision, figures["sdri_db"], own["sdri_db"])
    return found


def _counting(sets: TaskSets, weights: Path, placed: Mapping[str, Artefact], precision: str) -> list[TaskParity]:
    from train.crowd.evaluation import Options, evaluate
    from train.crowd.systems import TorchSystem

    found = []
    for name in _COUNTERS:
        log.info("judging %s on %d scenes, with torch, then with the artefact", name, len(sets.scenes))
        system = TorchSystem(weights_of(name, weights))
        own = evaluate(sets.scenes, system, Options())
        began = time.monotonic()
        system.counter = cast(Counter, placed[name])
        report = evaluate(sets.scenes, system, Options())
        seconds = time.monotonic() - began
        figures, torchs = ({"mae": float(one["mae"])} for one in (report, own))
        tensors = placed[name].parities(precision)
        found.append(TaskParity(name, precision, int(report["n"]), torchs, figures, tensors, seconds))
        log.info("%-24s %s MAE %.3f, torch %.3f", name, precision, figures["mae"], torchs["mae"])
    return found

"""Every model to its files: exported, brought to a precision, held against the module, judged, published together."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from torch import nn

from export import golden, parity, publish
from export.contract import MODELS, Model
from export.errors import ExportError
from export.lint import facts_of, lint, lint_facts, lint_file
from export.modules import is_network, served_module, untrained_module, weights_digest
from export.parity import Array, Parity, Runner
from export.recipe import Recipe, graph_facts, release_facts, weights_of
from export.samples import calibration_inputs, untrained_calibration

if TYPE_CHECKING:
    from export.task_parity import TaskParity
    from export.task_sets import TaskSets

log = logging.getLogger(__name__)
GRAPH, SCRIPT = "model.onnx", "model.pt"
_TRIED_ON = 4  # of the calibration's inputs, kept back from it
_LARGEST_FILE = 2**31 - 1  # protobuf writes no more


@dataclass
class Made:
    """A model's files, and what was found out about them."""

    model: Model
    files: dict[str, bytes]
    facts: dict[str, str]  # of the graph
    parities: dict[str, list[Parity]]  # by file
    seconds: float
    live: tuple[nn.Module, Runner] | None  # the module and what runs the graph, while they are judged
    task: TaskParity | None = None

    def errors(self) -> dict[str, dict[str, float]]:
        """Largest error of each output by file, as a share of its peak."""
        return {file: {one.output: one.error for one in found} for file, found in self.parities.items()}

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "precision": self.facts["precision"],
            "weights_sha256": self.facts["weights_sha256"],
            "bytes": {name: len(content) for name, content in self.files.items()},
            "tensors": {file: {one.output: one.as_json() for one in found} for file, found in self.parities.items()},
            "task": self.task.as_json() if self.task else None,
            "seconds": round(self.seconds, 1),
        }


def export_all(repository: Path, recipe: Recipe, source: str) -> tuple[int, list[Made]]:
    """Export, prove and publish every model of the contract.

    Args:
        repository: the model repository.
        recipe: what to make.
        source: its `source_digest`.

    Returns:
        The new version's number, and what was made.

    Raises:
        ExportError: something could not be made, differs from torch, or does its task otherwise; nothing is published.
        TrainError: weights cannot be read.
    """
    _require_same_kind(repository, recipe)
    sets = _task_sets(recipe)
    made = []
    for model in MODELS:
        made.append(make(model, recipe, sets))
        if not recipe.tasks:
            made[-1].live = None  # a paper's separator is a gigabyte in each
    if recipe.tasks:
        assert sets is not None
        _judge(made, recipe, sets)
    known = {} if recipe.untrained else golden.answers(recipe.weights)
    staged: dict[str, Path] = {}
    try:
        for one in made:
            facts = {**one.facts, **release_facts(recipe, source), "parity": one.errors()}
            facts |= golden.manifest_facts(one.model.name, known)
            facts["proof"] = one.as_json()["tensors"] | ({"task": one.task.as_json()} if one.task else {})
            staged[one.model.name] = publish.stage(repository / one.model.name, one.files, facts)
            lint_file(staged[one.model.name] / GRAPH, one.model)
        return publish.publish(repository, staged), made
    except BaseException:
        publish.discard(staged)
        raise


def make(model: Model, recipe: Recipe, sets: TaskSets | None) -> Made:
    """Make a model's files and hold each against the module.

    Raises:
        ExportError: one could not be made, or differs by more than the tolerance.
        TrainError: its weights cannot be read.
    """
    from export.to_onnx import export_onnx
    from export.to_torchscript import export_torchscript

    began = time.monotonic()
    if recipe.untrained is None:
        module, digest = served_module(model, recipe.weights), weights_digest(model, recipe.weights)
    else:
        module, digest = untrained_module(model, recipe.untrained), ""
    exported = export_onnx(module, model, graph_facts(model, digest, recipe.untrained if is_network(model) else None))
    calibration = _calibration(model, recipe, sets)
    graph = converted(exported, model, recipe.precision, calibration[_TRIED_ON:])
    del exported
    files = {GRAPH: _bytes_of(graph, model), SCRIPT: export_torchscript(module, model)}
    facts = facts_of(graph)
    del graph
    runner = parity.onnx_runner(files[GRAPH])
    parities = {
        GRAPH: parity.measure(module, model, runner, facts["precision"], calibration[:_TRIED_ON] or None),
        SCRIPT: parity.measure(module, model, parity.torchscript_runner(files[SCRIPT], model)),
    }
    for name, measured in parities.items():
        _require_and_tell(model, name, files[name], measured)
    if recipe.engines:
        from export.engines import MANIFEST_FILE, build
        from export.engines.manifest import table

        files |= build(files[GRAPH], model, facts["precision"])
        log.info("%s", table(json.loads(files[MANIFEST_FILE])))
    return Made(model, files, facts, parities, time.monotonic() - began, (module, runner))


def converted(
    graph: onnx.ModelProto, model: Model, precision: str, calibration: Sequence[dict[str, Array]]
) -> onnx.ModelProto:
    """An fp32 graph in the precision that is published, int8 in the spelling that is quick on a CPU.

    Raises:
        ExportError: the converted graph breaks the contract or the lint, or says other than what it is.
    """
    if precision == "fp32" or model.exact:
        return graph
    from export.cpu_spelling import for_cpu
    from export.precision import convert

    lower = convert(graph, model, precision, calibration)
    lower = for_cpu(lower) if precision == "int8" else lower
    lint(lower, model)
    lint_facts(lower, model)
    return lower


def _bytes_of(graph: onnx.ModelProto, model: Model) -> bytes:
    if graph.ByteSize() > _LARGEST_FILE:
        raise ExportError(
            f"{model.name} has {graph.ByteSize() / 1e9:.1f} GB of weights; wanted at most 2.1 GB, because a served "
            "model is one ONNX file and protobuf writes no larger one. Export it with --precision fp16, or a smaller "
            "network."
        )
    content: bytes = graph.SerializeToString()
    return content


def _task_sets(recipe: Recipe) -> TaskSets | None:
    if not recipe.needs_task_sets:
        return None
    from export.task_sets import drawn

    return drawn(recipe.task_sets)


def _calibration(model: Model, recipe: Recipe, sets: TaskSets | None) -> list[dict[str, Array]]:
    """Real-like inputs where trained weights are converted, samples where random ones are, else none."""
    if model.exact or recipe.precision == "fp32":
        return []
    if recipe.untrained is not None:
        return untrained_calibration(model)
    assert sets is not None
    from train.facefilter.identity import load_face_identity

    return calibration_inputs(model, sets, load_face_identity(weights_of("facefilter_identity", recipe.weights)))


def _judge(made: Sequence[Made], recipe: Recipe, sets: TaskSets) -> None:
    """Judge the networks by their tasks, and keep what was found.

    Raises:
        ExportError: one does its task otherwise than torch.
    """
    from export.task_parity import judge, require_tasks

    live = {one.model.name: one.live for one in made if one.live is not None}
    modules = {name: module for name, (module, _) in live.items()}
    runners = {name: runner for name, (_, runner) in live.items()}
    found = judge(sets, recipe.weights, modules, runners, recipe.precision)
    for one in made:
        one.task = next((task for task in found if task.model == one.model.name), None)
    require_tasks(found)


def _require_and_tell(model: Model, name: str, content: bytes, measured: list[Parity]) -> None:
    worst = max(measured, key=lambda found: found.error / found.tolerance.peak)
    log.info("%-24s %-10s %7.1f kB  worst %s: %.1e of peak, allowed %.0e; %.0f dB",
             model.name, name, len(content) / 1000, worst.output, worst.error, worst.tolerance.peak,
             worst.snr_db)  # fmt: skip
    parity.require(model, name, measured)


def _require_same_kind(repository: Path, recipe: Recipe) -> None:
    """Refuse to publish random weights over trained ones.

    Raises:
        ExportError: the repository serves trained weights.
    """
    manifest = publish.newest_manifest(repository / MODELS[0].name)
    if recipe.untrained and manifest is not None and not (manifest.get("release") or {}).get("untrained"):
        raise ExportError(
            f"{repository} holds trained networks, and --untrained {recipe.untrained} makes random ones; wanted a "
            "repository of their own, because a server would answer nonsense from the next release on. Name it with "
            "--repository."
        )

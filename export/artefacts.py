"""Every artefact of a served model made, proven, and told of: what `avedge export` publishes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from export import parity, precision, real_inputs, task_parity
from export.contract import CONTRACT_VERSION, MODELS, Model, contract_digest, model_named
from export.errors import ExportError
from export.lint import LICENSE, lint_file
from export.modules import Preset, served_module, untrained_module, weights_digest
from export.parity import Parity, Runner
from export.precision import Precision
from export.task_parity import Judge, TaskParity
from export.to_onnx import OPSET, export_onnx
from export.to_torchscript import export_torchscript

log = logging.getLogger(__name__)
Facts = dict[str, Any]
_INT8_FOR_ENGINES = "model.onnx as engines are built from it"


@dataclass(frozen=True)
class Wish:
    """What an export is to make."""

    weights: Path  # folder of safetensors files
    precision: Precision = "fp32"
    untrained: Preset | None = None  # random weights in these sizes
    engines: bool = False


class Exporter:
    """Makes and proves artefacts; the face network and the judge are shared by all models."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.identify = self.module(model_named("facefilter_identity"))
        # Random weights do no task.
        self.judge = None if wish.untrained else Judge(self.identify)

    def module(self, model: Model) -> nn.Module:
        """The torch module behind a model, trained or not."""
        if self.wish.untrained:
            return untrained_module(model, self.wish.untrained)
        return served_module(model, self.wish.weights)

    def make(self, model: Model, module: nn.Module | None = None) -> tuple[dict[str, bytes], Facts]:
        """Make a model's files and hold each against the module.

        Args:
            model: the contract's entry.
            module: what to export; the served one when None.

        Returns:
            Files by name, and what the manifest says of them.

        Raises:
            ExportError: one could not be made, or differs by more than `export.thresholds` allows.
        """
        module = module or self.module(model)
        chosen: Precision = "fp32" if model.exact else self.wish.precision
        facts = self._facts(model, chosen)
        full = export_onnx(module, model, facts | {"precision": "fp32"})
        graph = precision.convert(full, model, chosen, self._calibration(model, chosen))
        served = precision.for_cpu(graph) if chosen == "int8" else graph
        artefacts = {"model.onnx": served.SerializeToString(), "model.pt": export_torchscript(module, model)}
        proofs = [
            self._prove(module, model, "model.onnx", parity.onnx_runner(artefacts["model.onnx"]), chosen),
            self._prove(module, model, "model.pt", parity.torchscript_runner(artefacts["model.pt"], model), "fp32"),
        ]
        if self.wish.engines:
            from export.engines import build

            if chosen == "int8":
                proofs.append(self._prove(module, model, _INT8_FOR_ENGINES, _runner_of(graph), chosen))
            artefacts |= build(graph.SerializeToString(), model, chosen)
        return artefacts, {**facts, "proof": {name: proof for found in proofs for name, proof in found.items()}}

    def _facts(self, model: Model, chosen: Precision) -> dict[str, str]:
        """Facts stored inside the graph and in the manifest."""
        untrained = self.wish.untrained
        return {
            "model": model.name,
            "summary": model.summary,
            "contract_version": str(CONTRACT_VERSION),
            "contract_digest": contract_digest(),
            "precision": chosen,
            "opset": str(OPSET),
            "weights_sha256": "" if untrained else weights_digest(model, self.wish.weights),
            "license": LICENSE,
        } | ({"untrained": untrained} if untrained else {})

    def _calibration(self, model: Model, chosen: Precision) -> list[dict[str, parity.Array]]:
        if chosen == "fp32":
            return []
        count, seed = real_inputs.CALIBRATED, real_inputs.CALIBRATION_SEED
        return real_inputs.rows_of(model, self.identify, count=count, seed=seed)

    def _prove(self, module: nn.Module, model: Model, name: str, runner: Runner, chosen: Precision) -> Facts:
        """Tensor by tensor, and in the task; int8 knows only inputs like those that it was calibrated on."""
        judged = name != "model.pt"
        rows = self._judged_rows(model) if chosen == "int8" else None
        measured = parity.measure(module, model, runner, chosen, rows)
        done = self.judge.measure(module, model, runner, chosen) if self.judge and judged else []
        _tell(model, name, measured, done)
        if not (self.wish.untrained and chosen == "int8"):  # random weights answer noise, which eight bits change
            parity.require(model, name, measured)
        task_parity.require(model, name, done)
        return {name: {"precision": chosen, "tensors": _tensor_facts(measured), "task": _task_facts(done)}}

    def _judged_rows(self, model: Model) -> list[dict[str, parity.Array]]:
        count, seed = real_inputs.JUDGED, real_inputs.JUDGING_SEED
        return real_inputs.rows_of(model, self.identify, count=count, seed=seed)


def export_all(repository: Path, wish: Wish, facts: Facts) -> tuple[int, Facts]:
    """Export, prove and publish every model of the contract.

    Args:
        repository: Triton model repository.
        wish: what to make.
        facts: for every manifest.

    Returns:
        The new version's number; and for each model its artefacts' proofs and sizes in bytes.

    Raises:
        ExportError: something misses; nothing is published.
    """
    from export import publish

    staged: dict[str, Path] = {}
    report: Facts = {}
    try:
        exporter = Exporter(wish)
        for model in MODELS:
            artefacts, made = exporter.make(model)
            staged[model.name] = publish.stage(repository / model.name, artefacts, {**made, **facts})
            lint_file(staged[model.name] / "model.onnx", model)
            sizes = {name: len(content) for name, content in artefacts.items()}
            report[model.name] = {"precision": made["precision"], "bytes": sizes, "proof": made["proof"]}
        return publish.publish(repository, staged), report
    except BaseException:
        publish.discard(staged)
        raise


def _runner_of(graph: onnx.ModelProto) -> Runner:
    return parity.onnx_runner(graph.SerializeToString())


def _tensor_facts(measured: Sequence[Parity]) -> Facts:
    return {
        found.output: {
            "error": found.error,
            "allowed": found.tolerance,
            "snr_db": round(found.snr_db, 2) if found.snr_db < 1e6 else None,
            "least_snr_db": found.least_snr_db,
        }
        for found in measured
    }


def _task_facts(done: Sequence[TaskParity]) -> Facts:
    return {found.measure: found.facts() for found in done}


def _tell(model: Model, name: str, measured: Sequence[Parity], done: Sequence[TaskParity]) -> None:
    worst = max(measured, key=lambda found: found.error / found.tolerance)
    log.info("%-22s %-10s worst %s: %.1e of peak, allowed %.0e; %.0f dB", model.name, name, worst.output,
             worst.error, worst.tolerance, worst.snr_db)  # fmt: skip
    for found in done:
        log.info("%-22s %-10s %s %.2g, allowed %g", model.name, name, found.measure, found.difference, found.allowed)


__all__ = ["ExportError", "Exporter", "Wish", "export_all"]

"""`avedge export`: every served model to its artefacts, proven equal, published as one new version."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.contract import CONTRACT_VERSION, MODELS, Model, contract_digest, model_named
from train import settings

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)
_ROOT = Path(__file__).resolve().parents[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge export`."""
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="Triton model repository")
    parser.add_argument("--weights", type=Path, default=_ROOT / "train" / "weights", help="folder of safetensors files")
    parser.add_argument("--target", choices=("portable", "tensorrt"), default="portable",
                        help="portable: ONNX and TorchScript; tensorrt: an engine too, where TensorRT is")  # fmt: skip
    parser.add_argument("--configs-only", action="store_true", help="only write the Triton configs")
    parser.add_argument(
        "--if-needed", action="store_true", help="do nothing when the newest version is made of the same"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every parity figure")


def run(arguments: argparse.Namespace) -> int:
    """Carry out `avedge export`; raises ExportError or TrainError, and has then published nothing."""
    from export.configs import write_configs
    from export.publish import finish_interrupted

    write_configs(arguments.repository)
    if arguments.configs_only:
        return 0
    if arguments.target == "tensorrt":
        from export.engines.library import load_library, require_gpu

        load_library("tensorrt")  # refused now, not after the first export
        require_gpu()
    finish_interrupted(arguments.repository)
    source = source_digest(arguments.weights)
    if arguments.if_needed and is_current(arguments.repository, source, arguments.target):
        log.info("%s is up to date", arguments.repository)
        return 0
    version, parities = export_all(
        arguments.repository, arguments.weights, source, engines=arguments.target == "tensorrt"
    )
    for name in uncalibrated(arguments.weights):
        log.warning("%s: its interval was calibrated with other weights and may not hold with these. Calibrate them, "
                    "and set theirs, or None, in train/settings.py.", name)  # fmt: skip
    report = {"version": version, "contract_digest": contract_digest(), "parity": parities}
    line = (
        json.dumps(report) if arguments.json else f"version {version} of {len(MODELS)} models in {arguments.repository}"
    )
    sys.stdout.write(line + "\n")
    return 0


def export_all(repository: Path, weights: Path, source: str, *, engines: bool) -> tuple[int, dict[str, Any]]:
    """Export, prove and publish every model of the contract.

    Returns:
        The new version's number, and for each model and artefact the largest error of each output.
    """
    from export import publish
    from export.lint import lint_file
    from export.modules import served_module, weights_digest

    staged: dict[str, Path] = {}
    parities: dict[str, Any] = {}
    try:
        for model in MODELS:
            module = served_module(model, weights)
            metadata = _metadata(model, weights_digest(model, weights))
            artefacts, parities[model.name] = make_artefacts(module, model, metadata, engines=engines)
            facts = {**metadata, "source_digest": source, "git_commit": _git_commit(), "parity": parities[model.name]}
            staged[model.name] = publish.stage(repository / model.name, artefacts, facts)
            lint_file(staged[model.name] / "model.onnx", model)
        return publish.publish(repository, staged), parities
    except BaseException:
        publish.discard(staged)
        raise


def make_artefacts(
    module: nn.Module, model: Model, metadata: dict[str, str], *, engines: bool
) -> tuple[dict[str, bytes], dict[str, dict[str, float]]]:
    """Make a model's files and hold each against the module.

    Raises:
        ExportError: one could not be made, or differs by more than the tolerance.
    """
    from export import parity
    from export.to_onnx import export_onnx
    from export.to_torchscript import export_torchscript

    graph = export_onnx(module, model, metadata).SerializeToString()
    script = export_torchscript(module, model)
    artefacts = {"model.onnx": graph, "model.pt": script}
    runners = {"model.onnx": parity.onnx_runner(graph), "model.pt": parity.torchscript_runner(script, model)}
    errors: dict[str, dict[str, float]] = {}
    for name, runner in runners.items():
        measured = parity.measure(module, model, runner)
        parity.require(model, name, measured)
        errors[name] = {found.output: found.error for found in measured}
        worst = max(measured, key=lambda found: found.error / found.tolerance)
        log.info("%-24s %-10s %7.1f kB  worst %s: %.1e of peak, allowed %.0e",
                 model.name, name, len(artefacts[name]) / 1000, worst.output, worst.error, worst.tolerance)  # fmt: skip
    if engines:
        from export.engines import MANIFEST_FILE, build
        from export.engines.manifest import table

        artefacts |= build(graph, model, metadata["precision"])
        log.info("%s", table(json.loads(artefacts[MANIFEST_FILE])))
    return artefacts, errors


def source_digest(weights: Path) -> str:
    """Fingerprint of what the artefacts are made of: the code of `train` and `export`, and the weights."""
    files = [path for package in ("train", "export") for path in sorted((_ROOT / package).rglob("*.py"))]
    digest = hashlib.sha256()
    for path in (*files, *sorted(weights.glob("*.safetensors"))):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def is_current(repository: Path, source: str, target: str) -> bool:
    """Whether the newest version of every model is whole and made of this code and these weights."""
    from export.publish import newest_manifest

    needed = {"model.onnx", "model.pt"} | ({"model.plan"} if target == "tensorrt" else set())
    manifests = [newest_manifest(repository / model.name) for model in MODELS]
    return all(m is not None and m["source_digest"] == source and needed <= set(m["artefacts"]) for m in manifests)


def uncalibrated(weights: Path) -> list[str]:
    """Counters whose served interval belongs to other weights than those of the folder."""
    from export.modules import weights_digest

    intervals = {"crowd_av": settings.CROWD_AV_INTERVAL, "crowd_v": settings.CROWD_V_INTERVAL}
    return [
        name
        for name, interval in intervals.items()
        if interval and not weights_digest(model_named(name), weights).startswith(interval.weights_sha256)
    ]


def _metadata(model: Model, weights_sha256: str) -> dict[str, str]:
    """Facts stored inside the graph and in the manifest."""
    from export.to_onnx import OPSET

    return {
        "model": model.name,
        "summary": model.summary,
        "contract_version": str(CONTRACT_VERSION),
        "contract_digest": contract_digest(),
        "precision": "fp32",
        "opset": str(OPSET),
        "weights_sha256": weights_sha256,
        "license": "Apache-2.0",
    }


def _git_commit() -> str:
    """Commit of the source tree, `unknown` outside one."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"

"""`avedge export`: every served model to its artefacts, proven equal, published as one new version."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.contract import MODELS, contract_digest, model_named
from export.recipe import NETWORKS, TASK_SETS, WEIGHTS, Recipe, own_networks, require_names
from export.thresholds import PRECISIONS
from train import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from export.artefacts import Made

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge export`."""
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="Triton model repository")
    parser.add_argument(
        "--weights",
        type=Path,
        default=WEIGHTS,
        help="folder of safetensors files; the demonstration's for networks that it lacks",
    )
    parser.add_argument("--target", choices=("portable", "tensorrt"), default="portable",
                        help="portable: ONNX and TorchScript; tensorrt: an engine too, where TensorRT is")  # fmt: skip
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32",
                        help="of the networks in model.onnx, and in the engine made of it (%(default)s); signal "
                        "processing and model.pt are fp32 always")  # fmt: skip
    parser.add_argument("--task-parity", action="store_true",
                        help="judge the networks by SDRi and count MAE on 100 drawn inputs as well, some minutes; "
                        "always done for fp16 and int8")  # fmt: skip
    parser.add_argument("--untrained", choices=("paper", "compact"),
                        help="random weights in a preset's sizes, to measure speed and nothing else; "
                        "wants a --repository of its own")  # fmt: skip
    parser.add_argument("--task-sets", type=Path, default=TASK_SETS, metavar="FOLDER",
                        help="where the drawn inputs are kept (%(default)s)")  # fmt: skip
    parser.add_argument("--configs-only", action="store_true", help="only write the Triton configs")
    parser.add_argument(
        "--if-needed", action="store_true", help="do nothing when the newest version is made of the same"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write every parity figure there, as JSON")
    parser.add_argument("--json", action="store_true", help="print the same as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Carry out `avedge export`; raises ExportError or TrainError, and has then published nothing."""
    from export.configs import write_configs
    from export.publish import finish_interrupted

    recipe = recipe_of(arguments)
    if recipe.untrained is None:
        require_names(recipe.weights)
    write_configs(arguments.repository)
    if arguments.configs_only:
        return 0
    fitting = True
    if recipe.engines:
        from export.engines.library import load_library, require_gpu
        from export.engines.manifest import engines_fit

        trt, gpu = load_library("tensorrt"), require_gpu()  # refused now, not after the first export
        fitting = engines_fit(arguments.repository, str(trt.__version__), gpu)
    finish_interrupted(arguments.repository)
    source = recipe.source_digest()
    if arguments.if_needed and fitting and recipe.is_current(arguments.repository, source):
        log.info("%s is up to date", arguments.repository)
        return 0
    from export.artefacts import export_all

    began = time.monotonic()
    version, made = export_all(arguments.repository, recipe, source)
    if recipe.untrained is None:
        _tell_whose(recipe.weights)
        _warn_of_intervals(recipe.weights)
    report = report_of(recipe, version, made, time.monotonic() - began)
    if arguments.report is not None:
        from train.files import write_atomically

        write_atomically(arguments.report, (json.dumps(report, indent=1) + "\n").encode())
    line = (
        json.dumps(report) if arguments.json else f"version {version} of {len(MODELS)} models in {arguments.repository}"
    )
    sys.stdout.write(line + "\n")
    return 0


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """What the options ask for; converted networks with trained weights are always judged by their tasks."""
    trained = arguments.untrained is None
    return Recipe(
        weights=arguments.weights,
        precision=arguments.precision,
        untrained=arguments.untrained,
        engines=arguments.target == "tensorrt",
        tasks=trained and (arguments.task_parity or arguments.precision != "fp32"),
        task_sets=arguments.task_sets,
    )


def report_of(recipe: Recipe, version: int, made: Sequence[Made], seconds: float) -> dict[str, Any]:
    """Every figure of an export beside what it is held against."""
    from train.environment import command_line, stamp

    return {
        "what": "difference of every artefact from torch in fp32: of each output, by its largest difference as a share "
        "of the peak and by SNR; and of the task's own measure",
        "environment": stamp(command_line()),
        **recipe.release,
        "version": version,
        "contract_digest": contract_digest(),
        "models": {one.model.name: one.as_json() for one in made},
        "seconds": round(seconds, 1),
    }


def uncalibrated(weights: Path) -> list[str]:
    """Counters whose served interval belongs to other weights than those of the folder."""
    from export.modules import weights_digest

    intervals = {"crowd_av": settings.CROWD_AV_INTERVAL, "crowd_v": settings.CROWD_V_INTERVAL}
    return [
        name
        for name, interval in intervals.items()
        if interval and not weights_digest(model_named(name), weights).startswith(interval.weights_sha256)
    ]


def _tell_whose(weights: Path) -> None:
    """Say which weights are the demonstration's where only some of them are somebody's own."""
    own = own_networks(weights)
    others = [name for name in NETWORKS if name not in own]
    if own and others:
        log.info("of %s: %s; the demonstration's: %s", weights, ", ".join(own), ", ".join(others))


def _warn_of_intervals(weights: Path) -> None:
    for name in uncalibrated(weights):
        log.warning("%s: its interval was calibrated with other weights and may not hold with these. Calibrate them, "
                    "and set theirs, or None, in train/settings.py.", name)  # fmt: skip

"""Train a model by its config; configs in train/configs/ open with the commands to use.

avedge train crowd --config train/configs/crowd_v_compact.yaml
avedge train crowd --config train/configs/crowd_v_compact.yaml -- --fit.steps=10
avedge train crowd --config train/configs/crowd_v_compact.yaml --benchmark 20     does it wait for its data?
torchrun --nproc-per-node=2 avedge.py train crowd --config ...                    or `-- --fit.devices=2`
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Training:
    """What can be trained: `module` has the typed settings and the functions that prepare and train by them."""

    module: str
    settings: str
    prepare: str
    train: str
    summary: str


TRAINED = {
    "identity": Training(
        "train.facefilter.train_identity",
        "IdentityTraining",
        "prepare_identity",
        "train_identity",
        "FaceFilter's face and speech identity networks",
    ),
    "facefilter": Training(
        "train.facefilter.train_separator",
        "SeparatorTraining",
        "prepare_separator",
        "train_separator",
        "FaceFilter's separator, identities frozen",
    ),
    "crowd": Training("train.crowd.training", "CrowdTraining", "prepare_crowd", "train_crowd", "CC-AV or CC-V"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge train`."""
    kinds = parser.add_subparsers(dest="kind", metavar="model", required=True)
    for name, training in TRAINED.items():
        kind = kinds.add_parser(name, help=training.summary, description=training.summary)
        kind.add_argument("--config", type=Path, required=True, help="a YAML file such as those in train/configs/")
        kind.add_argument(
            "--resume", action="store_true", help="go on from the run folder's last checkpoint, where there is one"
        )
        kind.add_argument(
            "--benchmark", type=int, metavar="STEPS", help="time so many steps, print a JSON object, train nothing"
        )
        kind.add_argument(
            "overrides", nargs="*", metavar="--key=value", help="after `--`: changes to the config, as --fit.steps=10"
        )


def run(arguments: argparse.Namespace) -> int:
    """Carry out `avedge train`; the log says which weights were written. Of several processes the first one speaks."""
    from train.errors import TrainError
    from train.fit import load_settings
    from train.processes import check_precision, is_first_process, trainer_layout

    if arguments.benchmark is not None and arguments.benchmark < 1:
        raise TrainError(f"Saw --benchmark {arguments.benchmark}; wanted at least one step to time. Give 20.")
    if not is_first_process():
        logging.getLogger("train").setLevel(logging.ERROR)
    training = TRAINED[arguments.kind]
    module = importlib.import_module(training.module)
    settings = load_settings(getattr(module, training.settings), arguments.config, arguments.overrides)
    check_precision(settings.fit.precision)  # before what may be minutes of preparation
    trainer_layout(settings.fit.devices)
    if arguments.benchmark is None:
        getattr(module, training.train)(settings, resume=arguments.resume)
        return 0
    from train.benchmark import benchmark
    from train.environment import command_line, stamp

    figures = benchmark(getattr(module, training.prepare)(settings), arguments.benchmark)
    if is_first_process():
        stamped = {"environment": stamp(command_line()), "model": arguments.kind, **figures}
        sys.stdout.write(json.dumps(stamped, indent=1) + "\n")
    return 0

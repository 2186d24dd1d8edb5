"""Train a model by its config; configs in train/configs/ open with the commands to use.

avedge train crowd --config train/configs/crowd_v_compact.yaml
avedge train crowd --config train/configs/crowd_v_compact.yaml -- --fit.steps=10
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Training:
    """What can be trained: `module` has the typed settings and the function that trains by them."""

    module: str
    settings: str
    function: str
    summary: str


TRAINED = {
    "identity": Training(
        "train.facefilter.train_identity",
        "IdentityTraining",
        "train_identity",
        "FaceFilter's face and speech identity networks",
    ),
    "facefilter": Training(
        "train.facefilter.train_separator",
        "SeparatorTraining",
        "train_separator",
        "FaceFilter's separator, identities frozen",
    ),
    "crowd": Training("train.crowd.training", "CrowdTraining", "train_crowd", "CC-AV or CC-V"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge train`."""
    kinds = parser.add_subparsers(dest="kind", metavar="model", required=True)
    for name, training in TRAINED.items():
        kind = kinds.add_parser(name, help=training.summary, description=training.summary)
        kind.add_argument("--config", type=Path, required=True, help="a YAML file such as those in train/configs/")
        kind.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
        kind.add_argument(
            "overrides", nargs="*", metavar="--key=value", help="after `--`: changes to the config, as --fit.steps=10"
        )


def run(arguments: argparse.Namespace) -> int:
    """Carry out `avedge train`; the log says which weights were written."""
    from train.fit import load_settings

    training = TRAINED[arguments.kind]
    module = importlib.import_module(training.module)
    settings = load_settings(getattr(module, training.settings), arguments.config, arguments.overrides)
    getattr(module, training.function)(settings, resume=arguments.resume)
    return 0

"""Train a model by its config; each file in train/configs/ opens with the commands that use it.

avedge train crowd --config train/configs/crowd_v_compact.yaml
avedge train crowd --config train/configs/crowd_v_compact.yaml -- --fit.steps=10
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What can be trained or judged; `adder` and `runner` are functions of `module`."""

    module: str
    adder: str
    runner: str
    summary: str


TRAINED = {
    "identity": Kind(
        "train.facefilter.commands",
        "add_identity_arguments",
        "run_identity",
        "FaceFilter's face and speech identity networks",
    ),
    "facefilter": Kind(
        "train.facefilter.commands", "add_arguments", "run", "FaceFilter's separator, identities frozen"
    ),
    "crowd": Kind("train.crowd.commands", "add_arguments", "run", "CC-AV or CC-V"),
}
JUDGED = {
    "facefilter": Kind(
        "train.facefilter.commands", "add_evaluate_arguments", "run_evaluate", "separation of synthetic talkers"
    ),
    "crowd": Kind("train.crowd.commands", "add_evaluate_arguments", "run_evaluate", "counting in synthetic scenes"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge train`."""
    _add_kinds(parser, TRAINED)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `avedge train`."""
    return _run_kind(arguments, TRAINED)


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge evaluate`."""
    _add_kinds(parser, JUDGED)


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Carry out `avedge evaluate`."""
    return _run_kind(arguments, JUDGED)


def _add_kinds(parser: argparse.ArgumentParser, kinds: dict[str, Kind]) -> None:
    subparsers = parser.add_subparsers(dest="kind", metavar="model", required=True)
    for name, kind in kinds.items():
        subparser = subparsers.add_parser(name, help=kind.summary, description=kind.summary)
        getattr(importlib.import_module(kind.module), kind.adder)(subparser)


def _run_kind(arguments: argparse.Namespace, kinds: dict[str, Kind]) -> int:
    kind = kinds[arguments.kind]
    code: int = getattr(importlib.import_module(kind.module), kind.runner)(arguments)
    return code

"""Train a model by its config; each file in train/configs/ opens with the command that uses it."""

from __future__ import annotations

import argparse
import importlib

KINDS = {
    "identity": ("train.facefilter.commands", "face and speech identity networks, by matching faces with voices"),
    "facefilter": ("train.facefilter.commands", "the separator, with frozen identity networks"),
    "crowd": ("train.crowd.commands", "CC-AV or CC-V"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge train`."""
    kinds = parser.add_subparsers(dest="kind", metavar="model", required=True)
    for kind, (module, summary) in KINDS.items():
        subparser = kinds.add_parser(kind, help=summary, description=summary)
        importlib.import_module(module).add_arguments(subparser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `avedge train`."""
    code: int = importlib.import_module(KINDS[arguments.kind][0]).run(arguments)
    return code

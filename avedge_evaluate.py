"""Judge trained weights: separation, matching of faces and voices, counting; in torch or through a running server.

avedge evaluate facefilter --data data/talkers
avedge evaluate facefilter --mixtures list.csv --root recordings --through-server --json
avedge evaluate identity --data data/talkers
avedge evaluate crowd --data data/ShanghaiTech/part_A --json
avedge evaluate crowd --model cc-av --setting regular --setting occlusion_0.5
"""

from __future__ import annotations

import argparse

from perf.served_systems import ServedCounter, ServedSystem, spread
from train.crowd import commands as crowd
from train.facefilter import commands as facefilter

KINDS = {
    "facefilter": ("separation on a list of two-speaker mixtures", facefilter.add_evaluate_arguments),
    "identity": ("faces matched with voices", facefilter.add_identity_arguments),
    "crowd": ("counting in photographs or synthetic scenes", crowd.add_evaluate_arguments),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge evaluate`."""
    kinds = parser.add_subparsers(dest="kind", metavar="model", required=True)
    for name, (summary, add) in KINDS.items():
        add(kinds.add_parser(name, help=summary, description=summary))


def run(args: argparse.Namespace) -> int:
    """Carry out `avedge evaluate`."""
    if args.kind == "facefilter":
        return facefilter.run_evaluate(args, ServedSystem)
    if args.kind == "identity":
        return facefilter.run_identity(args)
    return crowd.run_evaluate(args, crowd.Clients(ServedCounter, spread))

"""`avedge train crowd`: train CC-AV or CC-V as a config says."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge train crowd`."""
    parser.add_argument(
        "--config", type=Path, required=True, help="a YAML file such as train/configs/crowd_av_compact.yaml"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="--key=value", help="after `--`: changes, such as --fit.steps=10"
    )


def run(args: argparse.Namespace) -> int:
    """Train, and print the path of the weights."""
    from train.crowd.training import CrowdTraining, train_crowd
    from train.fit import load_settings

    weights = train_crowd(load_settings(CrowdTraining, args.config, args.overrides))
    sys.stdout.write(f"{weights}\n")
    return 0

"""`avedge evaluate crowd`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge evaluate crowd`."""
    parser.add_argument(
        "--data", type=Path, default=Path("data/scenes"), help="synthetic scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", type=Path, default=Path("train/weights"), help="folder of the weights (default: %(default)s)"
    )
    parser.add_argument(
        "--split", choices=("train", "val", "test"), default="test", help="which scenes (default: %(default)s)"
    )


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate CC-AV and CC-V; print one JSON object."""
    from train.crowd.evaluation import evaluate_scenes
    from train.crowd.network import load_crowd_counter

    counters = {name: load_crowd_counter(args.weights / f"{name}.safetensors") for name in ("crowd_av", "crowd_v")}
    figures = {name: evaluate_scenes(counter, args.data, args.split) for name, counter in counters.items()}
    sys.stdout.write(json.dumps({"split": args.split, "figures": figures}) + "\n")
    return 0

"""`avedge evaluate facefilter`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge evaluate facefilter`."""
    parser.add_argument(
        "--data", type=Path, default=Path("data/talkers"), help="synthetic talkers (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", type=Path, default=Path("train/weights"), help="folder of the weights (default: %(default)s)"
    )
    parser.add_argument(
        "--split", choices=("train", "val", "test"), default="test", help="whose talkers (default: %(default)s)"
    )
    parser.add_argument(
        "--per-pair", type=int, default=50, help="mixtures of each pair of sexes (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the list of mixtures (default: %(default)s)")


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate; print one JSON object."""
    from train.facefilter.evaluation import evaluate_talkers

    report = evaluate_talkers(args.data, args.weights, split=args.split, per_pair=args.per_pair, seed=args.seed)
    sys.stdout.write(json.dumps(report) + "\n")
    return 0

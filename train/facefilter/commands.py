"""`avedge train identity`, `avedge train facefilter` and `avedge evaluate facefilter`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_identity_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge train identity`."""
    _add_training_arguments(parser, "train/configs/identity_compact.yaml")


def run_identity(args: argparse.Namespace) -> int:
    """Train both identity networks; print where their weights are."""
    from train.facefilter.train_identity import IdentityTraining, train_identity
    from train.fit import load_settings

    settings = load_settings(IdentityTraining, args.config, args.overrides)
    train_identity(settings, resume=args.resume)
    sys.stdout.write(f"{settings.face_weights}\n{settings.voice_weights}\n")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge train facefilter`."""
    _add_training_arguments(parser, "train/configs/facefilter_compact.yaml")


def run(args: argparse.Namespace) -> int:
    """Train the separator; print where its weights are."""
    from train.facefilter.train_separator import SeparatorTraining, train_separator
    from train.fit import load_settings

    settings = load_settings(SeparatorTraining, args.config, args.overrides)
    train_separator(settings, resume=args.resume)
    sys.stdout.write(f"{settings.weights}\n")
    return 0


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


def _add_training_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument("--config", type=Path, required=True, help=f"a YAML file such as {example}")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument(
        "overrides", nargs="*", metavar="--key=value", help="after `--`: changes, such as --fit.steps=10"
    )

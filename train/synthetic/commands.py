"""Make synthetic data: talkers with voices and drawn faces, or crowd scenes with heads and sound; no download."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge synthesize`."""
    kinds = parser.add_subparsers(dest="kind", metavar="kind", required=True)
    talkers = kinds.add_parser(
        "talkers", help="voices by espeak-ng, each with drawn faces that show what the voice has"
    )
    talkers.add_argument(
        "--talkers",
        type=int,
        default=700,
        help="for training; two of each talker's videos are withheld (default: %(default)s)",
    )
    talkers.add_argument("--val-talkers", type=int, help="for validation (default: a fourteenth of --talkers)")
    talkers.add_argument(
        "--test-talkers", type=int, help="for testing (default: a seventh of --talkers); 200-way matching needs 200"
    )
    talkers.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="processes; the data do not depend on it (default: %(default)s)",
    )
    scenes = kinds.add_parser("scenes", help="crowds with exact head points, and a second of their sound")
    scenes.add_argument(
        "--scenes",
        type=int,
        default=2000,
        help="for training; 1/50 and 1/20 of that come on top (default: %(default)s)",
    )
    scenes.add_argument("--people", type=int, help="in every scene, as 0 (default: 0 to 300, drawn for each)")
    for kind, folder in ((talkers, "data/talkers"), (scenes, "data/scenes")):
        kind.add_argument("--out", type=Path, default=Path(folder), help="new folder (default: %(default)s)")
        kind.add_argument("--seed", type=int, default=0, help="same seed, same data (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Make the data; print its folder."""
    if args.kind == "talkers":
        from train.synthetic.talkers import synthesize_talkers

        synthesize_talkers(
            args.out,
            args.talkers,
            args.seed,
            val_talkers=args.val_talkers,
            test_talkers=args.test_talkers,
            jobs=max(1, args.jobs),
        )
    else:
        from train.synthetic.scenes import synthesize_scenes

        sizes = {"train": args.scenes, "val": max(4, args.scenes // 50), "test": max(8, args.scenes // 20)}
        synthesize_scenes(args.out, sizes, args.seed, people=args.people)
    sys.stdout.write(f"{args.out}\n")
    return 0

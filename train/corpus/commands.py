"""Bring recordings into the one layout that training and evaluation read, and draw lists of mixtures from it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

log = logging.getLogger(__name__)


def add_mix_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge mix`."""
    parser.description = (
        "Draw fixed lists of two-speaker mixtures: <data>/mixtures/test.csv (seen-heard and unseen-unheard, each with "
        "the pairs MM, MF, FM, FF; the first is the target), val.csv, and on request train.csv. "
        "Columns: id, corpus, pair, target_file, target_start [s], target_speaker, target_gender, interferer_*, "
        "sir_db, target_face, subset, target_face_index, interferer_face, interferer_face_index; paths are relative "
        "to <data>."
    )
    parser.add_argument("--data", type=Path, default=Path("data/talkers"), help="a corpus (default: %(default)s)")
    parser.add_argument(
        "--per-subset", type=int, default=1000, help="mixtures in each of the 8 test subsets (default: %(default)s)"
    )
    parser.add_argument("--val", type=int, default=1000, help="mixtures for validation (default: %(default)s)")
    parser.add_argument("--train", type=int, default=0, help="mixtures in train.csv (default: none, training draws)")
    parser.add_argument(
        "--sir-range-db", type=float, default=0.0, help="target over interferer, plus and minus (default: 0 dB always)"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same lists (default: %(default)s)")


def run_mix(args: argparse.Namespace) -> int:
    """Write the lists; print a JSON object with what they hold."""
    from train.corpus.lists import write_lists

    sizes = {"test": args.per_subset, "val": args.val, "train": args.train}
    report = write_lists(args.data, sizes, seed=args.seed, sir_range_db=args.sir_range_db)
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0

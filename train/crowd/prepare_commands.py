"""`avedge prepare ambience`: semi-synthetic sounds for photographs of crowds."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_ambience_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge prepare ambience`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = """\
Give photographs of crowds a semi-synthetic sound: real voices and places, mixed so that level, voices and places
follow the crowd's size, while liveliness, microphone and street vary. Real photographs, real recordings, but not of
the same crowd: call figures that are made with them semi-synthetic.

The new folder lists photographs, points and sounds in an index.csv that `avedge train` and `avedge evaluate crowd`
read; the photographs stay where they are. Training hears 4 s (a random second at a time) of the first 70 % of every
ambient recording and of 70 % of the speakers; validation and test hear 1 s of the rest.

Recordings are WAV or FLAC of any rate. Without the tables every file below the folder counts:
  <ambient>/ambient.csv   file,kind: people, people-sparse or street (without: people); each 3.4 s or longer
  <speech>/speech.csv     file,speaker (without: the first folder below <speech>, or the file's name); two speakers
                          or more, of whom 256 files and 15 s of each are used"""
    parser.add_argument("--pictures", type=Path, required=True, help="crowd data set with points, in any layout")
    parser.add_argument("--ambient", type=Path, required=True, help="folder of recorded places")
    parser.add_argument("--speech", type=Path, required=True, help="folder of recorded speakers")
    parser.add_argument("--out", type=Path, required=True, help="new folder, e.g. data/ShanghaiTech/part_A_sound")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same sounds (default: %(default)s)")


def run_ambience(args: argparse.Namespace) -> int:
    """Write the sounds; print a JSON object with what there is."""
    from train.crowd.ambience import write_sounds

    report = write_sounds(args.pictures, args.ambient, args.speech, args.out, args.seed)
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0

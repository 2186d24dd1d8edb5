"""Bring recordings into the one layout that training and evaluation read, and draw lists of mixtures from it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from train.crowd.prepare_commands import add_ambience_arguments, run_ambience


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge prepare`."""
    parser.description = "Bring recordings into the one layout that training, `avedge mix` and `avedge evaluate` read."
    kinds = parser.add_subparsers(dest="kind", metavar="corpus", required=True)
    voxceleb2 = kinds.add_parser(
        "voxceleb2", help="as it unpacks: {dev,test}/{aac,mp4}/<speaker>/<video>/*, and vox2_meta.csv"
    )
    _add_voxceleb2_arguments(voxceleb2)
    voxceleb2.set_defaults(prepare=_run_voxceleb2)
    librispeech = kinds.add_parser("librispeech", help="with faces drawn from what each voice measures")
    _add_librispeech_arguments(librispeech)
    librispeech.set_defaults(prepare=_run_librispeech)
    ambience = kinds.add_parser("ambience", help="semi-synthetic sounds for photographs of crowds")
    add_ambience_arguments(ambience)
    ambience.set_defaults(prepare=run_ambience)


def _add_voxceleb2_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Decode VoxCeleb2 into 16 kHz FLAC and stills; a stopped run goes on where it was. Missing, damaged and too "
        "short clips are named, counted and left out; <out>/report.json tells."
    )
    parser.add_argument("--root", type=Path, required=True, help="folder that holds dev and test")
    parser.add_argument(
        "--out", type=Path, default=Path("data/voxceleb2"), help="corpus to make or go on with (default: %(default)s)"
    )
    parser.add_argument("--meta", type=Path, help="table of speakers (default: <root>/vox2_meta.csv)")
    parser.add_argument("--stills", type=int, default=10, help="faces taken from each clip (default: %(default)s)")
    parser.add_argument(
        "--min-seconds", type=float, default=2.0, help="shorter clips are left out (default: %(default)s)"
    )
    parser.add_argument("--clips-per-video", type=int, default=0, help="at most so many, the first ones (default: all)")
    parser.add_argument(
        "--val-speakers", type=int, help="of dev, half of each sex (default: a twentieth of them, 2 to 100)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="same seed, same validation speakers and withheld videos (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")


def _add_librispeech_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Cut LibriSpeech into clips, with faces drawn from what is measured in each voice: semi-synthetic. Wants "
        "speech.csv (file, speaker, gender F or M), or SPEAKERS.TXT and the folders as they unpack. Made whole or not "
        "at all; damaged and too short recordings are named, counted and left out."
    )
    parser.add_argument("--root", type=Path, required=True, help="folder with speech.csv or SPEAKERS.TXT")
    parser.add_argument("--out", type=Path, default=Path("data/librispeech"), help="new folder (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=36, help="speakers for test (default: %(default)s)")
    parser.add_argument("--validation", type=int, default=8, help="speakers for validation (default: %(default)s)")
    parser.add_argument(
        "--variants", type=int, default=8, help="perturbed voices of each training speaker (default: %(default)s)"
    )
    parser.add_argument(
        "--recordings", type=int, default=20, help="at most so many of each speaker (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same corpus (default: %(default)s)")


def run_prepare(args: argparse.Namespace) -> int:
    """Bring a corpus in; print a report as JSON."""
    code: int = args.prepare(args)
    return code


def _run_voxceleb2(args: argparse.Namespace) -> int:
    from train.corpus.preparing import Options, prepare_voxceleb2

    options = Options(args.stills, args.min_seconds, args.clips_per_video, args.val_speakers, args.seed, args.jobs)
    report = prepare_voxceleb2(args.root, args.out, options, args.meta)
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


def _run_librispeech(args: argparse.Namespace) -> int:
    from train.corpus.librispeech import Options, prepare_librispeech

    options = Options(args.held_out, args.validation, args.variants, args.recordings, args.jobs, args.seed)
    report = prepare_librispeech(args.root, args.out, options)
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


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

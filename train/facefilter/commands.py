"""`avedge evaluate facefilter` and `avedge evaluate identity`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from train.environment import command_line, stamp
from train.errors import UsageError
from train.reports import report_name
from train.settings import GRIFFIN_LIM_ITERATIONS

if TYPE_CHECKING:
    from train.facefilter.systems import System

log = logging.getLogger(__name__)
DEFAULT_URL = "127.0.0.1:8001"
EXIT_SOME_SKIPPED = 3
_LIST = Path("mixtures/test.csv")


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge evaluate facefilter`."""
    data = parser.add_argument_group("what to judge on")
    data.add_argument("--data", type=Path, help=f"a corpus; short for --mixtures DATA/{_LIST} --root DATA")
    data.add_argument("--mixtures", type=Path, help="a list of mixtures (CSV; columns: train/corpus/mixtures.py)")
    data.add_argument("--root", type=Path, help="folder of the list's paths (default: the list's own)")
    data.add_argument("--limit", type=int, help="judge so many, evenly of every subset and pair")
    system = parser.add_argument_group("what to judge")
    system.add_argument(
        "--weights", type=Path, default=Path("train/weights"), help="folder, or separator's file (default: %(default)s)"
    )
    system.add_argument("--face-weights", type=Path, help="face identity's file (default: the one beside the weights)")
    system.add_argument(
        "--decoder",
        type=_decoder,
        default=f"griffin-lim:{GRIFFIN_LIM_ITERATIONS}",
        help="mixture-phase or griffin-lim:N (%(default)s)",
    )
    system.add_argument(
        "--through-server", nargs="?", const=DEFAULT_URL, metavar="URL", help=f"ask a running server ({DEFAULT_URL})"
    )
    system.add_argument("--photos", type=int, default=1, help="average the identity over so many stills (%(default)s)")
    system.add_argument("--both-faces", action="store_true", help="give both faces; the two masks add up to one")
    more = parser.add_argument_group("what to judge beside")
    more.add_argument("--swap", action="store_true", help="the other face given: whose voice comes out?")
    more.add_argument("--oracle", action="store_true", help="the ceiling: a perfect ratio mask, same decoder")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="one JSON object on stdout in place of the tables")
    output.add_argument("--report", type=Path, metavar="FOLDER", help="add JSON and table to a folder, paper's beside")
    output.add_argument(
        "--name",
        type=report_name,
        help="in the report; attention_srl for weights trained with L_SRL (default: the system)",
    )
    output.add_argument("--jobs", type=int, help="worker processes (default: one for each core)")


def run_evaluate(args: argparse.Namespace, through_server: Callable[[str], System] | None = None) -> int:
    """Evaluate; 3 when some rows were skipped.

    Args:
        args: parsed options.
        through_server: makes the system behind a URL; None where no client is at hand.
    """
    from train.corpus.mixtures import read_list

    mixtures, root = _places(args)
    _check(args)
    everything = read_list(mixtures)  # a list that cannot be read is told before torch has loaded

    import torch

    from train.facefilter.evaluation import Options, evaluate
    from train.facefilter.listed import evenly
    from train.facefilter.report import markdown, write_report
    from train.facefilter.systems import Decoder

    rows = evenly(everything, args.limit) if args.limit else everything
    torch.set_num_threads(1)  # the worker processes are what runs side by side
    decoder = Decoder(args.decoder, "cuda" if torch.cuda.is_available() else "cpu")
    system = _system(args, decoder, through_server)
    if system.blind and (args.swap or args.photos > 1 or args.both_faces):
        raise UsageError("--swap, --photos and --both-faces are about faces, and these weights are of audio only.")
    options = Options(
        swap=args.swap,
        oracle=args.oracle,
        photos=args.photos,
        both_faces=args.both_faces,
        jobs=_jobs(args.jobs, len(rows)),
    )
    report = evaluate(root, rows, system, decoder, options, among=everything)
    if args.report:
        command = command_line()
        log.info("wrote %s", write_report(args.report, args.name or report["system"]["kind"], report, command))
    sys.stdout.write(json.dumps(report) + "\n" if args.json else markdown(report))
    return EXIT_SOME_SKIPPED if report["skipped"] else 0


def add_identity_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge evaluate identity`."""
    parser.add_argument("--data", type=Path, required=True, help="a corpus")
    parser.add_argument(
        "--weights", type=Path, default=Path("train/weights"), help="folder of the weights (default: %(default)s)"
    )
    parser.add_argument("--split", choices=("train", "seen", "val", "test"), default="test", help="%(default)s")
    parser.add_argument("--pieces", type=int, default=10, help="faces and voices of each speaker (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pieces (%(default)s)")


def run_identity(args: argparse.Namespace) -> int:
    """Evaluate the matching of faces and voices; print one JSON object."""
    from train.facefilter.identity import FACE_IDENTITY, SPEECH_IDENTITY, load_face_identity, load_speech_identity
    from train.facefilter.matching import evaluate_identity

    face = load_face_identity(args.weights / f"{FACE_IDENTITY}.safetensors")
    voice = load_speech_identity(args.weights / f"{SPEECH_IDENTITY}.safetensors")
    if args.pieces < 1:
        raise UsageError(f"--pieces is {args.pieces}; wanted at least 1 of each speaker.")
    report = evaluate_identity(args.data, face, voice, split=args.split, pieces=args.pieces, seed=args.seed)
    sys.stdout.write(json.dumps({"environment": stamp(command_line()), **report}, indent=1) + "\n")
    return 0


def _places(args: argparse.Namespace) -> tuple[Path, Path]:
    """The list and the folder of its paths."""
    if args.data and (args.mixtures or args.root):
        raise UsageError("--data names a corpus with its list; give it alone, or --mixtures with --root.")
    if args.data:
        return args.data / _LIST, args.data
    if not args.mixtures:
        raise UsageError("Nothing to judge on: give --data, or --mixtures with --root.")
    return args.mixtures, args.root or args.mixtures.parent


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be done, before anything is read."""
    if args.limit is not None and args.limit < 1 or args.photos < 1:
        raise UsageError(f"--limit is {args.limit} and --photos {args.photos}; wanted at least 1.")
    if args.through_server and (args.photos > 1 or args.both_faces):
        raise UsageError("--photos and --both-faces need the networks themselves; leave out --through-server.")


def _system(args: argparse.Namespace, decoder: object, through_server: Callable[[str], System] | None) -> System:
    from train.facefilter.systems import Decoder, find_weights, load_system

    assert isinstance(decoder, Decoder)
    if args.through_server:
        if through_server is None:
            raise UsageError("--through-server needs the clients; use the `avedge` command.")
        return through_server(args.through_server)
    return load_system(find_weights(args.weights, args.face_weights), decoder, both_faces=args.both_faces)


def _decoder(text: str) -> int:
    """Iterations of Griffin-Lim that a decoder's name asks for."""
    if text == "mixture-phase":
        return 0
    name, _, count = text.partition(":")
    if name != "griffin-lim" or not count.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no decoder; wanted mixture-phase or griffin-lim:N")
    return int(count)


def _jobs(wanted: int | None, rows: int) -> int:
    """Worker processes; a short list is done before they have started."""
    if wanted is not None:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if rows > 64 else 0

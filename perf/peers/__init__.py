"""The same models and inputs behind PyTriton, LitServe and FastAPI with torch eager, beside ours, in one run.

Every peer is written as its own documentation says, tried in several settings, and measured in the best of them. All
contenders run on this machine's cores, get the same requests as binary HTTP bodies from one load generator, and are
measured in turn, round after round; each figure is the median of the rounds. Before anything is timed, every answer
is compared with torch's.

Ours remembers faces: Triton's response cache answers a face that it has seen. The aim is held against faces that
never come twice; the figure with repeating faces stands beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from perf.record import Record, Table
from perf.stand import REPOSITORY, SAMPLES

WEIGHTS = Path(__file__).resolve().parents[2] / "train" / "weights"
ALL_WORKLOADS = ("facefilter", "crowd_counting")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf peers`."""
    from perf.sweep import names_in, numbers_in

    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="Triton model repository (%(default)s)")
    parser.add_argument(
        "--also",
        type=Path,
        action="append",
        default=[],
        metavar="REPOSITORY",
        help="a further repository of ours to measure beside, e.g. one of `avedge export --precision int8`; repeatable",
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="that the repository was exported from")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="made by `avedge demo` (%(default)s)")
    parser.add_argument("--workloads", type=names_in, default=ALL_WORKLOADS, help="facefilter,crowd_counting")
    parser.add_argument("--concurrency", type=numbers_in, default=(1, 2, 4, 8), help="requests in flight (1,2,4,8)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one stretch of load (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of all contenders (%(default)s)")
    parser.add_argument("--tune-seconds", type=float, default=1.2, help="of load on each setting tried (%(default)s)")
    parser.add_argument("--settings", type=int, help="try only so many settings of each peer; default: all")


def measure(args: argparse.Namespace, progress: Callable[[str], None]) -> Record:
    """Measure as the command line says."""
    from perf.peers.bench import Plan, bench

    plan = Plan(
        repository=args.repository,
        also=tuple(args.also),
        weights=args.weights,
        samples=args.samples,
        workloads=args.workloads,
        concurrencies=args.concurrency,
        seconds=args.seconds,
        rounds=args.rounds,
        tune_seconds=args.tune_seconds,
        settings=args.settings,
    )
    return bench(plan, progress)


def tables(record: Record) -> list[Table]:
    """Best of each, every level, what was tried, and the same servers under another load generator."""
    from perf.peers.pages import tables_of

    return tables_of(record)


def plot(record: Record, path: Path) -> None:
    """Throughput against p95 of every contender."""
    from perf.peers.pages import plot_of

    plot_of(record, path)

"""`avedge perf`: one perf_analyzer sweep of each ensemble against a running server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

_SOME_FAILED = 3
_WIDTH = 100  # columns of the tables where there is no terminal to ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf`."""
    parser.add_argument(
        "measurement", nargs="?", choices=["sweep"], default="sweep", help="what to measure (default: sweep)"
    )
    parser.add_argument("--url", default="127.0.0.1:8001", help="gRPC endpoint of a running server (%(default)s)")
    parser.add_argument("--ensembles", type=_names, help="comma-separated; default: all that are served")
    parser.add_argument("--concurrency", type=_numbers, default=(1, 2, 4), help="requests in flight (1,2,4)")
    parser.add_argument("--window-s", type=float, default=3.0, help="length of one measurement window (%(default)s)")
    parser.add_argument("--attempts", type=int, default=2, help="runs of three windows, until they agree (%(default)s)")
    parser.add_argument("--clip-samples", type=int, help="length of a mixture; default: the shortest served one")
    parser.add_argument(
        "--samples",
        type=Path,
        default=Path("demo/samples"),
        help="folder with mixture_*.wav, face_*.png, scene_*.jpg, scene_*.wav (%(default)s, made by `avedge demo`)",
    )
    parser.add_argument("--output", type=Path, help="the result as JSON; default: perf/results/sweep-<time>.json")
    parser.add_argument(
        "--json", action="store_true", help="the result as one line of JSON on stdout, tables on stderr"
    )


def run(args: argparse.Namespace) -> int:
    """Sweep, write the result, print it; 3 when a level gave no figures."""
    from rich.console import Console

    from perf import report
    from perf.environment import ROOT
    from perf.measure import SweepSettings
    from perf.sweep import sweep

    settings = SweepSettings(
        concurrencies=args.concurrency,
        window_s=args.window_s,
        attempts=args.attempts,
        clip_samples=args.clip_samples,
    )
    log = Console(stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else _WIDTH)
    result = sweep(args.url, args.samples, ensembles=args.ensembles, settings=settings, progress=log.print)
    moment = "".join(character for character in result.environment["measured_at_utc"][:19] if character.isalnum())
    output = args.output or ROOT / "perf" / "results" / f"sweep-{moment}Z.json"
    report.write_json(result, output)
    out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
    console = log if args.json else out
    for table in report.terminal_tables(result):
        console.print(table)
    for note in report.notes(result):
        console.print(note)
    log.print(f"written: {output}", soft_wrap=True)
    if args.json:
        sys.stdout.write(json.dumps(result.as_json()) + "\n")
    return 0 if result.complete else _SOME_FAILED


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _names(text))

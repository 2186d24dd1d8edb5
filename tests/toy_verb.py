"""A verb that does toy work with everything that real ones share; a program of its own for tests of whole processes.

    python toy_verb.py toy INPUT ... [--delay S]

Of each text it writes two files: itself in capitals, and how long it is.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import avedge
from clients.commands.batch import Report, batch_of
from clients.commands.inputs import Kinds
from clients.commands.options import add_batch_arguments
from clients.commands.progress import greet, tell_part
from clients.errors import BadInput, ServerUnavailable, Timeout

UPPER, LENGTH = ".upper.txt", ".length"
FAILURES = {"bad": BadInput, "away": ServerUnavailable, "late": Timeout}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each text takes (%(default)g)")
    parser.add_argument("--see", type=float, default=0.0, help="seconds that OpenCV works on each (%(default)g)")
    parser.add_argument("--bytes", type=int, default=0, help="written on top of each text (%(default)s)")
    add_batch_arguments(parser, "out")


def run(args: argparse.Namespace) -> int:
    greet(args, "toy")

    def work(path: Path, staging: Path) -> Report:
        text = path.read_text()
        kind = FAILURES.get(text)
        if kind:
            raise kind(f"{path.name} is {text}", "another", "it is so", "mend it")
        for part in range(10):
            tell_part(part, 10)
            time.sleep(args.delay / 10)
        _see(args.see)
        (staging / "length").write_text(str(len(text)))
        return Report(
            f"{len(text)} letters", {"letters": len(text)}, {"total": args.delay}, (),
            writers={UPPER: lambda aside: _write(aside, text.upper() + "." * args.bytes)},
            staged={LENGTH: staging / "length"},
        )  # fmt: skip

    batch = batch_of(args, "toy", (UPPER, LENGTH), Kinds("text", frozenset({".txt"})))
    return batch.run(args.inputs, work, lambda: {"case": "upper"})


def _see(seconds: float) -> None:
    if seconds:
        import cv2
        import numpy as np

        end, picture = time.monotonic() + seconds, np.zeros((500, 500, 3), np.uint8)
        while time.monotonic() < end:
            cv2.GaussianBlur(picture, (0, 0), 5)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


if __name__ == "__main__":
    sys.modules["toy_verb"] = sys.modules["__main__"]
    avedge.VERBS = (*avedge.VERBS, avedge.Verb("toy", "toy_verb", "toy work"))
    sys.exit(avedge.main())

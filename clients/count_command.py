"""How many people a photo shows, with its sound where there is any.

  avedge count square.jpg                       the count; out/square.density.png and out/square.density.npy
  avedge count square.jpg --sound square.wav    picture and one second of sound
  avedge count *.jpg --json                     one JSON object per photo

Photos: JPEG or PNG, 16 to 16,384 pixels a side. The .npy file holds people per cell, from the photo's top left corner
on; its sum is the count. Without a sound the model that only sees is asked (`crowd_counting_vision`), and the JSON says
so.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clients.batch import Report, add_batch_arguments, batch_of

if TYPE_CHECKING:
    from clients.counter import CrowdCounter

OVERLAY, DENSITY = ".density.png", ".density.npy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge count`."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="PICTURE", help="photo")
    group = parser.add_argument_group("sound")
    group.add_argument(
        "--sound", type=Path, metavar="FILE", help="recording of the place, for all photos; one second is heard"
    )
    group.add_argument(
        "--sound-start", type=float, default=0.0, metavar="S", help="where that second begins, seconds (%(default)g)"
    )
    add_batch_arguments(parser, "out")


def run(args: argparse.Namespace) -> int:
    """Count every photo; see `clients.batch.Batch.run` for the exit code."""
    from clients.counter import CrowdCounter

    with CrowdCounter(args.url, timeout_s=args.timeout) as counter:
        return batch_of(args, "count", (OVERLAY, DENSITY)).run(args.inputs, lambda path: _count(counter, path, args))


def _count(counter: CrowdCounter, path: Path, args: argparse.Namespace) -> Report:
    from clients.plots import draw_density

    result = counter.count(path, args.sound, sound_start_s=args.sound_start)
    heard = "picture alone" if args.sound is None else "picture and sound"
    return Report(
        line=f"{result.count:.1f} people ({heard}, {result.timings_s['total']:.2f} s)",
        result=result.to_dict(),
        timings_s=result.timings_s,
        warnings=result.warnings,
        writers={OVERLAY: lambda aside: draw_density(aside, result), DENSITY: result.write_density},
    )

"""How many people a photo shows, with its sound where there is any.

  avedge count square.jpg                       the count; out/square.density.png and out/square.density.npy
  avedge count square.jpg --sound square.wav    picture and one second of sound
  avedge count *.jpg --json                     one JSON object per photo
  avedge count panorama.jpg --tiles auto        at the photo's own resolution, for many heads a few pixels wide

Photos: JPEG or PNG, 16 to 16,384 pixels a side. The .npy file holds people per cell, from the photo's top left corner
on; its sum is the count. Without a sound the model that only sees is asked (`crowd_counting_vision`), and the JSON says
so. Where the served weights were calibrated, the count comes with the interval that holds the true one as often as is
said; a count in tiles or with the mirror image has none.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clients.commands.batch import Report, add_batch_arguments, batch_of
from clients.media.limits import MAX_TILES, MAX_TILES_PER_SIDE

if TYPE_CHECKING:
    from clients.counter import CrowdCounter
    from clients.crowd_count import CrowdCount
    from clients.media.tiles import Tiles

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
    group = parser.add_argument_group("resolution")
    group.add_argument(
        "--tiles",
        type=tiles,
        metavar="N|auto",
        help=f"cut each photo into up to N x N overlapping tiles (1 to {MAX_TILES_PER_SIDE}), one request each, to see "
        f"it at about N times the resolution; auto: at its own, with at most {MAX_TILES} tiles",
    )
    group.add_argument("--flip", action="store_true", help="mean of the photo and its mirror image; twice the requests")
    add_batch_arguments(parser, "out")


def run(args: argparse.Namespace) -> int:
    """Count every photo; see `clients.commands.batch.Batch.run` for the exit code."""
    from clients.counter import CrowdCounter

    with CrowdCounter(args.url, timeout_s=args.timeout) as counter:
        return batch_of(args, "count", (OVERLAY, DENSITY)).run(
            args.inputs, lambda path, staging: _count(counter, path, args)
        )


def _count(counter: CrowdCounter, path: Path, args: argparse.Namespace) -> Report:
    from clients.counting.figures import draw_density

    result = counter.count(path, args.sound, sound_start_s=args.sound_start, tiles=args.tiles, flip=args.flip)
    return Report(
        line=_line(result),
        result=result.to_dict(),
        timings_s=result.timings_s,
        warnings=result.warnings,
        writers={OVERLAY: lambda aside: draw_density(aside, result), DENSITY: result.write_density},
    )


def _line(result: CrowdCount) -> str:
    """The answer for people: how many, how sure, how they were seen."""
    interval = f" ({result.interval_text})" if result.interval else ""
    seen = ["picture and sound" if "sound" in {spec.name for spec in result.model.inputs} else "picture alone"]
    if result.tiles is not None:
        seen.append(f"{len(result.tiles.columns)}x{len(result.tiles.rows)} tiles")
    if result.flip:
        seen.append("mirror image too")
    return f"{result.count:.1f} people{interval} ({', '.join(seen)}, {result.timings_s['total']:.2f} s)"


def tiles(text: str) -> Tiles:
    """A number of tiles per side, or "auto", for argparse."""
    if text == "auto":
        return "auto"
    value = int(text)
    if not 1 <= value <= MAX_TILES_PER_SIDE:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to {MAX_TILES_PER_SIDE}, or auto")
    return value

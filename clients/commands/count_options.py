"""Options of `avedge count`, and what is watched at a place: regions and alarms."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clients.commands.options import add_batch_arguments, named, seconds
from clients.errors import BadInput
from clients.media.limits import MAX_TILES, MAX_TILES_PER_SIDE

if TYPE_CHECKING:
    from clients.counting.alarms import Threshold
    from clients.counting.regions import Region
    from clients.media.tiles import Tiles

USAGE = 2
TABLE, PLOT, VIDEO = ".counts.csv", ".counts.png", ".counted.mp4"  # endings of what comes of a video
MAX_EVERY_S = 3_600.0


@dataclass(frozen=True)
class Site:
    """What is watched in every picture."""

    regions: tuple[Region, ...]
    thresholds: tuple[Threshold, ...]

    @classmethod
    def of(cls, args: argparse.Namespace) -> Site:
        """What the command line asks for; leaves the program where it makes no sense.

        Raises:
            BadInput: the file of the regions does not read.
        """
        from clients.counting.alarms import parse_thresholds
        from clients.counting.regions import parse_region, read_regions, require_distinct

        from_file = [] if args.regions is None else read_regions(args.regions)
        try:
            regions = [*from_file, *map(parse_region, args.region)]
            require_distinct(regions)
            return cls(tuple(regions), parse_thresholds(args.alarm, args.alarm_clear, regions))
        except BadInput as error:
            raise refused(f"{error.seen}; wanted: {error.wanted}") from error


def refused(reason: str) -> SystemExit:
    """The end of a command line that makes no sense, once it was said why."""
    sys.stderr.write(f"avedge count: error: {reason}\n")
    return SystemExit(USAGE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge count`."""
    parser.add_argument(
        "inputs", nargs="*", type=named, metavar="INPUT", help="photo or video; a folder, a pattern, or - for stdin"
    )
    group = parser.add_argument_group("live")
    live = group.add_mutually_exclusive_group()
    live.add_argument("--camera", metavar="N", help="a camera of this machine, by its number or device, until Ctrl-C")
    live.add_argument("--stream", metavar="URL", help="a network stream: rtsp://, rtsps://, http://, https:// ...")
    group.add_argument(
        "--every",
        type=every,
        default=1.0,
        metavar="S",
        help="seconds from one counted picture to the next, in videos too (%(default)g)",
    )
    group.add_argument("--duration", type=seconds, metavar="S", help="end after so many seconds of what is seen")
    group = parser.add_argument_group("sound")
    group.add_argument(
        "--sound", type=Path, metavar="FILE", help="recording of the place, for all photos; one second is heard"
    )
    group.add_argument(
        "--sound-start", type=float, default=0.0, metavar="S", help="where that second begins, seconds (%(default)g)"
    )
    group.add_argument("--no-sound", action="store_true", help="leave the sound of videos out: count by the pictures")
    group = parser.add_argument_group("resolution")
    group.add_argument(
        "--tiles",
        type=tiles,
        metavar="N|auto",
        help=f"cut each picture into up to N x N overlapping tiles (1 to {MAX_TILES_PER_SIDE}), one request each, to "
        f"see it at about N times the resolution; auto: at its own, with at most {MAX_TILES} tiles",
    )
    group.add_argument("--flip", action="store_true", help="mean of each picture and its mirror image; twice the work")
    _add_site_arguments(parser)
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--strength", type=share, default=0.85, metavar="0..1", help="of the density's colours (%(default)g)"
    )
    group.add_argument(
        "--video", action="store_true", help="of videos and what is live: a video with density and number burnt in"
    )
    add_batch_arguments(parser, "out")


def _add_site_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("regions and alarms")
    group.add_argument(
        "--region",
        action="append",
        default=[],
        metavar="NAME=X1,Y1,X2,Y2,...",
        help="count a polygon too: corners in pixels of the picture, or each number with %% of its width or height; "
        "may be given several times",
    )
    group.add_argument(
        "--regions", type=Path, metavar="FILE", help='regions of a JSON file: {"gate": [[10, 20], [300, 20], ...], ...}'
    )
    group.add_argument(
        "--alarm",
        action="append",
        default=[],
        metavar="N|NAME=N",
        help="mark and tell when there are N people or more, in all or in a region; may be given several times",
    )
    group.add_argument(
        "--alarm-clear",
        action="append",
        default=[],
        metavar="N|NAME=N",
        help="in videos and live, an alarm lasts until there are fewer than this (0.9 of --alarm)",
    )


def tiles(text: str) -> Tiles:
    """A number of tiles per side, or "auto", for argparse."""
    if text == "auto":
        return "auto"
    value = int(text)
    if not 1 <= value <= MAX_TILES_PER_SIDE:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to {MAX_TILES_PER_SIDE}, or auto")
    return value


def share(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value


def every(text: str) -> float:
    """Seconds between counted pictures, for argparse."""
    value = seconds(text)
    if not 0.02 <= value <= MAX_EVERY_S:
        raise argparse.ArgumentTypeError(f"{text} is not 0.02 to {MAX_EVERY_S:g} seconds")
    return value

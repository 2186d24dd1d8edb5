"""How many people photos, videos, cameras and streams show, with their sound where there is any.

  avedge count square.jpg                       the number; out/square.density.png and out/square.density.npy
  avedge count square.jpg --sound square.wav    picture and one second of sound
  avedge count photos/ --json                   every photo and video of a folder, one JSON object each
  avedge count square.mp4 --video               second by second: table, plot, and a video with the number burnt in
  avedge count --camera 0 --alarm 200           until Ctrl-C; tells when there are 200 people or more
  avedge count gate.mp4 --region "gate=40%,50%,90%,50%,90%,100%,40%,100%" --alarm gate=20

Photos: JPEG or PNG, 16 to 16,384 pixels a side; the .npy file holds people per cell, from the top left corner on, and
its sum is the count. Videos: a picture every --every seconds, with the second of the video's own sound around it; the
.csv file has a line for each, and the .png file shows them over time. Where nothing can be heard (no sound given, no
sound track, a silent second, the sound has ended) the model that only sees is asked (`crowd_counting_vision`), and
line, table and JSON say so and why.

A region's people are exact sums over the density, so regions that tile the picture share out everybody. An alarm is
raised at its number and lasts until there are fewer than --alarm-clear; it is told on standard error, in the table and
in JSON, and leaves the exit code as it is. With --json, a video, camera or stream gives a line for each counted picture
("status": "counting") at once, and at its end the object that every input has.

What is live ends with Ctrl-C (exit code 130) or after --duration, with whole files of what was seen. Where the served
weights were calibrated, a photo's count comes with the interval that holds the true one as often as is said; a count in
tiles or with the mirror image has none.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.commands.batch import Report, batch_of
from clients.commands.count_options import PLOT, TABLE, VIDEO, Site, add_arguments, refused, tiles
from clients.commands.inputs import PHOTOS, VIDEOS
from clients.commands.options import server_of, settings_of
from clients.commands.progress import greet
from clients.errors import ContractMismatch
from clients.extras import require
from clients.media import limits

if TYPE_CHECKING:
    from clients.counter import CrowdCounter
    from clients.crowd_count import CrowdCount

__all__ = ["add_arguments", "run", "tiles"]
OVERLAY, DENSITY = ".density.png", ".density.npy"
_ENDINGS = (OVERLAY, DENSITY, TABLE, PLOT, VIDEO)


def run(args: argparse.Namespace) -> int:
    """Count every input; see `clients.commands.batch.Batch.run` for the exit code."""
    greet(args, "count")
    if bool(args.inputs) == bool(args.camera or args.stream):
        raise refused("give photos or videos, or one of --camera and --stream")
    site = Site.of(args)
    from clients.counter import CrowdCounter

    with CrowdCounter(**server_of(args)) as counter:
        if args.camera or args.stream:
            from clients.commands.count_live import run_live

            return run_live(counter, args, site)
        return batch_of(args, "count", _ENDINGS, PHOTOS | VIDEOS).run(
            args.inputs,
            lambda path, staging: _count(counter, path, staging, args, site),
            lambda: _settings(counter, args),
        )


def _settings(counter: CrowdCounter, args: argparse.Namespace) -> dict[str, Any]:
    """What decides the results; a server without the model that hears can still count what has no sound."""
    models = [counter.check(with_sound=False)]
    if not args.no_sound:
        with suppress(ContractMismatch):
            models.append(counter.check())
    return settings_of(args, counter, *models)


def _count(counter: CrowdCounter, path: Path, staging: Path, args: argparse.Namespace, site: Site) -> Report:
    from clients.media.video import VideoReader, has_pictures

    limits.require_file(path, "a JPEG or PNG photo, or a video")
    if not has_pictures(path):
        return _count_photo(counter, path, args, site)
    from clients.commands.count_stream import StreamTask

    name = path.name if staging in path.parents else str(path)
    with VideoReader(path) as reader:
        return StreamTask(counter, args, site, name, path).run(reader, staging)


def _count_photo(counter: CrowdCounter, path: Path, args: argparse.Namespace, site: Site) -> Report:
    from clients.counting.alarms import Alarms

    require("matplotlib")
    from clients.counting.figures import draw_density

    result = counter.count(
        path, args.sound, sound_start_s=args.sound_start, tiles=args.tiles, flip=args.flip, regions=site.regions
    )
    alarms = Alarms(site.thresholds)
    changes = alarms.update(result.counts)
    return Report(
        line=_line(result),
        result={**result.to_dict(), "alarms": list(alarms.raised)},
        timings_s=result.timings_s,
        warnings=(*result.warnings, *map(str, changes)),
        writers={
            OVERLAY: lambda aside: draw_density(aside, result, strength=args.strength),
            DENSITY: result.write_density,
        },
    )


def _line(result: CrowdCount) -> str:
    """The answer for people: how many, how sure, how they were seen."""
    interval = f" ({result.interval_text})" if result.interval else ""
    regions = "".join(f", {one.region.name} {one.people:.1f}" for one in result.regions)
    seen = ["picture and sound" if result.fallback is None else "picture alone"]
    reason = "" if result.fallback is None else f"; {result.fallback.sentence}"
    if result.tiles is not None:
        seen.append(f"{len(result.tiles.columns)}x{len(result.tiles.rows)} tiles")
    if result.flip:
        seen.append("mirror image too")
    return (
        f"{result.count:.1f} people{interval}{regions} ({', '.join(seen)}, {result.timings_s['total']:.2f} s{reason})"
    )

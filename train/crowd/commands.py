"""`avedge evaluate crowd`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.crowd.names import MODELS
from train.environment import command_line
from train.errors import TrainError, UsageError
from train.reports import report_name

if TYPE_CHECKING:
    from train.crowd.scene import Scene
    from train.crowd.splits import Split
    from train.crowd.systems import Spread, System, Tiles, View

log = logging.getLogger(__name__)
DEFAULT_URL = "127.0.0.1:8001"
# Short for several settings: the columns of Table 1 for the network's resolution, and the curve of Figure 6.
_TABLE_1, _FIGURE_6 = "table_1", "figure_6"
_CURVE = tuple(f"occlusion_{rate / 5}" for rate in range(6))


@dataclass(frozen=True)
class Clients:
    """What the clients' package does for an evaluation; the command line hands it in.

    Args:
        through_server: the system behind a URL; takes the URL, whether it hears, and how photos are looked at.
        spread: looks at a photo in several frames.
    """

    through_server: Callable[[str, bool, View], System]
    spread: Spread


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge evaluate crowd`."""
    data = parser.add_argument_group("what to judge on")
    data.add_argument(
        "--data",
        type=Path,
        default=Path("data/scenes"),
        help="a data set in a layout of its own: ShanghaiTech, UCF-QNRF, DISCO, index.csv, index.json (%(default)s)",
    )
    data.add_argument(
        "--split", choices=("train", "val", "test", "all"), help="default: test where there is one, else val"
    )
    data.add_argument("--limit", type=int, help="judge so many pictures, evenly of all")
    data.add_argument(
        "--setting",
        action="append",
        metavar="NAME",
        help="degrade the pictures: low_resolution, noise_25, noise_50, dark_25, dark_50, occlusion_R, or table_1 or "
        "figure_6 for all of those; may be repeated",
    )
    data.add_argument(
        "--truth", choices=("points", "density"), default="points", help="what the true count is (default: %(default)s)"
    )
    system = parser.add_argument_group("what to judge")
    system.add_argument("--model", choices=tuple(MODELS), help="default: that of the weights; cc-v of a folder")
    system.add_argument(
        "--weights", type=Path, default=Path("train/weights"), help="folder or file (default: %(default)s)"
    )
    system.add_argument(
        "--through-server", nargs="?", const=DEFAULT_URL, metavar="URL", help=f"ask a running server ({DEFAULT_URL})"
    )
    system.add_argument("--url", help="the server's, for --through-server")
    system.add_argument(
        "--tiles",
        type=_tiles,
        nargs="?",
        const="auto",
        default=1,
        metavar="N",
        help="see photos in N x N tiles at most; alone: at their own resolution",
    )
    system.add_argument("--flip", action="store_true", help="the mean with the mirror image")
    more = parser.add_argument_group("what to judge beside")
    more.add_argument("--constant", type=float, help="people of the constant predictor (default: the weights' own)")
    more.add_argument(
        "--interval", type=_share, metavar="SHARE", help="an interval of the count that holds so many, as 0.9"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="one JSON object on stdout in place of the tables")
    output.add_argument("--report", type=Path, metavar="FOLDER", help="add JSON and table to a folder, paper's beside")
    output.add_argument(
        "--name", type=report_name, help="in the report; of Table 3 for an ablation, as one_branch (default: the model)"
    )


def run_evaluate(args: argparse.Namespace, clients: Clients | None = None) -> int:
    """Evaluate; print one JSON object or tables.

    Args:
        args: parsed options.
        clients: for tiles, mirror images and servers; None where they are not at hand.
    """
    _check(args, clients)
    split, scenes = _scenes(args)  # told before torch has loaded
    log.info("%d pictures of %s, split %s", len(scenes), args.data, split)

    from train.crowd.evaluation import Options, evaluate
    from train.crowd.report import markdown, write_report

    system, about = _system(args, clients)
    settings = _settings(args.setting, system)
    constant = _constant(args)
    reports = {}
    for setting in settings:
        options = Options(setting, args.truth, constant, args.interval)
        reports[setting] = about | {"data": str(args.data), "split": split} | evaluate(scenes, system, options)
    report: dict[str, Any] = reports[settings[0]] if len(settings) == 1 else {"settings": reports}
    if args.report:
        name = args.name or system.model.replace("-", "_")
        log.info("wrote %s", write_report(args.report, name, {"settings": reports}, command_line()))
    sys.stdout.write(json.dumps(report, allow_nan=False) + "\n" if args.json else markdown(reports))
    return 0


def _check(args: argparse.Namespace, clients: Clients | None) -> None:
    """Refuse what cannot be done, before anything is read."""
    from train.crowd.degrade import parse_setting

    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit is {args.limit}; wanted at least 1.")
    if args.url and not args.through_server:
        raise UsageError("--url is the address of a server; give it with --through-server.")
    if args.through_server and args.model not in (None, "cc-v", "cc-av"):
        raise UsageError(f"--through-server serves cc-v and cc-av, not {args.model}; leave it out.")
    if clients is None and (args.through_server or args.flip or args.tiles != 1):
        raise UsageError("--through-server, --flip and --tiles need the clients; use the `avedge` command.")
    for setting in args.setting or ():
        if setting not in (_TABLE_1, _FIGURE_6):
            parse_setting(setting)


def _scenes(args: argparse.Namespace) -> tuple[Split, Sequence[Scene]]:
    """The split judged, and its scenes."""
    from train.crowd.layouts import read_scenes
    from train.crowd.splits import MissingSplitError

    split: Split = args.split or "test"
    try:
        scenes = read_scenes(args.data, split)
    except MissingSplitError:
        if args.split:
            raise
        split = "val"
        scenes = read_scenes(args.data, split)
    if args.limit is None or args.limit >= len(scenes):
        return split, scenes
    return split, [scenes[number * len(scenes) // args.limit] for number in range(args.limit)]


def _system(args: argparse.Namespace, clients: Clients | None) -> tuple[System, dict[str, Any]]:
    """What is judged, and what the report says of it."""
    import torch

    from train.crowd.systems import TorchSystem, View, digest_of, find_weights

    view = View(args.tiles, args.flip)
    seen = {"tiles": view.tiles, "flip": view.flip}
    if args.through_server:
        assert clients is not None
        system = clients.through_server(args.url or args.through_server, args.model == "cc-av", view)
        return system, {"model": system.model} | seen
    weights = find_weights(args.weights, args.model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    own = TorchSystem(weights, view, clients.spread if clients else None, device)
    return own, {"model": own.model, "weights": digest_of(weights)} | seen


def _settings(wanted: Sequence[str] | None, system: System) -> list[str]:
    """What the pictures go through: as asked for, each once; else what the network was made for."""
    from train.crowd.degrade import SETTINGS
    from train.crowd.evaluation import check_setting
    from train.crowd.geometry import GEOMETRIES

    own = [name for name, degradation in SETTINGS.items() if GEOMETRIES[degradation.resolution] == system.geometry]
    groups: dict[str, Sequence[str]] = {_TABLE_1: own, _FIGURE_6: _CURVE}
    settings = list(dict.fromkeys(name for one in wanted or own[:1] for name in groups.get(one, (one,))))
    for setting in settings:
        check_setting(setting, system)
    return settings


def _constant(args: argparse.Namespace) -> float | None:
    """What the constant predictor says; of a served model, what the weights here say, where there are any."""
    from train.crowd.models import training_mean_people
    from train.crowd.systems import find_weights

    if args.constant is not None:
        return float(args.constant)
    try:
        weights = find_weights(args.weights, args.model)
        constant = training_mean_people(weights)
    except TrainError:
        if not args.through_server:
            raise
        constant, weights = None, args.weights
    if constant is None:
        log.warning(
            "%s does not say how many people its training pictures show on average, so there is no constant "
            "predictor beside the figures; give it with --constant.",
            weights,
        )
    return constant


def _tiles(text: str) -> Tiles:
    if text == "auto":
        return "auto"
    if not text.isdigit() or not 1 <= int(text) <= 8:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tiles; wanted 1 to 8 per side, or auto")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; wanted one between 0 and 1, as 0.9")
    return share

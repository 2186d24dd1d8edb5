"""How near the served networks come to this machine's own matrix product, and what int8 gains over fp32.

The operations are counted from the exported graphs, so that nobody's estimate stands between the time and the share.
Sides alternate within each round: matrix product, fp32, int8, again; every share is of the same round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perf import roofline_tables
from perf.bare_runtime import core_count
from perf.record import Aim, Record, Table
from perf.roofline_tables import because, plot
from perf.stand import REPOSITORY, newest_artefact
from perf.sweep import names_in, numbers_in

__all__ = ["add_arguments", "measure", "plot", "tables"]

NETWORKS = ("facefilter_separator", "crowd_v", "crowd_av", "facefilter_identity")
_AIMED = ("facefilter_separator", "crowd_v", "crowd_av")
SHARE_AIM, INT8_AIM = 0.85, 3.5
_FRAMES = 200  # two seconds of sound
_CALLS = 4  # at least so many in a measured stretch
_SLOW_S = 0.25  # one call at a batch of one: larger batches would add minutes and no speed

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Way:
    """One manner of using the cores."""

    name: str
    threads: int  # of one session
    workers: int  # callers side by side


@dataclass(frozen=True)
class Stretch:
    """One side in one round."""

    items_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf roofline`."""
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="fp32, preset compact (%(default)s)")
    parser.add_argument("--int8-repository", type=Path, help="the same in int8: avedge export --precision int8")
    parser.add_argument("--paper-repository", type=Path, help="sizes of the papers: avedge export --untrained paper")
    parser.add_argument("--paper-int8-repository", type=Path, help="these in int8")
    parser.add_argument("--networks", type=names_in, default=NETWORKS, help="comma-separated; default: all four")
    parser.add_argument("--batches", type=numbers_in, default=(1, 4, 8), help="items in one call (1,4,8)")
    parser.add_argument("--rounds", type=int, default=3, help="each side is measured so often (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of one side in one round (%(default)s)")
    parser.add_argument("--sgemm-size", type=int, default=1536, help="rows of the square product (%(default)s)")


def measure(args: argparse.Namespace, progress: Progress) -> Record:
    """Measure as the command line says.

    Raises:
        PerfError: A repository lacks a network (6).
    """
    from perf import roofs
    from train import environment

    stamp = environment.stamp(environment.command_line())
    cores = core_count()
    ways = _ways(cores)
    roof = {}
    for threads in sorted({1, cores}):
        progress(f"matrix product and bandwidth, {threads} threads")
        roof[str(threads)] = {
            "sgemm_gflops": roofs.sgemm_gflops(threads, args.sgemm_size),
            "triad_gb_per_s": roofs.bandwidth_gb_per_s(threads),
        }
    networks = {}
    for name, files in _files(args).items():
        networks[name] = _network(name, files, ways, roof, args, progress)
    settings = {key: getattr(args, key) for key in ("batches", "rounds", "seconds", "sgemm_size")}
    figures = {"cores": cores, "roof": roof, "networks": networks}
    return Record("roofline", stamp, settings | {"frames": _FRAMES}, figures, tuple(_aims(networks)))


def tables(record: Record) -> list[Table]:
    """The roof, the networks under it, int8, and where the time goes."""
    return roofline_tables.tables(record)


def _ways(cores: int) -> tuple[Way, ...]:
    one = Way("one core", 1, 1)
    return (one, Way("all cores, one session", cores, 1), Way("all cores, one each", 1, cores)) if cores > 1 else (one,)


def _files(args: argparse.Namespace) -> dict[str, dict[str, Path]]:
    """Graph of each network by precision; the papers' sizes go under names of their own."""
    files: dict[str, dict[str, Path]] = {}
    for preset, repositories in (
        ("", {"fp32": args.repository, "int8": args.int8_repository}),
        ("paper ", {"fp32": args.paper_repository, "int8": args.paper_int8_repository}),
    ):
        if repositories["fp32"] is None:
            continue
        for name in args.networks:
            files[preset + name] = {
                precision: newest_artefact(repository, name, "model.onnx")
                for precision, repository in repositories.items()
                if repository is not None
            }
    return files


def _network(
    name: str,
    files: dict[str, Path],
    ways: tuple[Way, ...],
    roof: dict[str, Any],
    args: argparse.Namespace,
    progress: Progress,
) -> dict[str, Any]:
    """All figures of one network."""
    import onnx

    from perf import bare_runtime, roofs
    from perf.flops import count

    progress(f"{name}: operations, and the matrix product at its own shapes")
    sessions = {
        (precision, threads): bare_runtime.open_session(path, threads)
        for precision, path in files.items()
        for threads in {way.threads for way in ways}
    }
    work = count(onnx.load(files["fp32"]), bare_runtime.shapes_of(sessions["fp32", 1], 1, _FRAMES))
    own = {str(threads): roofs.gflops_at_own_shapes(work, threads) for threads in sorted({w.threads for w in ways})}
    _once_s(sessions["fp32", 1], 1)
    batches = args.batches[:1] if _once_s(sessions["fp32", 1], 1) > _SLOW_S else args.batches
    stretches: dict[tuple[int, int, str], list[Stretch]] = {}
    products_seen: list[dict[int, float]] = []
    for number in range(args.rounds):
        progress(f"{name}: round {number + 1} of {args.rounds}")
        products_seen.append(
            {int(threads): _sgemm(int(threads), one, args.sgemm_size) for threads, one in roof.items()}
        )
        for place, way in enumerate(ways):
            for batch in batches:
                for precision in files:
                    stretch = _stretch(sessions[precision, way.threads], way, batch, args.seconds)
                    stretches.setdefault((place, batch, precision), []).append(stretch)
    levels = [
        _level(ways[place], batch, precision, found, products_seen, work.flops / 1e9, own[str(ways[place].threads)])
        for (place, batch, precision), found in stretches.items()
    ]
    shares = {
        precision: [asdict(share) for share in bare_runtime.profile(path, batch=1, length=_FRAMES)]
        for precision, path in files.items()
    }
    by_operation: dict[str, int] = {}
    for node in work.nodes:
        by_operation[node.operation] = by_operation.get(node.operation, 0) + node.flops
    return {
        "gflop": work.flops / 1e9,
        "gflop_by_operation": {key: value / 1e9 for key, value in by_operation.items() if value},
        "weight_mb": work.weight_bytes / 1e6,
        "moved_mb": work.moved_bytes / 1e6,
        "own_shapes_gflops": own,
        "levels": levels,
        "int8": _gains(ways, batches, stretches) if "int8" in files else [],
        "profile": shares,
    }


def _sgemm(threads: int, one: dict[str, Any], size: int) -> float:
    """The large product again, by the library that was the fastest."""
    from perf import roofs

    fastest: str = max(one["sgemm_gflops"], key=one["sgemm_gflops"].get)
    with roofs.library_threads(threads):
        took = roofs.seconds_of(roofs.products(size, size, size, threads)[fastest], calls=3)
    return float(2 * size**3 / 1e9 / took)


def _once_s(session: Any, batch: int) -> float:
    """Time of one call, for planning."""
    from perf.bare_runtime import inputs_of

    inputs = inputs_of(session, batch, _FRAMES)
    before = time.perf_counter()
    session.run(None, inputs)
    return time.perf_counter() - before


def _stretch(session: Any, way: Way, batch: int, seconds: float) -> Stretch:
    """One closed loop; the rate is what the median call means, so that a cut call at the end costs nothing."""
    from perf.bare_runtime import inputs_of
    from perf.closed_loop import closed_loop

    inputs = inputs_of(session, batch, _FRAMES)
    stretch_s = max(seconds, _CALLS * _once_s(session, batch) * way.workers)
    while not (
        rates := closed_loop(
            lambda worker, number: session.run(None, inputs), workers=way.workers, seconds=stretch_s, warmup_s=0.0
        )
    ).count:
        stretch_s *= 2  # the machine was elsewhere all the time
    return Stretch(way.workers * batch * 1000 / rates.p50_ms, rates.p50_ms, rates.p95_ms, rates.p99_ms)


def _level(
    way: Way,
    batch: int,
    precision: str,
    found: list[Stretch],
    products_seen: list[dict[int, float]],
    gflop: float,
    own_gflops: float,
) -> dict[str, Any]:
    """Medians over the rounds, and the share of the product of the same round."""
    used = way.threads * way.workers

    def middle(key: str) -> float:
        return float(statistics.median(getattr(stretch, key) for stretch in found))

    shares = [stretch.items_per_s * gflop / seen[used] for stretch, seen in zip(found, products_seen, strict=True)]
    return {
        "way": way.name,
        "cores": used,
        "batch": batch,
        "precision": precision,
        **{key: middle(key) for key in ("items_per_s", "p50_ms", "p95_ms", "p99_ms")},
        "gflops": middle("items_per_s") * gflop,
        "of_sgemm": statistics.median(shares),
        "of_own_shapes": middle("items_per_s") * gflop / (way.workers * own_gflops),
    }


def _gains(
    ways: tuple[Way, ...], batches: tuple[int, ...], stretches: dict[tuple[int, int, str], list[Stretch]]
) -> list[dict[str, Any]]:
    """Int8 over fp32, each against the other in the same round."""
    return [
        {
            "way": way.name,
            "cores": way.threads * way.workers,
            "batch": batch,
            "times_fp32": statistics.median(
                fast.items_per_s / slow.items_per_s
                for fast, slow in zip(stretches[place, batch, "int8"], stretches[place, batch, "fp32"], strict=True)
            ),
        }
        for place, way in enumerate(ways)
        for batch in batches
    ]


def _aims(networks: dict[str, Any]) -> list[Aim]:
    aims = []
    for name, network in networks.items():
        if not name.endswith(_AIMED):
            continue
        fp32 = [level for level in network["levels"] if level["precision"] == "fp32"]
        for cores, words in {1: "one core", max(level["cores"] for level in fp32): "all cores"}.items():
            best = max((level for level in fp32 if level["cores"] == cores), key=lambda level: level["of_sgemm"])
            what = f"{name}, {words}: share of this machine's matrix product, fp32"
            aims.append(Aim(what, best["of_sgemm"], SHARE_AIM, because=because(network, "fp32", best["way"])))
        if name.endswith("separator") and network["int8"]:
            # One core, the first batch: what the largest of many noisy ratios says is mostly noise.
            gain = network["int8"][0]["times_fp32"]
            aims.append(
                Aim(
                    f"{name}: int8 over fp32, one core, first batch",
                    gain,
                    INT8_AIM,
                    unit="x",
                    because=because(network, "int8", "one core"),
                )
            )
    return aims

"""Open loop: requests come at Poisson times whatever becomes of those before, as users' do.

For each ensemble the largest mean rate is sought at which 95 % of the answers come within an objective, and is shown
beside what a closed loop reaches in the same run, where a caller waits for its answer before it asks again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.analyzer import find_analyzer
from perf.errors import PerfError
from perf.measure import Measurement, Progress, SweepSettings
from perf.record import Cell, Record, Table
from perf.results import EnsembleResult
from perf.served import Server
from perf.stand import add_server_arguments, serving
from perf.sweep import ENSEMBLES, names_in, numbers_in

if TYPE_CHECKING:
    from perf.open_loop import Search

# What a person takes for an immediate answer is a tenth of a second (Miller 1968; Nielsen 1993).
OBJECTIVE_MS = 100.0
_NO_SERVER, _STUCK = 5, 7
_SEED = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf rate`."""
    add_server_arguments(parser)
    parser.add_argument("--ensembles", type=names_in, help="comma-separated; default: all that are served")
    parser.add_argument("--p95-ms", type=float, default=OBJECTIVE_MS, help="the objective (%(default)s)")
    parser.add_argument("--concurrency", type=numbers_in, default=(2, 4, 8), help="closed loop, in flight (2,4,8)")
    parser.add_argument("--window-s", type=float, default=2.5, help="a third of one rate's measurement (%(default)s)")
    parser.add_argument("--closed-window-s", type=float, default=1.5, help="of the closed loop's (%(default)s)")
    parser.add_argument("--halvings", type=int, default=3, help="of the quarter with the answer in it (%(default)s)")


def measure(args: argparse.Namespace, progress: Progress) -> Record:
    """Search each ensemble's rate; one without figures is listed with its reason.

    Raises:
        PerfError: no server (5), an ensemble that is not served (6), no samples (4), no perf_analyzer (1), an objective
            that is none (2).
        ClientError: a sample cannot be used, or the server serves another contract or does not answer.
    """
    from perf import environment
    from train.environment import command_line

    if args.p95_ms <= 0 or args.window_s < 0.1 or args.halvings < 0:
        raise PerfError(
            f"--p95-ms {args.p95_ms:g}, --window-s {args.window_s:g}, --halvings {args.halvings}: wanted a time above "
            "0, windows of 0.1 s or more and no negative number; nothing else can be searched. Give others.",
            exit_code=2,
        )
    figures: dict[str, Any] = {}
    with serving(args) as url, tempfile.TemporaryDirectory(prefix="avedge-perf-") as scratch:
        server = Server(url)
        try:
            names = _chosen(args.ensembles, server)
            libraries, folder = Path(scratch, "lib"), Path(scratch, "work")
            libraries.mkdir()
            folder.mkdir()
            analyzer = find_analyzer(libraries)
            stamp = environment.stamp(
                command_line(), server_version=server.version(), analyzer_version=analyzer.version
            )
            settings = SweepSettings(args.concurrency, args.closed_window_s, attempts=1)
            measurement = Measurement(server, analyzer, folder, settings, progress)
            for name in names:
                figures[name] = _ensemble(measurement, name, args)
        finally:
            server.close()
    own = {key: getattr(args, key) for key in ("p95_ms", "concurrency", "window_s", "closed_window_s", "halvings")}
    complete = not any(found["failures"] for found in figures.values())
    return Record("rate", stamp, own | {"seed": _SEED}, {"ensembles": figures}, complete=complete)


def tables(record: Record) -> list[Table]:
    """What holds the objective beside the closed loop, then every rate that was tried."""
    rows: list[tuple[Cell, ...]] = []
    curves: list[tuple[Cell, ...]] = []
    failures: list[str] = []
    for name, found in record.figures["ensembles"].items():
        rows.append(_summary(name, found))
        curves += [_level(name, level, record.settings["p95_ms"]) for level in found["levels"]]
        failures += [f"{name} gave no figures: {message}" for message in found["failures"]]
    objective = f"{record.settings['p95_ms']:g} ms"
    note = (
        f"held/s: the largest mean rate of Poisson arrivals with 95 % of the answers within {objective}, and its "
        "percentiles; closed/s: the closed loop's best in the same run."
    )
    return [
        Table(
            f"largest rate with p95 within {objective}",
            ("ensemble", "closed/s", "in flight", "its p95 ms", "held/s", "of closed %", "p50 ms", "p95 ms", "p99 ms"),
            tuple(rows),
            " ".join([note, *failures]),
        ),
        Table(
            "every rate that was tried",
            ("ensemble", "asked/s", "sent/s", "answered/s", "p50 ms", "p95 ms", "p99 ms", "late %", "failed", "holds"),
            tuple(curves),
            "late: sent later than meant, by perf_analyzer's own judgement; such a rate does not hold.",
        ),
    ]


def plot(record: Record, path: Path) -> None:
    """Latency against rate for each ensemble, with the objective and the closed loop's best."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = {name: one for name, one in record.figures["ensembles"].items() if one["levels"]}
    figure, axes = pyplot.subplots(1, max(1, len(found)), figsize=(4 * max(1, len(found)), 3.2), squeeze=False)
    for axis, (name, one) in zip(axes[0], found.items(), strict=False):
        rates = [level["asked_per_s"] for level in one["levels"]]
        for percent in ("p50", "p95", "p99"):
            axis.plot(rates, [level["client"][f"{percent}_ms"] for level in one["levels"]], marker=".", label=percent)
        axis.axhline(record.settings["p95_ms"], color="grey", linestyle=":")
        axis.axvline(one["closed"]["per_s"], color="grey", linestyle="--")
        axis.set(title=name, xlabel="requests a second", yscale="log")
    axes[0][0].set_ylabel("ms")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _chosen(wanted: Sequence[str] | None, server: Server) -> tuple[str, ...]:
    """The ensembles to measure, all of them served."""
    served = server.ready_models()
    names = tuple(wanted or (name for name in ENSEMBLES if name in served))
    absent = [name for name in names if name not in served]
    if absent or not names:
        raise PerfError(
            f"The server does not serve {', '.join(absent or ENSEMBLES)}; it has {', '.join(sorted(served))}. Only a "
            "served ensemble can be measured: give `avedge serve` the whole repository, or choose with --ensembles.",
            exit_code=6,
        )
    return names


def _ensemble(measurement: Measurement, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The closed loop's best, then the search below it."""
    closed = measurement.ensemble(name, args.samples)
    if not closed.levels:
        return {"closed": None, "levels": [], "held": None, "failures": [one.message for one in closed.failures]}
    best = max(closed.levels, key=lambda level: level.client.inferences_per_s)
    found: dict[str, Any] = {
        "closed": {"per_s": best.client.inferences_per_s, "in_flight": best.concurrency, "client": asdict(best.client)},
        "levels": [],
        "held": None,
        "failures": [one.message for one in closed.failures],
    }
    try:
        result = _search(measurement, closed, best.client.inferences_per_s, args)
    except PerfError as error:
        if error.exit_code in (_NO_SERVER, _STUCK):
            raise
        found["failures"].append(str(error))
        return found
    return found | {
        "levels": [asdict(level) for level in result.levels],
        "held": asdict(result.held) if result.held else None,
    }


def _search(measurement: Measurement, closed: EnsembleResult, most_per_s: float, args: argparse.Namespace) -> Search:
    from perf import open_loop

    server, name = measurement.server, closed.ensemble

    def failed() -> int:
        return int(server.counters([name])[name].inference_stats.fail.count)

    def level(rate_per_s: float) -> open_loop.RateLevel:
        measurement.progress(f"{name}: {rate_per_s:.1f} a second, at Poisson times")
        before = failed()
        seen = open_loop.measure_rate(
            measurement.analyzer,
            measurement.folder,
            server.url,
            name,
            rate_per_s,
            window_s=args.window_s,
            seed=_SEED,
        )
        return replace(seen, failures=max(seen.failures, failed() - before))

    return open_loop.search(level, most_per_s, args.p95_ms, args.halvings)


def _summary(name: str, found: dict[str, Any]) -> tuple[Cell, ...]:
    closed, held = found["closed"], found["held"]
    if closed is None:
        return (name, *[None] * 8)
    start = (name, closed["per_s"], closed["in_flight"], closed["client"]["p95_ms"])
    if held is None:
        return (*start, *[None] * 5)
    percentiles = (held["client"][f"p{percent}_ms"] for percent in (50, 95, 99))
    return (*start, held["asked_per_s"], 100 * held["asked_per_s"] / closed["per_s"], *percentiles)


def _level(name: str, level: dict[str, Any], p95_ms: float) -> tuple[Cell, ...]:
    from perf.open_loop import RateLevel
    from perf.results import ClientView

    seen = RateLevel(**level | {"client": ClientView(**level["client"])})
    return (
        name,
        seen.asked_per_s,
        seen.sent_per_s,
        seen.client.inferences_per_s,
        *(seen.client.p50_ms, seen.client.p95_ms, seen.client.p99_ms),
        seen.delayed_percent,
        seen.failures,
        "yes" if seen.holds(p95_ms) else "no",
    )

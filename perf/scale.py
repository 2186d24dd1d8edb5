"""How throughput, time and memory grow: with requests in flight, with the items of a request, and with the input.

Recordings of 2 s to 10 min and pictures of up to 8K go through the clients, each in a process of its own. Growth is
fitted as a power law: exponent 1 is linear, 0 is flat. The server's memory never falls, because ONNX Runtime keeps what
it had once: read each table downwards.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.errors import PerfError
from perf.growth import Growth, fit, fit_above, slope
from perf.measure import Progress
from perf.record import Aim, Cell, Record, Table
from perf.stand import add_server_arguments, serving
from perf.sweep import names_in, numbers_in

if TYPE_CHECKING:
    from perf.analyzer import Analyzer
    from perf.scale_lengths import Point
    from perf.served import Server

TIME_BOUND, MEMORY_BOUND = 1.05, 0.1
_ENSEMBLES = ("facefilter", "crowd_counting")
_SECONDS = (2, 10, 30, 60, 120, 300, 600)
_PICTURES = ((1024, 576), (1920, 1080), (2560, 1440), (3840, 2160), (5120, 2880), (7680, 4320))
_CALLERS = 2  # in flight while the items of a request grow
_FLOOR_BYTES = 2 << 20  # growth below this is the allocator's
_NO_SERVER, _STUCK = 5, 7
_MB = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf scale`; an empty list leaves that part out."""
    add_server_arguments(parser)
    parser.add_argument("--ensembles", type=names_in, default=_ENSEMBLES, help="facefilter,crowd_counting")
    parser.add_argument("--concurrency", type=numbers_in, default=(1, 2, 4, 8, 16), help="in flight (1,2,4,8,16)")
    parser.add_argument("--batches", type=numbers_in, default=(1, 2, 4, 8), help="items of a request (1,2,4,8)")
    parser.add_argument("--seconds", type=numbers_in, default=_SECONDS, help="of sound (2,10,30,60,120,300,600)")
    parser.add_argument("--pictures", type=sizes_in, default=_PICTURES, help="e.g. 1024x576,7680x4320")
    parser.add_argument("--window-s", type=float, default=2.0, help="a third of one level (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of every input, at least (%(default)s)")


def sizes_in(text: str) -> tuple[tuple[int, int], ...]:
    """Sizes between commas, such as 1024x576."""
    pairs = [name.split("x") for name in names_in(text)]
    return tuple((int(width), int(height)) for width, height in pairs)


def measure(args: argparse.Namespace, progress: Progress) -> Record:
    """Measure every part that is asked for; what gave no figures is listed with its reason.

    Raises:
        PerfError: no server (5), an ensemble that is not served (6), no samples (4), no perf_analyzer (1).
        ClientError: a sample cannot be used, or the server serves another contract or does not answer.
    """
    from perf import environment
    from perf.analyzer import find_analyzer
    from perf.served import Server
    from train.environment import command_line

    failures: list[str] = []
    with serving(args) as url, tempfile.TemporaryDirectory(prefix="avedge-perf-") as scratch:
        libraries, folder = Path(scratch, "lib"), Path(scratch, "work")
        libraries.mkdir()
        folder.mkdir()
        analyzer = find_analyzer(libraries)
        with closing(Server(url)) as server:
            stamp = environment.stamp(
                command_line(), server_version=server.version(), analyzer_version=analyzer.version
            )
            load = {name: _load(server, analyzer, folder, name, args, progress, failures) for name in args.ensembles}
        figures = {"load": load, "sound": None, "pictures": None, "failures": failures}
        figures |= _lengths(url, args, folder, progress, failures)
    settings = {key: getattr(args, key) for key in ("concurrency", "batches", "seconds", "pictures", "window_s")}
    settings |= {"repeats": args.repeats, "callers_of_batches": _CALLERS}
    return Record("scale", stamp, settings, figures, tuple(aims_of(figures)), complete=not failures)


def tables(record: Record) -> list[Table]:
    """Load, recordings and pictures."""
    shown = []
    for part, column in (("concurrency", "in flight"), ("batches", "items a request")):
        rows = tuple(
            (name, level[part], *(level["client"][key] for key in ("inferences_per_s", "p50_ms", "p95_ms", "p99_ms")))
            + (_megabytes(level["server_bytes"]),)
            for name, load in record.figures["load"].items()
            for level in load[part]
        )
        note = f"{_CALLERS} requests in flight." if part == "batches" else ""
        columns = ("ensemble", column, "items/s", "p50 ms", "p95 ms", "p99 ms", "server MB")
        shown.append(Table(f"closed loop by {column}", columns, rows, note))
    for part, title in (("sound", "recordings"), ("pictures", "pictures")):
        if record.figures[part]:
            shown.append(_lengths_table(title, record.figures[part]))
    if record.figures["failures"]:
        shown[0] = Table(shown[0].title, shown[0].columns, shown[0].rows, " ".join(record.figures["failures"]))
    return [table for table in shown if table.rows]


def plot(record: Record, path: Path) -> None:
    """Throughput against requests in flight; time and client memory against the input, in logarithms."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(11, 3.2))
    for name, load in record.figures["load"].items():
        levels = load["concurrency"]
        left.plot([one["concurrency"] for one in levels], [one["client"]["inferences_per_s"] for one in levels], "o-")
        left.plot([], [], "o-", color=left.lines[-1].get_color(), label=name)
    left.set(xlabel="requests in flight", ylabel="answers a second", ylim=(0, None))
    left.legend()
    sound = record.figures["sound"]
    for axis, key, scale, label in ((middle, "seconds", 1.0, "s"), (right, "client_bytes", 1 / _MB, "client MB")):
        points = [point for point in (sound["points"] if sound else []) if point[key]]
        axis.loglog([point["size"] for point in points], [point[key] * scale for point in points], "o-")
        axis.set(xlabel="seconds of sound", ylabel=label)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _load(
    server: Server,
    analyzer: Analyzer,
    folder: Path,
    name: str,
    args: argparse.Namespace,
    progress: Progress,
    failures: list[str],
) -> dict[str, list[dict[str, Any]]]:
    """Throughput and the server's memory at growing concurrency and batch."""
    from perf import inputs
    from perf.level import INPUTS, run_level
    from perf.memory import Watch

    ensemble = server.connection.served(name)
    requests = inputs.requests_for(server.connection, ensemble, args.samples, None)
    inputs.write_input_data(folder / INPUTS, requests)
    server.connection.infer_all(name, requests, [tensor.name for tensor in ensemble.outputs])

    def level(part: str, number: int) -> dict[str, Any]:
        in_flight, items = (number, 1) if part == "concurrency" else (_CALLERS, number)
        progress(f"{name}: {in_flight} in flight, {items} in a request")
        load = ["--concurrency-range", f"{in_flight}:{in_flight}:1", "-b", str(items)]
        with Watch(server.url) as watch:
            seen = run_level(analyzer, folder, server.url, name, load, window_s=args.window_s)
        return {part: number, "client": asdict(seen.client), "server_bytes": watch.peak}

    parts = {"concurrency": args.concurrency, "batches": args.batches}
    return {
        part: list(_those_with_figures(level, [(part, number) for number in numbers], f"{name}, {part}", failures))
        for part, numbers in parts.items()
    }


def _lengths(
    url: str, args: argparse.Namespace, folder: Path, progress: Progress, failures: list[str]
) -> dict[str, Any]:
    """Recordings and pictures of growing size, each with its fits."""
    from perf import scale_lengths

    inputs = scale_lengths.Inputs(args.samples, folder)

    def sound(seconds: int) -> Point:
        progress(f"{seconds} s of sound")
        return scale_lengths.sound_point(url, inputs, seconds, min(args.seconds), args.repeats)

    def picture(size: tuple[int, int]) -> Point:
        progress(f"a picture of {size[0]}x{size[1]}")
        return scale_lengths.picture_point(url, inputs, size, min(args.pictures), args.repeats)

    heard = list(_those_with_figures(sound, [(seconds,) for seconds in args.seconds], "sound", failures))
    seen = list(_those_with_figures(picture, [(size,) for size in args.pictures], "picture", failures))
    return {"sound": growth_of(heard), "pictures": growth_of(seen)}


def _those_with_figures(
    measure: Callable[..., Any], wanted: Iterable[Sequence[Any]], what: str, failures: list[str]
) -> Iterable[Any]:
    """Measure one after the other; the reasons of those without figures go to `failures`."""
    for given in wanted:
        try:
            yield measure(*given)
        except PerfError as error:
            if error.exit_code in (_NO_SERVER, _STUCK):
                raise
            failures.append(f"{what} {given[-1]}: {error}")


def growth_of(points: list[Point]) -> dict[str, Any] | None:
    """Points with the fits of time and of the client's memory; None of fewer than two."""
    if len(points) < 2:
        return None
    sizes = [point.size for point in points]
    known = [point for point in points if point.client_bytes is not None and point.beyond_bytes is not None]
    found: dict[str, Any] = {
        "points": [asdict(point) for point in points],
        "time": asdict(fit(sizes, [point.seconds for point in points])),
        "client_memory": None,
    }
    if len(known) == len(points):
        beyond = [float(point.beyond_bytes or 0) for point in points]
        rise = slope(sizes, [float(point.client_bytes or 0) for point in points])
        own = slope(sizes, [float(point.input_bytes) for point in points])
        found["client_memory"] = asdict(fit_above(sizes, beyond, _FLOOR_BYTES)) | {
            "bytes_per_size": rise,
            "times_input": rise / own,
        }
    return found


def aims_of(figures: dict[str, Any]) -> list[Aim]:
    """Time linear in the length of a recording, the client's memory flat."""
    sound = figures["sound"]
    if sound is None:
        return []
    aims = [Aim("time of a recording: exponent", sound["time"]["exponent"], TIME_BOUND, at_least=False)]
    memory = sound["client_memory"]
    if memory is not None:
        because = (
            f"{memory['bytes_per_size'] / 1000:.0f} kB for each second of sound, {memory['times_input']:.1f} times the "
            "recording's own float32, while the recording goes from file to file in windows of eight seconds."
        )
        aims.append(
            Aim(
                "client's memory while a recording goes from file to file: exponent",
                memory["exponent"],
                MEMORY_BOUND,
                at_least=False,
                because=because,
            )
        )
    return aims


def _lengths_table(title: str, found: dict[str, Any]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (point["name"], point["requests"], 1000 * point["seconds"])
        + tuple(_megabytes(point[key]) for key in ("input_bytes", "client_bytes", "server_bytes"))
        for point in found["points"]
    )
    note = f"Time grows with exponent {_exponent(found['time'])}"
    if found["client_memory"]:
        times = found["client_memory"]["times_input"]
        beside = " beside the input" if found["points"][0]["held"] else ""
        note += (
            f", the client's memory{beside} with {_exponent(found['client_memory'])}; all of it rises by {times:.1f} "
            "times the input"
        )
    columns = (title, "requests", "ms", "input MB", "client MB", "server MB")
    unit = "float32 samples" if title == "recordings" else "RGB pixels"
    explained = f"input: as {unit}; client: peak beyond a client that has answered a small one; ms: file to answer."
    return Table(f"{title} through the client", columns, rows, f"{note}. {explained[0].upper()}{explained[1:]}")


def _exponent(content: dict[str, Any]) -> str:
    growth = Growth(**{key: content[key] for key in ("exponent", "standard_error", "factor", "points")})
    error = "" if growth.standard_error is None else f" ± {growth.standard_error:.2f}"
    return f"{growth.exponent:.2f}{error}"


def _megabytes(count: int | None) -> float | None:
    return None if count is None else count / _MB

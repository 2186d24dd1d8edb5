"""One closed-loop sweep of the ensembles of a running server.

Closed loop: a fixed number of requests is kept in flight, and each answered one is replaced at once. It shows how
fast the server can go, and not how long callers wait who come at their own times.
"""

from __future__ import annotations

import argparse
import ipaddress
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from perf import environment, sweep_tables
from perf.analyzer import find_analyzer
from perf.errors import PerfError
from perf.measure import Measurement, Progress, SweepSettings
from perf.record import Record, Table
from perf.results import SweepResult
from perf.served import Server
from perf.stand import add_server_arguments, serving

ENSEMBLES = ("facefilter", "facefilter_enrolled", "crowd_counting", "crowd_counting_vision")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf sweep`."""
    add_server_arguments(parser)
    parser.add_argument("--ensembles", type=names_in, help="comma-separated; default: all that are served")
    parser.add_argument("--concurrency", type=numbers_in, default=(1, 2, 4), help="requests in flight (1,2,4)")
    parser.add_argument("--window-s", type=float, default=3.0, help="length of one measurement window (%(default)s)")
    parser.add_argument("--attempts", type=int, default=2, help="runs of three windows, until they agree (%(default)s)")
    parser.add_argument("--clip-samples", type=int, help="length of a mixture; default: the shortest served one")


def measure(args: argparse.Namespace, progress: Progress) -> Record:
    """Sweep as the command line says."""
    settings = SweepSettings(
        concurrencies=args.concurrency,
        window_s=args.window_s,
        attempts=args.attempts,
        clip_samples=args.clip_samples,
    )
    with serving(args) as url:
        return sweep(url, args.samples, ensembles=args.ensembles, settings=settings, progress=progress).as_record()


def tables(record: Record) -> list[Table]:
    """What a caller saw, then what each model did inside each ensemble."""
    return sweep_tables.tables(SweepResult.from_record(record))


def names_in(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers_in(text: str) -> tuple[int, ...]:
    """Whole numbers between commas."""
    return tuple(int(number) for number in names_in(text))


def sweep(
    url: str,
    samples: Path,
    *,
    ensembles: Sequence[str] | None = None,
    settings: SweepSettings | None = None,
    progress: Progress = lambda message: None,
) -> SweepResult:
    """Measure ensembles of a running server with real inputs.

    Args:
        url: Host and port of the server's gRPC endpoint.
        samples: Folder with `mixture_*.wav`, `face_*.png`, `scene_*.jpg`, `scene_*.wav`.
        ensembles: Which to measure; None measures all four, or those of them that are served.
        settings: How to measure; None takes the defaults.
        progress: Is told what is being measured, one line at a time.

    Returns:
        Figures of every level. A level that failed is listed with its reason, and `complete` is then False.

    Raises:
        PerfError: No server (5), an ensemble that is not served (6), no samples (4), no perf_analyzer (1).
        ClientError: A sample cannot be used, or the server serves another contract or does not answer.
    """
    settings = settings or SweepSettings()
    server = Server(url)
    try:
        served = server.ready_models()
        names = tuple(ensembles or (name for name in ENSEMBLES if name in served))
        _check_served(names, served)
        with tempfile.TemporaryDirectory(prefix="avedge-perf-") as scratch:
            libraries, folder = Path(scratch, "lib"), Path(scratch, "work")
            libraries.mkdir()
            folder.mkdir()
            analyzer = find_analyzer(libraries)
            stamp = environment.stamp(
                _command(url, samples, names, settings),
                server_version=server.version(),
                analyzer_version=analyzer.version,
            )
            measurement = Measurement(server, analyzer, folder, settings, progress)
            results = tuple(measurement.ensemble(name, samples) for name in names)
    finally:
        server.close()
    not_served = tuple(name for name in ENSEMBLES if name not in served)
    return SweepResult(stamp, asdict(settings), results, not_served)


def _check_served(names: Sequence[str], served: set[str]) -> None:
    absent = [name for name in names if name not in served]
    if absent or not names:
        raise PerfError(
            f"The server does not serve {', '.join(absent or ENSEMBLES)}; it has {', '.join(sorted(served))}. "
            "Only a served ensemble can be measured: give `avedge serve` the whole model repository, or choose with "
            "--ensembles.",
            exit_code=6,
        )


def _command(url: str, samples: Path, names: Sequence[str], settings: SweepSettings) -> str:
    """What to type to measure the same again, without hosts and without anybody's folders."""
    host, _, port = url.rpartition(":")
    parts = [
        "avedge perf sweep",
        f"--url {host if _is_loopback(host) else 'SERVER'}:{port}",
        f"--samples {_relative(samples)}",
        f"--ensembles {','.join(names)}",
        f"--concurrency {','.join(map(str, settings.concurrencies))}",
        f"--window-s {settings.window_s:g}",
        f"--attempts {settings.attempts}",
    ]
    if settings.clip_samples:
        parts.append(f"--clip-samples {settings.clip_samples}")
    return " ".join(parts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _relative(path: Path) -> str:
    """A path from the repository's root, or only the folder's name when it lies elsewhere."""
    full = path.resolve()
    return str(full.relative_to(environment.ROOT)) if full.is_relative_to(environment.ROOT) else full.name

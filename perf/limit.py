"""What serving costs: each ensemble behind gRPC against the same graphs in bare ONNX Runtime on the same cores.

Both sides get the same inputs and are tuned first: the bare side by threads, workers, batch and spinning, the served
one by requests in flight. Then they are measured in turn, so that a slow minute of the machine hits both, and the
median ratio of a few rounds counts. Shared memory (the client's tensors never go through a socket) and the server
inside perf_analyzer's own process show how much of the difference is transport. Faces repeat: the server answers the
identity from its response cache, and the bare side keeps identities by the same rule.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perf import bare, first_request, in_process, inputs, together
from perf.analyzer import Analyzer, find_analyzer
from perf.bare_runtime import core_count
from perf.cpu_time import cpu_s
from perf.errors import PerfError
from perf.level import INPUTS, run_level
from perf.limit_tables import tables as tables
from perf.measure import Progress
from perf.memory import processes_of
from perf.record import Aim, Record
from perf.served import Server
from perf.stand import REPOSITORY, SAMPLES
from perf.sweep import ENSEMBLES, names_in, numbers_in
from perf.trial import copy_repository

AIMS = {"compact": 0.90, "paper": 0.95}
FIRST_REQUEST_BOUND = 1.2
_LEAST_OUTPUT_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf limit`; both sides run on this machine's cores, so there is no --url."""
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="Triton model repository (%(default)s)")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="folder of `avedge demo`'s samples (%(default)s)")
    parser.add_argument("--ensembles", type=names_in, default=ENSEMBLES, help="comma-separated; default: all four")
    parser.add_argument(
        "--preset", choices=tuple(AIMS), default="compact", help="of the exported networks; sets the aim (%(default)s)"
    )
    parser.add_argument("--concurrency", type=numbers_in, default=(2, 4, 6), help="in flight, tried (2,4,6)")
    parser.add_argument("--batches", type=numbers_in, default=(1, 2, 4), help="of the bare side, tried (1,2,4)")
    parser.add_argument("--rounds", type=int, default=3, help="of both sides in turn (%(default)s)")
    parser.add_argument("--window-s", type=float, default=0.6, help="a third of one measurement (%(default)s)")
    parser.add_argument("--starts", type=int, default=4, help="fresh servers for the first request (%(default)s)")
    parser.add_argument("--no-in-process", action="store_true", help="leave out the server inside perf_analyzer")


@dataclass(frozen=True)
class _Stand:
    """What all ensembles of one run share."""

    args: argparse.Namespace
    analyzer: Analyzer
    folder: Path  # scratch, perf_analyzer's working folder
    server: Server
    pid: int
    inside: list[str]  # perf_analyzer's options for the server in its process; empty where it is left out
    progress: Progress


def measure(args: argparse.Namespace, progress: Progress) -> Record:
    """Measure each ensemble both ways, then what is batched and cached, then fresh servers.

    Raises:
        PerfError: No samples (4), no perf_analyzer (1), a part that gives no figures.
        ServeError: The embedded server cannot start.
    """
    from perf import environment
    from train.environment import command_line

    if args.rounds < 1 or args.starts < 1 or args.window_s < 0.1:
        raise PerfError("--rounds and --starts are 1 or more, --window-s 0.1 or more; there are no figures else.", 2)
    with _stand(args, progress) as stand:
        stamp = environment.stamp(
            command_line(), server_version=stand.server.version(), analyzer_version=stand.analyzer.version
        )
        figures: dict[str, Any] = {name: _ensemble(stand, name) for name in args.ensembles}
        batches = together.measure(stand.server, args.samples, progress)
    started = first_request.measure(args.repository, "onnxruntime", args.samples, args.ensembles, args.starts, progress)
    settings = {key: value for key, value in vars(args).items() if key in _SETTINGS} | {"cores": core_count()}
    return Record(
        "limit",
        stamp,
        settings,
        {"ensembles": figures, "together": batches, "first_request": started},
        _aims(args.preset, figures, started),
    )


_SETTINGS = ("ensembles", "preset", "concurrency", "batches", "rounds", "window_s", "starts")


def _aims(preset: str, figures: dict[str, Any], started: dict[str, Any]) -> tuple[Aim, ...]:
    of = {"paper": ", paper sizes"}.get(preset, "")
    limits = [
        Aim(f"{name}{of}: served over bare", found["ratio"]["grpc"], AIMS[preset], because=_because(found))
        for name, found in figures.items()
    ]
    first = [
        Aim(f"{name}{of}: first request over tenth", found["ratio"], FIRST_REQUEST_BOUND, at_least=False)
        for name, found in started.items()
    ]
    return (*limits, *first)


def _because(found: dict[str, Any]) -> str:
    """Where the time of a core went, from the processes' own accounts."""
    served, alone = found["cpu_ms"]["served"], found["cpu_ms"]["bare"]
    more = served["models"] - alone
    return (
        f"A bare request takes {alone:.1f} ms of a core. A served one takes {served['total']:.1f}: the models' "
        f"processes {more:.1f} more than bare (interpreter, copies from and to shared memory, colder caches), "
        f"tritonserver {served['front']:.1f} (HTTP/2, copies between steps, waking processes), "
        f"the client {served['client']:.1f} (its start included)."
    )


@contextmanager
def _stand(args: argparse.Namespace, progress: Progress) -> Iterator[_Stand]:
    from serve.launcher import EmbeddedTriton

    with tempfile.TemporaryDirectory(prefix="avedge-perf-") as scratch, in_process.server_surroundings():
        root = Path(scratch)
        (root / "lib").mkdir()
        (root / "work").mkdir()
        analyzer = find_analyzer(root / "lib")
        inside: list[str] = []
        if not args.no_in_process:
            copied = copy_repository(args.repository, root / "repository", "onnxruntime")
            inside = in_process.options(in_process.install(root / "triton"), copied)
        with EmbeddedTriton(args.repository) as running:
            server = Server(running.grpc_url)
            try:
                yield _Stand(args, analyzer, root / "work", server, running.pid, inside, progress)
            finally:
                server.close()


def _ensemble(stand: _Stand, name: str) -> dict[str, Any]:
    """Both sides of one ensemble: tuned, then in turn."""
    args, connection = stand.args, stand.server.connection
    requests = inputs.requests_for(connection, connection.served(name), args.samples, None)
    inputs.write_input_data(stand.folder / INPUTS, requests)
    seconds = 3 * args.window_s
    stand.progress(f"{name}: bare ONNX Runtime, {len(bare.ways(core_count(), args.batches))} ways")
    tried = _bare_search(stand, name, requests)
    way, best_bare = max(tried, key=lambda pair: pair[1].per_s)
    graphs = bare.BareEnsemble(args.repository, name, threads=way.threads, spinning=way.spinning)
    levels = {}
    for number in args.concurrency:
        stand.progress(f"{name}: served, {number} in flight")
        levels[number] = _served(stand, name, number, [])
    in_flight = max(levels, key=lambda number: levels[number]["per_s"])
    rounds, cpu = [], []
    for number in range(args.rounds):
        stand.progress(f"{name}: round {number + 1} of {args.rounds}")
        before = time.process_time()
        alone = bare.load(graphs, way, requests, seconds)
        # The loop's warm-up runs too, at the same rate.
        alone_ms = 1000 * (time.process_time() - before) / (alone.per_s * (seconds + 0.5))
        grpc, served_ms = _accounted(stand, name, in_flight)
        sides = {"bare": asdict(alone), "grpc": grpc}
        sides["shared_memory"] = _served(stand, name, in_flight, _shared_memory(requests))
        # Loading all models takes most of it, so once; and there is no response cache inside perf_analyzer.
        if stand.inside and name != "facefilter" and number == 0:
            sides["in_process"] = _served(stand, name, in_flight, stand.inside)
        rounds.append(sides)
        cpu.append({"bare": alone_ms, "served": served_ms})
    return {
        "bare_tried": [{"way": str(one), **asdict(rates)} for one, rates in tried],
        "bare_way": str(way),
        "served_tried": {str(number): level for number, level in levels.items()},
        "in_flight": in_flight,
        "rounds": rounds,
        "ratio": {
            side: statistics.median(one[side]["per_s"] / one["bare"]["per_s"] for one in rounds if side in one)
            for side in rounds[0]
            if side != "bare"
        },
        "cpu_ms": {
            "bare": statistics.median(one["bare"] for one in cpu),
            "served": {key: statistics.median(one["served"][key] for one in cpu) for key in cpu[0]["served"]},
        },
    }


def _bare_search(stand: _Stand, name: str, requests: Sequence[inputs.Request]) -> list[tuple[bare.Way, Any]]:
    """Every way for one window; graphs are opened once for each number of threads."""
    opened: dict[tuple[int, bool], bare.BareEnsemble] = {}
    found = []
    for way in bare.ways(core_count(), stand.args.batches):
        key = (way.threads, way.spinning)
        if key not in opened:
            opened[key] = bare.BareEnsemble(stand.args.repository, name, threads=key[0], spinning=key[1])
        found.append((way, bare.load(opened[key], way, requests, stand.args.window_s)))
    return found


def _served(stand: _Stand, name: str, in_flight: int, options: Sequence[str]) -> dict[str, float]:
    load = ["--concurrency-range", f"{in_flight}:{in_flight}:1", *options]
    client = run_level(stand.analyzer, stand.folder, stand.server.url, name, load, window_s=stand.args.window_s).client
    return {
        "per_s": client.inferences_per_s,
        "p50_ms": client.p50_ms,
        "p95_ms": client.p95_ms,
        "p99_ms": client.p99_ms,
    }


def _accounted(stand: _Stand, name: str, in_flight: int) -> tuple[dict[str, float], dict[str, float]]:
    """The level over gRPC, and the milliseconds of a core that each part of it spent on one request."""
    models = processes_of(stand.pid)[1:]

    def account() -> tuple[float, float, float, int]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        answered = stand.server.counters([name])[name].inference_stats.success.count
        return cpu_s([stand.pid]), cpu_s(models), children.ru_utime + children.ru_stime, answered

    before = account()
    level = _served(stand, name, in_flight, [])
    front, inside, client, answered = (after - start for after, start in zip(account(), before, strict=True))
    parts = {"front": front, "models": inside, "client": client}
    spent = {key: 1000 * seconds / max(1, answered) for key, seconds in parts.items()}
    return level, spent | {"total": sum(spent.values())}


def _shared_memory(requests: Sequence[inputs.Request]) -> list[str]:
    """perf_analyzer's options for tensors in shared memory; no output here is larger than the largest input."""
    largest = max(array.nbytes for request in requests for array in request.values())
    return ["--shared-memory", "system", "--output-shared-memory-size", str(max(_LEAST_OUTPUT_BYTES, 2 * largest))]

"""The sweep behind the configs: instances, threads, batches, queue delay and response cache, one changed at a time.

For each target the committed configs are the first candidate. Every other one changes one thing of them in a temporary
copy of the repository; a fresh embedded server is started on it and loaded over gRPC at several numbers of requests in
flight. A candidate is judged by its best throughput in each ensemble, against the committed configs measured before and
after all others: the difference of these two is the noise.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.bare_runtime import core_count
from perf.measure import Progress
from perf.record import Cell, Record, Table
from perf.stand import REPOSITORY, SAMPLES
from perf.sweep import names_in, numbers_in

if TYPE_CHECKING:
    from tritonclient.grpc import model_config_pb2

    from perf.analyzer import Analyzer

NETWORKS = ("facefilter_separator", "facefilter_griffin_lim", "crowd_av", "crowd_v")
ENSEMBLES = ("facefilter", "crowd_counting_vision")
TARGETS = ("onnxruntime", "torchscript")
COMMITTED = "committed"
_THREADS = {"onnxruntime": "intra_op_thread_count", "torchscript": "INTRA_OP_THREAD_COUNT"}
QUICK_STEMS = (COMMITTED, "networks: instances x threads")


@dataclass(frozen=True)
class Candidate:
    """One change of the committed configs."""

    factor: str
    value: str
    models: tuple[str, ...] = ()  # that it changes
    instances: int | None = None
    threads: int | None = None
    delay_microseconds: int | None = None
    largest_batch: int | None = None  # that is made of waiting requests; 0: the contract's
    cached: bool | None = None

    def apply(self, config: model_config_pb2.ModelConfig, target: str) -> None:
        """Change one model's config, if it is one of those."""
        if config.name not in self.models:
            return
        if self.instances is not None:
            config.instance_group[0].count = self.instances
        if self.threads is not None:
            config.parameters[_THREADS[target]].string_value = str(self.threads)
        if self.delay_microseconds is not None:
            config.dynamic_batching.max_queue_delay_microseconds = self.delay_microseconds
        if self.largest_batch is not None:
            config.dynamic_batching.preferred_batch_size[:] = [self.largest_batch] if self.largest_batch else []
        if self.cached is not None:
            config.response_cache.enable = self.cached


def candidates(cores: int) -> list[Candidate]:
    """All of them; the committed configs are first and last."""
    speech, pictures = NETWORKS[:2], NETWORKS[2:]
    committed = Candidate(COMMITTED, COMMITTED)
    processes = [(1, 1), (1, cores), (cores, 1), (cores, cores), (cores + 1, 1)]
    return [
        committed,
        *(
            Candidate("networks: instances x threads", f"{count} x {threads}", NETWORKS, count, threads)
            for count, threads in dict.fromkeys(processes)
        ),
        *(Candidate("small models: instances", str(n), SMALL, instances=n) for n in dict.fromkeys((1, cores))),
        *(Candidate("queue delay, us", str(us), ALL, delay_microseconds=us) for us in (0, 500, 2000)),
        *(Candidate("speech: largest batch", str(n or 8), speech, largest_batch=n) for n in (1, 2, 4, 0)),
        *(Candidate("pictures: largest batch", str(n or 8), pictures, largest_batch=n) for n in (1, 2, 0)),
        *(
            Candidate("response cache", state, ("facefilter_identity",), cached=state == "on")
            for state in ("on", "off")
        ),
        committed,
    ]


SMALL = ("facefilter_stft", "facefilter_identity", "crowd_log_mel", "crowd_density_sum")
ALL = (*NETWORKS, *SMALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf tune`."""
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="Triton model repository (%(default)s)")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="folder of `avedge demo`'s samples (%(default)s)")
    parser.add_argument("--targets", type=names_in, default=TARGETS, help="embedded ones (onnxruntime,torchscript)")
    parser.add_argument("--ensembles", type=names_in, default=ENSEMBLES, help=f"measured ones ({','.join(ENSEMBLES)})")
    parser.add_argument("--concurrency", type=numbers_in, default=(1, 4), help="in flight (1,4)")
    parser.add_argument("--window-s", type=float, default=0.8, help="a third of one measurement (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="instances and threads only")


def measure(args: argparse.Namespace, progress: Progress) -> Record:
    """Try every candidate on every target.

    Raises:
        PerfError: No samples (4), no perf_analyzer (1), a level without figures.
        ServeError: A server cannot start.
    """
    from perf import environment, in_process
    from perf.analyzer import find_analyzer
    from serve.runtime import TRITON_VERSION
    from train.environment import command_line

    tried = candidates(core_count())
    if args.quick:
        tried = [one for one in tried if one.factor in QUICK_STEMS]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="avedge-perf-") as scratch, in_process.server_surroundings():
        libraries = Path(scratch, "lib")
        libraries.mkdir()
        analyzer = find_analyzer(libraries)
        for target in args.targets:
            rows = []
            changing = [one for one in tried if one.factor == COMMITTED or _changes(args.repository, target, one)]
            for number, candidate in enumerate(changing):
                progress(f"{target}: {number + 1} of {len(changing)}: {candidate.factor} {candidate.value}")
                folder = Path(scratch, f"{target}-{number}")
                folder.mkdir()
                rows.append(_row(args, analyzer, folder, target, candidate))
            found[target] = _judged(rows) | {"committed": _committed(args.repository, target)}
    stamp = environment.stamp(command_line(), server_version=TRITON_VERSION, analyzer_version=analyzer.version)
    settings = {key: getattr(args, key) for key in ("ensembles", "concurrency", "window_s", "quick")}
    return Record("tune", stamp, settings | {"cores": core_count()}, {"targets": found})


def _changes(repository: Path, target: str, candidate: Candidate) -> bool:
    """Whether the candidate is another than the committed configs, which are measured once for all factors."""
    from serve.repository import read_repository

    for model in read_repository(repository, target):
        before = model.config.SerializeToString(deterministic=True)
        candidate.apply(model.config, target)
        if model.config.SerializeToString(deterministic=True) != before:
            return True
    return False


def _row(
    args: argparse.Namespace, analyzer: Analyzer, folder: Path, target: str, candidate: Candidate
) -> dict[str, Any]:
    """One candidate's server, loaded at every level."""
    from perf import inputs
    from perf.level import INPUTS, run_level
    from perf.served import Server
    from perf.trial import copy_repository
    from serve.launcher import EmbeddedTriton

    copied = copy_repository(
        args.repository, folder / "repository", target, lambda config: candidate.apply(config, target)
    )
    levels = []
    with EmbeddedTriton(copied, target=target) as running:
        server = Server(running.grpc_url)
        try:
            for ensemble in args.ensembles:
                served = server.connection.served(ensemble)
                requests = inputs.requests_for(server.connection, served, args.samples, None)
                inputs.write_input_data(folder / INPUTS, requests)
                for number in args.concurrency:
                    load = ["--concurrency-range", f"{number}:{number}:1"]
                    client = run_level(analyzer, folder, server.url, ensemble, load, window_s=args.window_s).client
                    shown = {"per_s": client.inferences_per_s, "p50_ms": client.p50_ms, "p95_ms": client.p95_ms}
                    levels.append({"ensemble": ensemble, "in_flight": number, **shown, "p99_ms": client.p99_ms})
        finally:
            server.close()
    return {"factor": candidate.factor, "value": candidate.value, "levels": levels}


def _committed(repository: Path, target: str) -> dict[str, dict[str, int]]:
    """The committed settings of every model; a test holds that they are still those."""
    from serve.repository import read_repository

    return {
        model.name: {
            "instances": model.config.instance_group[0].count,
            "threads": int(model.config.parameters[_THREADS[target]].string_value),
            "delay_microseconds": model.config.dynamic_batching.max_queue_delay_microseconds,
            "preferred_batch": max(model.config.dynamic_batching.preferred_batch_size, default=0),
        }
        for model in read_repository(repository, target)
        if not model.is_ensemble
    }


def _best(row: dict[str, Any]) -> dict[str, float]:
    """Best throughput of each ensemble."""
    best: dict[str, float] = {}
    for level in row["levels"]:
        best[level["ensemble"]] = max(best.get(level["ensemble"], 0.0), level["per_s"])
    return best


def _judged(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows with their score, the noise, and the winner of each factor.

    The score is the geometric mean over the ensembles of the best throughput over the committed configs'.
    """
    own = [_best(row) for row in rows if row["factor"] == COMMITTED]
    committed = {name: statistics.fmean(one[name] for one in own) for name in own[0]}

    def score(row: dict[str, Any]) -> float:
        return statistics.geometric_mean(rate / committed[name] for name, rate in _best(row).items())

    scored = [row | {"score": score(row)} for row in rows]
    noise = max(abs(row["score"] - 1) for row in scored if row["factor"] == COMMITTED)
    winners = {}
    for factor in dict.fromkeys(row["factor"] for row in scored if row["factor"] != COMMITTED):
        best = max((row for row in scored if row["factor"] == factor), key=_score_of)
        winners[factor] = best if best["score"] > 1 else {"value": COMMITTED, "score": 1.0}
    return {
        "candidates": scored,
        "noise": noise,
        "winners": {factor: {"value": row["value"], "score": row["score"]} for factor, row in winners.items()},
    }


def _score_of(row: dict[str, Any]) -> float:
    return float(row["score"])


def tables(record: Record) -> list[Table]:
    """For each target and ensemble every candidate, and the winner of each factor."""
    return [
        _table(target, ensemble, found, record.settings)
        for target, found in record.figures["targets"].items()
        for ensemble in record.settings["ensembles"]
    ]


def _table(target: str, ensemble: str, found: dict[str, Any], settings: dict[str, Any]) -> Table:
    columns = [f"{number} in flight: {unit}" for number in settings["concurrency"] for unit in ("/s", "p95 ms")]
    rows: list[tuple[Cell, ...]] = []
    for row in found["candidates"]:
        won = found["winners"].get(row["factor"], {}).get("value") == row["value"]
        own = [level for level in row["levels"] if level["ensemble"] == ensemble]
        figures = [level[key] for level in own for key in ("per_s", "p95_ms")]
        rows.append((row["factor"], row["value"], row["score"], "best" if won else "", *figures))
    note = (
        "score: best throughput over the committed configs', geometric mean of the ensembles. The committed configs "
        f"were measured first and last; they differ by {100 * found['noise']:.1f} % from their mean: the noise."
    )
    return Table(f"settings of {target}: {ensemble}", ("changed", "to", "score", "", *columns), tuple(rows), note, 2)

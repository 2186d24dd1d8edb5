"""Tunes every peer, then measures all contenders in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.transport.connection import Connection
from perf import environment, inputs
from perf.errors import PerfError
from perf.peers import aims, calibration, costs
from perf.peers.chains import Chain
from perf.peers.contenders import PEERS, Endpoint, Peer, serving_peer
from perf.peers.measured import EXACT, WARMUP_S, Contender, compared, load
from perf.peers.setting import Setting
from perf.peers.wire import WORKLOADS, Workload
from perf.record import Record
from perf.served import Server
from train.environment import command_line

Progress = Callable[[str], None]
OURS = "avedge"
REPEATED = "avedge, faces repeated"
CHECKED = 4  # answers of each contender that are compared
_ALIKE = 0.5  # of another precision; its own thresholds are held where it is exported, here only mix-ups are caught
_TUNED_AT = 4  # requests in flight
_WAKING_S = 0.8


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    repository: Path
    weights: Path
    samples: Path
    also: tuple[Path, ...] = ()
    workloads: tuple[str, ...] = ("facefilter", "crowd_counting")
    concurrencies: tuple[int, ...] = (1, 2, 4, 8)
    seconds: float = 2.0
    rounds: int = 3
    tune_seconds: float = 1.5
    settings: int | None = None  # the most that are tried of each peer; None tries all

    def __post_init__(self) -> None:
        """Refuse what could not be measured."""
        unknown = sorted(set(self.workloads) - set(WORKLOADS))
        if unknown or not self.workloads:
            raise PerfError(f"--workloads names {unknown}; there are {', '.join(WORKLOADS)}: choose of these.", 2)
        if not self.concurrencies or min(self.concurrencies) < 1 or self.rounds < 1 or self.seconds <= 0:
            raise PerfError("--concurrency, --rounds and --seconds want numbers from 1; nothing is measured else.", 2)


def bench(plan: Plan, progress: Progress) -> Record:
    """Measure every workload.

    Raises:
        PerfError: A server does not start, or answers differently.
        ServeError: The embedded Triton cannot start.
        TrainError: The weights cannot be loaded.
    """
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="avedge-peers-")))
        served = [stack.enter_context(_embedded(repository)) for repository in (plan.repository, *plan.also)]
        stamp = environment.stamp(
            command_line(), server_version=_version_of(served[0]), analyzer_version=calibration.version(folder)
        )
        for name in plan.workloads:
            figures[name] = _Bench(plan, WORKLOADS[name], served, folder, progress).measure()
    return Record(
        measurement="peers",
        environment=stamp,
        settings={key: value for key, value in asdict(plan).items() if not isinstance(value, Path) and key != "also"},
        figures=figures,
        aims=tuple(aim for name in plan.workloads for aim in aims.of(name, figures[name], OURS)),
        complete=all(not workload["failures"] for workload in figures.values()),
    )


@contextmanager
def _embedded(repository: Path) -> Iterator[tuple[str, str, int, int]]:
    """One of our repositories, served: its folder's name, its gRPC endpoint, its HTTP port and its process id."""
    from serve.launcher import EmbeddedTriton

    with EmbeddedTriton(repository) as server:
        yield repository.resolve().name, server.grpc_url, int(server.http_url.rpartition(":")[2]), server.pid


def _version_of(served: tuple[str, str, int, int]) -> str:
    server = Server(served[1])
    try:
        return server.version()
    finally:
        server.close()


class _Bench:
    """One workload."""

    def __init__(
        self,
        plan: Plan,
        workload: Workload,
        served: Sequence[tuple[str, str, int, int]],
        folder: Path,
        progress: Progress,
    ) -> None:
        self._plan, self._workload, self._served, self._progress = plan, workload, served, progress
        self._folder = folder / workload.name
        self._folder.mkdir()
        with Connection(served[0][1]) as connection:
            self._requests = inputs.requests_for(connection, connection.served(workload.name), plan.samples, None)
        chain = Chain(workload.name, plan.weights)
        self._wanted = [chain.answer([request])[0] for request in self._requests[:CHECKED]]
        self._shapes = {name: array.shape for name, array in self._wanted[0].items()}
        self._torch_stages = chain.stages(self._requests[0])
        self._failures: list[dict[str, str]] = []

    def measure(self) -> dict[str, Any]:
        """Tune, measure in turn, and load the Tritons with perf_analyzer, too."""
        tried, best = self._tune()
        with ExitStack() as stack:
            contenders = self._ours()
            for peer, setting in best:
                endpoint = stack.enter_context(self._serve(peer, setting))
                contenders.append(self._prepared(Contender(peer.name, endpoint, marked=True)))
                endpoint.switch(False)
            self._rounds(contenders)
            levels = [
                one.level(concurrency) for one in contenders for concurrency in one.rounds if one.rounds[concurrency]
            ]
            served_stages = costs.served_ms(contenders[0], levels, self._workload.name, self._plan.seconds)
            spent = costs.processor_ms(contenders, levels, self._plan.seconds, self._failures)
            checked = self._calibrate(contenders, levels)
        return {
            "inputs": {name: list(array.shape) for name, array in self._requests[0].items()},
            "distinct_inputs": len(self._requests),
            "error_against_torch": {one.label: one.error for one in contenders},
            "settings": {one.label: one.endpoint.setting.words() for one in contenders if one.endpoint.setting},
            "tried": tried,
            "levels": levels,
            "perf_analyzer": checked,
            "torch_ms_on_one_thread": self._torch_stages,
            "served_ms": served_stages,
            "processor_ms": spent,
            "failures": self._failures,
        }

    def _serve(self, peer: Peer, setting: Setting) -> Any:
        return serving_peer(peer, self._workload, setting, self._plan.weights, self._shapes)

    def _ours(self) -> list[Contender]:
        """Our servers: with faces that never come twice, with faces that do, and the further repositories."""
        found = []
        for index, (folder, grpc_url, port, pid) in enumerate(self._served):
            endpoint = Endpoint(OURS, self._workload, (port,), True, grpc_url, servers=(pid,))
            label, tolerance = (OURS, EXACT) if index == 0 else (f"{OURS} ({folder})", _ALIKE)
            found.append(self._prepared(Contender(label, endpoint, marked=True, tolerance=tolerance)))
            if index == 0 and self._workload.face:
                found.append(self._prepared(Contender(REPEATED, endpoint, marked=False)))
        return found

    def _prepared(self, contender: Contender) -> Contender:
        """See that a contender answers as torch does, and make its requests; this also warms it up."""
        requests = self._requests[: len(self._wanted)]
        contender.error, contender.answer_bytes = compared(
            contender.label, contender.endpoint, requests, self._wanted, contender.tolerance
        )
        return self._written(contender)

    def _written(self, contender: Contender) -> Contender:
        """Write whole requests to files, and find where each has its face."""
        marks, files = [], []
        for index, request in enumerate(self._requests):
            content = contender.endpoint.request(request)
            path = self._folder / f"{'kserve' if contender.endpoint.kserve else 'plain'}_{index}"
            path.write_bytes(content)
            files.append(str(path))
            if self._workload.face and contender.marked:
                marks.append(content.index(np.ascontiguousarray(request[self._workload.face]).tobytes()))
        contender.requests, contender.marks = tuple(files), tuple(marks)
        return contender

    def _tune(self) -> tuple[list[dict[str, Any]], list[tuple[Peer, Setting]]]:
        """Every setting of every peer for a moment; the best throughput of each is kept.

        Raises:
            PerfError: No setting of a peer could be measured.
        """
        tried: list[dict[str, Any]] = []
        best = []
        for peer in PEERS:
            rates: dict[Setting, float] = {}
            for setting in peer.settings[self._workload.name][: self._plan.settings]:
                self._progress(f"{self._workload.name}: trying {peer.name} with {setting.words()}")
                row: dict[str, Any] = {"contender": peer.name, "setting": setting.words(), **asdict(setting)}
                try:
                    with self._serve(peer, setting) as endpoint:
                        contender = self._prepared(Contender(peer.name, endpoint, marked=True))
                        seen = load(contender, _TUNED_AT, self._plan.tune_seconds, warmup_s=2 * WARMUP_S)
                except PerfError as error:
                    tried.append(row | {"failed": str(error)})
                    self._failures.append({"contender": peer.name, "what": setting.words(), "why": str(error)})
                    continue
                rates[setting] = seen.per_s
                self._progress(f"  {seen.per_s:.1f}/s, p95 {seen.p95_ms:.0f} ms")
                tried.append(row | asdict(seen))
            if not rates:
                raise PerfError(f"{peer.name} could not be measured: {tried[-1]['failed']}")
            best.append((peer, max(rates, key=lambda setting: rates[setting])))
        return tried, best

    def _rounds(self, contenders: Sequence[Contender]) -> None:
        """All contenders in turn, then the other way round, and so on; who waits is frozen."""
        for one in contenders:
            one.rounds = {concurrency: [] for concurrency in self._plan.concurrencies}
        for number in range(self._plan.rounds):
            self._progress(f"{self._workload.name}: round {number + 1} of {self._plan.rounds}")
            for one in contenders if number % 2 == 0 else reversed(contenders):
                one.endpoint.switch(True)
                try:
                    self._turn(one, number + 1)
                finally:
                    one.endpoint.switch(False)
            seen = (
                (one, max((own[-1].per_s for own in one.rounds.values() if own), default=0.0)) for one in contenders
            )
            self._progress("  " + ", ".join(f"{one.label} {per_s:.1f}/s" for one, per_s in seen))

    def _turn(self, one: Contender, number: int) -> None:
        """All levels of one contender; first it is woken, for a system may page out who waits."""
        with suppress(PerfError):
            load(one, _TUNED_AT, _WAKING_S)
        for concurrency in self._plan.concurrencies:
            try:
                one.rounds[concurrency].append(load(one, concurrency, self._plan.seconds))
            except PerfError as error:
                what = f"round {number}, {concurrency} in flight"
                self._failures.append({"contender": one.label, "what": what, "why": str(error)})

    def _calibrate(self, contenders: Sequence[Contender], levels: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """perf_analyzer over gRPC on whoever speaks it, at its best level: is the load generator what is measured?"""
        rows = []
        for one in contenders:
            own = [level for level in levels if level["contender"] == one.label]
            # perf_analyzer repeats its inputs, and so its faces
            if not one.endpoint.grpc_url or not own or (self._workload.face and one.label == OURS):
                continue
            best = max(own, key=lambda level: level["per_s"])
            self._progress(f"{self._workload.name}: {one.label} under perf_analyzer")
            one.endpoint.switch(True)
            try:
                view = calibration.analyze(
                    one.endpoint.grpc_url,
                    self._workload.name,
                    self._requests,
                    best["concurrency"],
                    self._plan.seconds,
                    self._folder,
                )
            except PerfError as error:
                self._failures.append({"contender": one.label, "what": "perf_analyzer", "why": str(error)})
                continue
            finally:
                one.endpoint.switch(False)
            rows.append(
                {
                    "contender": one.label,
                    "concurrency": best["concurrency"],
                    "own_per_s": best["per_s"],
                    "own_p95_ms": best["p95_ms"],
                    "perf_analyzer_per_s": view.inferences_per_s,
                    "perf_analyzer_p95_ms": view.p95_ms,
                }
            )
        return rows

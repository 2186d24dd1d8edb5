"""What a sweep measures, as plain data: one `Level` per ensemble and number of requests in flight."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from perf.record import Record


@dataclass(frozen=True)
class ClientView:
    """One row of perf_analyzer's CSV: what a caller saw, means and percentiles over its three windows."""

    inferences_per_s: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    client_send_ms: float
    network_ms: float  # on the wire and in the server's front end
    client_receive_ms: float


@dataclass(frozen=True)
class Window:
    """One measurement window; a level is stable when three agree."""

    inferences_per_s: float
    latency_ms: float  # at the percentile that the sweep stabilises on


@dataclass(frozen=True)
class ModelShare:
    """What one model inside the ensemble did meanwhile, from the server's own statistics.

    Queue time is per request; compute times are per request that was computed rather than answered from the cache,
    and count the whole batch in which the request travelled.
    """

    model: str
    platform: str
    requests: int
    failures: int
    executions: int
    average_batch: float | None  # None when nothing was computed
    cache_hits: int
    queue_ms: float | None
    compute_input_ms: float | None
    compute_ms: float | None
    compute_output_ms: float | None


@dataclass(frozen=True)
class Level:
    """One number of requests in flight."""

    concurrency: int
    stable: bool  # False: the windows differ by more than the settings allow; the figures are theirs all the same
    spread_percent: float  # largest over smallest window, throughput or latency
    client: ClientView
    windows: tuple[Window, ...]
    models: tuple[ModelShare, ...]
    audio_seconds_per_s: float | None  # None for an ensemble without sound
    real_time_factor: float | None  # seconds of work per second of sound, at this throughput


@dataclass(frozen=True)
class Failure:
    """A level that gave no figures."""

    concurrency: int
    message: str


@dataclass(frozen=True)
class EnsembleResult:
    """One ensemble's sweep."""

    ensemble: str
    inputs: dict[str, tuple[int, ...]]  # shape of each request's tensors
    distinct_inputs: int
    clip_s: float | None  # sound in one request
    first_pass: tuple[ModelShare, ...]  # every input once, one at a time, before the caches know it
    levels: tuple[Level, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class SweepResult:
    """A whole sweep and where it was made."""

    environment: dict[str, Any]
    settings: dict[str, Any]
    ensembles: tuple[EnsembleResult, ...]
    not_served: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every level of every ensemble gave figures."""
        return not any(ensemble.failures for ensemble in self.ensembles)

    def as_record(self) -> Record:
        """The same as the file of a measurement."""
        figures = {"ensembles": [asdict(ensemble) for ensemble in self.ensembles], "not_served": list(self.not_served)}
        return Record("sweep", self.environment, self.settings, figures, complete=self.complete)

    @classmethod
    def from_record(cls, record: Record) -> SweepResult:
        """What `as_record` made."""
        ensembles = tuple(_ensemble(content) for content in record.figures["ensembles"])
        return cls(record.environment, record.settings, ensembles, tuple(record.figures["not_served"]))


def _ensemble(content: dict[str, Any]) -> EnsembleResult:
    levels = tuple(_level(level) for level in content["levels"])
    failures = tuple(Failure(**failure) for failure in content["failures"])
    return EnsembleResult(
        **content | {"first_pass": _models(content["first_pass"]), "levels": levels, "failures": failures}
    )


def _level(content: dict[str, Any]) -> Level:
    windows = tuple(Window(**window) for window in content["windows"])
    client = ClientView(**content["client"])
    return Level(**content | {"client": client, "windows": windows, "models": _models(content["models"])})


def _models(contents: list[dict[str, Any]]) -> tuple[ModelShare, ...]:
    return tuple(ModelShare(**content) for content in contents)

"""Measures the levels of one ensemble: perf_analyzer from outside, the server's statistics from inside.

perf_analyzer runs once per concurrency, so that every level has its own verdict on stability and its own difference
of the server's statistics. It measures in windows of time, never in numbers of requests: with --request-count, 2.51
divides by at least one second, and fifty fast requests read as fifty per second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clients.contract import ServedModel
from perf import analyzer_output, inputs
from perf.analyzer import Analyzer
from perf.errors import PerfError
from perf.results import EnsembleResult, Failure, Level, ModelShare, Window

if TYPE_CHECKING:
    from perf.served import Server

# perf_analyzer writes no CSV when its windows differ by more than it is told to accept. It is told to accept anything
# and so ends after three windows, always with figures; whether they agree is judged here.
_ACCEPT_ANY_PERCENT = 100_000
_WINDOWS = 3
_OVERHEAD_S = 60.0  # to start, read the inputs and wait for the last answers
_NO_SERVER = 5
Progress = Callable[[str], None]


@dataclass(frozen=True)
class SweepSettings:
    """How to measure."""

    concurrencies: tuple[int, ...] = (1, 2, 4)
    window_s: float = 3.0
    percentile: int = 95  # of the latency that has to be stable
    stability_percent: float = 10.0  # by how much three windows may differ, the largest from the smallest
    attempts: int = 2  # runs of three windows, until those of one agree
    clip_samples: int | None = None  # length of a mixture; None: the shortest that the server states

    def __post_init__(self) -> None:
        """Refuse what could not be measured."""
        if not self.concurrencies or min(self.concurrencies) < 1:
            raise PerfError(f"--concurrency is {self.concurrencies}; give whole numbers from 1, e.g. 1,2,4", 2)
        if self.window_s < 0.1:
            raise PerfError(f"--window-s is {self.window_s} s; a window has to hold several requests: 3 to 5 s", 2)
        if self.attempts < 1:
            raise PerfError(f"--attempts is {self.attempts}; without one there are no figures: 1 or more", 2)


@dataclass(frozen=True)
class Measurement:
    """What every level of one sweep shares."""

    server: Server
    analyzer: Analyzer
    folder: Path  # scratch: perf_analyzer's inputs and CSV
    settings: SweepSettings
    progress: Progress

    def ensemble(self, name: str, samples: Path) -> EnsembleResult:
        """Every level of one ensemble; a level without figures is listed with its reason.

        Raises:
            PerfError: No usable samples, or the server is gone.
            ClientError: It serves another contract, a sample cannot be used, or a request is not answered.
        """
        ensemble, steps = self.server.connection.served(name), self.server.steps(name)
        requests = inputs.requests_for(self.server.connection, ensemble, samples, self.settings.clip_samples)
        inputs.write_input_data(self.folder / "inputs.json", requests)
        self.progress(f"{name}: {len(requests)} distinct inputs, each once")
        first_pass = self._first_pass(ensemble, steps, requests)
        clip_s = inputs.clip_seconds(ensemble, requests[0])
        levels: list[Level] = []
        failures: list[Failure] = []
        for concurrency in self.settings.concurrencies:
            self.progress(f"{name}: {concurrency} in flight")
            try:
                levels.append(self._level(name, steps, concurrency, clip_s))
            except PerfError as error:
                if error.exit_code == _NO_SERVER:
                    raise
                failures.append(Failure(concurrency, str(error)))
        return EnsembleResult(
            ensemble=name,
            inputs={word: tensor.shape for word, tensor in requests[0].items()},
            distinct_inputs=len(requests),
            clip_s=clip_s,
            first_pass=first_pass,
            levels=tuple(levels),
            failures=tuple(failures),
        )

    def _first_pass(
        self, ensemble: ServedModel, steps: tuple[str, ...], requests: Sequence[inputs.Request]
    ) -> tuple[ModelShare, ...]:
        """Warm up with every input, see that each gets a finite answer, and what an empty cache costs."""
        before = self.server.counters(steps)
        outputs = [tensor.name for tensor in ensemble.outputs]
        self.server.connection.infer_all(ensemble.name, requests, outputs, in_flight=1)
        return self.server.shares(before, self.server.counters(steps))

    def _level(self, ensemble: str, steps: tuple[str, ...], concurrency: int, clip_s: float | None) -> Level:
        before = self.server.counters(steps)
        for _ in range(self.settings.attempts):
            windows = self._run(ensemble, concurrency)
            spread_percent = spread_of(windows)
            if spread_percent <= self.settings.stability_percent:
                break
        after = self.server.counters(steps)
        views = analyzer_output.parse_csv(self._csv.read_text())
        if concurrency not in views:
            raise PerfError(f"perf_analyzer's CSV has rows for {sorted(views)} in flight; {concurrency} was measured.")
        audio_seconds_per_s = clip_s * views[concurrency].inferences_per_s if clip_s else None
        return Level(
            concurrency=concurrency,
            stable=spread_percent <= self.settings.stability_percent,
            spread_percent=spread_percent,
            client=views[concurrency],
            windows=windows,
            models=self.server.shares(before, after),
            audio_seconds_per_s=audio_seconds_per_s,
            real_time_factor=1 / audio_seconds_per_s if audio_seconds_per_s else None,
        )

    @property
    def _csv(self) -> Path:
        return self.folder / "level.csv"

    def _run(self, ensemble: str, concurrency: int) -> tuple[Window, ...]:
        """Run perf_analyzer once; it leaves its CSV."""
        self._csv.unlink(missing_ok=True)
        # A window may take longer than its length: it ends with a request.
        timeout_s = _WINDOWS * 2 * self.settings.window_s + _OVERHEAD_S
        answer = self.analyzer.run(self._arguments(ensemble, concurrency), self.folder, timeout_s)
        windows = analyzer_output.parse_windows(answer.stdout)
        complete = len(windows) == _WINDOWS and all(window.inferences_per_s > 0 for window in windows)
        if answer.returncode != 0 or not self._csv.is_file() or not complete:
            raise _refused(ensemble, concurrency, answer.returncode, answer.stderr or answer.stdout)
        return windows

    def _arguments(self, ensemble: str, concurrency: int) -> list[str]:
        return [
            *("-v", "-m", ensemble, "-i", "grpc", "-u", self.server.url),
            *("--input-data", "inputs.json", "-f", self._csv.name),
            *("--concurrency-range", f"{concurrency}:{concurrency}:1"),
            *("--measurement-mode", "time_windows"),
            *("--measurement-interval", str(round(self.settings.window_s * 1000))),
            *("--percentile", str(self.settings.percentile)),
            *("--stability-percentage", str(_ACCEPT_ANY_PERCENT)),
            *("--max-trials", str(_WINDOWS)),
        ]


def spread_of(windows: Sequence[Window]) -> float:
    """By how many percent the largest window exceeds the smallest, in throughput or in latency, whichever differs more.

    It is perf_analyzer's own measure of stability.
    """
    columns = [[window.inferences_per_s for window in windows], [window.latency_ms for window in windows]]
    return max((max(column) / min(column) - 1) * 100 for column in columns)


def _refused(ensemble: str, concurrency: int, code: int, said: str) -> PerfError:
    seen = " ".join(said.split())[-400:].rstrip(".") or "nothing"
    if "No valid requests" in said:
        advice = "No request ended within a window: raise --window-s well above the time of one request."
    else:
        advice = "Look at the log of `avedge serve` for what it refused."
    return PerfError(
        f"perf_analyzer ended with code {code} at {concurrency} in flight on {ensemble}; it said: {seen}. Wanted: "
        f"{_WINDOWS} windows with answers in each, of which the figures are made. {advice}"
    )

"""Measures the levels of one ensemble: perf_analyzer from outside, the server's statistics from inside.

perf_analyzer runs once per concurrency, so that every level has its own verdict on stability and its own difference
of the server's statistics. It measures in windows of time, never in numbers of requests: with --request-count, 2.51
divides by at least one second, and fifty fast requests read as fifty per second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.contract import ServedModel
from perf import analyzer_output, inputs
from perf.analyzer import Analyzer
from perf.errors import PerfError
from perf.results import EnsembleResult, Failure, Level, ModelShare, Window
from perf.served import Server

_UNSTABLE = 2  # perf_analyzer's exit code when its windows do not agree; it then writes no CSV
_ACCEPT_ANY_PERCENT = 100_000.0
_WINDOWS_TO_AGREE = 3  # how many perf_analyzer compares, and reports the figures of
_OVERHEAD_S = 60.0  # to start, read the inputs and wait for the last answers
_NO_SERVER = 5
Progress = Callable[[str], None]


@dataclass(frozen=True)
class SweepSettings:
    """How to measure."""

    concurrencies: tuple[int, ...] = (1, 2, 4)
    window_s: float = 3.0
    percentile: int = 95  # of the latency that has to be stable
    stability_percent: float = 10.0  # by how much the last three windows may differ
    max_trials: int = 6  # windows before a level counts as unstable
    clip_samples: int | None = None  # length of a mixture; None: the shortest that the server states

    def __post_init__(self) -> None:
        """Refuse what could not be measured."""
        if not self.concurrencies or min(self.concurrencies) < 1:
            raise PerfError(f"--concurrency is {self.concurrencies}; give whole numbers from 1, e.g. 1,2,4", 2)
        if self.window_s < 0.1:
            raise PerfError(f"--window-s is {self.window_s} s; a window has to hold several requests: 3 to 5 s", 2)
        if self.max_trials < _WINDOWS_TO_AGREE:
            raise PerfError(f"--max-trials is {self.max_trials}; {_WINDOWS_TO_AGREE} windows have to agree", 2)


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
        stable, windows = self._run(ensemble, concurrency, self.settings.stability_percent)
        if not stable:  # and so without a CSV: measure once more and take what comes
            _, more = self._run(ensemble, concurrency, _ACCEPT_ANY_PERCENT)
            windows += more
        after = self.server.counters(steps)
        views = analyzer_output.parse_csv(self._csv.read_text())
        if concurrency not in views:
            raise PerfError(f"perf_analyzer's CSV has rows for {sorted(views)} in flight; {concurrency} was measured.")
        audio_seconds_per_s = clip_s * views[concurrency].inferences_per_s if clip_s else None
        return Level(
            concurrency=concurrency,
            stable=stable,
            client=views[concurrency],
            windows=windows,
            models=self.server.shares(before, after),
            audio_seconds_per_s=audio_seconds_per_s,
            real_time_factor=1 / audio_seconds_per_s if audio_seconds_per_s else None,
        )

    @property
    def _csv(self) -> Path:
        return self.folder / "level.csv"

    def _run(self, ensemble: str, concurrency: int, stability_percent: float) -> tuple[bool, tuple[Window, ...]]:
        """Run perf_analyzer once: whether its windows agreed, and the windows."""
        self._csv.unlink(missing_ok=True)
        strict = stability_percent < _ACCEPT_ANY_PERCENT
        trials = self.settings.max_trials if strict else _WINDOWS_TO_AGREE
        # 2.51 starts each window anew until one request has ended in it, so a window may take longer than its length
        timeout_s = trials * 2 * self.settings.window_s + _OVERHEAD_S
        arguments = self._arguments(ensemble, concurrency, stability_percent, trials)
        answer = self.analyzer.run(arguments, self.folder, timeout_s)
        windows = analyzer_output.parse_windows(answer.stdout)
        if answer.returncode == _UNSTABLE and windows and strict:
            return False, windows
        if answer.returncode != 0 or not self._csv.is_file():
            raise _refused(ensemble, concurrency, answer.returncode, answer.stderr or answer.stdout)
        return True, windows

    def _arguments(self, ensemble: str, concurrency: int, stability_percent: float, trials: int) -> list[str]:
        return [
            *("-v", "-m", ensemble, "-i", "grpc", "-u", self.server.url),
            *("--input-data", "inputs.json", "-f", self._csv.name),
            *("--concurrency-range", f"{concurrency}:{concurrency}:1"),
            *("--measurement-mode", "time_windows"),
            *("--measurement-interval", str(round(self.settings.window_s * 1000))),
            *("--percentile", str(self.settings.percentile)),
            *("--stability-percentage", f"{stability_percent:g}"),
            *("--max-trials", str(trials)),
        ]


def _refused(ensemble: str, concurrency: int, code: int, said: str) -> PerfError:
    seen = " ".join(said.split())[-400:] or "nothing"
    if code == _UNSTABLE:
        advice = "Too few requests ended within a window: raise --window-s well above the time of one request."
    else:
        advice = "Look at the log of `avedge serve` for what it refused."
    return PerfError(
        f"perf_analyzer ended with code {code} at {concurrency} in flight on {ensemble}; it said: {seen}. {advice}"
    )

"""The same Tritons under perf_analyzer, to see that our own load generator is not what is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perf import analyzer_output
from perf.analyzer import find_analyzer
from perf.errors import PerfError
from perf.inputs import write_input_data
from perf.results import ClientView

if TYPE_CHECKING:
    from perf.inputs import Request

_WINDOWS = 3
_ACCEPT_ANY_PERCENT = 100_000  # as in perf.measure: it is to end after three windows, with figures
_OVERHEAD_S = 60.0


def version(folder: Path) -> str:
    """The perf_analyzer's version.

    Raises:
        PerfError: None runs here.
    """
    with tempfile.TemporaryDirectory(dir=folder) as links:
        return find_analyzer(Path(links)).version


def analyze(
    url: str, model: str, requests: Sequence[Request], concurrency: int, window_s: float, folder: Path
) -> ClientView:
    """Load a model over gRPC.

    Raises:
        PerfError: perf_analyzer gave no figures.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        links, work = Path(scratch, "lib"), Path(scratch, "work")
        links.mkdir()
        work.mkdir()
        write_input_data(work / "inputs.json", requests)
        arguments = [
            *("-m", model, "-i", "grpc", "-u", url, "--input-data", "inputs.json", "-f", "level.csv"),
            *("--concurrency-range", f"{concurrency}:{concurrency}:1", "--measurement-mode", "time_windows"),
            *("--measurement-interval", str(round(window_s * 1000)), "--percentile", "95"),
            *("--stability-percentage", str(_ACCEPT_ANY_PERCENT), "--max-trials", str(_WINDOWS)),
        ]
        answer = find_analyzer(links).run(arguments, work, _WINDOWS * 2 * window_s + _OVERHEAD_S)
        csv = work / "level.csv"
        if answer.returncode != 0 or not csv.is_file():
            said = " ".join((answer.stderr or answer.stdout).split())[-300:]
            raise PerfError(f"perf_analyzer gave no figures of {model} at {concurrency} in flight; it said: {said}")
        return analyzer_output.parse_csv(csv.read_text())[concurrency]

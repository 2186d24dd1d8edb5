"""One run of perf_analyzer at one level of any load: so many in flight, so many in one request, or arrivals in time.

As in `perf.measure`, windows of time are measured, and perf_analyzer is told to accept whatever they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perf import analyzer_output
from perf.analyzer import Analyzer
from perf.errors import PerfError
from perf.results import ClientView, Window

INPUTS = "inputs.json"  # what `inputs.write_input_data` wrote
_WINDOWS = 3
_ACCEPT_ANY_PERCENT = 100_000
_OVERHEAD_S = 90.0  # to start, and to wait for what is still on its way


@dataclass(frozen=True)
class Level:
    """What a caller saw."""

    client: ClientView
    windows: tuple[Window, ...]
    said: str  # by perf_analyzer, on both its streams


def run_level(
    analyzer: Analyzer, folder: Path, url: str, ensemble: str, load: Sequence[str], *, window_s: float
) -> Level:
    """Measure three windows.

    Args:
        analyzer: Does it.
        folder: Scratch, with `INPUTS` in it.
        url: The server's gRPC front end.
        ensemble: What is asked.
        load: perf_analyzer's options for it.
        window_s: Length of a window, seconds.

    Raises:
        PerfError: No figures, with what perf_analyzer said; it did not end (7).
    """
    table = folder / "level.csv"
    table.unlink(missing_ok=True)
    arguments = [
        *("-v", "-m", ensemble, "-i", "grpc", "-u", url, "--input-data", INPUTS, "-f", table.name, *load),
        *("--measurement-mode", "time_windows", "--measurement-interval", str(round(window_s * 1000))),
        *("--percentile", "95", "--stability-percentage", str(_ACCEPT_ANY_PERCENT), "--max-trials", str(_WINDOWS)),
    ]
    answer = analyzer.run(arguments, folder, _WINDOWS * 2 * window_s + _OVERHEAD_S)
    windows = analyzer_output.parse_windows(answer.stdout)
    if answer.returncode != 0 or not table.is_file() or not windows:
        seen = " ".join((answer.stderr or answer.stdout).split())[-300:].rstrip(".") or "nothing"
        raise PerfError(
            f"perf_analyzer ended with code {answer.returncode} on {ensemble} with {' '.join(load)}; it said: {seen}. "
            "Wanted three windows with answers, of which the figures are made. Raise --window-s, or look at the log of "
            "`avedge serve` for what it refused."
        )
    return Level(analyzer_output.parse_only_row(table.read_text()), windows, f"{answer.stdout}\n{answer.stderr}")

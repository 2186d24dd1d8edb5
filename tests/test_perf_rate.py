"""Open loop: arrivals, the search for the largest rate, and the real thing on a running server."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from perf import open_loop, rate
from perf.analyzer_output import parse_only_row
from perf.errors import PerfError
from perf.open_loop import RateLevel
from perf.record import Record
from perf.results import ClientView
from serve.launcher import EmbeddedTriton


def _view(answered_per_s: float, p95_ms: float) -> ClientView:
    return ClientView(answered_per_s, p95_ms / 4, p95_ms / 2, p95_ms, 2 * p95_ms, 0.0, 0.0, 0.0)


def _queue(capacity_per_s: float, rate_per_s: float) -> RateLevel:
    """An M/M/1 queue: times in the system are exponential with rate capacity - arrivals."""
    spare = capacity_per_s - rate_per_s
    p95_ms = 1000 * math.log(20) / spare if spare > 0 else math.inf
    return RateLevel(rate_per_s, rate_per_s, 0.0, 0, _view(min(rate_per_s, capacity_per_s), p95_ms))


@pytest.mark.parametrize("p95_ms", [60.0, 100.0, 400.0])
def test_the_search_finds_the_rate_of_a_queue_with_a_closed_form(p95_ms: float) -> None:
    wanted = 80 - math.log(20) / (p95_ms / 1000)
    found = open_loop.search(lambda rate_per_s: _queue(80, rate_per_s), 80, p95_ms, halvings=8)
    assert found.held is not None
    assert wanted - 80 / 4 / 2**8 <= found.held.asked_per_s <= wanted
    rates = [level.asked_per_s for level in found.levels]
    assert rates == sorted(rates) and {20, 40, 60, 80} <= set(rates)


def test_a_bound_that_nothing_holds_has_no_rate_and_one_that_all_hold_has_the_best() -> None:
    assert open_loop.search(lambda rate_per_s: _queue(80, rate_per_s), 80, 1.0, halvings=3).held is None
    easy = open_loop.search(lambda rate_per_s: _queue(1000, rate_per_s), 80, 100.0, halvings=3)
    assert easy.held is not None and easy.held.asked_per_s == 80


def test_a_rate_that_fell_behind_does_not_hold_however_quick_its_answers() -> None:
    quick = _view(50.0, 5.0)
    assert RateLevel(50, 50, 0.0, 0, quick).holds(100)
    assert not RateLevel(50, 48, 4.0, 0, quick).holds(100)  # sent late
    assert not RateLevel(50, 50, 0.0, 1, quick).holds(100)  # not answered
    assert not RateLevel(100, 100, 0.0, 0, quick).holds(100)  # half of them still on their way
    assert not RateLevel(50, 50, 0.0, 0, _view(50.0, 101.0)).holds(100)


def test_arrivals_are_poisson_and_every_window_has_its_mean() -> None:
    gaps = np.array(open_loop.intervals_us(200.0, 2.5, seed=3))  # 500 in each of eight windows
    arrivals_s = np.cumsum(gaps) / 1e6
    assert stats.kstest(gaps / 5_000, "expon").pvalue > 0.01
    counts = np.histogram(arrivals_s, bins=400, range=(0, 20))[0]  # 10 in each twentieth of a second
    assert 0.8 < counts.var() / counts.mean() < 1.2  # of a Poisson count: 1
    assert (np.histogram(arrivals_s, bins=8, range=(0, 20))[0] == 500).all()


def test_the_asked_mean_is_kept_where_a_window_holds_no_whole_number_of_arrivals() -> None:
    for rate_per_s in (0.3, 7.7, 33.3):
        gaps = open_loop.intervals_us(rate_per_s, 1.5, seed=0)
        span_s = max(1, round(rate_per_s * 1.5)) * 8 / rate_per_s
        assert len(gaps) / span_s == pytest.approx(rate_per_s)
        assert 0.75 * span_s < sum(gaps) / 1e6 <= span_s + 1e-3


def test_the_row_of_one_level_is_read_whatever_its_first_column_says_and_half_a_table_is_refused() -> None:
    columns = "Inferences/Second,Client Send,Network+Server Send/Recv,Client Recv,p50 latency,p90 latency,p95 latency"
    table = f"Request Rate,{columns},p99 latency\n9,9.8,40,8459,3,26093,53640,70622,89296\n"
    seen = parse_only_row(table)
    assert (seen.inferences_per_s, seen.p95_ms, seen.p99_ms) == (9.8, 70.622, 89.296)
    for broken in ("", table.splitlines()[0], table.replace(",89296", ""), table.replace("9.8", "-")):
        with pytest.raises(PerfError, match="perf_analyzer's CSV has"):
            parse_only_row(broken)


@pytest.fixture(scope="module")
def record(server: EmbeddedTriton, samples: Path) -> Record:
    parser = argparse.ArgumentParser()
    rate.add_arguments(parser)
    options = ["--url", server.grpc_url, "--samples", str(samples), "--ensembles", "facefilter_enrolled"]
    options += ["--concurrency", "2", "--window-s", "0.5", "--closed-window-s", "0.4", "--halvings", "1"]
    return rate.measure(parser.parse_args([*options, "--p95-ms", "60000"]), lambda line: None)


def test_a_running_server_is_asked_at_the_asked_rates(record: Record) -> None:
    found = record.figures["ensembles"]["facefilter_enrolled"]
    assert record.complete
    best = found["closed"]["per_s"]
    assert [level["asked_per_s"] / best for level in found["levels"]][:2] == pytest.approx([0.25, 0.5], abs=0.13)
    slowest = found["levels"][0]
    asked = slowest["asked_per_s"] * 1.5  # three windows of half a second
    assert abs(slowest["client"]["inferences_per_s"] * 1.5 - asked) < 5 * math.sqrt(asked) + 2
    assert slowest["failures"] == 0 and slowest["client"]["p50_ms"] <= slowest["client"]["p95_ms"]


def test_a_record_comes_back_from_its_file_with_the_same_tables_and_is_drawn(record: Record, tmp_path: Path) -> None:
    record.write(tmp_path / "rate.json")
    again = Record.read(tmp_path / "rate.json")
    assert [table.markdown() for table in rate.tables(again)] == [table.markdown() for table in rate.tables(record)]
    rate.plot(again, tmp_path / "rate.png")
    assert (tmp_path / "rate.png").stat().st_size > 5_000


def test_an_objective_of_nothing_is_refused_before_anything_is_started() -> None:
    parser = argparse.ArgumentParser()
    rate.add_arguments(parser)
    with pytest.raises(PerfError, match="--p95-ms 0") as caught:
        rate.measure(parser.parse_args(["--p95-ms", "0"]), lambda line: None)
    assert caught.value.exit_code == 2

"""perf_analyzer is found, or its absence explained; its output is read as it really is."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from perf.analyzer import Analyzer, find_analyzer
from perf.analyzer_output import parse_csv, parse_windows
from perf.errors import PerfError
from perf.measure import spread_of
from perf.results import Window

# Written by perf_analyzer 2.51.0 for an ensemble of two models, two requests in flight; then with --verbose-csv.
PLAIN_CSV = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,\
Server Compute Infer,Server Compute Output,Server Cache Hit,Server Cache Miss,Client Recv,p50 latency,p90 latency,\
p95 latency,p99 latency
2,1311.02,6,987,1,27,266,220,0,0,1,1356,2095,2445,4074
"""
VERBOSE_CSV = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,\
Server Compute Infer,Server Compute Output,Server Cache Hit,Server Cache Miss,Client Recv,p50 latency,p90 latency,\
p95 latency,p99 latency,request/response,response wait
2,1433.65,3,906,1,22,173,276,0,0,1,1210,1612,2109,5273,4,1368
"""
# The same release's file for one of the composing models: no percentiles.
COMPOSING_CSV = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,\
Server Compute Infer,Server Compute Output,Server Cache Hit,Server Cache Miss,Client Recv
2,1311.02,0,1,603,27,266,220,0,0,0
"""
PRINTED = """\
Request concurrency: 2
  Pass [1] throughput: 1375.83 infer/sec. p95 latency: 2587 usec
  Pass [2] throughput: 1330.18 infer/sec. p95 latency: 2616 usec
  Pass [3] throughput: 1593.99 infer/sec. p95 latency: 1583 usec
  Client: 
    Request count: 5199
    Throughput: 1433.65 infer/sec
"""  # noqa: W291


@pytest.mark.parametrize(
    "text", [PLAIN_CSV, f"\n{PLAIN_CSV}\n", f"{PLAIN_CSV}\ntiny_mean, version: 1\n{COMPOSING_CSV}"]
)
def test_the_callers_row_is_read_in_milliseconds_and_further_tables_are_left_alone(text: str) -> None:
    (view,) = parse_csv(text).values()
    assert view.inferences_per_s == 1311.02
    assert (view.p50_ms, view.p90_ms, view.p95_ms, view.p99_ms) == (1.356, 2.095, 2.445, 4.074)
    assert (view.client_send_ms, view.network_ms, view.client_receive_ms) == (0.006, 0.987, 0.001)


def test_columns_are_found_by_name_when_there_are_more() -> None:
    assert parse_csv(VERBOSE_CSV)[2].p99_ms == 5.273


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", "no table"),
        ("<html>502</html>", "no table"),
        (PLAIN_CSV.splitlines()[0], "a header without rows"),
        (PLAIN_CSV.replace("2445", ""), "could not convert string to float"),
        (COMPOSING_CSV, "no column 'p50 latency'"),
    ],
)
def test_a_csv_without_figures_is_refused_with_what_was_seen(text: str, seen: str) -> None:
    with pytest.raises(PerfError, match=seen):
        parse_csv(text)


def test_the_windows_are_read_from_what_a_verbose_run_prints() -> None:
    windows = parse_windows(PRINTED)
    assert [window.inferences_per_s for window in windows] == [1375.83, 1330.18, 1593.99]
    assert [window.latency_ms for window in windows] == [2.587, 2.616, 1.583]


def test_windows_differ_by_the_largest_over_the_smallest_in_rate_or_latency() -> None:
    assert spread_of(parse_windows(PRINTED)) == pytest.approx((2616 / 1583 - 1) * 100)
    assert spread_of([Window(10, 5.0), Window(8, 5.5)]) == pytest.approx(25)
    assert spread_of([Window(10, 5.0)] * 3) == 0


def _installed() -> Path:
    binary = Path(sysconfig.get_path("scripts")) / "perf_analyzer"
    if not binary.is_file() or metadata.version("tritonclient") != "2.51.0":
        pytest.skip("tritonclient 2.51.0 and its perf_analyzer are not installed")
    return binary


def test_the_wheels_binary_runs_with_libraries_linked_under_the_names_it_asks_for(tmp_path: Path) -> None:
    binary = _installed()
    alone = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    found = find_analyzer(tmp_path, [binary])
    assert found.version == "2.51.0"
    if alone.returncode == 0:
        pytest.skip("this machine has libb64 and libcudart of its own")
    assert {"libb64.so.0d", "libcudart.so.12"} <= {link.name for link in tmp_path.iterdir()}
    again = found.run(["--version"], tmp_path, 30)
    assert "Perf Analyzer Version 2.51.0" in again.stdout + again.stderr


def test_a_binary_that_cannot_start_gives_way_to_the_next(tmp_path: Path) -> None:
    broken = tmp_path / "perf_analyzer"
    broken.write_text("no program")
    links = tmp_path / "links"
    links.mkdir()
    assert find_analyzer(links, [broken, _installed()]).version == "2.51.0"


def test_without_any_analyzer_the_message_says_what_each_lacked_and_what_to_install(tmp_path: Path) -> None:
    script = tmp_path / "perf_analyzer"
    script.write_text("#!/bin/sh\necho 'an empty placeholder' >&2\nexit 3\n")
    os.chmod(script, 0o755)
    with pytest.raises(PerfError) as caught:
        find_analyzer(tmp_path, [tmp_path / "absent", script])
    message = str(caught.value)
    assert "absent in" in message and "No such file" in message
    assert "ends with code 3: an empty placeholder" in message
    assert "pip install tritonclient==2.51.0 nvidia-pytriton==0.7.0" in message
    assert caught.value.exit_code == 1


def test_an_analyzer_that_never_ends_is_stopped(tmp_path: Path) -> None:
    script = tmp_path / "perf_analyzer"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    os.chmod(script, 0o755)
    with pytest.raises(PerfError, match="still measuring after 0 s") as caught:
        Analyzer(script, (), "2.51.0").run([], tmp_path, 0.2)
    assert caught.value.exit_code == 7

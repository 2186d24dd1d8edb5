"""Growth fitted to known laws, memory measured on known sizes, and the real thing on a running server."""

from __future__ import annotations

import argparse
import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import stats

from perf import growth, memory, scale, scale_lengths
from perf.record import Record
from perf.scale_lengths import Point
from serve.launcher import EmbeddedTriton

MB = 1e6
ALLOCATING = """
import os, sys
from perf import memory
start = memory.resident_bytes(os.getpid())
memory.reset_peak()
taken = bytearray(int(sys.argv[1]))
for place in range(0, len(taken), 4096):
    taken[place] = 1
del taken
print(memory.peak_bytes() - start)
"""


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_the_fit_recovers_an_exponent_and_is_sure_of_it(exponent: float) -> None:
    sizes = [2.0, 10, 30, 60, 600]
    found = growth.fit(sizes, [3 * size**exponent for size in sizes])
    assert found.exponent == pytest.approx(exponent, abs=1e-12)
    assert found.factor == pytest.approx(3)
    assert found.standard_error == pytest.approx(0, abs=1e-7)


def test_the_fit_and_its_standard_error_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    sizes = np.geomspace(1, 500, 9)
    values = 0.2 * sizes**1.1 * np.exp(rng.normal(0, 0.1, 9))
    found, wanted = growth.fit(list(sizes), list(values)), stats.linregress(np.log(sizes), np.log(values))
    assert found.exponent == pytest.approx(wanted.slope)
    assert found.standard_error == pytest.approx(wanted.stderr)
    assert growth.slope(list(sizes), list(values)) == pytest.approx(stats.linregress(sizes, values).slope)


def test_what_stays_below_the_floor_does_not_grow() -> None:
    flat = growth.fit_above([2, 10, 60, 600], [1e3, 5e5, 1e6, 1.5e6], 2e6)
    assert flat.exponent == 0 and flat.standard_error is None
    linear = growth.fit_above([2, 10, 60, 600], [1e6, 5e6, 30e6, 300e6], 2e6)
    assert linear.exponent == pytest.approx(1) and linear.points == 3


def test_nothing_to_fit_is_refused() -> None:
    for sizes, values in (([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 1.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match="power law"):
            growth.fit(sizes, values)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("megabytes", [0, 64])
def test_a_process_that_takes_64_mb_and_gives_them_back_shows_64_mb(root: Path, megabytes: int) -> None:
    command = [sys.executable, "-c", ALLOCATING, str(megabytes * 1_000_000)]
    taken = int(subprocess.run(command, cwd=root, capture_output=True, check=True).stdout)
    assert taken / MB == pytest.approx(megabytes, abs=2)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_the_process_that_listens_is_found_with_its_children() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert memory.listener(port) is None  # bound, and not yet listening
        listening.listen()
        assert memory.listener(port) == os.getpid()
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            assert {os.getpid(), child.pid} <= set(memory.processes_of(os.getpid()))
            assert memory.processes_of(child.pid) == (child.pid,)
            with memory.Watch(f"127.0.0.1:{port}") as watch:
                taken = np.ones(8_000_000)  # 64 MB
            assert watch.peak is not None
            assert watch.peak >= taken.nbytes
        finally:
            child.communicate()


def test_a_server_elsewhere_has_no_memory_to_be_seen() -> None:
    with memory.Watch("192.0.2.1:8001") as watch:
        pass
    assert watch.peak is None


def test_inputs_of_every_size_are_made_of_the_samples(samples: Path, tmp_path: Path) -> None:
    inputs = scale_lengths.Inputs(samples, tmp_path)
    assert soundfile.info(inputs.recording(21)).frames == 21 * 16_000
    head = soundfile.read(inputs.recording(2))[0]
    assert np.array_equal(head, soundfile.read(inputs.recording(21))[0][: len(head)])
    assert scale_lengths.cv2.imread(str(inputs.picture(2100, 700))).shape == (700, 2100, 3)


def _point(seconds: float, per_second: float, client_bytes: int) -> Point:
    return Point(f"{seconds:g} s", seconds, round(64_000 * seconds), per_second * seconds, 3, 1, client_bytes, None)


def test_a_flat_client_meets_its_aim_and_one_that_holds_everything_misses_it_by_so_much() -> None:
    lengths = (2.0, 60.0, 120.0, 600.0)
    flat = scale.growth_of([_point(length, 0.01, round(64_000 * length) + 1_000_000) for length in lengths])
    whole = scale.growth_of([_point(length, 0.01, round(8 * 64_000 * length)) for length in lengths])
    assert all(aim.met for aim in scale.aims_of({"sound": flat}))
    time, held = scale.aims_of({"sound": whole})
    assert time.met and not held.met
    assert held.figure == pytest.approx(1)
    assert held.because.startswith("512 kB for each second of sound, 8.0 times")


def test_without_memory_there_is_no_aim_for_it() -> None:
    unknown = [dataclasses.replace(_point(length, 0.01, 0), client_bytes=None) for length in (2.0, 60.0, 600.0)]
    assert [aim.what for aim in scale.aims_of({"sound": scale.growth_of(unknown)})] == ["time of a recording: exponent"]


@pytest.fixture(scope="module")
def record(server: EmbeddedTriton, samples: Path) -> Record:
    parser = argparse.ArgumentParser()
    scale.add_arguments(parser)
    options = ["--url", server.grpc_url, "--samples", str(samples), "--ensembles", "facefilter"]
    options += ["--concurrency", "2", "--batches", "2", "--seconds", "2,12", "--pictures", "1024x576,1600x900"]
    return scale.measure(parser.parse_args([*options, "--window-s", "0.5", "--repeats", "1"]), lambda line: None)


def test_load_recordings_and_pictures_are_measured_on_a_running_server(record: Record) -> None:
    assert record.complete, record.figures["failures"]
    load = record.figures["load"]["facefilter"]
    assert [level["concurrency"] for level in load["concurrency"]] == [2]
    assert [level["batches"] for level in load["batches"]] == [2]
    assert load["batches"][0]["client"]["inferences_per_s"] > 0
    short, long = record.figures["sound"]["points"]
    assert (short["requests"], long["requests"]) == (1, 2)
    small, large = record.figures["pictures"]["points"]
    assert small["requests"] == 1 and large["requests"] > 1
    if sys.platform == "linux":
        assert load["concurrency"][0]["server_bytes"] > 100 * MB  # a server and eight models
        assert large["client_bytes"] > large["input_bytes"]  # it holds the picture, at least


def test_a_record_comes_back_from_its_file_with_the_same_tables_and_is_drawn(record: Record, tmp_path: Path) -> None:
    record.write(tmp_path / "scale.json")
    again = Record.read(tmp_path / "scale.json")
    shown = [table.markdown() for table in scale.tables(again)]
    assert shown == [table.markdown() for table in scale.tables(record)]
    assert len(shown) == 4 and "Time grows with exponent" in shown[2]
    scale.plot(again, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 5_000

"""Results are written whole, say where they were made without naming anybody, and are shown as tables."""

from __future__ import annotations

import io
import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from perf import commands, environment, sweep_tables
from perf.closed_loop import closed_loop, rates
from perf.errors import PerfError
from perf.measure import SweepSettings
from perf.record import Aim, Record
from perf.results import ClientView, EnsembleResult, Failure, Level, ModelShare, SweepResult, Window
from perf.served import Server
from perf.sweep import _command
from train.environment import commit, output_of


def _result(failures: tuple[Failure, ...] = ()) -> SweepResult:
    view = ClientView(12.5, 70.0, 80.0, 90.0, 100.0, 0.1, 2.0, 0.2)
    computed = ModelShare("facefilter_separator", "onnxruntime_onnx", 112, 0, 80, 1.4, 0, 3.21, 0.2, 41.5, 0.1)
    cached = ModelShare("facefilter_identity", "onnxruntime_onnx", 112, 0, 0, None, 112, 0.05, None, None, None)
    level = Level(2, False, 23.4, view, (Window(12.5, 90.0),), (cached, computed), 24.875, 1 / 24.875)
    ensemble = EnsembleResult("facefilter", {"mixture": (31840,)}, 8, 1.99, (), (level,), failures)
    return SweepResult({"command": "avedge perf"}, {"window_s": 3.0}, (ensemble,))


def test_a_result_is_written_whole_as_json_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "results" / "sweep.json"
    record = _result().as_record()
    record.write(path)
    content = json.loads(path.read_text())
    assert content["schema_version"] == 2
    (ensemble,) = content["figures"]["ensembles"]
    assert ensemble["levels"][0]["client"]["p95_ms"] == 90.0
    assert ensemble["inputs"] == {"mixture": [31840]}
    assert list(path.parent.iterdir()) == [path]
    again = Record.read(path)
    assert sweep_tables.markdown(SweepResult.from_record(again)) == sweep_tables.markdown(_result())


def test_a_file_of_another_program_is_refused_with_what_to_type(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    for content in ("", "[]", '{"schema_version": 1}', '{"schema_version": 2, "figures": {}}'):
        path.write_text(content)
        with pytest.raises(PerfError, match="avedge perf sweep") as caught:
            Record.read(path)
        assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("figure", "at_least", "met"), [(0.9, True, True), (0.89, True, False), (0.91, False, False), (0.9, False, True)]
)
def test_an_aim_is_met_on_its_own_side_of_the_bound(figure: float, at_least: bool, met: bool) -> None:
    aim = Aim("served over bare", figure, 0.9, at_least=at_least, because="The client takes a third of a core.")
    assert aim.met is met
    assert aim.sentence().endswith("met" if met else "The client takes a third of a core.")
    assert not Aim("", float("nan"), 0.9, at_least=at_least).met


def test_a_closed_loop_counts_what_begins_and_ends_inside_its_stretch_of_time() -> None:
    workers: set[int] = set()

    def call(worker: int, number: int) -> None:
        workers.add(worker)
        time.sleep(0.01)

    found = closed_loop(call, workers=2, seconds=0.5, warmup_s=0.05)
    assert workers == {0, 1}
    assert found.per_s == found.count / 0.5
    assert found.p50_ms >= 10
    assert found.per_s <= 200
    with pytest.raises(ZeroDivisionError):
        closed_loop(lambda worker, number: 1 // (1 - worker), workers=2, seconds=5)


def test_percentiles_are_those_of_numpys_inverted_cdf() -> None:
    values = np.random.default_rng(0).exponential(size=237)
    found = rates(list(values), 10)
    wanted = 1000 * np.percentile(values, [50, 95, 99], method="inverted_cdf")
    assert [found.p50_ms, found.p95_ms, found.p99_ms] == pytest.approx(list(wanted))


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(PerfError, match="--output") as caught:
        _result().as_record().write(tmp_path / "taken" / "sweep.json")
    assert caught.value.exit_code == 8
    folder = tmp_path / "sweep.json"  # a folder where the file should come
    folder.mkdir()
    with pytest.raises(PerfError):
        _result().as_record().write(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.json", "taken"]


def test_the_markdown_has_the_callers_row_and_each_models_share() -> None:
    text = sweep_tables.markdown(_result())
    assert "| facefilter | 2 | 12.5 | 70.0 | 90.0 | 100.0 | 24.9 | no, 23 % |" in text
    assert "| facefilter_separator | 2 | 1.40 | 3.21 | 41.50 | - |" in text
    assert "| facefilter_identity | 2 | - | 0.05 | - | 100% |" in text
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_level_without_figures_is_named_with_its_reason() -> None:
    result = _result((Failure(8, "perf_analyzer ended with code 99"),))
    assert not result.complete
    assert "facefilter, 8 in flight, gave no figures: perf_analyzer ended with code 99" in sweep_tables.markdown(result)


def test_the_terminal_shows_the_same_figures_within_a_hundred_columns() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    commands.show(sweep_tables.tables(_result()), _result().as_record(), console)
    text = console.export_text()
    assert "facefilter_separator" in text and "24.9" in text and "no, 23 %" in text


def test_the_stamp_names_machine_and_versions_but_no_host_and_no_folder() -> None:
    stamp = environment.stamp("avedge perf", server_version="2.51.0", analyzer_version="2.51.0")
    text = json.dumps(stamp)
    for private in (socket.gethostname(), str(environment.ROOT), str(Path.home())):
        assert private not in text
    assert stamp["machine"]["cores"] >= 1 and stamp["machine"]["memory_gib"] > 0
    assert stamp["machine"]["cpu"] not in ("", "unknown")
    assert {"numpy", "tritonclient"} <= set(stamp["packages"])
    assert stamp["measured_at_utc"].endswith("+00:00")


def test_the_stamp_tells_the_commit_that_git_tells() -> None:
    head = output_of("git", "-C", str(environment.ROOT), "rev-parse", "HEAD")
    if head is None:
        pytest.skip("not a git repository, or no git")
    found = commit()
    assert found is not None
    assert found["id"] == head
    assert len(head) == 40 and isinstance(found["dirty"], bool)


def test_gpus_are_listed_as_the_driver_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.86.15, 143771 MiB, 700.00 W'\necho 'broken row'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    stamp = environment.stamp("avedge perf", server_version="2.51.0", analyzer_version="2.51.0")
    assert stamp["gpus"] == [
        {"name": "NVIDIA H200", "driver_version": "570.86.15", "memory.total": "143771 MiB", "power.limit": "700.00 W"}
    ]
    assert stamp["commit"] is None  # no git on that PATH
    driver.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    assert environment.stamp("avedge perf", server_version="", analyzer_version="")["gpus"] == []


def test_the_command_to_repeat_a_sweep_hides_remote_hosts_and_folders_outside_the_repository(tmp_path: Path) -> None:
    settings = SweepSettings(concurrencies=(1, 8), window_s=5)
    inside = _command("127.0.0.1:8001", environment.ROOT / "demo" / "samples", ["facefilter"], settings)
    assert inside == (
        "avedge perf sweep --url 127.0.0.1:8001 --samples demo/samples --ensembles facefilter --concurrency 1,8 "
        "--window-s 5 --attempts 2"
    )
    outside = _command("edge-7.example.org:8001", tmp_path / "mine", ["facefilter"], settings)
    assert "--url SERVER:8001 --samples mine " in outside and "example" not in outside


@pytest.mark.parametrize(
    ("wrong", "flag"),
    [
        ({"concurrencies": (0,)}, "--concurrency"),
        ({"window_s": 0.01}, "--window-s"),
        ({"attempts": 0}, "--attempts"),
    ],
)
def test_settings_that_could_not_be_measured_name_their_flag(wrong: dict[str, object], flag: str) -> None:
    with pytest.raises(PerfError, match=flag) as caught:
        SweepSettings(**wrong)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


def test_without_a_server_the_message_says_to_start_one() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        url = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(PerfError, match=r"No Triton answers.*avedge serve") as caught:
            Server(url)
    assert caught.value.exit_code == 5

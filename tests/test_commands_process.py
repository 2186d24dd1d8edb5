"""Whole processes: killed, interrupted, terminated, on a full disk, on a terminal, and the exit code of each."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
PROGRAM = [sys.executable, str(TESTS / "toy_verb.py"), "toy"]


def written(folder: Path, **texts: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return [str(folder / f"{name}.txt") for name in texts]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AVEDGE_", "NO_COLOR"))}
    return kept | {"PYTHONPATH": str(TESTS.parent)} | more


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    return subprocess.Popen([*PROGRAM, *map(str, words)], **(usual | options))


def run(*words: object, **options: Any) -> tuple[int, str, str]:
    process = start(*words, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".avedge*"))


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        ({"a": "one", "b": "two"}, 0),
        ({"a": "one", "b": "bad"}, 3),
        ({"a": "bad"}, 4),
        ({"a": "away", "b": "two"}, 5),
        ({"a": "late"}, 7),
    ],
)
def test_exit_codes_of_what_happens_to_the_inputs(tmp_path: Path, texts: dict[str, str], code: int) -> None:
    assert run(*written(tmp_path, **texts), "-o", tmp_path / "out")[0] == code


def test_exit_codes_of_usage_and_of_the_output(tmp_path: Path) -> None:
    (path,) = written(tmp_path, a="one")
    assert run(path, "--jobs", 0)[0] == 2
    assert run(path, "-o", path)[0] == 8  # a file stands where the folder should be
    assert run("--version")[0] == 2 and run(path, "-o", tmp_path / "out", "--url")[0] == 2


def test_killed_at_any_step_leaves_whole_files_and_the_next_run_does_the_rest() -> None:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a disk is waited for thousands of times
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        command = [sys.executable, str(TESTS / "batch_kill_points.py"), folder]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100  # steps at which it was killed


def test_killed_at_work_and_run_again(tmp_path: Path) -> None:
    inputs = written(tmp_path, **{f"t{number}": f"text {number}" for number in range(5)})
    process = start(*inputs, "-o", tmp_path / "out", "--delay", 0.3, "--json")
    assert process.stdout is not None
    finished = [json.loads(process.stdout.readline())["input"] for _ in range(2)]
    process.kill()  # in the midst of the third
    process.communicate()
    assert len(visible(tmp_path / "out")) == 4
    assert any(name.startswith(".avedge-") for name in hidden(tmp_path / "out"))  # what it was at
    code, out, _ = run(*inputs, "-o", tmp_path / "out", "--json")
    states = {one["input"]: one["status"] for one in map(json.loads, out.splitlines())}
    assert code == 0 and {name for name, state in states.items() if state == "skipped"} == set(finished)
    assert len(visible(tmp_path / "out")) == 10 and hidden(tmp_path / "out") == [".avedge"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("jobs", [1, 3])
def test_ends_within_two_seconds_when_told_to_and_leaves_what_is_whole(
    tmp_path: Path, number: signal.Signals, code: int, jobs: int
) -> None:
    inputs = written(tmp_path, **{f"t{index}": "text" for index in range(6)})
    run(inputs[0], "-o", tmp_path / "out")
    process = start(*inputs, "-o", tmp_path / "out", "--delay", 60, "--jobs", jobs, "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == "skipped"  # so it has begun with the others
    time.sleep(0.2)
    sent = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code and time.monotonic() - sent < 2
    assert "Traceback" not in err
    assert ("interrupted with the results of 1 of 6; the same command goes on" in err) == (code == 130)
    assert visible(tmp_path / "out") == ["t0.length", "t0.upper.txt"] and hidden(tmp_path / "out") == [".avedge"]


def test_a_library_that_is_at_work_in_a_thread_does_not_change_the_exit_code(tmp_path: Path) -> None:
    inputs = written(tmp_path, **{f"t{number}": "text" for number in range(3)})
    run(inputs[0], "-o", tmp_path / "out")
    for _ in range(3):
        process = start(*inputs, "-o", tmp_path / "out", "--see", 60, "--jobs", 3, "--json")
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["status"] == "skipped"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, "terminate called" in err) == (130, False)


def test_a_file_that_may_grow_no_further_leaves_nothing(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for a disk that fills up: writing fails midway, with EFBIG instead of ENOSPC."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    inputs = written(tmp_path, a="one")
    options = {"preexec_fn": limit, "env": environment(PYTHONDONTWRITEBYTECODE="1")}
    code, _, err = run(*inputs, "-o", tmp_path / "out", "--bytes", 100_000, **options)
    assert code == 8 and "File too large" in err
    assert list((tmp_path / "out").iterdir()) == []
    assert run(*inputs, "-o", tmp_path / "out", "--bytes", 100_000)[0] == 0


def test_closed_streams_are_no_failure_and_nothing_said_goes_into_a_result(tmp_path: Path) -> None:
    inputs = written(tmp_path, a="one", b="bad")
    command = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *PROGRAM, *inputs, "-o", str(tmp_path / "out")]
    assert subprocess.run(command, env=environment(), timeout=60, check=False).returncode == 3
    assert {path.name: path.read_text() for path in (tmp_path / "out").glob("a.*")} == {
        "a.length": "3",
        "a.upper.txt": "ONE",
    }


def test_names_that_the_terminals_coding_lacks_are_escaped(tmp_path: Path) -> None:
    options = {"env": environment(PYTHONIOENCODING="ascii")}
    code, out, _ = run(*written(tmp_path, **{"\u00fcber": "one"}), "-o", tmp_path / "out", **options)
    assert code == 0 and r"\xfcber.upper.txt" in out


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_cannot_be_said_is_an_output_that_cannot_be_written(tmp_path: Path, stream: str) -> None:
    inputs = written(tmp_path, a="one" if stream == "stdout" else "bad")
    with open("/dev/full", "w") as full:
        assert run(*inputs, "-o", tmp_path / "out", **{stream: full})[0] == 8


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_only_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    code, _, err = run(*written(tmp_path, a="one"), "-o", tmp_path / "out")
    assert code == 8 and "Permission denied" in err


def on_a_terminal(*words: object, **more: str) -> tuple[str, str, int]:
    """What a process writes on standard output, a pipe, and on standard error, a terminal; and its exit code."""
    ours, theirs = pty.openpty()
    process = start(*words, stderr=theirs, env=environment(**{"TERM": "xterm", "COLUMNS": "100"} | more))
    os.close(theirs)
    said = b""
    while True:
        try:
            select.select([ours], [], [], 30)
            said += os.read(ours, 65_536)
        except OSError:  # the terminal was hung up: the process has ended
            break
    os.close(ours)
    out, _ = process.communicate(timeout=30)
    return out, said.decode(), process.returncode


def test_progress_is_drawn_on_a_terminal_only_and_names_are_escaped(tmp_path: Path) -> None:
    inputs = written(tmp_path, **{"first": "one", "bel\x07 [red]": "two"})
    words = (*inputs, "-o", tmp_path / "out", "--delay", 0.4)
    out, said, code = on_a_terminal(*words)
    assert code == 0 and said.startswith("avedge toy ...\r")  # before anything takes its time
    assert "0/2 files" in said and "1/2 files" in said and "/s" in said and "first.txt" in said
    assert "\x07" not in said and r"bel\x07 [red].txt" in said
    assert "files" not in out and out.count("letters") == 2
    for quiet in ("--quiet", "--json"):
        assert on_a_terminal(*words, "--overwrite", quiet)[1] == ""
    assert run(*words, "--overwrite")[2] == ""  # no terminal
    assert on_a_terminal(*words, "--overwrite", TERM="dumb")[1] == ""


def test_colours_stay_away_where_they_are_not_wanted(tmp_path: Path) -> None:
    words = (*written(tmp_path, a="one"), "-o", tmp_path / "out", "--overwrite", "--delay", 0.3)
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9;]*m")
    assert colour.search(on_a_terminal(*words)[1])
    assert not colour.search(on_a_terminal(*words, "--no-color")[1])
    assert not colour.search(on_a_terminal(*words, NO_COLOR="1")[1])


def test_errors_and_results_stand_on_lines_of_their_own_beside_the_progress(tmp_path: Path) -> None:
    words = (*written(tmp_path, a="bad", b="two"), "-o", tmp_path / "out", "--delay", 0.3)
    _, said, code = on_a_terminal(*words)
    assert code == 3
    assert re.search(r"(^|[\n\r]|\x1b\[2K)avedge: a.txt is bad\.\r\n  wanted: another\.\r\n", said)

"""Many inputs, one report each, results that are whole or not there: the laws of a batch, with toy work."""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clients.commands import batch as batch_module
from clients.commands import report as report_module
from clients.commands.batch import Batch, Report
from clients.commands.inputs import Kinds
from clients.errors import BadInput, BadSetting, ContractMismatch, OutputFailed, ServerUnavailable

TEXTS = Kinds("text", frozenset({".txt"}))
ENDINGS = (".upper.txt", ".length")


class Upper:
    """Toy work: a text in capitals, written by a writer, and its length, left in the staging folder."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.staging: list[Path] = []

    def __call__(self, path: Path, staging: Path) -> Report:
        self.seen.append(path.name)
        self.staging.append(staging)
        text = path.read_text()
        if "bad" in text:
            raise BadInput(f"{path.name} is bad", "good", "bad is bad", "mend it")
        (staging / "length").write_text(str(len(text)))
        return Report(
            line=f"{len(text)} letters",
            result={"letters": len(text)},
            timings_s={"total": 0.25},
            warnings=("short",) if len(text) < 3 else (),
            writers={".upper.txt": lambda aside: aside.write_text(text.upper())},  # type: ignore[dict-item]
            staged={".length": staging / "length"},
        )


def batch(output: Path, **fields: Any) -> Batch:
    usual = {"endings": ENDINGS, "overwrite": False, "as_json": True, "quiet": False, "kinds": TEXTS}
    return Batch(command="upper", output=output, **(usual | fields))


def written(folder: Path, **texts: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return [folder / f"{name}.txt" for name in texts]


def run(
    output: Path,
    inputs: list[Path],
    work: Any = None,
    settings: Mapping[str, Any] | None = None,
    **fields: Any,
) -> int:
    given = {"case": "upper"} if settings is None else settings
    return batch(output, **fields).run(inputs, work or Upper(), lambda: given)


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def visible(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("[!.]*") if path.is_file() and ".avedge" not in
                  str(path))  # fmt: skip


def test_files_of_a_writer_and_files_left_in_the_staging_folder_arrive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Upper()
    assert run(tmp_path / "out", written(tmp_path, a="hello"), work) == 0
    assert (tmp_path / "out/a.upper.txt").read_text() == "HELLO" and (tmp_path / "out/a.length").read_text() == "5"
    (one,) = said(capsys)
    assert one == {
        "schema_version": 1,
        "command": "upper",
        "input": str(tmp_path / "a.txt"),
        "status": "done",
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",  # of "hello"
        "outputs": {"length": str(tmp_path / "out/a.length"), "upper_txt": str(tmp_path / "out/a.upper.txt")},
        "result": {"letters": 5},
        "timings_s": {"total": 0.25},
        "warnings": [],
    }
    assert not work.staging[0].exists() and work.staging[0].parent.parent == tmp_path / "out"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".avedge", "a.length", "a.upper.txt"]


def test_a_folders_results_keep_its_sub_folders(tmp_path: Path) -> None:
    written(tmp_path / "in", a="one")
    written(tmp_path / "in/sub", a="two")
    assert run(tmp_path / "out", [tmp_path / "in"]) == 0
    assert visible(tmp_path / "out") == ["a.length", "a.upper.txt", "sub/a.length", "sub/a.upper.txt"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_bad_input_is_reported_and_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    inputs = [*written(tmp_path, a="one", b="bad", c="three"), tmp_path / "*.bmp"]
    assert run(tmp_path / "out", inputs, jobs=jobs) == 3
    states = {Path(one["input"]).name: one["status"] for one in said(capsys)}
    assert states == {"a.txt": "done", "b.txt": "failed", "c.txt": "done", "*.bmp": "failed"}
    assert visible(tmp_path / "out") == ["a.length", "a.upper.txt", "c.length", "c.upper.txt"]


def test_the_only_input_gives_its_own_exit_code(tmp_path: Path) -> None:
    assert run(tmp_path / "out", written(tmp_path, a="bad")) == 4
    assert run(tmp_path / "out", [tmp_path / "*.bmp"]) == 4


def test_failures_hold_on_to_nothing_that_was_at_hand(tmp_path: Path) -> None:
    class Picture:
        pass

    kept: weakref.WeakSet[Picture] = weakref.WeakSet()
    most = 0

    def work(path: Path, staging: Path) -> Report:
        nonlocal most
        picture = Picture()
        kept.add(picture)
        most = max(most, len(kept))
        time.sleep(0.01)  # in which the last failure is told
        raise BadInput(f"{path.name} is bad", "good", "bad is bad", "mend it")

    assert run(tmp_path / "out", written(tmp_path, **{f"t{number}": "text" for number in range(20)}), work) == 3
    assert most < 10  # this one, and those that still wait to be told


@pytest.mark.parametrize(("kind", "code"), [(ServerUnavailable, 5), (ContractMismatch, 6), (BadSetting, 2)])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_server_that_is_away_ends_the_run_and_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: type[ServerUnavailable], code: int, jobs: int
) -> None:
    together = threading.Barrier(jobs)

    def work(path: Path, staging: Path) -> Report:
        together.wait(5)
        raise kind("No server answers", "a server", "it answers", "start it")

    inputs = written(tmp_path, **{f"t{number}": "text" for number in range(6)})
    assert run(tmp_path / "out", inputs, work, jobs=jobs) == code
    captured = capsys.readouterr()
    assert captured.err.count("No server answers") == 1
    assert len(captured.out.splitlines()) == jobs  # each input that was begun has its object


def test_a_server_that_is_away_from_the_start_is_the_first_inputs_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def settings() -> dict[str, Any]:
        raise ServerUnavailable("No server answers", "a server", "it answers", "start it")

    assert batch(tmp_path / "out").run(written(tmp_path, a="one", b="two"), Upper(), settings) == 5
    (one,) = said(capsys)
    assert one["status"] == "failed" and one["error"]["exit_code"] == 5 and one["input"].endswith("a.txt")


def test_nothing_but_json_stands_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "out", written(tmp_path, a="ab", b="bad"))
    captured = capsys.readouterr()
    assert [json.loads(line)["status"] for line in captured.out.splitlines()] == ["done", "failed"]
    assert "short" in captured.out and "b.txt is bad" in captured.err
    assert json.loads(captured.out.splitlines()[1])["error"] == {
        "kind": "BadInput", "exit_code": 4, "seen": "b.txt is bad", "wanted": "good", "why": "bad is bad",
        "do": "mend it",
    }  # fmt: skip


def test_people_read_lines_warnings_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = written(tmp_path, a="ab", b="bad", c="three")
    run(tmp_path / "out", inputs[2:], as_json=False)
    capsys.readouterr()
    run(tmp_path / "out", inputs, as_json=False)
    captured = capsys.readouterr()
    assert f"{tmp_path}/a.txt: 2 letters\n" in captured.out and f"  {tmp_path}/out/a.length\n" in captured.out
    assert captured.out.endswith("1 done, 1 there already (--overwrite makes them again), 1 failed\n")
    assert f"{tmp_path}/a.txt: warning: short\n" in captured.err
    run(tmp_path / "quiet", inputs, as_json=False, quiet=True)
    captured = capsys.readouterr()
    assert captured.out == "" and "warning: short" in captured.err and "b.txt is bad" in captured.err


def test_results_that_are_there_are_skipped_and_told_with_what_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Upper()
    inputs = written(tmp_path, a="one", b="two")
    run(tmp_path / "out", inputs[:1], first)
    (before,) = said(capsys)
    second = Upper()
    assert run(tmp_path / "out", inputs, second) == 0
    assert second.seen == ["b.txt"]
    skipped, done = sorted(said(capsys), key=lambda one: one["input"])
    assert skipped == before | {"status": "skipped"} and done["status"] == "done"
    again = Upper()
    assert run(tmp_path / "out", inputs, again, overwrite=True) == 0
    assert again.seen == ["a.txt", "b.txt"]


def test_a_copy_of_an_input_is_the_same_and_other_content_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = written(tmp_path, a="one")
    run(tmp_path / "out", [path])
    os.utime(path, ns=(1, 1))  # as a copy has another time
    work = Upper()
    assert run(tmp_path / "out", [path], work) == 0 and work.seen == []
    path.write_text("two")
    capsys.readouterr()
    assert run(tmp_path / "out", [path], work) == 8 and work.seen == []
    assert "is there already, made with another input" in capsys.readouterr().err
    assert (tmp_path / "out/a.upper.txt").read_text() == "ONE"


def test_other_settings_refuse_to_replace_and_say_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = written(tmp_path, a="one")
    run(tmp_path / "out", inputs, settings={"case": "upper", "model": {"versions": [1]}, "face": "x"})
    capsys.readouterr()
    assert run(tmp_path / "out", inputs, settings={"case": "upper", "model": {"versions": [2]}, "face": "y"}) == 8
    assert "made with another --face and another model" in capsys.readouterr().err


def test_files_of_others_are_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.length").write_text("mine")
    work = Upper()
    assert run(tmp_path / "out", written(tmp_path, a="one"), work) == 8 and work.seen == []
    assert "a.length is there already" in capsys.readouterr().err
    assert visible(tmp_path / "out") == ["a.length"] and (tmp_path / "out/a.length").read_text() == "mine"


def test_a_name_too_long_for_results_is_that_inputs_failure_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, longest = Upper(), "n" * 250  # with .txt it may be named, with .upper.txt no more
    assert run(tmp_path / "out", written(tmp_path, **{longest: "one", "b": "two"}), work) == 3
    assert work.seen == ["b.txt"] and "File name too long" in capsys.readouterr().err
    assert visible(tmp_path / "out") == ["b.length", "b.upper.txt"]


@pytest.mark.parametrize("harm", ["remove", "change", "no record"])
def test_results_that_are_not_as_they_were_made(tmp_path: Path, harm: str) -> None:
    inputs = written(tmp_path, a="one")
    run(tmp_path / "out", inputs)
    work = Upper()
    if harm == "remove":  # the rest is ours and is made again
        (tmp_path / "out/a.length").unlink()
        assert run(tmp_path / "out", inputs, work) == 0 and work.seen == ["a.txt"]
        assert visible(tmp_path / "out") == ["a.length", "a.upper.txt"]
        return
    if harm == "change":
        (tmp_path / "out/a.length").write_text("4")
    else:
        (tmp_path / "out/.avedge/a.upper.json").write_text("garbage")
    assert run(tmp_path / "out", inputs, work) == 8 and work.seen == []


def test_a_record_holds_no_content_and_no_settings(tmp_path: Path) -> None:
    inputs = written(tmp_path, a="confidential")
    run(tmp_path / "out", inputs, settings={"face": "/home/anna/anna.jpg"})
    text = (tmp_path / "out/.avedge/a.upper.json").read_text()
    assert "anna" not in text and "confidential" not in text.lower() and str(tmp_path) not in text
    assert set(json.loads(text)) == {"version", "input", "settings", "files", "said"}


def test_without_settings_nothing_is_skipped(tmp_path: Path) -> None:
    inputs, work = written(tmp_path, a="one"), Upper()
    for _ in range(2):
        assert batch(tmp_path / "out", overwrite=True).run(inputs, work) == 0
    assert work.seen == ["a.txt", "a.txt"] and not (tmp_path / "out/.avedge").exists()


def test_jobs_are_done_at_the_same_time_and_told_as_they_finish(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, upper, told = threading.Barrier(3), Upper(), threading.Event()
    say = report_module._say
    monkeypatch.setattr(report_module, "_say", lambda text: (say(text), told.set()))

    def work(path: Path, staging: Path) -> Report:
        together.wait(5)  # passes only when three are at work
        if path.stem == "a":
            told.wait(5)  # of another one
        return upper(path, staging)

    inputs = written(tmp_path, a="one", b="two", c="three")
    assert run(tmp_path / "out", inputs, work, jobs=3) == 0
    names = [Path(one["input"]).name for one in said(capsys)]
    assert sorted(names) == ["a.txt", "b.txt", "c.txt"] and names[0] != "a.txt"


def test_a_full_disk_leaves_nothing_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    def at_work(path: Path, staging: Path) -> Report:
        (staging / "half").write_text("half")
        return full()

    def at_writing(path: Path, staging: Path) -> Report:
        return Report("", {}, {}, (), writers={".upper.txt": full})

    for work in (at_work, at_writing):
        assert run(tmp_path / "out", written(tmp_path, a="one"), work) == 8
        assert "No space left on device" in capsys.readouterr().err
        assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_a_disk_does_not_give_is_that_inputs_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upper = Upper()

    def work(path: Path, staging: Path) -> Report:
        if path.stem == "a":
            raise OSError(5, "Input/output error", str(path))
        return upper(path, staging)

    assert run(tmp_path / "out", written(tmp_path, a="one", b="two"), work) == 3
    assert "a.txt cannot be read: Input/output error" in capsys.readouterr().err
    assert visible(tmp_path / "out") == ["b.length", "b.upper.txt"]


def test_nobody_who_listens_ends_the_run(tmp_path: Path) -> None:
    def work(path: Path, staging: Path) -> Report:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        run(tmp_path / "out", written(tmp_path, a="one", b="two"), work)


def test_what_a_killed_run_left_is_removed_and_a_living_runs_folder_stays(tmp_path: Path) -> None:
    left = tmp_path / "out" / ".avedge-dead"
    left.mkdir(parents=True)
    (left / "half.wav").write_text("half")

    def work(path: Path, staging: Path) -> Report:
        batch_module.prepare_folder(tmp_path / "out")  # as another run would begin now
        assert staging.is_dir()
        return Upper()(path, staging)

    assert run(tmp_path / "out", written(tmp_path, a="one"), work) == 0
    assert not left.exists() and visible(tmp_path / "out") == ["a.length", "a.upper.txt"]


def test_an_error_of_ours_within_the_work_ends_the_run(tmp_path: Path) -> None:
    def work(path: Path, staging: Path) -> Report:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "out", written(tmp_path, a="one"), work)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_run_that_is_left_moves_nothing_more(tmp_path: Path) -> None:
    began, go_on = threading.Event(), threading.Event()

    def work(path: Path, staging: Path) -> Report:
        if path.stem == "b":
            began.wait(5)
            raise KeyboardInterrupt  # as it reaches the main thread
        began.set()
        go_on.wait(5)
        return Upper()(path, staging)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", written(tmp_path, a="one", b="two"), work, jobs=2)
    assert time.monotonic() - start < 3
    go_on.set()
    time.sleep(0.1)  # the thread that was left behind finishes its work, if it can
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputFailed, match="File exists"):
        run(tmp_path / "out", written(tmp_path, a="one"))

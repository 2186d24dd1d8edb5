"""What the words of a command line stand for: files, folders, patterns and standard input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients.commands import inputs
from clients.commands.inputs import PHOTOS, RECORDINGS, Input, find_inputs, spool
from clients.errors import BadInput

ENDINGS = (".density.png", ".density.npy")


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(*words: Path, results: Path = Path("out")) -> list[Input]:
    return find_inputs(words, PHOTOS, results=results, endings=ENDINGS)


def places(*words: Path, results: Path = Path("out")) -> list[str]:
    return [str(one.place) for one in found(*words, results=results)]


def test_a_folder_gives_its_files_of_the_kind_by_name_and_keeps_sub_folders(tmp_path: Path) -> None:
    made(tmp_path, "b.jpg", "a.PNG", "monday/x.jpeg", "monday/notes.txt", "monday/evening/x.jpg", "talk.wav")
    assert places(tmp_path) == ["a", "b", "monday/evening/x", "monday/x"]
    (only,) = find_inputs([tmp_path], RECORDINGS, results=Path("out"), endings=())
    assert only.path == tmp_path / "talk.wav" and only.name == str(only.path)


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    made(tmp_path, ".a.jpg", ".cache/b.jpg", "c.jpg")
    assert places(tmp_path) == ["c"] and places(tmp_path / "**" / "*.jpg") == ["c"]
    assert places(tmp_path / ".a.jpg") == [".a"]  # named by itself
    assert places(tmp_path / ".*.jpg") == [".a"]


def test_results_are_not_read_as_inputs(tmp_path: Path) -> None:
    made(tmp_path, "a.jpg", "a.density.png", "out/b.density.png", "out/c.png")
    for results in (tmp_path / "out", Path(os.path.relpath(tmp_path / "out"))):
        assert places(tmp_path, results=results) == ["a"]
        assert places(tmp_path / "**" / "*.*", results=results) == ["a"]
    assert places(tmp_path, results=tmp_path) == ["a", "out/c"]  # results beside the photos
    assert places(tmp_path / "*.*", results=tmp_path) == ["a"]


def test_links_in_circles_are_not_followed_and_links_to_files_are(tmp_path: Path) -> None:
    made(tmp_path / "photos", "a.jpg", "sub/b.jpg")
    (tmp_path / "photos/sub/up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/c.jpg").symlink_to(tmp_path / "photos/sub/b.jpg")
    (tmp_path / "photos/gone.jpg").symlink_to(tmp_path / "nowhere")
    assert places(tmp_path / "photos") == ["a", "c", "sub/b"]
    assert places(tmp_path / "photos" / "**" / "*.jpg") == ["a", "c", "gone", "sub/b"]  # as if it was named: it fails


def test_a_link_to_itself_does_not_hide_the_others(tmp_path: Path) -> None:
    made(tmp_path, "a.jpg", "out/b.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    results = tmp_path / "out"
    assert places(tmp_path, results=results) == ["a"]
    assert places(tmp_path / "*.jpg", results=results) == ["a", "loop"]  # as if it was named: it fails
    assert places(tmp_path / "**", results=results) == ["a"]


def test_stars_within_a_name_are_that_patterns_failure(tmp_path: Path) -> None:
    made(tmp_path, "a.jpg")
    pattern, file = found(tmp_path / "a**.jpg", tmp_path / "a.jpg")
    assert pattern.problem is not None and "** stands beside other signs" in pattern.problem.seen
    assert file.problem is None


def test_ten_thousand_files_are_found_in_order(tmp_path: Path) -> None:
    for folder in range(100):
        (tmp_path / f"{folder:02}").mkdir()
        for number in range(100):
            (tmp_path / f"{folder:02}" / f"{number:02}.jpg").touch()
    there = places(tmp_path)
    assert len(there) == 10_000 and there == sorted(there)


def test_too_many_files_are_probably_not_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_FOUND", 2)
    made(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    for word in (tmp_path, tmp_path / "*.jpg"):
        (one,) = found(word)
        assert one.problem is not None and "more than 2 files" in one.problem.seen


def test_a_deep_tree_is_walked(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(400):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "a.jpg").touch()
    assert len(places(tmp_path)) == 1


@pytest.mark.parametrize("pattern", ["*.jpg", "[ab].jpg", "?.jpg"])
def test_a_pattern_gives_what_fits_it(tmp_path: Path, pattern: str) -> None:
    made(tmp_path, "a.jpg", "b.jpg", "ab.txt", "sub/a.jpg")
    assert places(tmp_path / pattern) == ["a", "b"]


def test_a_pattern_keeps_the_folders_behind_its_fixed_part(tmp_path: Path) -> None:
    made(tmp_path, "monday/a.jpg", "tuesday/a.jpg")
    assert places(tmp_path / "*" / "*.jpg") == ["monday/a", "tuesday/a"]
    assert places(tmp_path / "*") == ["monday/a", "tuesday/a"]  # folders that fit are looked into


def test_two_stars_at_the_end_stand_for_all_that_is_below(tmp_path: Path) -> None:
    made(tmp_path, "a.jpg", "readme.txt", "monday/b.jpg", "tuesday/c/d.jpg")
    assert places(tmp_path / "**") == ["a", "monday/b", "tuesday/c/d"]
    assert places(tmp_path / "*day" / "**") == ["monday/b", "tuesday/c/d"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    made(tmp_path, "a[1].jpg", "a1.jpg")
    assert places(tmp_path / "a[1].jpg") == ["a[1]"]


def test_what_is_not_there_is_that_inputs_failure_and_the_others_stay(tmp_path: Path) -> None:
    made(tmp_path, "a.jpg", "empty/readme.txt")
    nothing, folder, file, absent = found(
        tmp_path / "*.bmp", tmp_path / "empty", tmp_path / "a.jpg", tmp_path / "b.jpg"
    )
    assert nothing.problem is not None and "no file fits it" in nothing.problem.seen
    assert folder.problem is not None and "no photo in it or below" in folder.problem.seen
    assert ".jpg" in folder.problem.wanted
    assert file.problem is None and absent.problem is None  # whoever opens it says that it is not there


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may look into every folder")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    made(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        first, second = found(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert first.problem is None and second.problem is not None and "Permission denied" in second.problem.seen


def test_files_of_one_name_are_told_apart_by_the_folders_in_which_they_differ(tmp_path: Path) -> None:
    made(tmp_path, "x/monday/a.jpg", "x/tuesday/a.jpg", "x/tuesday/b.jpg")
    assert places(tmp_path / "x/monday/a.jpg", tmp_path / "x/tuesday/a.jpg", tmp_path / "x/tuesday/b.jpg") == [
        "monday/a",
        "tuesday/a",
        "b",
    ]
    assert places(tmp_path / "x/monday", tmp_path / "x/tuesday") == ["monday/a", "tuesday/a", "b"]


def test_files_that_differ_by_their_endings_keep_them(tmp_path: Path) -> None:
    made(tmp_path, "a.jpg", "a.png", "b.jpg")
    assert places(tmp_path) == ["a.jpg", "a.png", "b"]


def test_a_file_that_is_named_twice_is_one_input(tmp_path: Path) -> None:
    made(tmp_path, "a.jpg")
    assert places(tmp_path / "a.jpg", tmp_path, tmp_path / "." / "a.jpg") == ["a"]


def test_inputs_that_no_folder_tells_apart_are_refused(tmp_path: Path) -> None:
    made(tmp_path, "p/a/b.jpg", "q/a/b.jpg", "a/b.jpg")
    given = [Input(tmp_path / "p/a/b.jpg", "p", Path("a/b")), Input(tmp_path / "q/a/b.jpg", "q", Path("b"))]
    absent = Input(tmp_path / "r", "r", Path("a/b.jpg"), BadInput("r is absent", "r", "it is", "make it"))
    with pytest.raises(BadInput, match="would both give a/b"):
        find_inputs([absent, *given, tmp_path / "a/b.jpg", Path("-")], PHOTOS, results=Path("out"), endings=())


def test_standard_input_is_written_down_and_known_by_its_content(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from clients.commands.inputs import *;"
        "(one,) = find_inputs([Path('-')], PHOTOS, results=Path('out'), endings=());"
        "read = spool(one, Path(sys.argv[1])); print(read.name, read.place, read.identity.bytes, read.identity.sha256)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], input=b"abc", capture_output=True, check=True, cwd=inputs_root()
    )
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert done.stdout.decode().split() == ["stdin", "stdin", "3", digest]
    assert (tmp_path / "stdin").read_bytes() == b"abc"


def inputs_root() -> Path:
    return Path(__file__).resolve().parents[1]


class Piped(io.StringIO):
    """Standard input at the end of a pipe."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)

    def fileno(self) -> int:
        return self.reading


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"12345", "more than 4 bytes")])
def test_standard_input_must_have_something_and_not_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    monkeypatch.setattr(inputs, "MAX_STDIN_BYTES", 4)
    monkeypatch.setattr(sys, "stdin", Piped(content))
    with pytest.raises(BadInput, match=words):
        spool(Input(inputs.STDIN, "stdin", Path("stdin")), tmp_path)


def test_a_terminal_is_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = Piped(b"x")
    monkeypatch.setattr(piped, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", piped)
    with pytest.raises(BadInput, match="Standard input is a terminal"):
        spool(Input(inputs.STDIN, "stdin", Path("stdin")), tmp_path)

"""Results are written whole or not at all, together or not at all, and what was there before is never lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import outputs
from clients.errors import OutputFailed


def names(folder: Path) -> list[str]:
    """What people see; the records of what is finished are hidden."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def write_new(path: Path) -> None:
    path.write_text("new")


def test_files_written_together_are_all_there_or_none_is(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_text("earlier")
    with pytest.raises(OutputFailed, match="No space left on device"):
        outputs.write_together({tmp_path / "a": write_new, tmp_path / "b": fail})
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "earlier"


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    (tmp_path / ".avedge-dead").mkdir()
    monkeypatch.setattr(outputs.fcntl, "flock", flock)
    outputs.prepare_folder(tmp_path)
    outputs.write_whole(tmp_path / "a", write_new)
    assert (tmp_path / "a").read_text() == "new" and (tmp_path / ".avedge-dead").is_dir()  # whose it is cannot be told


@pytest.mark.parametrize("hard_links", [True, False])
@pytest.mark.parametrize(
    ("error", "calls", "late"),
    [
        (OSError(5, "Input/output error"), ("replace",), False),
        (KeyboardInterrupt(), ("link", "replace"), False),
        (KeyboardInterrupt(), ("link", "replace"), True),
    ],
)
def test_a_move_that_is_broken_off_anywhere_puts_back_what_was_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    calls: tuple[str, ...],
    late: bool,
    hard_links: bool,
) -> None:
    """Broken off at every one of these calls to the system, before it is done or behind it."""
    left = 0  # calls until it happens
    real = {"link": os.link, "replace": os.replace}

    def breaking(name: str) -> Callable[..., None]:
        def call(*places: Path, **options: bool) -> None:
            nonlocal left
            left -= name in calls
            if left == 0 and not late:
                raise error
            try:
                if name == "link" and not hard_links and places[0].exists():
                    raise OSError(95, "Operation not supported")
                real[name](*places, **options)
            finally:
                if left == 0:
                    raise error

        return call

    for name in real:
        monkeypatch.setattr(outputs.os, name, breaking(name))
    files = dict.fromkeys((tmp_path / "a", tmp_path / "b", tmp_path / "c"), write_new)
    earlier = {"a": "earlier a", "c": "earlier c"}
    for at_call in range(1, 3 * len(calls) + 1):
        left = at_call
        for name, text in earlier.items():
            (tmp_path / name).write_text(text)
        with pytest.raises((OutputFailed, KeyboardInterrupt)):
            outputs.write_together(files)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == earlier
    left = 99
    outputs.write_together(files)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("abc", "new")


def test_what_is_replaced_is_there_until_the_new_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(file: Path, target: Path) -> None:
        assert target.read_text() == "earlier", "who is killed now leaves neither"
        moved(file, target)

    moved = os.replace
    (tmp_path / "a").write_text("earlier")
    monkeypatch.setattr(outputs.os, "replace", replace)
    outputs.write_whole(tmp_path / "a", write_new)
    assert (tmp_path / "a").read_text() == "new"


def test_a_folder_in_the_place_of_a_file_stays_with_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine").write_text("precious")
    with pytest.raises(OutputFailed, match="results: what is there is not a file"):
        outputs.write_whole(tmp_path / "results", write_new)
    assert (tmp_path / "results" / "mine").read_text() == "precious" and names(tmp_path) == ["results"]

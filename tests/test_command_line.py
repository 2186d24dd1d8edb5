"""The command line itself: verbs, exit codes, and failures told in words."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import metadata
from types import ModuleType

import pytest

import avedge


@pytest.fixture
def failing_verb(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A verb `fail` that raises what is put into the list."""
    failures: list[BaseException] = []

    def run(arguments: argparse.Namespace) -> int:
        raise failures[0]

    module = ModuleType("failing")
    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failing", module)
    monkeypatch.setattr(avedge, "VERBS", (avedge.Verb("fail", "failing", "fails"),))
    return failures


@pytest.mark.parametrize("verb", [verb.name for verb in avedge.VERBS])
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        avedge.main([verb, "--help"])
    assert ended.value.code == 0
    assert f"usage: avedge {verb}" in capsys.readouterr().out


def test_an_unknown_verb_is_wrong_usage_and_the_known_ones_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        avedge.main(["seperate"])
    assert ended.value.code == 2 and "separate" in capsys.readouterr().err


def test_an_error_of_ours_gives_its_own_code_and_its_words(
    failing_verb: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    error = ValueError("saw 3, wanted 4")
    error.exit_code = 6  # type: ignore[attr-defined]
    failing_verb.append(error)
    assert avedge.main(["fail"]) == 6
    assert capsys.readouterr().err == "avedge: saw 3, wanted 4\n"


def test_a_package_that_a_verb_lacks_is_named_with_the_extra_that_brings_it(
    failing_verb: list[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(avedge._EXTRAS, "failing", "export")
    failing_verb.append(ModuleNotFoundError("No module named 'onnx.helper'", name="onnx.helper"))
    assert avedge.main(["fail"]) == 2
    said = capsys.readouterr().err
    assert "The package onnx is not installed here" in said and "pip install 'avedge[export]'" in said
    failing_verb[0] = ModuleNotFoundError("No module named 'clients.nothing'", name="clients.nothing")
    assert avedge.main(["fail"]) == 1 and "unexpected ModuleNotFoundError" in capsys.readouterr().err


def test_every_extra_that_a_verb_names_is_one_of_the_project() -> None:
    known = set(metadata.metadata("avedge").get_all("Provides-Extra") or ())
    named = {extra for verb in avedge.VERBS for extra in verb.extra.split(",") if extra}
    assert {"train", "export", "serve", "peers"} <= named <= known


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (KeyError("x"), 1, "unexpected KeyError"),
        (PermissionError(13, "Permission denied", "out"), 8, "Permission denied"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_other_failures_have_a_code_and_no_traceback(
    failing_verb: list[BaseException], capsys: pytest.CaptureFixture[str], failure: BaseException, code: int, words: str
) -> None:
    failing_verb.append(failure)
    assert avedge.main(["fail"]) == code
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


@pytest.mark.parametrize(("failure", "code"), [(KeyboardInterrupt(), 130), (ValueError("x"), 1)])
def test_failures_before_a_verb_runs_have_a_code_too(
    failing_verb: list[BaseException], capsys: pytest.CaptureFixture[str], failure: BaseException, code: int
) -> None:
    def fail(parser: argparse.ArgumentParser) -> None:
        raise failure

    sys.modules["failing"].add_arguments = fail  # type: ignore[attr-defined]
    assert avedge.main(["fail"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_the_failure_itself(failing_verb: list[BaseException]) -> None:
    failing_verb.append(KeyError("x"))
    with pytest.raises(KeyError):
        avedge.main(["fail", "--debug"])


def test_sigterm_unwinds_and_ends_with_143(failing_verb: list[BaseException]) -> None:
    module = sys.modules["failing"]
    module.run = lambda arguments: os.kill(os.getpid(), signal.SIGTERM)  # type: ignore[attr-defined]
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            avedge.main(["fail"])
        assert ended.value.code == 143
    finally:
        signal.signal(signal.SIGTERM, before)

"""Where the server's options come from: a flag wins over the environment, and that over the file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from clients.client import ServedClient
from clients.commands.options import SERVER_OPTIONS, add_batch_arguments, add_server_arguments, server_of, settings_of
from clients.contract import ServedModel
from clients.errors import BadSetting
from clients.transport.tls import Tls


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("AVEDGE_CONFIG", *(option.variable for option in SERVER_OPTIONS)):
        monkeypatch.delenv(name, raising=False)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="test")
    add_server_arguments(parser)
    return parser.parse_args(words)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config" / "avedge" / "config.ini"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (parsed().url, parsed().timeout) == ("127.0.0.1:8001", 60.0)
    written(tmp_path, "[server]\nurl = file:1\ntimeout = 3\n")
    assert (parsed().url, parsed().timeout) == ("file:1", 3.0)
    monkeypatch.setenv("AVEDGE_URL", "environment:1")
    assert (parsed().url, parsed().timeout) == ("environment:1", 3.0)
    assert parsed("--url", "flag:1").url == "flag:1"
    (tmp_path / "other.ini").write_text("[server]\ntimeout = 4\n")
    monkeypatch.setenv("AVEDGE_CONFIG", str(tmp_path / "other.ini"))
    assert parsed().timeout == 4.0


def test_several_urls_take_the_place_of_the_default() -> None:
    assert parsed("--url", "a:1", "--url", "b:1,c:1").url == "a:1,b:1,c:1"


def test_help_says_where_a_default_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVEDGE_URL", "jetson:8001")
    with pytest.raises(SystemExit):
        parsed("--help")
    assert "(jetson:8001, from AVEDGE_URL)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nurll = a:1\n", "urll is not known; known are shared-memory, timeout, tls-ca"),
        ("[sever]\nurl = a:1\n", "[sever] is not known"),
        ("url = a:1\n", "cannot be read"),
        ("[server]\ntimeout = soon\n", "config.ini: could not convert string to float: 'soon'"),
    ],
)
def test_a_file_that_says_something_else_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    written(tmp_path, text)
    with pytest.raises(SystemExit) as ended:
        parsed()
    assert ended.value.code == 2 and words in capsys.readouterr().err


def test_a_file_that_is_named_and_not_there_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVEDGE_CONFIG", str(tmp_path / "none.ini"))
    with pytest.raises(SystemExit):
        parsed()
    assert "none.ini cannot be read" in capsys.readouterr().err


def test_a_home_that_is_not_known_or_not_open_is_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)  # of nobody, as in a container
    assert parsed("--tls-ca", "~nobody-of-that-name/ca.pem").tls_ca == Path("~nobody-of-that-name/ca.pem")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "stat", closed)
    assert parsed().url == "127.0.0.1:8001"


@pytest.mark.parametrize(
    ("variable", "value"), [("AVEDGE_TIMEOUT", "0"), ("AVEDGE_TIMEOUT", "soon"), ("AVEDGE_SHARED_MEMORY", "maybe")]
)
def test_a_bad_value_names_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        parsed()
    assert ended.value.code == 2 and f"{variable}: " in capsys.readouterr().err


def test_a_client_gets_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_of(parsed()) == {"url": "127.0.0.1:8001", "timeout_s": 60.0, "tls": None, "shared_memory": "auto"}
    monkeypatch.setenv("AVEDGE_TLS_CA", "ca.pem")
    said = server_of(
        parsed("--tls-cert", "me.pem", "--tls-key", "me.key", "--shared-memory", "always", "--timeout", "2")
    )
    assert said["tls"] == Tls(Path("ca.pem"), Path("me.pem"), Path("me.key"))
    assert (said["shared_memory"], said["timeout_s"]) == (True, 2.0)


def test_what_no_connection_can_be_made_with_is_wrong_usage() -> None:
    with pytest.raises(BadSetting) as caught:
        ServedClient(**server_of(parsed("--url", "no port")))
    assert caught.value.exit_code == 2


class Served(ServedClient):
    """A client that has asked already."""

    def __init__(self, versions: dict[str, tuple[str, ...]]) -> None:
        self.versions = versions

    def release(self, model: ServedModel) -> dict[str, tuple[str, ...]]:
        return self.versions


def test_settings_are_what_decides_a_result_and_files_count_by_their_content(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--face", type=Path)
    parser.add_argument("--tiles", default=1, type=int)
    add_batch_arguments(parser, "out")
    model = ServedModel("m", ("1",), (), (), {"contract_digest": "d"}, ("inner",))

    def settings(*words: str, version: str = "3") -> dict[str, object]:
        return settings_of(parser.parse_args(words), Served({"m": ("1",), "inner": (version,)}), model)

    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "copy.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    plain = settings("x.wav", "--face", str(tmp_path / "a.jpg"))
    assert settings(
        "y.wav", "-o", "else", "--json", "-j", "2", "--url", "a:1", "--face", str(tmp_path / "copy.jpg")
    ) == (plain)
    for changed in (
        settings("--face", str(tmp_path / "b.jpg")),
        settings("--face", str(tmp_path / "a.jpg"), "--tiles", "2"),
        settings("--face", str(tmp_path / "a.jpg"), version="4"),
    ):
        assert changed != plain

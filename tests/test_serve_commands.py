from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from serve import commands
from serve.errors import ServeError


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commands.add_arguments(parser)
    return parser.parse_args(words)


def test_the_tensorrt_target_says_which_container_to_run_with_which_repository(tmp_path: Path) -> None:
    with pytest.raises(ServeError) as refused:
        commands.run(parsed("--target", "tensorrt", "--repository", str(tmp_path)))
    assert refused.value.exit_code != 0
    assert "docker run" in str(refused.value)
    assert f"-v {tmp_path}:/models" in str(refused.value)
    assert "nvcr.io/nvidia/tritonserver:26.09-py3" in str(refused.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2"])
def test_other_machines_are_let_in_only_when_asked(host: str) -> None:
    with pytest.raises(ServeError, match="--allow-remote") as refused:
        commands.run(parsed("--host", host))
    assert refused.value.exit_code == 2


def test_letting_other_machines_in_prints_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServeError, match="no models"):
        commands.run(parsed("--host", "0.0.0.0", "--allow-remote", "--repository", str(tmp_path)))
    assert "no authentication" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["nowhere", "::1", "127.0.0.1:80"])
def test_a_host_that_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(ServeError, match=f"--host {host} is no IPv4 address"):
        commands.run(parsed("--host", host))


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(f"--grpc-port={port}")
    assert "_port" not in capsys.readouterr().err.split("argument")[1]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_refused(seconds: str) -> None:
    with pytest.raises(SystemExit):
        parsed(f"--startup-timeout={seconds}")

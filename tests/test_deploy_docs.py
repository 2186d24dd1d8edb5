"""The pages for operators: what can run here is run as printed, what wants Docker or a GPU is held against files."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deploy_files import COMPOSE, COMPOSE_CPU, ROOT, read_compose

import avedge
from serve.launcher import EmbeddedTriton

PAGES = ("operations.md", "tls.md", "jetson.md", "own_weights.md")
RUN_ELSEWHERE = {
    "avedge rollback": "test_own_weights, which has two releases",
    "avedge rollback --undo": "the same",
    "avedge train crowd --config own.yaml --resume": "test_own_weights",
    "avedge export --weights runs/own --report runs/own/export.json": "test_own_weights",
    "avedge serve": "test_own_weights",
}
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def blocks(page: str, kind: str) -> list[str]:
    found: list[str] = re.findall(
        rf"^```{kind}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE
    )
    return found


def commands(page: str) -> list[str]:
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return [line[2:] for line in lines]


@pytest.fixture
def workplace(repository: Path, samples: Path, tmp_path: Path) -> Path:
    """A folder as the project's looks to the commands."""
    for name in ("serve", "train"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "model_repository").symlink_to(repository)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "samples").symlink_to(samples)
    return tmp_path


def run_as_printed(command: str, folder: Path) -> str:
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done.stdout


@contextmanager
def serving(command: str, folder: Path) -> Iterator[dict[str, str]]:
    """`avedge serve` as printed, but on free ports; what it says when it is ready."""
    free = [word for name in ("grpc", "http", "metrics") for word in (f"--{name}-port", "0")]
    words = [*shlex.split(command), *free, "--json"]
    process = subprocess.Popen(words, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_tls_page_works_from_certificates_to_counts(workplace: Path) -> None:
    make, serve, count = commands("tls.md")
    run_as_printed(make, workplace)
    (program,) = blocks("tls.md", "python")
    with serving(serve, workplace) as ready:
        port = ready["grpc_url"].rpartition(":")[2]
        run_as_printed(count.replace(":8001", f":{port}"), workplace)
        assert list((workplace / "out").rglob("*.png"))
        words = [sys.executable, "-c", program.replace(":8001", f":{port}")]
        done = subprocess.run(words, cwd=workplace, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and float(done.stdout) > 0, done.stderr
        stranger = shlex.split(count.replace(":8001", f":{port}").split(" --tls-cert")[0])
        refused = subprocess.run(
            [*stranger, "--overwrite"], cwd=workplace, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 5 and "do not trust each other" in refused.stderr, refused.stderr


def test_the_other_pages_commands_work(workplace: Path, server: EmbeddedTriton) -> None:
    todo = [command for page in ("operations.md", "jetson.md") for command in commands(page)]
    assert len(todo) == 5
    for command in todo:
        if command in RUN_ELSEWHERE:
            continue
        if command.startswith("curl") and shutil.which("curl") is None:
            pytest.skip("no curl on this machine")
        if command.startswith("avedge count"):
            command += f" --url {server.grpc_url}"
        said = run_as_printed(command.replace("http://127.0.0.1:8002/metrics", server.metrics_url), workplace)
        assert not command.startswith("curl") or "nv_inference_request_success" in said


def test_every_command_that_runs_elsewhere_stands_on_a_page() -> None:
    printed = {command for page in PAGES for command in commands(page)}
    assert set(RUN_ELSEWHERE) <= printed


def shell_lines(page: str) -> list[list[str]]:
    """Words of the lines that are not run."""
    lines = [line.split("    #")[0] for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_names_what_is_there(page: str) -> None:
    services = {**read_compose()["services"]}
    profiles = {profile for one in services.values() for profile in one.get("profiles", [])}
    for words in shell_lines(page):
        if words[0] == "avedge":
            assert avedge.build_parser(words[1]).parse_args(words[1:])
        elif words[:2] == ["docker", "compose"]:
            given = dict(zip(words, words[1:], strict=False))
            files = [Path(value) for name, value in zip(words, words[1:], strict=False) if name == "--file"]
            assert files and {ROOT / file for file in files} <= {COMPOSE, COMPOSE_CPU}
            assert given.get("--profile", "monitoring") in profiles
            verbs = [
                word for word in words[2:] if not word.startswith("-") and word not in (*map(str, files), *profiles)
            ]
            assert verbs[0] in {"up", "run", "restart", "config"} and set(verbs[1:]) <= set(services)
        else:
            assert words[0] in {"docker", "pip", "printf", "openssl"} or (ROOT / words[0]).is_file(), words


@pytest.mark.parametrize("page", PAGES)
def test_names_on_a_page_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    compose = COMPOSE.read_text() + (ROOT / "serve" / "deploy" / "certificates.sh").read_text()
    options = (ROOT / "clients" / "commands" / "options.py").read_text()
    for name in set(re.findall(r"`(AVEDGE_\w+)", text)):
        option = name.removeprefix("AVEDGE_").lower().replace("_", "-")
        assert name in compose or f'"{option}"' in options, name
    alerts = (ROOT / "serve" / "deploy" / "prometheus" / "alerts.yml").read_text()
    for name in set(re.findall(r"`(Triton\w+)`", text)):
        assert f"alert: {name}\n" in alerts, name
    for path in set(re.findall(r"`((?:serve|train|tests|docs)/[\w./]+)`", text)):
        assert (ROOT / path).exists() or path.startswith("serve/deploy/certificates") or path == "serve/deploy/.env", (
            path
        )
    for program in blocks(page, "python"):
        ast.parse(program)


def test_every_alert_has_a_line_for_operators() -> None:
    alerts = re.findall(r"alert: (\w+)", (ROOT / "serve" / "deploy" / "prometheus" / "alerts.yml").read_text())
    text = (ROOT / "docs" / "operations.md").read_text()
    assert all(f"`{name}`" in text for name in alerts)

"""The deployment's files as those read them that use them; for test_deploy_* and test_metrics_names."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "serve" / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
COMPOSE_CPU = DEPLOY / "compose.cpu.yaml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "avedge.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"


class Reset(dict[str, Any]):
    """What an override takes away."""


class _ComposeLoader(yaml.SafeLoader):
    """YAML with Compose's own tag for that."""


_ComposeLoader.add_constructor("!reset", lambda _loader, _node: Reset())


def read_compose(path: Path = COMPOSE) -> dict[str, Any]:
    """A Compose file with every `${NAME:-default}` at its default."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", path.read_text())
    content: dict[str, Any] = yaml.load(text, _ComposeLoader)
    return content


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def server_arguments(folder: Path, target: str = "tensorrt") -> list[str]:
    """What the `triton` service gives to tritonserver: its command is carried out with a program that tells."""
    folder.mkdir(parents=True, exist_ok=True)
    stand_in = folder / "tritonserver"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    command = [word.replace("$$", "$") for word in read_compose()["services"]["triton"]["command"]]
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "AVEDGE_TARGET": target}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def panels() -> Iterator[dict[str, Any]]:
    """The dashboard's panels that show something."""
    yield from (panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row")


def dashboard_expressions() -> list[tuple[str, str]]:
    """Title of the panel, and PromQL with the variables at what Grafana puts there for All."""
    found = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    values = {"$__rate_interval": "1m", "$target": ".*", "$instance": ".*", "$model": ".*"}
    return [(title, _filled(expression, values)) for title, expression in found]


def alert_expressions() -> list[tuple[str, str]]:
    """Name of the alert, and its PromQL."""
    return [(rule["alert"], rule["expr"]) for group in read_yaml(ALERTS)["groups"] for rule in group["rules"]]


def _filled(expression: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression

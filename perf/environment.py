"""The stamp on every sweep: the machine (`train.environment`), and which server answered which perf_analyzer."""

from __future__ import annotations

from typing import Any

from train import environment

ROOT = environment.ROOT


def stamp(command: str, *, server_version: str, analyzer_version: str) -> dict[str, Any]:
    """The machine, the versions and the moment.

    Args:
        command: What to type to measure the same again, with paths relative to the repository.
        server_version: Of the Triton that answered; it may run on another machine than perf_analyzer.
        analyzer_version: Of perf_analyzer.
    """
    return environment.stamp(command) | {"tritonserver": server_version, "perf_analyzer": analyzer_version}

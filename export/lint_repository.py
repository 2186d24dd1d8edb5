"""Hold every published graph against the lint: its operators, its tensors, and what it says of itself.

avedge lint
avedge lint --repository DIR --json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from export.contract import MODELS, Model
from export.errors import ExportError
from export.releases import MANIFEST, damage, versions

_GRAPH = "model.onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge lint`."""
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="Triton model repository")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Carry out `avedge lint`; 0 when every newest version is as it should be, else 6."""
    found = {model.name: lint_version(arguments.repository, model) for model in MODELS}
    if arguments.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.writelines(f"{name:24} {fault or 'ok'}\n" for name, fault in found.items())
    return ExportError.exit_code if any(found.values()) else 0


def lint_version(repository: Path, model: Model) -> str:
    """What is wrong with the newest version of a model; empty when nothing is."""
    from export.lint import FACTS, graph_facts, lint_file

    numbers = versions(repository / model.name)
    if not numbers:
        return f"{repository / model.name} has no version; make one: avedge export."
    folder = repository / model.name / str(numbers[-1])
    if fault := damage(folder):
        return fault
    try:
        lint_file(folder / _GRAPH, model)
    except ExportError as error:
        return str(error)
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    facts = graph_facts(folder / _GRAPH)
    other = [
        f"{name} {facts[name]!r}, not {manifest.get(name)!r}" for name in FACTS if facts[name] != manifest.get(name)
    ]
    return f"{folder / _GRAPH} says otherwise than its manifest: {', '.join(other)}." if other else ""

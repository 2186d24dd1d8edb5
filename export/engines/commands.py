"""Build TensorRT engines of the newest published graphs, and print which precision each layer has.

Examples:
  avedge build                                          on the GPU that will serve: a new version with engines
  avedge build --library tensorrt_rtx                   on any machine: the proof that every graph can become an engine
  avedge build --library tensorrt_rtx --output engines  engines for desktop GPUs as well; Triton loads none of these
  avedge build --inspect engines/crowd_v.plan.json      what an engine was built of, layer by layer
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from export.contract import MODELS, Model, model_named
from export.errors import ExportError

log = logging.getLogger(__name__)
_LIBRARIES = ("tensorrt", "tensorrt_rtx")
_SUFFIX = ".plan"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge build`."""
    parser.add_argument("--library", choices=_LIBRARIES, default=_LIBRARIES[0], help="who builds (%(default)s)")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="Triton model repository")
    parser.add_argument("--models", metavar="A,B", help="only these, with --output or --library tensorrt_rtx")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write engines there instead of publishing them")
    parser.add_argument("--timing-cache", type=Path, metavar="FILE", help="kernels timed before (the user's cache)")
    parser.add_argument("--tf32", action="store_true", help="let networks compute FP32 products with 10 bits")
    parser.add_argument("--version-compatible", action="store_true", help="let newer TensorRT load the engines; slower")
    parser.add_argument("--inspect", type=Path, metavar="FILE", help="build nothing; list the layers of a manifest")
    parser.add_argument("--json", action="store_true", help="print the manifests as one JSON object, without layers")


def run(arguments: argparse.Namespace) -> int:
    """Carry out `avedge build`; raises ExportError, and has then published nothing."""
    if arguments.inspect:
        sys.stdout.write(_listing(_manifest_of(arguments.inspect)))
        return 0
    models = _chosen(arguments)
    built = {}
    for model in models:
        log.info("building %s", model.name)
        built[model.name] = _build(arguments, model)
    facts = {name: json.loads(files["model.plan.json"]) for name, files in built.items()}
    number = None
    if arguments.output:
        _write(arguments.output, built)
    elif arguments.library == "tensorrt":
        number = _publish(arguments.repository, built)
    sys.stdout.write(_report(facts, number, as_json=arguments.json))
    return 0


def _chosen(arguments: argparse.Namespace) -> list[Model]:
    """The models to build.

    Raises:
        ExportError: an unknown name, or a part of the models for a release, which is of all or none.
    """
    if not arguments.models:
        return list(MODELS)
    if arguments.library == "tensorrt" and not arguments.output:
        raise ExportError(
            f"--models {arguments.models} asks for a part of the engines; wanted all for a published version, because "
            "an ensemble runs all its models on one target. Leave --models out, or name a folder with --output."
        )
    try:
        return [model_named(name) for name in arguments.models.split(",")]
    except KeyError as error:
        raise ExportError(f"--models: {error.args[0]}. Name some of these, separated by commas.") from error


def _build(arguments: argparse.Namespace, model: Model) -> dict[str, bytes]:
    """Engine and manifest of one model's newest graph."""
    from export.engines.builder import Options, build

    folder, manifest = _newest(arguments.repository, model.name)
    graph = (folder / "model.onnx").read_bytes()
    seen, wanted = hashlib.sha256(graph).hexdigest(), manifest["artefacts"]["model.onnx"]["sha256"]
    if seen != wanted:
        raise ExportError(
            f"{folder}/model.onnx has the digest {seen[:12]}…, its manifest says {wanted[:12]}…; wanted the graph that "
            "was proven equal to its network, this one is damaged. Make it again: avedge export."
        )
    options = Options(arguments.tf32, arguments.version_compatible, arguments.timing_cache)
    return build(graph, model, manifest["precision"], library=arguments.library, options=options)


def _newest(repository: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Folder and manifest of a model's newest version.

    Raises:
        ExportError: there is none with a graph.
    """
    from export.publish import newest_manifest, versions

    manifest = newest_manifest(repository / name)
    if manifest is None or "model.onnx" not in manifest["artefacts"]:
        raise ExportError(
            f"{repository} has no whole version of {name} with a model.onnx; wanted the graph to build an engine of. "
            "Make it: avedge export."
        )
    return repository / name / str(versions(repository / name)[-1]), manifest


def _publish(repository: Path, built: dict[str, dict[str, bytes]]) -> int:
    """A new version of every model: what the newest has, with the engine."""
    from export import publish

    staged: dict[str, Path] = {}
    try:
        for name, files in built.items():
            folder, manifest = _newest(repository, name)
            kept = {file: (folder / file).read_bytes() for file in manifest["artefacts"]}
            _require_match(folder, kept["model.onnx"], files)
            facts = {key: value for key, value in manifest.items() if key != "artefacts"}
            staged[name] = publish.stage(repository / name, {**kept, **files}, facts)
        return publish.publish(repository, staged)
    except BaseException:
        publish.discard(staged)
        raise


def _require_match(folder: Path, graph: bytes, files: dict[str, bytes]) -> None:
    """Refuse to publish an engine beside another graph than its own.

    Raises:
        ExportError: another export published a new graph while the engines were built.
    """
    if json.loads(files["model.plan.json"])["onnx_sha256"] != hashlib.sha256(graph).hexdigest():
        raise ExportError(
            f"{folder}/model.onnx is another graph than the engine was built of; wanted the same, because the two "
            "would answer differently under one name. An export ran meanwhile; build again: avedge build."
        )


def _write(folder: Path, built: dict[str, dict[str, bytes]]) -> None:
    """Engines and manifests as `<model>.plan` and `<model>.plan.json`, each whole."""
    from train.files import write_atomically

    for name, files in built.items():
        for file, content in files.items():
            write_atomically(folder / file.replace("model", name, 1), content)


def _report(facts: dict[str, dict[str, Any]], number: int | None, *, as_json: bool) -> str:
    from export.engines.manifest import table

    if as_json:
        for manifest in facts.values():
            del manifest["layers"]["list"]
        return json.dumps({"version": number, "engines": facts}) + "\n"
    lines = [table(manifest) for manifest in facts.values()]
    return "\n".join([*lines, *([f"published as version {number}"] if number else [])]) + "\n"


def _manifest_of(file: Path) -> dict[str, Any]:
    """The manifest of an engine, by its own name or the engine's.

    Raises:
        ExportError: it cannot be read as one.
    """
    path = file.with_name(file.name + ".json") if file.suffix == _SUFFIX else file
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        facts["layers"]["list"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{path} cannot be read as an engine's manifest ({error}); wanted the .plan.json that is written beside "
            "every engine, which alone tells what it is. Build it again: avedge build."
        ) from error
    return facts


def _listing(facts: dict[str, Any]) -> str:
    """Every layer with its precision, then the counts."""
    from export.engines.manifest import table

    lines = [f"{precision:<6} {kind:<20} {name} {tactic}".rstrip() for name, kind, precision, tactic in _rows(facts)]
    return "\n".join([*lines, table(facts)]) + "\n"


def _rows(facts: dict[str, Any]) -> list[list[str]]:
    rows: list[list[str]] = facts["layers"]["list"]
    return rows

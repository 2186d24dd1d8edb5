"""Refusals of TensorRT engines: an engine that its manifest does not vouch for would give wrong answers, or not load.

An engine holds for one graph, one TensorRT and one GPU. The first can be checked anywhere, the second as far as the
container's tag tells, the third by the server alone, which then refuses to load it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serve.errors import EXIT_MISMATCH, ServeError
from serve.repository import ServedModel

PLAN_FILE = "model.plan"
MANIFEST_FILE = "model.plan.json"
_FIRST_CONTAINER_WITH_11 = (26, 6)  # Triton's containers have TensorRT 10 before, 11 from then on
_REBUILD = "Build it again, on the GPU that will serve: avedge build."


def check_engine(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a version's engine that is not of this version's graph, or of which nothing is proven.

    Args:
        folder: `<model>/<version>`, whose `model.plan` is known to have the digest that the manifest says.
        manifest: the version's own.

    Raises:
        ServeError: with exit code 6, says what the engine's manifest says and what it should.
    """
    facts = read_engine_manifest(folder / MANIFEST_FILE)
    library, parity = facts.get("library"), facts.get("parity")
    if library != "tensorrt":
        raise _refusal(
            folder, f"was built by {library}", "tensorrt", "Triton's TensorRT backend loads no other's engines"
        )
    agreement = (
        ("graph (model.onnx)", facts.get("onnx_sha256"), _digest(manifest, "model.onnx"), "another network"),
        ("engine (model.plan)", facts.get("plan_sha256"), _digest(manifest, PLAN_FILE), "another engine"),
        ("contract", facts.get("contract_digest"), manifest.get("contract_digest"), "tensors of other meaning"),
    )
    for what, seen, wanted, why in agreement:
        if seen is None or seen != wanted:
            raise _refusal(
                folder, f"names the {what} {_short(seen)}", f"that of the version, {_short(wanted)}", f"it is of {why}"
            )
    if not parity:
        reason = facts.get("parity_missing") or "no reason given"
        raise _refusal(
            folder,
            f"was never run against its graph ({reason})",
            "parity at every corner of its profile",
            "TensorRT has given silently wrong numbers before",
        )


def read_engine_manifest(path: Path) -> dict[str, Any]:
    """What lies beside an engine.

    Raises:
        ServeError: with exit code 6; it is missing, or no manifest.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            raise ValueError(f"a {type(facts).__name__} instead of an object")
    except (OSError, ValueError) as error:
        raise ServeError(
            f"{path} cannot be read ({error}); wanted the manifest that is written beside every engine, without it "
            f"nobody knows which graph, TensorRT and GPU the engine is of. {_REBUILD}",
            EXIT_MISMATCH,
        ) from error
    return facts


def check_release(models: Sequence[ServedModel], container_image: str) -> str:
    """Refuse engines of several TensorRT releases, or of one that the container does not have.

    Args:
        models: of a repository that was found whole.
        container_image: whose tag tells its month, such as `…:26.09-py3`.

    Returns:
        The release that all engines are of.

    Raises:
        ServeError: with exit code 6, names the models of each release.
    """
    of_release: dict[str, list[str]] = {}
    flags: set[str] = set()
    for model in models:
        for version in () if model.is_ensemble else model.versions:
            facts = read_engine_manifest(model.folder / str(version) / MANIFEST_FILE)
            of_release.setdefault(str(facts.get("library_version")), []).append(model.name)
            flags.update(facts.get("flags") or ())
    if len(of_release) != 1:
        listed = "; ".join(f"{release}: {', '.join(names)}" for release, names in sorted(of_release.items()))
        raise ServeError(
            f"The engines are of several TensorRT releases ({listed}); wanted one, because a server has one and loads "
            "no other's engines. Build all of them again: avedge build.",
            EXIT_MISMATCH,
        )
    release = next(iter(of_release))
    major, wanted = release.split(".")[0], _major_in(container_image)
    older_but_compatible = "VERSION_COMPATIBLE" in flags and major.isdecimal() and int(major) < (wanted or 0)
    if wanted is not None and major != str(wanted) and not older_but_compatible:
        raise ServeError(
            f"The engines were built by TensorRT {release}; wanted {wanted}.x, which {container_image} has, because an "
            "engine is loaded by the release that built it alone. Build them in that container: avedge build.",
            EXIT_MISMATCH,
        )
    return release


def _major_in(container_image: str) -> int | None:
    """TensorRT's major release in one of Triton's containers; None where the tag tells no month."""
    found = re.search(r":(\d\d)\.(\d\d)\b", container_image)
    if found is None:
        return None
    return 11 if (int(found[1]), int(found[2])) >= _FIRST_CONTAINER_WITH_11 else 10


def _digest(manifest: Mapping[str, Any], name: str) -> str | None:
    entry = manifest.get("artefacts", {}).get(name, {})
    return str(entry["sha256"]) if "sha256" in entry else None


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:12]}…" if len(text) > 16 else text


def _refusal(folder: Path, seen: str, wanted: str, why: str) -> ServeError:
    return ServeError(
        f"{folder / PLAN_FILE}: its manifest says that it {seen}; wanted {wanted}, because {why}. {_REBUILD}",
        EXIT_MISMATCH,
    )

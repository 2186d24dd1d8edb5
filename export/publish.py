"""Publishing: whole, immutable version directories in a Triton model repository.

A version is written into `<model>/.tmp-<id>/`, flushed to disk, and renamed to its number in one step, so a server, or
a crash, sees it whole or not at all. One export gives all models the same new number; the newest three are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from export.contract import ENSEMBLES, MODELS
from export.errors import ExportError

KEPT_VERSIONS = 3
MANIFEST = "manifest.json"


def versions(model_folder: Path) -> list[int]:
    """Published versions of one model, ascending; Triton ignores any other name."""
    names = (path.name for path in model_folder.glob("[1-9]*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())


def next_version(repository: Path) -> int:
    """A number that no model has used."""
    used = [number for model in MODELS for number in versions(repository / model.name)]
    return max(used, default=0) + 1


def stage(model_folder: Path, artefacts: dict[str, bytes], facts: dict[str, Any]) -> Path:
    """Write a version beside the published ones, under a name that no server reads.

    Args:
        model_folder: `<repository>/<model>`.
        artefacts: file name to content.
        facts: what the manifest says beside the digests of the files.

    Returns:
        The staged folder, to be given to `publish`.
    """
    staged = model_folder / f".tmp-{uuid.uuid4().hex}"
    digests = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in artefacts.items()}
    manifest = json.dumps({**facts, "artefacts": digests}, indent=2, sort_keys=True).encode()
    try:
        staged.mkdir(parents=True)
        for name, content in {**artefacts, MANIFEST: manifest}.items():
            with (staged / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _flush_folder(staged)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise ExportError(
            f"{model_folder} could not be written ({error}); nothing published. Free space or name another repository."
        ) from error
    return staged


def publish(repository: Path, staged: dict[str, Path]) -> int:
    """Give every staged model the next version number; ensembles get the empty version that Triton wants of them."""
    number = next_version(repository)
    for ensemble in ENSEMBLES:
        (repository / ensemble.name / "1").mkdir(parents=True, exist_ok=True)
    for name, folder in staged.items():
        folder.rename(repository / name / str(number))
        _flush_folder(repository / name)
        _prune(repository / name)
    return number


def discard(staged: dict[str, Path]) -> None:
    """Drop what was staged and will not be published."""
    for folder in staged.values():
        shutil.rmtree(folder, ignore_errors=True)


def newest_manifest(model_folder: Path) -> dict[str, Any] | None:
    """Manifest of the newest version; None when there is none or it is not whole."""
    found = versions(model_folder)
    if not found:
        return None
    folder = model_folder / str(found[-1])
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        whole = all((folder / name).is_file() for name in manifest["artefacts"])
    except (OSError, ValueError, KeyError):
        return None
    return manifest if whole else None


def _prune(model_folder: Path) -> None:
    """Keep the newest versions; drop older ones and what a killed export left staged."""
    for number in versions(model_folder)[:-KEPT_VERSIONS]:
        shutil.rmtree(model_folder / str(number))
    for left in model_folder.glob(".tmp-*"):
        shutil.rmtree(left, ignore_errors=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

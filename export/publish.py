"""Publishing: whole, immutable version directories in a Triton model repository, of all models or of none.

A version is written into `<model>/.tmp-<id>/`, flushed to disk, and renamed aside to `.hidden-<number>`; when all are
there, the record of releases is replaced in one step, and only then does each get its number. So a server, or a crash,
sees a version whole or not at all, and whatever a killed export has left is finished or dropped by the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from export import releases
from export.contract import ENSEMBLES
from export.errors import ExportError
from export.releases import KEPT_VERSIONS, MANIFEST, finish_interrupted, versions

__all__ = [
    "KEPT_VERSIONS", "MANIFEST", "discard", "finish_interrupted", "newest_manifest", "publish", "stage", "versions",
]  # fmt: skip
_READ_ONLY = 0o444
# Locks on what this process has staged: another export's cleaning leaves these folders alone.
_held: dict[Path, int] = {}


def stage(model_folder: Path, artefacts: dict[str, bytes], facts: dict[str, Any]) -> Path:
    """Write a version beside the published ones, under a name that no server reads.

    Args:
        model_folder: `<repository>/<model>`.
        artefacts: file name to content.
        facts: what the manifest says beside the digests of the files.

    Returns:
        The staged folder, to be given to `publish` or `discard`.

    Raises:
        ExportError: it could not be written; nothing is left of it.
    """
    staged = model_folder / f"{releases.STAGED}{uuid.uuid4().hex}"
    digests = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in artefacts.items()}
    manifest = json.dumps({**facts, "artefacts": digests}, indent=2, sort_keys=True).encode()
    try:
        with releases.locked(model_folder.parent):
            staged.mkdir(parents=True)
            _held[staged] = os.open(staged, os.O_RDONLY)
            fcntl.flock(_held[staged], fcntl.LOCK_EX)
        for name, content in {**artefacts, MANIFEST: manifest}.items():
            with (staged / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), _READ_ONLY)
        releases.flush_folder(staged)
    except OSError as error:
        discard({model_folder.name: staged})
        raise ExportError(
            f"{model_folder} could not be written ({error}); nothing published. Free space or name another repository."
        ) from error
    return staged


def publish(repository: Path, staged: dict[str, Path]) -> int:
    """Give every staged model the next version number; ensembles get the empty version that Triton wants of them.

    Args:
        repository: the model repository.
        staged: model name to what `stage` returned.

    Returns:
        The number of the release.

    Raises:
        ExportError: the record is damaged, or the number is taken by hand; nothing is published.
    """
    models = tuple(sorted(staged))
    with releases.locked(repository):
        before = releases.read(repository)
        releases.settle(repository, before)
        if not (repository / releases.RECORD).is_file():
            releases.write(repository, before)  # what was there before the first record was kept
        number = releases.next_version(repository, before, set(models))
        _require_free(repository, models, number)
        for ensemble in ENSEMBLES:
            if (repository / ensemble.name).is_dir():
                (repository / ensemble.name / "1").mkdir(exist_ok=True)
        for name, folder in staged.items():
            releases.rename_to_new(folder, releases.hidden(repository / name, number))
            releases.flush_folder(repository / name)
        after = before.with_new(number, models)
        releases.write(repository, after)  # all of it is out from here on
        releases.settle(repository, after)
    _let_go(staged)
    return number


def discard(staged: dict[str, Path]) -> None:
    """Drop what was staged and will not be published."""
    for folder in staged.values():
        shutil.rmtree(folder, ignore_errors=True)
    _let_go(staged)


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


def _require_free(repository: Path, models: tuple[str, ...], number: int) -> None:
    """A published version is never rewritten."""
    for folder in (repository / name for name in models):
        for place in (folder / str(number), releases.hidden(folder, number)):
            if place.exists():
                raise ExportError(
                    f"{place} is there already, and a published version is never rewritten. Move it away."
                )


def _let_go(staged: dict[str, Path]) -> None:
    for folder in staged.values():
        descriptor = _held.pop(folder, None)
        if descriptor is not None:
            os.close(descriptor)

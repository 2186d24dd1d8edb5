"""Which releases of a repository are out: one record, and every model's folders brought in line with it.

A release is one number for all models of an export. `releases.json`, in the repository's root, is the only truth about
them and is replaced in one step. Then the folders follow (`settle`): a version that is out bears its number, any other
a name that no server reads. Whoever is killed in between has left the record, and the next export or rollback finishes
the work; until then the server's own check refuses the mixture.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.contract import MODELS
from export.errors import ExportError
from train.files import remove_leftovers, write_atomically

RECORD = "releases.json"
MANIFEST = "manifest.json"
KEPT_VERSIONS = 3
STAGED = ".tmp-"  # being written, or being removed
HIDDEN = ".hidden-"  # whole, followed by its number; not out yet, or withdrawn
_LOCK = ".lock"

Numbers = dict[int, tuple[str, ...]]  # release to the names of its models


@dataclass(frozen=True)
class Releases:
    """The record: releases that are out, of which servers load the newest, and those taken back."""

    released: Numbers
    withdrawn: Numbers

    @property
    def newest(self) -> int:
        """The release that is served; 0 when none is out."""
        return max(self.released, default=0)

    @property
    def models(self) -> set[str]:
        """Every model of any release."""
        return {name for names in (*self.released.values(), *self.withdrawn.values()) for name in names}

    def with_new(self, number: int, models: tuple[str, ...]) -> Releases:
        """One more release is out; the newest three are kept, and what was withdrawn since the oldest of them."""
        released = {**self.released, number: models}
        kept = sorted(released)[-KEPT_VERSIONS:]
        return Releases(
            {n: released[n] for n in kept}, {n: names for n, names in self.withdrawn.items() if n >= kept[0]}
        )

    def moved_to(self, number: int) -> Releases:
        """That release is the newest; newer ones are withdrawn, older ones stay what they are."""
        everything = {**self.released, **self.withdrawn}
        released = {n: names for n, names in everything.items() if n == number or (n < number and n in self.released)}
        return Releases(released, {n: names for n, names in everything.items() if n not in released})


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """The repository for this process alone; another one waits. Holds for milliseconds, ends with the process."""
    repository.mkdir(parents=True, exist_ok=True)
    with (repository / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(repository: Path) -> Releases:
    """The record; where there is none yet, the versions that are there.

    Raises:
        ExportError: it is damaged.
    """
    path = repository / RECORD
    if not path.is_file():
        return _found(repository)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        released, withdrawn = (
            {int(number): tuple(names) for number, names in content[kind].items()} for kind in ("released", "withdrawn")
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path} cannot be read ({error!r}); wanted the record of what is out, without which versions of two "
            "exports could be mixed. Remove it: the next export makes it anew from the versions that are there."
        ) from error
    return Releases(released, withdrawn)


def write(repository: Path, releases: Releases) -> None:
    """Replace the record in one step; from here on it is the truth, whatever the folders say."""
    content = {"released": releases.released, "withdrawn": releases.withdrawn}
    write_atomically(repository / RECORD, json.dumps(content, indent=2).encode())
    remove_leftovers(repository / RECORD)
    flush_folder(repository)


def finish_interrupted(repository: Path) -> Releases:
    """Complete what a killed export or rollback has begun; returns what is out.

    Raises:
        ExportError: the record is damaged, or a version lies there that is no release.
    """
    with locked(repository):
        releases = read(repository)
        settle(repository, releases)
    return releases


def settle(repository: Path, releases: Releases) -> None:
    """Bring every model's folders in line with the record, and drop what belongs to no release.

    The caller holds the lock. What is in line already is not touched, so nothing happens twice.

    Raises:
        ExportError: a version is there that is no release, newer than the oldest kept one.
    """
    for name in sorted(releases.models):
        _refuse_strangers(repository / name, releases)
    for name in sorted(releases.models):
        folder = repository / name
        moves = [(folder / str(n), hidden(folder, n)) for n, names in releases.withdrawn.items() if name in names]
        moves += [(hidden(folder, n), folder / str(n)) for n, names in releases.released.items() if name in names]
        waiting = [(source, place) for source, place in moves if source.is_dir()]
        for source, place in waiting:
            rename_to_new(source, place)
        if waiting:
            flush_folder(folder)
    for name in sorted(releases.models):
        _drop_unknown(repository / name, releases)


def versions(model_folder: Path) -> list[int]:
    """Versions of one model that a server sees, ascending; Triton ignores any other name."""
    return _numbers(model_folder, "")


def hidden(model_folder: Path, number: int) -> Path:
    """Where a version lies while it is not out."""
    return model_folder / f"{HIDDEN}{number}"


def next_version(repository: Path, releases: Releases, models: set[str]) -> int:
    """A number that no model has ever used; withdrawn ones count."""
    folders = [repository / name for name in releases.models | models | {model.name for model in MODELS}]
    used = [number for folder in folders for number in (*versions(folder), *_numbers(folder, HIDDEN))]
    return max([*used, *releases.released, *releases.withdrawn], default=0) + 1


def damage(folder: Path) -> str:
    """What is wrong with a version, by its manifest; empty when it is whole."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        wanted = {name: facts["sha256"] for name, facts in manifest["artefacts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{folder / MANIFEST} cannot be read ({error!r})"
    for name, digest in wanted.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return f"{path} is damaged"
    return ""


def rename_to_new(source: Path, place: Path) -> None:
    """Rename a folder to a name that is free; a published version is never overwritten.

    Raises:
        ExportError: the name is taken.
    """
    if place.exists():
        raise ExportError(f"{place} is there already, and a published version is never rewritten. Move it away.")
    source.rename(place)


def remove_folder(folder: Path) -> None:
    """Remove a folder that may be a version: first out of every reader's sight, in one step, then from the disk."""
    doomed = folder.with_name(f"{STAGED}{uuid.uuid4().hex}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def flush_folder(folder: Path) -> None:
    """Make renames within a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _numbers(model_folder: Path, prefix: str) -> list[int]:
    names = (p.name[len(prefix) :] for p in model_folder.glob(f"{prefix}[1-9]*") if p.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())


def _found(repository: Path) -> Releases:
    """Releases of a repository without a record, by the manifests of its versions; those of ensembles have none."""
    released: dict[int, list[str]] = {}
    for folder in sorted(repository.glob("[!.]*")):
        for number in versions(folder):
            if (folder / str(number) / MANIFEST).is_file():
                released.setdefault(number, []).append(folder.name)
    return Releases({number: tuple(released[number]) for number in sorted(released)}, {})


def _refuse_strangers(folder: Path, releases: Releases) -> None:
    known = {*releases.released, *releases.withdrawn}
    oldest = min(known, default=0)
    for number in versions(folder):
        if number not in known and number > oldest:
            raise ExportError(
                f"{folder / str(number)} is no release of this repository ({', '.join(map(str, sorted(known)))} are); "
                "wanted none but these, because a server loads the highest number. Move it elsewhere."
            )


def _drop_unknown(folder: Path, releases: Releases) -> None:
    """Remove versions older than the kept ones, those that never came out, and what dead exports left staged."""
    known = {*releases.released, *releases.withdrawn}
    for number in versions(folder):
        if number not in known:
            remove_folder(folder / str(number))
    for number in _numbers(folder, HIDDEN):
        if number not in known:
            remove_folder(hidden(folder, number))
    for left in folder.glob(f"{STAGED}*"):
        if not _is_in_use(left):
            shutil.rmtree(left, ignore_errors=True)


def _is_in_use(staged: Path) -> bool:
    """Whether a living export still writes it: that holds a lock on the folder, which ends with its process."""
    descriptor = os.open(staged, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

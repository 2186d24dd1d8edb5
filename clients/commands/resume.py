"""Which results are there already, so that a run that was broken off goes on where it was.

For each input one small record lies in the hidden folder `.avedge` of the output folder: the input's size, time of
change and digest; a digest of each setting and of what the server said of its model; names, sizes and times of the
files that came of it; and what --json says of it. It holds no sound, no picture and no identity of a face.

A record is written before its files are moved into place. So whenever a run is killed, files that are not as a record
says are made again, and those that are, are whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clients.errors import OutputFailed, printable

FOLDER = ".avedge"
MODEL = "model"  # among the settings: what the server says of it; all others are options
_VERSION = 1
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Identity:
    """What tells one input from another of the same name."""

    bytes: int
    sha256: str
    mtime_ns: int | None = None  # None: not a file of its own

    @classmethod
    def of(cls, path: Path, known: Identity | None = None) -> Identity | None:
        """Look at a file; one of the same size and time as the known one is not read again. None: no ordinary file."""
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return None
            if known and (status.st_size, status.st_mtime_ns) == (known.bytes, known.mtime_ns):
                return known
            return cls(status.st_size, _digest(path), status.st_mtime_ns)
        except (OSError, ValueError):
            return None

    def is_of_the_same(self, other: Identity) -> bool:
        """Whether both are of the same content, whenever it was copied."""
        return (self.bytes, self.sha256) == (other.bytes, other.sha256)


@dataclass(frozen=True)
class Record:
    """What is known of one input's results."""

    input: Identity
    settings: dict[str, str]  # name to digest
    files: dict[str, dict[str, Any]]  # ending to name below the output folder, size and time of change
    said: dict[str, Any]  # result, timings and warnings, as --json says them

    def differences(self, identity: Identity, settings: Mapping[str, str]) -> list[str]:
        """What was otherwise when the results were made: the input, the model, options."""
        changed = sorted(name for name in {*settings, *self.settings} if settings.get(name) != self.settings.get(name))
        names = [name if name == MODEL else f"--{name.replace('_', '-')}" for name in changed]
        return names if self.input.is_of_the_same(identity) else ["input", *names]

    def holds(self, file: Path, ending: str) -> bool:
        """Whether a file is as this record says."""
        return ending in self.files and _state(file) == {key: self.files[ending][key] for key in ("bytes", "mtime_ns")}

    def is_of(self, identity: Identity, settings: Mapping[str, str], folder: Path) -> bool:
        """Whether all results of this input by these settings are in the folder, as they were made."""
        whole = all(self.holds(file, ending) for ending, file in self.outputs(folder).items())
        return whole and not self.differences(identity, settings)

    def outputs(self, folder: Path) -> dict[str, Path]:
        """Ending to file."""
        return {ending: folder / file["name"] for ending, file in self.files.items()}


class Records:
    """The records of one command's results in an output folder."""

    def __init__(self, folder: Path, command: str) -> None:
        self._folder, self._command = folder, command

    def read(self, place: Path) -> Record | None:
        """The record of one input; None where there is none that can be read."""
        try:
            content = json.loads(self._path(place).read_text())
            if content.pop("version") != _VERSION:
                return None
            return Record(input=Identity(**content.pop("input")), **content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, place: Path, record: Record, staging: Path) -> None:
        """Put a record in the place of an earlier one.

        Raises:
            OSError: it cannot be written.
        """
        path, aside = self._path(place), staging / "record.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w") as file:
            json.dump({"version": _VERSION, **asdict(record)}, file, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)

    def _path(self, place: Path) -> Path:
        return self._folder / FOLDER / f"{place}.{self._command}.json"


def record_of(
    identity: Identity, settings: Mapping[str, str], made: Mapping[str, tuple[Path, Path]], said: dict[str, Any]
) -> Record:
    """The record of files that are about to be moved.

    Args:
        identity: of the input.
        settings: their digests.
        made: ending to the name below the output folder and to the file, which keeps its time when it is moved.
        said: result, timings and warnings.
    """
    files = {ending: {"name": str(name), **(_state(file) or {})} for ending, (name, file) in made.items()}
    return Record(identity, dict(settings), files, said)


def digests_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each setting; the settings themselves may say more of a person than a record should."""
    return {name: hashlib.sha256(_canonical(value)).hexdigest()[:16] for name, value in settings.items()}


def require_free(
    targets: Mapping[str, Path], record: Record | None, identity: Identity | None, settings: Mapping[str, str]
) -> None:
    """Refuse to replace earlier results, but for those that a broken-off run has left of the same.

    Args:
        targets: ending to the file that would be written.
        record: of the results that are there.
        identity: of the input.
        settings: digests of those in force.

    Raises:
        OutputFailed: names the files that are there.
    """
    changed = record.differences(identity, settings) if record and identity else []
    ours = record if not changed else None
    there = [file for ending, file in targets.items() if file.exists() and not (ours and ours.holds(file, ending))]
    if there:
        made_of = f", made with another {' and another '.join(changed)}" if changed else ""
        raise OutputFailed(
            f"{', '.join(printable(file) for file in there)} is there already{made_of}",
            "a free name",
            "an earlier result would be lost",
            "add --overwrite, or give another folder with --output",
        )


def _state(file: Path) -> dict[str, int] | None:
    """Size and time of change; both survive a move."""
    try:
        status = file.stat()
    except OSError:
        return None
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()

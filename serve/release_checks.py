"""Releases of a repository, as the server sees them: all models load the newest one, and none while it is given out."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from serve.errors import EXIT_MISMATCH, ServeError
from serve.repository import ServedModel

LOCK = ".lock"  # in the repository's root: held for milliseconds by whoever gives out versions
_REST_TIMEOUT_S = 5.0
RECORD = "releases.json"  # in the repository's root: which releases of all models together are out


@contextmanager
def at_rest(repository: Path) -> Iterator[None]:
    """Hold off exports and rollbacks while versions are looked at; one that is at it is given a moment to finish."""
    lock = repository / LOCK
    if not lock.is_file():
        yield
        return
    deadline = time.monotonic() + _REST_TIMEOUT_S
    with lock.open("rb") as file:
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            time.sleep(0.05)
        yield


def check_one_release(models: Sequence[ServedModel], repository: Path) -> None:
    """Every model that was published loads the newest release; a repository without a record was made by hand."""
    path = repository / RECORD
    if not path.exists():
        return
    try:
        released = {int(n): set(names) for n, names in json.loads(path.read_text(encoding="utf-8"))["released"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServeError(
            f"{path} cannot be read ({error!r}); wanted the record of what is out, without which models of two "
            "exports could be mixed. Remove it and export again: avedge export.",
            EXIT_MISMATCH,
        ) from error
    newest = max(released, default=0)
    published = set().union(*released.values())
    odd = [f"{m.name} loads {m.versions[-1]}" for m in models if m.name in published and not _loads(m, released)]
    if odd:
        raise ServeError(
            f"{repository} has release {newest} out, but {', '.join(odd)}; wanted that release of every model, because "
            "models of two exports were never proven together. An export or a rollback was stopped midway, or versions "
            f"were moved by hand. Put it right: avedge rollback --repository {repository} --to {newest}.",
            EXIT_MISMATCH,
        )


def _loads(model: ServedModel, released: dict[int, set[str]]) -> bool:
    """Whether a model loads only what is out, and the newest of it unless its config pins another."""
    pinned = model.config.version_policy.HasField("specific")
    return set(model.versions) <= set(released) and (pinned or model.versions[-1] == max(released))

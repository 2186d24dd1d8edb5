"""Writing results whole or not at all: everything of one input is made aside, then moved into place together."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from clients.errors import OutputFailed, printable

Writer = Callable[[Path], None]
_PREFIX = ".avedge-"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def write_whole(path: Path, write: Writer) -> None:
    """Write one file aside and move it into place; what was there before stays if anything fails.

    Args:
        path: where it belongs; its folder must exist.
        write: makes the file at the path that it is given, which ends as `path` does.

    Raises:
        OutputFailed: no such folder, no right, no room.
    """
    write_together({path: write})


def write_together(writers: Mapping[Path, Writer]) -> None:
    """Write several files of one folder: all of them are whole before the first is moved into place.

    Raises:
        OutputFailed: as `write_whole`; none of the files is there or changed then.
    """
    folder = next(iter(writers)).parent
    with staging_in(folder) as staging:
        with explained(folder):
            for path, write in writers.items():
                write(staging / path.name)
        move_together({path: staging / path.name for path in writers}, staging)


def move_together(made: Mapping[Path, Path], staging: Path) -> None:
    """Move whole files into place: all of them, or none.

    Args:
        made: where each file belongs, and where it lies, on the same file system; its folder must exist.
        staging: folder for what is replaced until all have moved.

    Raises:
        OutputFailed: as `write_whole`; none of the files is there or changed then.
    """
    require_places(made)
    with explained(next(iter(made)).parent):
        for file in made.values():
            flush(file)
        _move_all(made, staging)


def require_places(targets: Iterable[Path]) -> None:
    """See, before any work, that files can be moved to their places: into folders of one file system that are there.

    Raises:
        OutputFailed: no such folder, one of another file system, or something else than a file in a file's place.
    """
    devices = set()
    for target in targets:
        with explained(target.parent):
            devices.add(os.stat(target.parent).st_dev)
        with explained(target):
            if target.exists() and not target.is_file():  # a folder moved aside would be gone with all that is in it
                raise OSError(errno.EEXIST, "what is there is not a file")
            if len(devices) > 1:
                raise OSError(errno.EXDEV, "it is on another file system than the files that belong with it")


def prepare_folder(folder: Path) -> None:
    """Make the folder where it is absent, and see that files can be written there; what a killed run left goes.

    Raises:
        OutputFailed: it cannot be made or written to.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(folder)
    with staging_in(folder):
        pass


@contextmanager
def staging_in(folder: Path) -> Iterator[Path]:
    """A hidden folder on the same file system, gone afterwards whatever happens; locked as long as its owner lives.

    Raises:
        OutputFailed: it cannot be made.
    """
    with explained(folder):
        staging, lock = _locked_folder(folder)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """The system's complaints about writing as ours."""
    try:
        yield
    except OSError as error:
        raise _failed(place, error) from error


@contextmanager
def lack_of_room_explained(folder: Path) -> Iterator[None]:
    """The same where files are read too, whose failures are not about the output."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise _failed(folder, error) from error


def flush(path: Path) -> None:
    """Make the disk take the bytes now, so that a full one is noticed before anything is replaced.

    Raises:
        OSError: it does not.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _failed(place: Path, error: OSError) -> OutputFailed:
    return OutputFailed(
        f"Nothing could be written to {printable(place)}: {error.strerror or printable(str(error))}",
        "a folder that can be written to, with room",
        "the results would be lost",
        "give another folder with --output, or free some room",
    )


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """A new folder and the lock on it; made again should a cleaner have come between."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # some network file systems know no locks; no cleaner gets one there either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_left_behind(folder: Path) -> None:
    """Remove what runs that were killed have left; who still works holds the lock."""
    for left in folder.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # gone by now, no folder, or another user's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except OSError:
            pass  # at work, or on a file system without locks
        finally:
            os.close(lock)


def _move_all(made: Mapping[Path, Path], staging: Path) -> None:
    """Move the finished files; should one move fail, put back what the earlier ones replaced."""
    kept = {target: staging / f"replaced-{number}" for number, target in enumerate(made)}
    try:
        for target, file in made.items():
            _keep(target, kept[target])
            os.replace(file, target)
    except BaseException:  # Ctrl-C too, wherever it came: what lies where says how far the moves have got
        for target, file in made.items():
            if os.path.lexists(kept[target]):
                os.replace(kept[target], target)
            elif not file.exists():
                target.unlink(missing_ok=True)
        raise


def _keep(target: Path, kept: Path) -> None:
    """Keep what is there, if anything is, under a second name: so the first is never without a file."""
    try:
        os.link(target, kept, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError:  # a file system without hard links, or another user's file
        os.replace(target, kept)

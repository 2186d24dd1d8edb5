"""What the page holds for each of its users, and no longer than needed.

Every open page is one session, known by the random word that Gradio gives it. Uploads and results lie in one private
folder; a file is removed when the last session that holds it lets go of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clients.errors import BadInput
from clients.separation.speaker import Portrait

KEPT_S = 3_600.0
_CLOSED = 1_000  # far more pages than are closed while one action runs
PREFIX, _LOCK = "avedge-web-", ".lock"


@dataclass(frozen=True)
class _Faces:
    """Who was found in an upload, and when that is forgotten."""

    upload: Path
    portraits: tuple[Portrait, ...]
    end: threading.Timer


class Sessions:
    """The files and faces of all open pages; methods may be called from several threads.

    Args:
        folder: private folder that all held files lie in.
        faces_s: how long faces are remembered at most.
    """

    def __init__(self, folder: Path, *, faces_s: float = KEPT_S) -> None:
        self._folder, self._faces_s = folder, faces_s
        self._faces: dict[str, _Faces] = {}  # by session
        self._held: dict[str, dict[str, set[Path]]] = {}  # by session, then by what the files are for
        self._closed: deque[str] = deque(maxlen=_CLOSED)  # whose actions may not have ended yet
        self._stopped: set[str] = set()  # sessions whose long question is to be left off
        self._spared: set[Path] = set()
        self._lock = threading.Lock()

    def spare_what_is_there(self) -> None:
        """What lies in the folder before anybody came is the page's own: examples, which everybody may choose."""
        self._spared = {path.resolve() for path in self._folder.rglob("*")}

    def hold(self, name: str, purpose: str, files: Iterable[Path]) -> None:
        """Hold files for a purpose; what was held for it before is let go, and all of it if the page was closed."""
        with self._lock:
            if name in self._closed:
                self._remove_unheld(files)
                return
            held = self._held.setdefault(name, {})
            before, held[purpose] = held.get(purpose, set()), set(files)
            self._remove_unheld(before)

    def new_folder(self, name: str, purpose: str) -> Path:
        """A folder with an unguessable name for results; the earlier one of this purpose is let go.

        Raises:
            BadInput: the page was closed meanwhile, and nobody would remove the folder.
        """
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        self.hold(name, purpose, [folder])
        if not folder.is_dir():
            raise BadInput("The page was closed", "an open page", "nobody waits for the answer", "open it again")
        return folder

    def remember(self, name: str, upload: Path, portraits: tuple[Portrait, ...]) -> None:
        """Keep in memory who was found in an upload; those of an earlier one are forgotten."""
        end = threading.Timer(self._faces_s, self.forget_faces, (name,))
        end.daemon = True
        self.forget_faces(name)
        with self._lock:
            if name not in self._closed:
                self._faces[name] = _Faces(upload, portraits, end)
                end.start()

    def recall(self, name: str, upload: Path) -> tuple[Portrait, ...] | None:
        """Who was found in an upload; None where nobody looked, or that was forgotten."""
        with self._lock:
            known = self._faces.get(name)
            return known.portraits if known and known.upload == upload else None

    def forget_faces(self, name: str) -> None:
        """Let go of the faces that a page has found."""
        with self._lock:
            known = self._faces.pop(name, None)
        if known:
            known.end.cancel()

    def begin(self, name: str) -> None:
        """A long question begins, whatever was stopped before."""
        with self._lock:
            self._stopped.discard(name)

    def stop(self, name: str) -> None:
        """Nobody waits for the rest of the long question."""
        with self._lock:
            self._stopped.add(name)

    def may_go_on(self, name: str) -> bool:
        """Whether somebody still waits for the long question's answer."""
        with self._lock:
            return name not in self._stopped and name not in self._closed

    def forget(self, name: str) -> None:
        """The page was closed: everything that it held goes."""
        with self._lock:
            self._closed.append(name)
            self._stopped.discard(name)
        self.forget_faces(name)
        with self._lock:
            for files in self._held.pop(name, {}).values():
                self._remove_unheld(files)

    def _remove_unheld(self, files: Iterable[Path]) -> None:
        """Remove those that no session holds: two users may have uploaded the very same file, which lies there once."""
        held = {file for purposes in self._held.values() for files in purposes.values() for file in files}
        for file in set(files) - held - self._spared:
            if self._folder not in file.parents:
                raise ValueError(f"{file} does not lie in {self._folder}")
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                _remove_upload(file, self._folder)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user can read, removed at the end; so are those of runs that were killed."""
    parent = Path(tempfile.gettempdir()).resolve()
    _remove_orphans(parent)
    made = Path(tempfile.mkdtemp(prefix=".", dir=parent))
    with (made / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = made.rename(parent / f"{PREFIX}{made.name[1:]}")  # only now others see it, locked
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_upload(file: Path, folder: Path) -> None:
    """Remove a file, and the folder that Gradio has made for it."""
    file.unlink(missing_ok=True)
    if file.parent != folder:
        with suppress(OSError):  # not empty: the same content was uploaded under another name too
            file.parent.rmdir()


def _remove_orphans(parent: Path) -> None:
    """Remove folders of this user whose command does not run any more: nobody holds their lock."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            if folder.lstat().st_uid == os.getuid() and _is_free(folder / _LOCK):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # just removed by its own command
            continue


def _is_free(lock: Path) -> bool:
    """Whether no command holds it; there is none where a command was killed while it removed its folder."""
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True

"""One piece of memory that this program and a server on the same machine both see.

It stands on `mmap`, because tritonclient's helper for it needs setuptools' pkg_resources, which newer ones lack.
"""

from __future__ import annotations

import mmap
import os
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path("/dev/shm")  # where Linux keeps what shm_open names
_PREFIX = "avedge_client"


class Region:
    """One piece of shared memory, open here; known to the server once `register` has returned."""

    def __init__(self, size: int) -> None:
        self.name = f"{_PREFIX}-{_process_space()}-{os.getpid()}-{_began(os.getpid())}-{uuid.uuid4().hex}"
        self.size, self.is_registered = size, False
        file = os.open(FOLDER / self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(file, 0, size)  # a full /dev/shm is an error here, and a crash (SIGBUS) later
            self._memory = mmap.mmap(file, size)
        except OSError:
            self._unlink()
            raise
        finally:
            os.close(file)

    def register(self, client: Any, timeout_s: float) -> None:
        """Show it to the server."""
        try:
            client.register_system_shared_memory(self.name, f"/{self.name}", self.size, client_timeout=timeout_s)
            self.is_registered = True
        finally:
            self._unlink()

    def write(self, batch: NDArray[Any], offset: int) -> None:
        """Copy a tensor into it."""
        np.ndarray(batch.shape, batch.dtype, self._memory, offset)[...] = batch

    def close(self) -> None:
        """Give the memory back; the server's own view of it stays until it forgets the region."""
        self._unlink()
        self._memory.close()

    def _unlink(self) -> None:
        with suppress(FileNotFoundError):
            (FOLDER / self.name).unlink()


def is_left_behind(name: str) -> bool:
    """Whether a region belongs to a client that was killed; False where that cannot be told from here."""
    prefix, _, rest = name.partition("-")
    parts = rest.split("-")
    if prefix != _PREFIX or len(parts) != 4 or parts[0] != _process_space() or not parts[1].isdigit():
        return False
    return _began(int(parts[1])) != parts[2]


def unlink_left_behind() -> None:
    """Remove the regions of clients that were killed before a server had opened them."""
    for path in FOLDER.glob(f"{_PREFIX}-*"):
        if is_left_behind(path.name):
            with suppress(OSError):  # another user's
                path.unlink()


@cache
def _process_space() -> str:
    """Which numbering of processes this is: a container has its own."""
    return str(os.stat("/proc/self/ns/pid").st_ino)


def _began(process: int) -> str:
    """When a process began, in ticks since the machine did; empty for one that is gone."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]  # field 22 of all; the name before may hold spaces and brackets

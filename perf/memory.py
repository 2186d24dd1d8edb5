"""Resident memory as Linux counts it: of a server with all its processes, and the peak of the process that asks.

What several processes share (libraries, shared memory) is counted once, as much of it as the process with the most has.
Elsewhere than on Linux there are no figures: None.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_PROC = Path("/proc")
_LISTENING = "0A"  # state in /proc/net/tcp
_PERIOD_S = 0.05


def resident_bytes(pid: int) -> int:
    """Memory of one process; 0 when it is gone."""
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def together_bytes(pids: Sequence[int]) -> int:
    """Memory of several processes: what each has for itself, and once what they share."""
    own, shared = 0, [0]
    for pid in pids:
        try:
            pages = (_PROC / str(pid) / "statm").read_text().split()
            own += int(pages[1]) - int(pages[2])
            shared.append(int(pages[2]))
        except (OSError, IndexError, ValueError):  # it has ended
            continue
    return (own + max(shared)) * os.sysconf("SC_PAGE_SIZE")


def reset_peak() -> bool:
    """Begin anew to keep this process's peak; False where the kernel keeps none that can be begun anew."""
    try:
        (_PROC / "self/clear_refs").write_text("5")
    except OSError:
        return False
    return sys.platform == "linux"


def peak_bytes() -> int:
    """The most memory that this process has had since `reset_peak`."""
    for line in (_PROC / "self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")


def listener(port: int) -> int | None:
    """The process of this machine that listens on a TCP port; None when there is none, or none that can be seen."""
    sockets = {f"socket:[{number}]" for number in _listening_sockets(port)}
    if not sockets:
        return None
    for folder in _PROC.glob("[0-9]*/fd"):
        with suppress(OSError):
            if any(_target(link) in sockets for link in folder.iterdir()):
                return int(folder.parent.name)
    return None


def processes_of(pid: int) -> tuple[int, ...]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])  # the name before it may hold anything
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return tuple(found)


class Watch:
    """The most memory that a server's processes have together while the `with` lasts.

    Args:
        url: host and port of the server's front end.
    """

    def __init__(self, url: str) -> None:
        host, _, port = url.rpartition(":")
        local = host in ("localhost", "[::1]") or host.startswith("127.")
        pid = listener(int(port)) if local else None
        self._processes = () if pid is None else processes_of(pid)
        self._peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def peak(self) -> int | None:
        """Bytes; None for a server on another machine."""
        return self._peak if self._processes else None

    def __enter__(self) -> Watch:
        self._peak = together_bytes(self._processes)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_PERIOD_S):
            self._peak = max(self._peak, together_bytes(self._processes))


def _listening_sockets(port: int) -> list[str]:
    found = []
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError):
            rows = [line.split() for line in (_PROC / table).read_text().splitlines()[1:]]
            found += [row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port]
    return found


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""

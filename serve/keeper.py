"""Keeps the embedded server no longer than the process that wanted it. Started by `serve.launcher`, not by hand.

    launcher (any Python program) ──> keeper ──> tritonserver ──> one stub for each model

The keeper is the server's parent. When the launcher asks (SIGTERM), or is gone for whatever reason (SIGKILL included),
it stops the server, kills what is left of its process group and removes its shared memory. Nothing but the standard
library is imported, so it starts in some ten milliseconds and stays small.

Usage: keeper.py LAUNCHER_PID SHARED_MEMORY_PREFIX SCRATCH_FOLDER STOP_TIMEOUT_S COMMAND...
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_POLL_S = 0.1


def remove_shared_memory(prefix: str) -> None:
    """Remove the shared memory that a crashed server or stub left behind; the prefix is one server's own."""
    for path in Path("/dev/shm").glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def hide_shared_memory(prefix: str) -> None:
    """Let only its owner read the shared memory of a server: it holds what was asked, and Triton lets everybody."""
    for path in Path("/dev/shm").glob(f"{prefix}*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)


def kill_leftovers(scratch: Path) -> None:
    """Kill the stubs that are left: the processes whose program lies in the server's scratch folder.

    For the launcher, should the keeper have been killed: the kernel kills the server then, but a stub may wait for ever
    for a lock that the server held.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(os.fsencode(scratch / "backends")):
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # gone meanwhile, or another user's


def _die_with_parent() -> None:
    """In the server, before exec: have the kernel kill it should the keeper itself be killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def keep(launcher: int, prefix: str, stop_timeout_s: float, command: list[str]) -> int:
    """Run the server until it ends, the launcher is gone, or SIGTERM comes.

    Args:
        launcher: process id of the parent at the start.
        prefix: of the server's shared memory.
        stop_timeout_s: time the server gets to stop by itself.
        command: the server's.

    Returns:
        The server's exit code, negative for a signal.
    """
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, ask)
    # The server logs where the keeper does; the keeper's own output is the server's process id.
    server = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True, preexec_fn=_die_with_parent)
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()
    while _is_running(server.pid) and not asked and os.getppid() == launcher:
        hide_shared_memory(prefix)  # again and again: a stub that had to be started anew makes new ones
        time.sleep(_POLL_S)
    if _is_running(server.pid):
        os.kill(server.pid, signal.SIGTERM)
        _wait(server.pid, stop_timeout_s)
    # The server is not reaped yet, so no other process can have got its id, or its group's.
    os.killpg(server.pid, signal.SIGKILL)
    return server.wait()


def _is_running(pid: int) -> bool:
    """Whether a child still runs; it is not reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _wait(pid: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(_POLL_S / 4)


def main(arguments: list[str]) -> int:
    """Keep the server, then clear up; the scratch folder goes with the last user of it."""
    launcher, prefix, scratch, stop_timeout_s, *command = arguments
    try:
        code = keep(int(launcher), prefix, float(stop_timeout_s), command)
    finally:
        remove_shared_memory(prefix)
        if os.getppid() != int(launcher):
            shutil.rmtree(scratch, ignore_errors=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

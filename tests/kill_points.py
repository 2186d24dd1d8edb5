"""Runs an act of publishing again and again, each time killed one step later; a program of its own, for test_publish.

    python kill_points.py ACT BASE OUT

Copies BASE to OUT/1, OUT/2, ... and kills (SIGKILL) the act on copy k before its k-th call that asks the operating
system or a file for anything but a look, until an act comes to its end unharmed. Prints how many were killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from toy_repository import DIGEST

from export import publish
from export.rollback import roll_back

MODELS = ("double", "other")
FACTS = {"contract_digest": DIGEST}


def publish_one(repository: Path) -> None:
    """Export's part in publishing: both models staged, then given out."""
    graph = (repository / "double" / "3" / "model.onnx").read_bytes()
    staged = {name: publish.stage(repository / name, {"model.onnx": graph}, FACTS) for name in MODELS}
    publish.publish(repository, staged)


def roll_back_one(repository: Path) -> None:
    """Withdraw the newest release."""
    roll_back(repository)


def undo(repository: Path) -> None:
    """Bring the withdrawn release back."""
    roll_back(repository, undo=True)


ACTS: dict[str, Callable[[Path], None]] = {"publish": publish_one, "rollback": roll_back_one, "undo": undo}


# What only looks leaves the disk as the call before it did.
LOOKS = {"fspath", "stat", "lstat", "scandir", "listdir", "getpid", "urandom", "read", "readinto", "fstat", "decode"}


def reaches_outside(function: object) -> bool:
    """Whether a built-in function may change what outlives the process."""
    if getattr(function, "__name__", "") in LOOKS:
        return False
    owner = getattr(function, "__self__", None)
    return getattr(function, "__module__", None) in ("posix", "fcntl", "io", "_io") or type(owner).__module__ == "_io"


def die_at(step: int) -> None:
    """Kill this process at that step."""
    left = step

    def count(frame: FrameType, event: str, function: object) -> None:
        nonlocal left
        if event == "c_call" and reaches_outside(function):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(count)  # for threads that the act starts
    sys.setprofile(count)


def survives(act: Callable[[Path], None], repository: Path, step: int) -> bool:
    """Carry the act out in a child that dies at the step; whether it came to the end before."""
    child = os.fork()
    if not child:
        die_at(step)
        act(repository)
        sys.setprofile(None)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"step {step}: the act failed by itself")
    return os.WIFEXITED(status)


def main(act: str, base: Path, out: Path) -> int:
    """Kill at every step."""
    step = 1
    while True:
        shutil.copytree(base, out / str(step))
        if survives(ACTS[act], out / str(step), step):
            shutil.rmtree(out / str(step))
            sys.stdout.write(f"{step - 1}\n")
            return 0
        step += 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))

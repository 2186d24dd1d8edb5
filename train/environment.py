"""The stamp on every result: what it was measured on and with. It names neither the host nor anybody's folders."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = (
    "avedge", "torch", "torchmetrics", "lightning", "onnxruntime", "numpy", "scipy", "tritonclient", "nvidia-pytriton",
    "tensorrt", "grpcio",
)  # fmt: skip
_COMMAND_S = 20.0
_GIB = 2**30


def stamp(command: str) -> dict[str, Any]:
    """The machine, the versions and the moment.

    Args:
        command: what to type to measure the same again, with paths relative to the repository.
    """
    return {
        "measured_at_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "commit": commit(),
        "machine": _machine(),
        "gpus": _gpus(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def command_line() -> str:
    """What was typed to start this process."""
    return shlex.join(["avedge", *sys.argv[1:]])


def commit() -> dict[str, Any] | None:
    """The commit measured, and whether tracked files differ from it; None outside a repository."""
    head = output_of("git", "-C", str(ROOT), "rev-parse", "HEAD")
    if head is None:
        return None
    changes = output_of("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return {"id": head, "dirty": bool(changes)}


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 1),
        "architecture": platform.machine(),
        "os": _os_name(),
        "governor": _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        # What else the machine was doing: above zero before a sweep, the figures are too low.
        "load_average_1min": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for key in ("model name", "Model"):  # x86, some ARM boards
        for line in lines:
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _os_name() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return (
        f"{name}, {platform.system()} {platform.release().split('-')[0]}"  # what follows may name a house's own build
    )


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _gpus() -> list[dict[str, str]]:
    fields = ("name", "driver_version", "memory.total", "power.limit")
    listing = output_of("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
    rows = [row.split(", ") for row in listing.splitlines()] if listing else []
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def output_of(*command: str) -> str | None:
    """What a program prints, or None where it is missing or fails."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None

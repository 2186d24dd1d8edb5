"""Finds a perf_analyzer that runs here, and runs it.

The SDK container has one on PATH. Elsewhere `tritonclient==2.51.0` installs the binary beside Python, but not the
two libraries that it loads; `nvidia-pytriton` carries both under hashed names, so they are linked under the names
that the loader asks for, in a folder of our own, and only perf_analyzer gets to see that folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from perf.errors import PerfError

NAME = "perf_analyzer"
_WAITING_S = 30.0  # to answer --version
# "<tab>libb64.so.0d => not found", as the loader lists what a program would load
_NOT_FOUND = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)


@dataclass(frozen=True)
class Analyzer:
    """A perf_analyzer that answered, and the folders its libraries come from."""

    binary: Path
    library_folders: tuple[Path, ...]
    version: str

    def run(self, arguments: Sequence[str], folder: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run it in a folder and wait; its exit code is the caller's to judge.

        Raises:
            PerfError: It did not end in time (exit code 7); it was killed.
        """
        command = [str(self.binary), *arguments]
        try:
            return _run(command, self.library_folders, timeout_s, folder)
        except subprocess.TimeoutExpired as error:
            raise PerfError(
                f"perf_analyzer was still measuring after {timeout_s:.0f} s and was stopped; its windows and trials "
                "allow no such time, so the server no longer answers. Look at the server's log, then measure again.",
                exit_code=7,
            ) from error


def find_analyzer(link_folder: Path, candidates: Iterable[Path] | None = None) -> Analyzer:
    """The first perf_analyzer that runs: the one on PATH, else the one that tritonclient installed.

    Args:
        link_folder: An empty folder of the caller's, kept as long as the analyzer is used; libraries are linked there.
        candidates: Binaries to try, for another place than these two.

    Raises:
        PerfError: None runs; the message lists each one tried and what it lacked.
    """
    reasons = []
    for binary in _candidates() if candidates is None else candidates:
        found = _prepare(binary, link_folder)
        if isinstance(found, Analyzer):
            return found
        reasons.append(f"  {binary.name} in {binary.parent.name}/: {found}")
    seen = "\n".join(reasons) if reasons else "  none on PATH and none beside Python"
    raise PerfError(
        f"No {NAME} runs here:\n{seen}\n"
        "Wanted: one that starts, because every latency and throughput comes from it. "
        "On Linux with glibc 2.34 or newer: pip install tritonclient==2.51.0 nvidia-pytriton==0.7.0; "
        "elsewhere measure from Triton's SDK container against this server (--url)."
    )


def _candidates() -> list[Path]:
    on_path = shutil.which(NAME)
    beside_python = Path(sysconfig.get_path("scripts")) / NAME
    found = [Path(on_path)] if on_path else []
    if beside_python.is_file() and beside_python not in found:
        found.append(beside_python)
    return found


def _prepare(binary: Path, link_folder: Path) -> Analyzer | str:
    """The binary made ready, or why it cannot run."""
    try:
        missing = _missing_libraries(binary, ())
        folders = _link(missing, link_folder) if missing else ()
        still_missing = _missing_libraries(binary, folders) if missing else []
        if still_missing:
            return f"lacks {', '.join(still_missing)}, which the nvidia-pytriton wheel would bring"
        answer = _run([str(binary), "--version"], folders, _WAITING_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not start ({error})"
    text = f"{answer.stdout}\n{answer.stderr}".strip()
    version = re.search(r"Version (\S+)", text)
    if answer.returncode != 0 or version is None:
        return f"ends with code {answer.returncode}: {text[:200] or 'no message'}"
    return Analyzer(binary, folders, version.group(1))


def _missing_libraries(binary: Path, folders: Sequence[Path]) -> list[str]:
    listing = _run([str(binary)], folders, _WAITING_S, LD_TRACE_LOADED_OBJECTS="1")
    return _NOT_FOUND.findall(listing.stdout)


def _link(names: Sequence[str], link_folder: Path) -> tuple[Path, ...]:
    """Link the wheel's hashed copies under the names asked for, e.g. libb64-98cb6333.so.0d as libb64.so.0d."""
    wheel = _wheel_libraries()
    if wheel is None:
        return ()
    for name in names:
        stem, _, version = name.partition(".so")
        copies = sorted(wheel.glob(f"{stem}-*.so{version}*"))
        link = link_folder / name
        if copies and not link.exists():
            link.symlink_to(copies[0])
    return (link_folder, wheel)  # the wheel's libssl asks for its libcrypto by the hashed name


def _wheel_libraries() -> Path | None:
    try:
        folder = Path(str(metadata.distribution("nvidia-pytriton").locate_file("nvidia_pytriton.libs")))
    except metadata.PackageNotFoundError:
        return None
    return folder if folder.is_dir() else None


def _run(
    command: Sequence[str], folders: Sequence[Path], timeout_s: float, folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    inherited = os.environ.get("LD_LIBRARY_PATH")
    library_path = [str(path) for path in folders] + ([inherited] if inherited else [])
    environment = {**os.environ, **variables}
    # A proxy of the environment must not stand between this machine and itself.
    environment["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), "localhost,127.0.0.1,::1")))
    if library_path:
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(library_path)
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        timeout=timeout_s,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )

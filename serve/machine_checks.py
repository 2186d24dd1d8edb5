"""What this machine has: versions of packages, media libraries, shared memory, a GPU and engines that fit it."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

from serve.checks import Check
from serve.engine_checks import MANIFEST_FILE

# The oldest release without a known fault that reaches us, and the fault; only what is installed is held against it.
FLOORS: dict[str, tuple[str, str]] = {
    "numpy": ("1.26", "what everything here is tested with"),
    "tritonclient": ("2.51.0", "what everything here is tested with"),
    "av": ("14", "reading of damaged containers"),
    "pillow": ("12.3", "image bombs and memory faults"),
    "safetensors": ("0.8", "files that are half written"),
    "torch": ("2.11", "checkpoints that run code although weights_only is set"),
    "onnx": ("1.22", "models that read or write files elsewhere"),
    "gradio": ("6.20", "requests and paths that reach beyond the page"),
}
MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}
OTHERS = ("soundfile", "opencv-python-headless", "nvidia-pytriton", "onnxruntime", "tensorrt", "tensorrt-rtx",
          "espeakng-loader")  # fmt: skip
_DECODERS = ("h264", "hevc", "vp9", "aac", "mp3", "opus", "vorbis")
_LEAST_SHARED_BYTES = 256 << 20
_ASK_S = 10.0


def package_checks() -> list[Check]:
    """Python and every package with its version; one that is absent is no fault where its stage is not used."""
    found = [Check("Python", sys.version_info >= (3, 10), platform.python_version())]
    for name, (floor, fault) in FLOORS.items():
        found.append(_package(name, floor, fault))
    for name, versions in MALICIOUS.items():
        seen = _version(name)
        bad = seen in versions
        found.append(Check(name, seen is not None and not bad, "a malicious release" if bad else seen or _ABSENT))
    return [*found, *(Check(name, (seen := _version(name)) is not None, seen or _ABSENT) for name in OTHERS)]


_ABSENT = "not installed"


def _package(name: str, floor: str, fault: str) -> Check:
    seen = _version(name)
    if seen is None:
        return Check(name, False, _ABSENT)
    new_enough = not is_older(seen, floor)
    return Check(name, new_enough, seen if new_enough else f"{seen}; wanted {floor} or later, because of {fault}")


def is_older(version: str, than: str) -> bool:
    """Whether a release is older than another, by the numbers of both."""
    seen, wanted = ([int(number) for number in re.findall(r"\d+", text.partition("+")[0])] for text in (version, than))
    return seen < wanted


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def media_check() -> Check:
    """FFmpeg within PyAV, and whether it reads what people have."""
    if util.find_spec("av") is None:
        return Check("FFmpeg", False, "PyAV is not installed; only WAV, FLAC, JPEG and PNG could be read")
    import av

    lacking = [name for name in _DECODERS if name not in av.codecs_available]
    major, minor, _ = av.library_versions["libavcodec"]
    detail = f"libavcodec {major}.{minor} within PyAV {av.__version__}"
    return Check("FFmpeg", not lacking, detail + (f"; it cannot read {', '.join(lacking)}" if lacking else ""))


def shared_memory_check(folder: Path = Path("/dev/shm")) -> Check:
    """Room in shared memory, through which the server talks to its model processes."""
    if not folder.is_dir():
        return Check("shared memory", False, f"there is no {folder}")
    free = shutil.disk_usage(folder).free
    enough = free >= _LEAST_SHARED_BYTES
    remedy = "" if enough else f"; wanted {_LEAST_SHARED_BYTES >> 20} MB: start the container with --shm-size=1g"
    return Check("shared memory", enough, f"{free >> 20} MB free in {folder}{remedy}")


def gpus() -> list[str]:
    """Names, drivers and memory of the NVIDIA GPUs of this machine."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in asked.stdout.splitlines() if line.strip()]


def gpu_check(found: Sequence[str]) -> Check:
    """Whether engines could be built and served here."""
    absent = "no NVIDIA GPU answers here; engines are built and served on a machine that has one"
    return Check("GPU", bool(found), "; ".join(found) or absent)


def engine_check(repository: Path, found: Sequence[str]) -> Check:
    """Whether the newest engines of a repository are for this machine's GPU."""
    built = [facts for path in _newest_engines(repository) if (facts := _read(path)) is not None]
    if not built:
        return Check("TensorRT engines", False, f"none in {repository}; build them on the GPU that will serve")
    releases = sorted({str(facts.get("library_version")) for facts in built})
    names = sorted({str((facts.get("gpu") or {}).get("name")) for facts in built})
    told = f"{len(built)} by TensorRT {', '.join(releases)} for {', '.join(names)}"
    if len(releases) > 1 or len(names) > 1:
        return Check("TensorRT engines", False, f"{told}; wanted one release and one GPU: avedge build")
    fits = any(one.startswith(f"{names[0]},") for one in found)
    return Check("TensorRT engines", fits, told if fits else f"{told}, which is not in this machine")


def _newest_engines(repository: Path) -> list[Path]:
    """Each model's newest engine manifest."""
    versions = [path for path in repository.glob(f"*/[1-9]*/{MANIFEST_FILE}") if path.parent.name.isdecimal()]
    newest: dict[str, Path] = {}
    for path in sorted(versions, key=lambda path: int(path.parent.name)):
        newest[path.parent.parent.name] = path
    return list(newest.values())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None

"""Which TensorRT builds: found, of a release that the builder knows, on a GPU where it needs one.

`tensorrt` builds on the GPU that will run the engine, from 10.3 (JetPack 6) to 11.x. `tensorrt_rtx` builds ahead of
time on any machine: the proof that a graph can become an engine, and an engine for desktop GPUs; Triton cannot load it.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from export.errors import ExportError

Library = Literal["tensorrt", "tensorrt_rtx"]
LIBRARIES: tuple[Library, ...] = ("tensorrt", "tensorrt_rtx")
CONTAINER_IMAGE = "nvcr.io/nvidia/tritonserver:26.09-py3"  # the one that `avedge serve --target tensorrt` starts
_OLDEST, _NEWEST_MAJOR = (10, 3), 11


@dataclass(frozen=True)
class Gpu:
    """The device that an engine was built on and runs on."""

    name: str
    compute_capability: str  # such as 8.9
    driver: str | None  # None where nvidia-smi is not there, as on a Jetson
    cuda: str  # of the torch that runs the engine in the proof


def container_command(arguments: str) -> str:
    """The shell command that runs `avedge ARGUMENTS` where TensorRT and a GPU are.

    The Python package must be of the release that the container's own Triton loads engines with, which the container
    tells in TRT_VERSION.
    """
    inside = (
        'pip install -q "tensorrt==${TRT_VERSION%%+*}" -e ".[export]" '
        f"&& avedge {arguments}"
    )  # fmt: skip
    return f"docker run --rm --gpus all -v \"$PWD\":/avedge -w /avedge {CONTAINER_IMAGE} bash -c '{inside}'"


def _where_to_build() -> str:
    return (
        "Run, in the project's folder on the machine whose NVIDIA GPU will serve:\n"
        f"  {container_command('export --precision fp16 --target tensorrt')}\n"
        "On a Jetson with JetPack 6, whose own TensorRT is 10.3, without the container: avedge build."
    )


def load_library(library: Library) -> ModuleType:
    """Import a TensorRT that the builder knows.

    Raises:
        ExportError: it is not installed, or of a release with another interface; says what to run.
    """
    try:
        trt = importlib.import_module(library)
    except ImportError as error:
        remedy = "Install it: pip install 'avedge[engine]'." if library == "tensorrt_rtx" else _where_to_build()
        raise ExportError(
            f"{library} is not installed here; wanted to build engines, which nothing else can do: an engine is made "
            f"by the library that runs it. {remedy}"
        ) from error
    if library == "tensorrt":
        require_known_release(str(trt.__version__))
    return trt


def require_known_release(version: str) -> None:
    """Refuse a TensorRT whose interface the builder was not written for.

    Raises:
        ExportError: older than 10.3 or newer than 11.x.
    """
    release = tuple(int(part) for part in version.split(".")[:2])
    if release < _OLDEST or release[0] > _NEWEST_MAJOR:
        raise ExportError(
            f"TensorRT is {version}; wanted 10.3 to 11.x, because others read the same options differently and may "
            f"build another precision than the graph's without a word. {_where_to_build()}"
        )


def member(kind: Any, name: str) -> Any:
    """A member of one of TensorRT's enums, by name: its numbers change from release to release.

    Raises:
        ExportError: this release has none of that name; guessing would build something else.
    """
    found = getattr(kind, name, None)
    if found is None:
        there = ", ".join(word for word in dir(kind) if word.isupper())
        raise ExportError(
            f"This TensorRT has no {kind.__name__}.{name}, only {there}; wanted it, because without it the engine "
            "would be another than asked for. Use a release from 10.3 to 11.x."
        )
    return found


def find_gpu() -> Gpu | None:
    """The GPU that torch computes on; None where there is none, or torch was installed without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return None
    facts = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Gpu(facts.name, f"{facts.major}.{facts.minor}", _driver(), str(torch.version.cuda))


def require_gpu() -> Gpu:
    """The GPU to build for.

    Raises:
        ExportError: there is none; says what to run.
    """
    gpu = find_gpu()
    if gpu is None:
        raise ExportError(
            "No NVIDIA GPU is seen here by torch (torch.cuda.is_available() is false); wanted the GPU that will serve, "
            "because TensorRT times its kernels on it and the engine is proven there. " + _where_to_build()
        )
    return gpu


def _driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.split("\n")[0].strip() or None if done.returncode == 0 else None

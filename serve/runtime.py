"""The Triton that pip installs: where `nvidia-pytriton` keeps its parts, and how they become a backend directory.

    <scratch>/backends/python/       libtriton_python.so, the stub of the running Python, triton_python_backend_utils.py
    <scratch>/backends/onnxruntime/  model.py, batching.py      answers to `backend: "onnxruntime"`
    <scratch>/backends/pytorch/      model.py, batching.py      answers to `backend: "pytorch"`

Only the server's binary and libraries of that wheel are used, not its Python API.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from serve.errors import ServeError

DISTRIBUTION = "nvidia-pytriton"
DISTRIBUTION_VERSION = "0.7.0"
TRITON_VERSION = "2.51.0"
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BACKENDS = ("onnxruntime", "pytorch")
# glibc gives every freed block of 128 KiB and more back to the kernel, and each new one costs a page fault per 4 KiB: a
# request has a dozen such blocks. Blocks up to 32 MiB (the most that glibc takes here) stay with the process instead.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}
_SOURCES = Path(__file__).with_name("backends")


@dataclass(frozen=True)
class Wheel:
    """Places inside the installed wheel."""

    tritonserver: Path
    libraries: Path
    caches: Path
    python_backend: Path
    stubs: Path

    @property
    def stub(self) -> Path:
        """The process that hosts a model under the running minor version of Python."""
        return self.stubs / PYTHON_VERSION / "triton_python_backend_stub"


def find_wheel() -> Wheel:
    """Find the installed wheel.

    Raises:
        ServeError: it is not installed, or in another version.
    """
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        seen = "is not installed"
    else:
        if distribution.version == DISTRIBUTION_VERSION:
            return _places(Path(str(distribution.locate_file(""))))
        seen = f"is installed as {distribution.version}"
    raise ServeError(
        f"{DISTRIBUTION} {seen}; wanted {DISTRIBUTION_VERSION}, whose Triton {TRITON_VERSION} the embedded server runs "
        f"and is tested with. Install it: pip install '{DISTRIBUTION}=={DISTRIBUTION_VERSION}' (or the extra `serve`)."
    )


def _places(site: Path) -> Wheel:
    triton = site / "pytriton" / "tritonserver"
    return Wheel(
        tritonserver=triton / "bin" / "tritonserver",
        libraries=site / "nvidia_pytriton.libs",
        caches=triton / "caches",
        python_backend=triton / "backends" / "python",
        stubs=triton / "python_backend_stubs",
    )


def shared_python_folder() -> Path | None:
    """Folder of this Python's shared library, which the stub loads; None for a Python built without one."""
    library = f"libpython{PYTHON_VERSION}.so.1.0"
    library_folder = sysconfig.get_config_var("LIBDIR") or ""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    folders = [Path(library_folder), Path(library_folder, multiarch), Path(sys.base_prefix, "lib")]
    return next((folder for folder in folders if (folder / library).is_file()), None)


def assemble_backends(wheel: Wheel, folder: Path) -> None:
    """Fill a backend directory with copies; the server refuses links that lead out of it.

    Args:
        wheel: the installed parts.
        folder: the directory to make.
    """
    python = folder / "python"
    python.mkdir(parents=True)
    for source in (
        wheel.python_backend / "libtriton_python.so",
        wheel.python_backend / "triton_python_backend_utils.py",
        wheel.stub,
    ):
        shutil.copy(source, python)
    for name in BACKENDS:
        (folder / name).mkdir()
        shutil.copy(_SOURCES / name / "model.py", folder / name)
        shutil.copy(_SOURCES / "batching.py", folder / name)


def server_environment(wheel: Wheel) -> dict[str, str]:
    """Environment in which the server's stubs find this Python, its packages and the wheel's libraries."""
    libraries = [shared_python_folder(), wheel.libraries, os.environ.get("LD_LIBRARY_PATH")]
    return os.environ | {
        "LD_LIBRARY_PATH": os.pathsep.join(str(part) for part in libraries if part),
        # The stub asks PATH for `python3` to learn which environment it lives in.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "CUDA_VISIBLE_DEVICES": "",  # the backends here run on the CPU, on any machine
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: several models share the cores
        "PYTHONUNBUFFERED": "1",
        "ORT_DISABLE_TELEMETRY": "1",  # else ONNX Runtime from 1.29 on tells its maker of graphs, machine and use
        **_KEEP_MEMORY,
    }

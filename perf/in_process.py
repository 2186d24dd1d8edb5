"""perf_analyzer with the server inside its own process (Triton's C API): no front end, no transport."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perf.errors import PerfError


def install(folder: Path) -> Path:
    """Lay out what perf_analyzer looks for: `lib/libtritonserver.so` and `backends/`.

    Args:
        folder: Is made.

    Returns:
        The folder.

    Raises:
        ServeError: The wheel that holds the server is not installed.
        PerfError: It is, without the server as a library.
    """
    from serve.runtime import assemble_backends, find_wheel

    wheel = find_wheel()
    libraries = sorted(wheel.libraries.glob("libtritonserver-*.so"))
    if not libraries:
        raise PerfError(
            "The wheel nvidia-pytriton has no libtritonserver-*.so; wanted the server as a library, to measure it "
            "without its front end. Install the wheel anew, or leave this part out with --no-in-process."
        )
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "libtritonserver.so").symlink_to(libraries[0])
    assemble_backends(wheel, folder / "backends")
    return folder


def options(server: Path, repository: Path) -> list[str]:
    """perf_analyzer's options for it.

    Args:
        server: What `install` made.
        repository: Whose default configs are used, and version 1 of every model: perf_analyzer can choose neither a
            target nor the newest version. `trial.copy_repository` makes such a one.
    """
    return [
        *("--service-kind", "triton_c_api", "--triton-server-directory", str(server)),
        *("--model-repository", str(repository), "-x", "1"),
    ]


@contextmanager
def server_surroundings() -> Iterator[None]:
    """This process's environment as the embedded server's, for children that are started meanwhile."""
    from serve.runtime import find_wheel, server_environment

    before = dict(os.environ)
    os.environ.update(server_environment(find_wheel()))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

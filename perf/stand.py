"""The server under test: one that runs already, or an embedded one for as long as the measurement takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perf.errors import PerfError

REPOSITORY, SAMPLES = Path("model_repository"), Path("demo/samples")


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every measurement that asks a server."""
    parser.add_argument(
        "--url", help="gRPC endpoint of a running server; default: start the embedded one on --repository"
    )
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="Triton model repository (%(default)s)")
    parser.add_argument("--target", default="onnxruntime", help="of the embedded server (%(default)s)")
    parser.add_argument(
        "--samples",
        type=Path,
        default=SAMPLES,
        help="folder with mixture_*.wav, face_*.png, scene_*.jpg, scene_*.wav (%(default)s, made by `avedge demo`)",
    )


@contextmanager
def serving(args: argparse.Namespace) -> Iterator[str]:
    """The gRPC endpoint to measure, ready.

    Raises:
        ServeError: The embedded server cannot start.
    """
    if args.url:
        yield args.url
        return
    from serve.launcher import EmbeddedTriton

    with EmbeddedTriton(args.repository, target=args.target) as server:
        yield server.grpc_url


def newest_artefact(repository: Path, model: str, name: str) -> Path:
    """The newest published file of a model.

    Args:
        repository: Triton model repository.
        model: Such as `facefilter_separator`.
        name: Such as `model.onnx`.

    Raises:
        PerfError: There is none (6).
    """
    numbers = [int(path.name) for path in (repository / model).glob("[1-9]*") if path.name.isdecimal()]
    path = repository / model / str(max(numbers, default=0)) / name
    if not path.is_file():
        raise PerfError(
            f"{repository} has no {name} of {model}; the measurement runs the file that is served. Make it: "
            "avedge export.",
            exit_code=6,
        )
    return path

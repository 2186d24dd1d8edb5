"""Start Triton on this machine with the exported models, and keep it until Ctrl-C or SIGTERM.

Examples:
  avedge serve                                on the usual ports: gRPC 8001, HTTP 8000, metrics 8002
  avedge serve --grpc-port 0 --json           on free ports, which the JSON object names
  avedge serve --tls-cert server.pem --tls-key server.key --tls-ca ca.pem     for clients with certificates alone
  avedge serve --target tensorrt              how to start the container that serves TensorRT engines
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from serve.errors import ServeError
from serve.tls import ServerTls

if TYPE_CHECKING:
    from serve.launcher import EmbeddedTriton

CONTAINER_IMAGE = "nvcr.io/nvidia/tritonserver:26.09-py3"
_TARGETS = ("onnxruntime", "torchscript", "tensorrt")
_PORTS = {"grpc": 8001, "http": 8000, "metrics": 8002}
_EXIT_USAGE = 2
_POLL_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `avedge serve`."""
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="the model repository (%(default)s)"
    )
    parser.add_argument("--target", choices=_TARGETS, default=_TARGETS[0], help="what runs the models (%(default)s)")
    for name, usual in _PORTS.items():
        parser.add_argument(
            f"--{name}-port", type=port, default=usual, metavar="PORT", help="%(default)s; 0 chooses a free one"
        )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine alone)")
    parser.add_argument(
        "--allow-remote", action="store_true", help="let --host be an address that other machines reach"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="encrypt gRPC; the server's certificate, PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's private key, PEM")
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help="let in only clients whose certificate it signed")
    parser.add_argument(
        "--no-cache", action="store_true", help="keep no face's identity in memory from one request to the next"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="write the server's log there")
    parser.add_argument(
        "--startup-timeout", type=seconds, default=120, metavar="SECONDS", help="until all is ready (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="when ready, print one JSON object instead of one line")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; 0 after a clean stop.

    Raises:
        ServeError: the server cannot be started here as asked, or ended by itself.
    """
    if args.target == "tensorrt":
        _check_engines(args.repository)
        raise ServeError(_container_advice(args.repository.resolve()))
    tls = _tls(args)
    _check_host(args.host, args.allow_remote, knows_clients=tls is not None and tls.client_ca is not None)
    from serve.launcher import CACHE_BYTES, EmbeddedTriton

    server = EmbeddedTriton(
        args.repository,
        args.target,
        args.host,
        grpc_port=args.grpc_port or None,
        http_port=args.http_port or None,
        metrics_port=args.metrics_port or None,
        startup_timeout_s=args.startup_timeout,
        log_path=args.log,
        cache_bytes=0 if args.no_cache else CACHE_BYTES,
        tls=tls,
    )
    with _signals_as_interrupt():
        try:
            with server:
                _announce(server, args)
                while True:
                    time.sleep(_POLL_S)
                    server.raise_if_dead()
        except KeyboardInterrupt:
            return 0


def port(text: str) -> int:
    """A port's number; the function's name is in the message for what is none."""
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{number} is no port; wanted 1 to 65535, or 0 for a free one")
    return number


def seconds(text: str) -> float:
    """A time, likewise."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def _tls(args: argparse.Namespace) -> ServerTls | None:
    """Encryption as asked for; None for none.

    Raises:
        ServeError: a part of it without the rest, or files that are not what they should be.
    """
    if args.tls_cert is None and args.tls_key is None and args.tls_ca is None:
        return None
    if args.tls_cert is None or args.tls_key is None:
        raise ServeError(
            "Saw a part of --tls-cert, --tls-key and --tls-ca; wanted at least the first two, because gRPC is "
            "encrypted with a certificate and its key together. Name both, or none of the three.",
            _EXIT_USAGE,
        )
    tls = ServerTls(args.tls_cert, args.tls_key, args.tls_ca)
    tls.check()
    return tls


def _check_host(host: str, allowed: bool, *, knows_clients: bool) -> None:
    """Refuse to listen for other machines unless asked to, and warn when asked to.

    Raises:
        ServeError: an address that other machines reach, without --allow-remote, or no address at all.
    """
    try:
        loopback = IPv4Address(host).is_loopback
    except ValueError as error:
        raise ServeError(
            f"--host {host} is no IPv4 address; wanted one of this machine, such as 127.0.0.1.", _EXIT_USAGE
        ) from error
    if loopback:
        return
    lacks = "lacks" if knows_clients else "has no authentication and lacks"
    risk = (
        f"{host} can be reached by other machines, and this embedded Triton 2.51 {lacks} the security fixes of later "
        "releases; it is for development."
    )
    if not allowed:
        raise ServeError(
            f"{risk} Wanted: 127.0.0.1. For others run the container ({CONTAINER_IMAGE}), or say --allow-remote.",
            _EXIT_USAGE,
        )
    sys.stderr.write(f"Warning: {risk}\n")


def _announce(server: EmbeddedTriton, args: argparse.Namespace) -> None:
    """Say, once, where the server listens."""
    if args.json:
        facts = {"grpc_url": server.grpc_url, "http_url": server.http_url, "metrics_url": server.metrics_url}
        line = json.dumps({**facts, "pid": server.pid, "target": args.target, "models": server.models})
    else:
        encrypted = " (TLS)" if args.tls_cert else ""
        line = (
            f"Ready: {len(server.models)} models on {args.target}; gRPC {server.grpc_url}{encrypted}, "
            f"HTTP {server.http_url}, metrics {server.metrics_url}. Ctrl-C stops."
        )
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _check_engines(repository: Path) -> None:
    """Refuse engines that the container would load and answer wrongly with, or not load at all.

    Raises:
        ServeError: with exit code 6. A repository without any engine passes: they are built in the container.
    """
    from serve.checks import check_repository
    from serve.engine_checks import PLAN_FILE, check_release

    if any(repository.glob(f"*/[1-9]*/{PLAN_FILE}")):
        check_release(check_repository(repository, "tensorrt"), CONTAINER_IMAGE)


def _container_advice(repository: Path) -> str:
    """The command that serves TensorRT engines, for a machine that has a GPU and Docker."""
    return (
        "The target tensorrt does not run in the embedded server, which has no GPU backends; wanted Triton's container "
        "on a machine with an NVIDIA GPU, where engines for that GPU (model.plan) were built. Run there:\n"
        f"  docker run --rm --gpus all --shm-size 1g -p 127.0.0.1:8000-8002:8000-8002 -v {repository}:/models:ro \\\n"
        f"    {CONTAINER_IMAGE} tritonserver --model-repository /models \\\n"
        "    --disable-auto-complete-config --cache-config local,size=67108864"
    )


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """SIGINT and SIGTERM unwind the stack alike; what was before comes back at the end."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

"""Triton as an ordinary child process of a Python program: started ready, stopped without traces.

    with EmbeddedTriton(Path("model_repository")) as server:
        client = tritonclient.grpc.InferenceServerClient(server.grpc_url)

For development, tests and a machine's own loopback; production is a current Triton container.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from serve import keeper
from serve.checks import EMBEDDED_TARGETS, check_environment, check_port, check_repository
from serve.errors import ServeError
from serve.readiness import Endpoints, is_ready, prove_answers, warm_ensembles
from serve.runtime import Wheel, assemble_backends, find_wheel, server_environment
from serve.tls import ServerTls

CACHE_BYTES = 64 << 20  # a face's identity takes 4 KiB: some fifteen thousand of them
_PORT_ATTEMPTS = 5
_POLL_S = 0.1
_KEEPER_GRACE_S = 5.0  # beyond the server's own time to stop
_LOG_LINES = 25
_PORT_TAKEN = ("already in use", "Address in use")  # the front ends' words


class EmbeddedTriton:
    """One tritonserver with every model of a repository, from `start` (or `with`) to `stop` (or the end of `with`).

    Attributes:
        grpc_url: `host:port`, as `tritonclient.grpc` and `perf_analyzer` take it.
        http_url: `http://host:port`.
        metrics_url: `http://host:port/metrics`, Prometheus text.
        pid: process id of tritonserver itself.
        models: names of all models and ensembles, sorted.
    """

    def __init__(
        self,
        repository: Path,
        target: str = "onnxruntime",
        host: str = "127.0.0.1",
        grpc_port: int | None = None,
        http_port: int | None = None,
        metrics_port: int | None = None,
        startup_timeout_s: float = 120,
        stop_timeout_s: float = 15,
        log_path: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
        tls: ServerTls | None = None,
        more_options: Sequence[str] = (),
    ) -> None:
        """Say what to start; nothing is started or checked yet.

        Args:
            repository: the model repository.
            target: "onnxruntime" or "torchscript".
            host: address to listen on; the default lets nobody in but this machine.
            grpc_port: a free one is chosen when None; so for the other two.
            http_port: port of the HTTP front end.
            metrics_port: port of the metrics.
            startup_timeout_s: time until every model is ready.
            stop_timeout_s: time for requests in flight at the end; what then still runs is killed.
            log_path: the server's log; kept nowhere when None, its end is in the error if the start fails.
            cache_bytes: size of the response cache, which keeps identities of faces; 0 for none.
            tls: encryption of gRPC; HTTP and metrics then stay on 127.0.0.1, whatever `host` says.
            more_options: of tritonserver's command line, after ours.
        """
        self._repository = repository.resolve()
        self._target = target
        self._host = host
        self._wanted_ports = (grpc_port, http_port, metrics_port)
        self._startup_timeout_s = startup_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._log_path = log_path
        self._cache_bytes = cache_bytes
        self._tls = tls
        self._more_options = tuple(more_options)
        self._keeper: subprocess.Popen[str] | None = None
        self.models: list[str] = []

    def start(self) -> EmbeddedTriton:
        """Start the server and return when every model is ready and has proved to answer.

        Raises:
            ServeError: it runs already, the environment or the repository would give wrong answers, a port is taken,
                or the server died or was not ready in time; nothing new is left running.
        """
        if self._keeper is not None:
            raise ServeError(f"This server runs already, at {self.grpc_url}; wanted one that does not: make another.")
        self._check()
        deadline = time.monotonic() + self._startup_timeout_s
        for attempts_left in reversed(range(_PORT_ATTEMPTS)):
            self._launch()
            try:
                self._wait_ready(deadline)
                keeper.hide_shared_memory(self._shm_prefix)  # before anybody asks; the keeper sees to later ones
                prove_answers(self._endpoints.ask, self._served)
                warm_ensembles(self._endpoints.ask, self._served)
                break
            except BaseException as error:  # an interrupt, too, must leave nothing running
                self.stop()
                if not (isinstance(error, _PortLostError) and attempts_left and None in self._wanted_ports):
                    raise
        return self

    def stop(self) -> None:
        """Stop the server, let requests in flight end, and remove all it made; harmless when nothing runs."""
        if self._keeper is None or os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        try:
            self._keeper.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._keeper.wait(self._stop_timeout_s + _KEEPER_GRACE_S)
        finally:
            self._keeper.kill()  # nothing to do, unless the wait was cut short; the kernel kills the server with it
            self._keeper.communicate()
            self._keeper = None
            keeper.kill_leftovers(self._scratch)
            keeper.remove_shared_memory(self._shm_prefix)
            shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> EmbeddedTriton:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def raise_if_dead(self) -> None:
        """Notice that the server is gone.

        Raises:
            ServeError: it is; the message has the end of its log.
        """
        if self._keeper is not None and self._keeper.poll() is None:
            return
        end = self._log_end()
        kind = _PortLostError if any(words in end for words in _PORT_TAKEN) else ServeError
        raise kind(
            f"The server ended by itself; wanted it to serve {len(self.models)} models of {self._repository}. "
            f"The end of its log says why:\n{end}"
        )

    def _check(self) -> None:
        """Refuse what could not work, before anything is started."""
        if self._target not in EMBEDDED_TARGETS:
            raise ServeError(
                f"The target {self._target!r} does not run embedded; wanted one of {', '.join(EMBEDDED_TARGETS)}, "
                "which need no GPU. For another start the Triton container: avedge serve --target tensorrt tells how."
            )
        check_environment(self._target)
        if self._tls is not None:
            self._tls.check()
        self._served = check_repository(self._repository, self._target)
        self.models = sorted(model.name for model in self._served)
        for port, purpose in zip(self._wanted_ports, ("gRPC", "HTTP", "metrics"), strict=True):
            if port is not None:
                check_port(self._host, port, purpose)

    def _launch(self) -> None:
        """Start the keeper, and through it the server.

        Raises:
            ServeError: no room, or no permission, for what a server needs.
        """
        wheel = find_wheel()
        self._owner = os.getpid()
        self._server_id = f"avedge-{uuid.uuid4().hex[:12]}"
        self._shm_prefix = f"{self._server_id}-"
        self._scratch = Path(tempfile.gettempdir(), self._server_id)
        self._log = self._log_path or self._scratch / "triton.log"
        try:
            self._scratch.mkdir(mode=0o700)  # the server runs what lies in there: nobody else may write
            assemble_backends(wheel, self._scratch / "backends")
            with self._log.open("wb") as log:
                self._keeper = self._start_keeper(wheel, log)
        except OSError as error:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise ServeError(
                f"The server could not be started ({error}); wanted {self._scratch} for its parts and {self._log} for "
                "its log. Free some space, or name another log file or TMPDIR."
            ) from error
        atexit.register(self.stop)
        assert self._keeper.stdout is not None  # asked for at its start
        self.pid = int(self._keeper.stdout.readline() or -1)

    def _start_keeper(self, wheel: Wheel, log: IO[bytes]) -> subprocess.Popen[str]:
        guard = [str(self._owner), self._shm_prefix, str(self._scratch), str(self._stop_timeout_s)]
        return subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                keeper.__file__,
                *guard,
                str(wheel.tritonserver),
                *self._options(wheel.caches),
            ],
            cwd=self._scratch,  # stubs have their working folder on sys.path
            env=server_environment(wheel),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # an interrupt from the keyboard is for the launcher alone
        )

    def _options(self, caches: Path) -> list[str]:
        """The server's command line; chooses the ports that were left open."""
        grpc_port, http_port, metrics_port = _fill_ports(self._host, self._wanted_ports)
        open_host = self._host if self._tls is None else "127.0.0.1"  # of what cannot be encrypted
        grpc_host, http_host = ("127.0.0.1" if host == "0.0.0.0" else host for host in (self._host, open_host))
        self._endpoints = Endpoints(
            f"{grpc_host}:{grpc_port}", f"{http_host}:{http_port}", f"{http_host}:{metrics_port}", self._tls is not None
        )
        self.grpc_url = self._endpoints.grpc
        self.http_url = f"http://{self._endpoints.http}"
        self.metrics_url = f"http://{self._endpoints.metrics}/metrics"
        return [
            f"--id={self._server_id}",
            f"--model-repository={self._repository}",
            f"--model-config-name={self._target}",
            f"--backend-directory={self._scratch / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            *self._cache_options(caches),
            "--disable-auto-complete-config",
            "--exit-on-error=true",
            "--strict-readiness=true",
            f"--exit-timeout-secs={max(1, int(self._stop_timeout_s) - 2)}",
            f"--grpc-address={self._host}",
            f"--grpc-port={grpc_port}",
            f"--http-address={open_host}",
            f"--http-port={http_port}",
            f"--metrics-address={open_host}",
            f"--metrics-port={metrics_port}",
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            *(self._tls.options() if self._tls else ()),
            *self._more_options,
        ]

    def _cache_options(self, caches: Path) -> list[str]:
        if not self._cache_bytes:
            return []
        return [f"--cache-directory={caches}", f"--cache-config=local,size={self._cache_bytes}"]

    def _wait_ready(self, deadline: float) -> None:
        while not is_ready(self._endpoints, self._server_id, self._served):
            self.raise_if_dead()
            if time.monotonic() > deadline:
                raise ServeError(
                    f"The server was not ready after {self._startup_timeout_s:g} s; wanted all {len(self.models)} "
                    "models loaded by then. Give it longer on a slow machine (avedge serve "
                    "--startup-timeout). The end of its log:\n" + self._log_end()
                )
            time.sleep(_POLL_S)

    def _log_end(self) -> str:
        """Last lines of the server's log without its tables of options."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join([line for line in lines if line.strip() and line[0] not in "+|"][-_LOG_LINES:])


class _PortLostError(ServeError):
    """Another program took the port between the choice and the start."""


def _fill_ports(host: str, wanted: tuple[int | None, ...]) -> list[int]:
    """The wanted ports, and free ones for None; held open together so that they differ."""
    with ExitStack() as stack:
        ports = []
        for port in wanted:
            if port is None:
                probe = stack.enter_context(socket.socket())
                probe.bind((host, 0))
                port = probe.getsockname()[1]
            ports.append(port)
        return ports

"""Starts and stops the peers' servers, each in a process group of its own, and knows what each is tuned by."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from perf import environment
from perf.errors import PerfError
from perf.peers import wire
from perf.peers.setting import Assignment, Setting
from perf.peers.wire import HOST, Array, Workload
from serve import keeper
from serve.runtime import shared_python_folder

_START_S, _STOP_S, _POLL_S = 180.0, 10.0, 0.05
_LOG_LINES = 15
Answer = dict[str, Array]

# Two cores, so: one worker with two threads, or two with one; batches or none. Torch's channels-last format pays where
# a setting leaves each picture to one thread (one picture alone 61 to 42 ms); sound has no such format.
_ALONE = Setting(workers=2, threads=1)
_ALONE_LAST = Setting(workers=2, threads=1, channels_last=True)
_WHOLE = Setting(workers=1, threads=2)
_TOGETHER = Setting(workers=1, threads=2, batch=4, delay_ms=2)
_HALVES = Setting(workers=2, threads=1, batch=4, delay_ms=2)
_AT_ONCE = Setting(workers=1, threads=1, slots=2)
_BATCHED = {
    "facefilter": (_ALONE, _WHOLE, _TOGETHER, _HALVES),
    "crowd_counting": (_ALONE_LAST, _ALONE, _WHOLE, _TOGETHER),
}
_SINGLE = {"facefilter": (_ALONE, _WHOLE, _AT_ONCE), "crowd_counting": (_ALONE_LAST, _ALONE, _WHOLE)}


@dataclass(frozen=True)
class Peer:
    """One alternative to what we serve."""

    name: str
    module: str
    health: str  # path that answers 200 when it is ready
    settings: Mapping[str, tuple[Setting, ...]]  # that are tried, by workload
    kserve: bool = False  # speaks Triton's protocol
    starts: int = 1  # attempts at it
    replicated: bool = False  # each worker is a server of its own, behind what a load balancer would be


PEERS = (
    # PyTriton's models look for a socket that may not listen yet, and give up at once: it gets three starts.
    Peer("PyTriton", "perf.peers.pytriton_server", "/v2/models/{workload}/ready", _BATCHED, kserve=True, starts=3),
    Peer("LitServe", "perf.peers.litserve_server", "/health", _BATCHED),
    Peer("FastAPI", "perf.peers.fastapi_server", "/health", _SINGLE, replicated=True),
)


@dataclass
class Endpoint:
    """A running server, ours or a peer's, as the load sees it."""

    name: str
    workload: Workload
    ports: tuple[int, ...]  # HTTP; connections are spread over them
    kserve: bool
    grpc_url: str = ""  # where it has one
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of the answers, for the plain form
    servers: tuple[int, ...] = ()  # process ids; of a peer also process groups
    setting: Setting | None = None  # of a peer

    def switch(self, on: bool) -> None:
        """Let a peer run or freeze it, so that what it does while idle costs the others nothing.

        LitServe polls for batches every millisecond.
        """
        for server in self.servers if self.setting else ():
            _switch(server, on)

    def cpu_s(self) -> tuple[float, float]:
        """Processor time so far: of the servers themselves, and of all processes below them."""
        below = [pid for server in self.servers for pid in _descendants(server)]
        return sum(map(_cpu_s, self.servers)), sum(map(_cpu_s, below))

    def request(self, request: Answer) -> bytes:
        """A request's tensors as the bytes that are sent."""
        make = wire.kserve_request if self.kserve else wire.plain_request
        return make(self.workload, request)

    def ask(self, line: wire.Line, request: Answer) -> tuple[Answer, int]:
        """Send one request and read the answer.

        Returns:
            tensors by name, and the length of the answer's body.

        Raises:
            PerfError: the server refuses or breaks off.
        """
        try:
            status, head, body = line.exchange(self.request(request))
        except (OSError, ValueError) as error:
            raise PerfError(
                f"{self.name} did not answer {self.workload.name} ({error}); its answer is compared before it is "
                "measured. See its log above."
            ) from error
        if status != 200:
            raise PerfError(
                f"{self.name} answers {self.workload.name} with status {status}: {bytes(body[:300])!r}. Only right "
                "answers are timed. See its log above."
            )
        content = bytes(body)
        if self.kserve:
            return wire.kserve_answer(wire.headers_of(head), content), len(content)
        return self.workload.unpack_answer(content, self.shapes), len(content)


@contextmanager
def serving_peer(
    peer: Peer, workload: Workload, setting: Setting, weights: Path, shapes: dict[str, tuple[int, ...]]
) -> Iterator[Endpoint]:
    """Run one peer, ready.

    Args:
        peer: which.
        workload: what it serves.
        setting: how it is tuned.
        weights: folder of the .safetensors.
        shapes: of the answers.

    Raises:
        PerfError: It does not start.
    """
    with ExitStack() as stack:
        for left in reversed(range(peer.starts)):
            with ExitStack() as attempt:
                try:
                    endpoint = _launch(attempt, peer, workload, setting, weights)
                except PerfError:
                    if not left:
                        raise
                    continue
                stack.enter_context(attempt.pop_all())
                break
        endpoint.shapes = shapes
        yield endpoint


def _launch(stack: ExitStack, peer: Peer, workload: Workload, setting: Setting, weights: Path) -> Endpoint:
    """Start a peer's servers; the stack stops them."""
    grpc_port, *ports = _free_ports(1 + (setting.workers if peer.replicated else 1))
    servers, waits = [], []
    for port in ports:
        scratch = Path(tempfile.mkdtemp(prefix="avedge-peer-"))
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        assignment = Assignment(workload.name, port, grpc_port, str(weights.resolve()), str(scratch), setting)
        started, server = _start(peer, assignment, scratch / "log")
        stack.callback(_stop, started, server, str(scratch))
        servers.append(server)
        waits.append((started, f"http://{HOST}:{port}{peer.health.format(workload=workload.name)}", scratch / "log"))
    for started, url, log in waits:
        _wait_ready(peer, started, url, log)
    grpc_url = f"{HOST}:{grpc_port}" if peer.kserve else ""
    return Endpoint(peer.name, workload, tuple(ports), peer.kserve, grpc_url, servers=tuple(servers), setting=setting)


def _start(peer: Peer, assignment: Assignment, log: Path) -> tuple[subprocess.Popen[str], int]:
    """Start one server under the same keeper as the embedded Triton; gives the keeper and the server's process id.

    The keeper ends the server and its process group when asked, and also when this process is gone, frozen or not.
    """
    command = [sys.executable, "-I", "-S", keeper.__file__, str(os.getpid()), Path(assignment.scratch).name]
    command += [assignment.scratch, str(_STOP_S), sys.executable, "-m", peer.module]
    with log.open("wb") as sink:
        started = subprocess.Popen(
            command,
            cwd=environment.ROOT,
            env=_with_python_library(assignment.environment()) | {"TMPDIR": assignment.scratch},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            start_new_session=True,
        )
    assert started.stdout is not None  # asked for
    return started, int(started.stdout.readline() or -1)


def _with_python_library(variables: dict[str, str]) -> dict[str, str]:
    """PyTriton's stub loads this Python's own shared library; another one of the same minor version does not do."""
    folders = [shared_python_folder(), variables.get("LD_LIBRARY_PATH")]
    return variables | {"LD_LIBRARY_PATH": os.pathsep.join(str(folder) for folder in folders if folder)}


def _stop(started: subprocess.Popen[str], server: int, mark: str) -> None:
    """Let the keeper end the server, then see that nothing of it is left in any session."""
    _switch(server, True)
    started.terminate()
    with suppress(subprocess.TimeoutExpired):
        started.wait(2 * _STOP_S)
    deadline = time.monotonic() + _STOP_S
    while marked_processes(mark) and time.monotonic() < deadline:  # PyTriton's tritonserver ends by itself
        time.sleep(_POLL_S)
    for pid in marked_processes(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    started.kill()
    started.communicate()
    keeper.remove_shared_memory(f"pytrtion{server}-")  # as PyTriton spells the names of its own


def _switch(server: int, on: bool) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server, signal.SIGCONT if on else signal.SIGSTOP)


def marked_processes(mark: str) -> list[int]:
    """Processes with a mark in their environment: a peer's workers, in whichever group or session they are."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # gone meanwhile, or another user's
            if os.fsencode(mark) in entry.read_bytes():
                found.append(int(entry.parent.name))
    return found


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _cpu_s(pid: int) -> float:
    """User and system time of one process; 0 for one that is gone."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _free_ports(count: int) -> list[int]:
    """Free ports of loopback, held open together so that they differ."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


def _wait_ready(peer: Peer, started: subprocess.Popen[str], url: str, log: Path) -> None:
    """Wait until the health path answers.

    Raises:
        PerfError: The server ended, or was not ready in time; the message has the end of its log.
    """
    deadline = time.monotonic() + _START_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        with suppress(OSError), opener.open(url, timeout=2):
            return
        if started.poll() is not None or time.monotonic() > deadline:
            state = "ended" if started.poll() is not None else f"was not ready after {_START_S:g} s"
            end = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise PerfError(
                f"{peer.name} {state}; all contenders have to run side by side. If a package is missing: pip install "
                f"'avedge[peers]'. The end of its log:\n{end}"
            )
        time.sleep(_POLL_S)

"""What is left of an embedded server after every kind of end: nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from onnx import helper
from toy_repository import FLOATS, add_doubling, add_model, doubling, onnx_graph

from serve import launcher
from serve.errors import ServeError
from serve.launcher import EmbeddedTriton

END_TIMEOUT_S = 20.0


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    try:
        own = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        others = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            if task.name != str(pid)
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid for child in own + others for pid in (child, *children(child))]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def server_id(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return next(word.removeprefix("--id=") for word in words if word.startswith("--id="))


def traces(name: str) -> list[Path]:
    """Shared memory and scratch folders of one server."""
    return [*Path("/dev/shm").glob(f"{name}*"), *Path(tempfile.gettempdir()).glob(f"{name}*")]


def wait_dead(pids: list[int]) -> None:
    deadline = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline and any(map(is_alive, pids)):
        time.sleep(0.1)
    assert [pid for pid in pids if is_alive(pid)] == []


def wait_gone(pids: list[int], name: str) -> None:
    wait_dead(pids)
    deadline = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline and traces(name):
        time.sleep(0.1)
    assert traces(name) == []


@contextmanager
def serve_command(root: Path, repository: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """`avedge serve` as a user runs it, and what it printed when ready."""
    ports = [word for name in ("grpc", "http", "metrics") for word in (f"--{name}-port", "0")]
    command = [sys.executable, str(root / "avedge.py"), "serve", "--repository", str(repository), "--json", *ports]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    add_doubling(folder)
    return folder


def test_stop_leaves_no_process_no_shared_memory_and_no_scratch(repository: Path) -> None:
    with EmbeddedTriton(repository) as server:
        name, pids = server_id(server.pid), [server.pid, *children(server.pid)]
        assert len(pids) >= 2 and all(map(is_alive, pids))
        assert len(traces(name)) >= 2
    assert not any(map(is_alive, pids))
    assert traces(name) == []
    server.stop()  # once more does no harm


def test_a_killed_server_is_noticed_with_the_end_of_its_log(repository: Path) -> None:
    with EmbeddedTriton(repository) as server:
        server.raise_if_dead()
        name, pids = server_id(server.pid), [server.pid, *children(server.pid)]
        os.kill(server.pid, signal.SIGKILL)
        wait_dead(pids)
        with pytest.raises(ServeError, match="Started GRPCInferenceService") as dead:
            server.raise_if_dead()
        assert dead.value.exit_code == 5
    assert traces(name) == []


def test_an_unknown_parameter_is_refused_by_its_name(tmp_path: Path) -> None:
    add_doubling(tmp_path, parameters={"intra_op_thread_cuont": "2"})
    with pytest.raises(ServeError, match="unknown parameter intra_op_thread_cuont"), EmbeddedTriton(tmp_path):
        pass


def test_a_graph_with_other_names_than_its_config_is_refused(tmp_path: Path) -> None:
    add_model(tmp_path, "renamed", doubling(), {"x": (FLOATS, 4)}, {"z": (FLOATS, 4)})
    with pytest.raises(ServeError, match=r"renamed: outputs .* in the file: .*'y'.* in the config: .*'z'"):
        EmbeddedTriton(tmp_path, stop_timeout_s=0).start()


def test_a_server_whose_outputs_are_empty_is_not_called_ready(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Compress", ["x", "nowhere"], ["y"], axis=1),
        helper.make_node("Cast", ["no"], ["nowhere"], to=9),
    ]
    emptying = onnx_graph(nodes, {"x": (FLOATS, 4)}, {"y": (FLOATS, -1)}, {"no": [0.0] * 4}).SerializeToString()
    add_model(tmp_path, "emptying", emptying, {"x": (FLOATS, 4)}, {"y": (FLOATS, -1)})
    with pytest.raises(ServeError, match="answered emptying without bytes in y"):
        EmbeddedTriton(tmp_path, stop_timeout_s=0).start()


def test_a_server_that_is_not_ready_in_time_is_stopped(repository: Path) -> None:
    server = EmbeddedTriton(repository, startup_timeout_s=0)
    with pytest.raises(ServeError, match="not ready after 0 s"):
        server.start()
    wait_dead([server.pid, *children(server.pid)])


@pytest.mark.parametrize("place", [0, 1, 2], ids=["gRPC", "HTTP", "metrics"])
def test_a_port_lost_between_choice_and_start_is_chosen_anew(
    repository: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        lost = taken.getsockname()[1]
        choose = launcher._fill_ports
        chosen: list[list[int]] = []

        def lose_once(host: str, wanted: tuple[int | None, ...]) -> list[int]:
            chosen.append(choose(host, wanted))
            if len(chosen) == 1:
                chosen[0][place] = lost
            return chosen[-1]

        monkeypatch.setattr(launcher, "_fill_ports", lose_once)
        with EmbeddedTriton(repository, stop_timeout_s=0) as server:
            assert len(chosen) == 2
            assert f":{lost}" not in server.grpc_url + server.http_url + server.metrics_url
            time.sleep(0.2)  # a server that lost a port ends just after the other front ends answered
            server.raise_if_dead()


def test_a_server_that_does_not_stop_in_time_is_killed_without_traces(repository: Path) -> None:
    with EmbeddedTriton(repository, stop_timeout_s=0) as server:
        name, pids = server_id(server.pid), [server.pid, *children(server.pid)]
    wait_dead(pids)
    assert traces(name) == []


def test_a_given_port_that_is_taken_is_refused(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"Port {port} .* for HTTP"):
            EmbeddedTriton(repository, http_port=port).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_serve_command_ends_cleanly_on_a_signal(root: Path, repository: Path, number: signal.Signals) -> None:
    with serve_command(root, repository) as (process, ready):
        pid = int(str(ready["pid"]))
        name, pids = server_id(pid), [pid, *children(pid)]
        assert ready["models"] == ["double"]
        process.send_signal(number)
        assert process.wait(END_TIMEOUT_S) == 0
        assert not any(map(is_alive, pids))
        assert traces(name) == []


def test_a_killed_parent_leaves_no_server_no_stub_and_no_traces(root: Path, repository: Path) -> None:
    with serve_command(root, repository) as (process, ready):
        pid = int(str(ready["pid"]))
        name, pids = server_id(pid), [pid, *children(process.pid)]
        process.kill()
        process.wait()
        wait_gone(pids, name)


def test_a_killed_keeper_takes_the_server_with_it(repository: Path) -> None:
    with EmbeddedTriton(repository) as server:
        name, pids = server_id(server.pid), [server.pid, *children(server.pid)]
        keeper = int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(keeper, signal.SIGKILL)
    wait_gone(pids, name)

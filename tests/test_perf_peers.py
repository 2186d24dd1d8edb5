"""The peers answer what torch answers, leave nothing behind, and are compared by a rule that can fail."""

from __future__ import annotations

import argparse
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf import commands, peers
from perf.errors import PerfError
from perf.peers import aims, wire
from perf.peers.contenders import PEERS, Endpoint, Peer, marked_processes, serving_peer
from perf.peers.load import Job, run
from perf.peers.setting import Assignment, Setting
from perf.peers.wire import WORKLOADS, Line
from perf.record import Record

CLIP_SAMPLES = 3200
EXACT = 1e-3


def request_for(workload: str, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    made = {}
    for name, dtype, shape in WORKLOADS[workload].inputs:
        sized = tuple(CLIP_SAMPLES if axis == -1 else axis for axis in shape)
        noise = draw.integers(0, 256, sized) if dtype == "uint8" else 0.1 * draw.standard_normal(sized)
        made[name] = noise.astype(dtype)
    return made


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_plain_body_gives_back_what_was_packed(workload: str) -> None:
    request = request_for(workload)
    found = WORKLOADS[workload].unpack(WORKLOADS[workload].pack(request))
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in request.items()
    }


def test_a_plain_body_that_is_too_long_is_refused() -> None:
    workload = WORKLOADS["crowd_counting"]
    with pytest.raises(ValueError, match="its inputs hold"):
        workload.unpack(workload.pack(request_for("crowd_counting")) + b"four")


def test_a_kserve_request_says_the_same_as_tritons_own_client() -> None:
    http = pytest.importorskip("tritonclient.http")
    request, workload = request_for("facefilter"), WORKLOADS["facefilter"]
    inputs = []
    for name, dtype, _ in workload.inputs:
        tensor = http.InferInput(name, [1, *request[name].shape], {"uint8": "UINT8", "float32": "FP32"}[dtype])
        tensor.set_data_from_numpy(request[name][None], binary_data=True)
        inputs.append(tensor)
    outputs = [http.InferRequestedOutput(name, binary_data=True) for name in workload.outputs]
    body, header_bytes = http.InferenceServerClient.generate_request_body(inputs, outputs)
    head, _, ours = wire.kserve_request(workload, request).partition(b"\r\n\r\n")
    length = int(wire.headers_of(head)["inference-header-content-length"])
    assert json.loads(ours[:length]) == json.loads(body[:header_bytes])
    assert ours[length:] == body[header_bytes:]


def test_the_relative_error_is_that_of_the_worst_output() -> None:
    wanted = {"a": np.array([3.0, 4.0]), "b": np.array([1.0, 1.0])}
    seen = {"a": np.array([3.0, 4.0]), "b": np.array([1.0, 1.5])}
    assert wire.relative_error(seen, wanted, ["a", "b"]) == pytest.approx(np.sqrt(0.125))


def test_an_assignment_reaches_the_workers_through_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assignment = Assignment("facefilter", 1, 2, "weights", "scratch", Setting(workers=2, threads=3, batch=4))
    for name, value in assignment.environment().items():
        monkeypatch.setenv(name, value)
    assert Assignment.from_environment() == assignment
    assert os.environ["OMP_NUM_THREADS"] == "3"


@contextmanager
def http_server(answer: bytes, status: int = 200) -> Iterator[tuple[int, list[bytes]]]:
    """A plain server that remembers the bodies it got."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], bodies
        finally:
            server.shutdown()
            thread.join()


def job_on(port: int, path: Path, *, marks: tuple[int, ...] = (), answer_bytes: int = 5) -> Job:
    return Job((port,), (str(path),), answer_bytes, concurrency=2, seconds=0.2, warmup_s=0.0, marks=marks)


def test_a_marked_load_never_sends_a_face_twice_and_an_unmarked_one_repeats_it(tmp_path: Path) -> None:
    path = tmp_path / "request"
    content = wire.post("/x", b"head" + bytes(8) + b"tail")
    path.write_bytes(content)
    with http_server(b"right") as (port, bodies):
        assert run(job_on(port, path, marks=(content.index(bytes(8)),))).count > 2
        assert all(body.startswith(b"head") and body.endswith(b"tail") for body in bodies)
        assert len(set(bodies)) == len(bodies)
        bodies.clear()
        run(job_on(port, path))
        assert len(bodies) > 2 and len(set(bodies)) == 1


@pytest.mark.parametrize(("status", "answer_bytes"), [(500, 5), (200, 6)])
def test_a_load_breaks_off_at_an_error_or_an_answer_of_another_length(
    tmp_path: Path, status: int, answer_bytes: int
) -> None:
    path = tmp_path / "request"
    path.write_bytes(wire.post("/x", b"body"))
    with http_server(b"wrong", status) as (port, _), pytest.raises(ValueError, match=f"status {status} with 5 bytes"):
        run(job_on(port, path, answer_bytes=answer_bytes))


def test_a_line_reads_an_answer_larger_than_its_buffer_whole() -> None:
    content = np.random.default_rng(0).bytes(3_000_000)
    with http_server(content) as (port, _):
        line = Line(port)
        status, _, body = line.exchange(wire.post("/x", b""))
        assert (status, bytes(body)) == (200, content)
        line.close()


def test_a_line_notices_a_server_that_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(listener.getsockname()[1])
        accepted, _ = listener.accept()
        accepted.close()
        with pytest.raises(ConnectionError):
            line.exchange(wire.post("/x", b"body"))
        line.close()


def _figures(ours: list[tuple[float, float]], peer: list[tuple[float, float]]) -> dict[str, Any]:
    levels = [
        {"contender": name, "concurrency": index + 1, "per_s": per_s, "p95_ms": p95_ms}
        for name, points in (("avedge", ours), ("Peer", peer), ("Slow", [(1.0, 1.0)]))
        for index, (per_s, p95_ms) in enumerate(points)
    ]
    served = {"contender": "avedge", "concurrency": 1, "models": {"x_net": {"compute_ms": 6.0, "average_batch": 2.0}}}
    costs = {"avedge": {"first_process_ms": 1.0, "processes_below_ms": 2.0}}
    return {
        "levels": levels,
        "settings": {"Peer": "its setting", "Slow": "another"},
        "served_ms": served,
        "processor_ms": costs,
        "torch_ms_on_one_thread": {"net": 2.0},
    }


def test_the_aims_take_best_over_best_and_p95_where_the_best_peer_is_at_its_best() -> None:
    figures = _figures(ours=[(50, 20), (80, 30), (100, 41)], peer=[(30, 35), (40, 40), (39, 80)])
    throughput, p95 = aims.of("facefilter", figures, "avedge")
    assert throughput.figure == 100 / 40 and throughput.met
    assert p95.figure == 30 / 40 and p95.met


def test_missed_aims_tell_what_a_request_costs_on_both_sides() -> None:
    throughput, p95 = aims.of("facefilter", _figures(ours=[(50, 41)], peer=[(40, 40)]), "avedge")
    assert not throughput.met and not p95.met
    for said in ("every 20.0 ms", "1.0 ms in tritonserver", "net 3.0", "every 25.0 ms", "its setting", "net 2.0"):
        assert said in throughput.because


def test_a_further_repository_of_ours_is_held_to_the_same_aim_by_its_name() -> None:
    figures = _figures(ours=[(50, 41)], peer=[(40, 40)])
    figures["levels"].append({"contender": "avedge (int8)", "concurrency": 1, "per_s": 90, "p95_ms": 20})
    throughput, p95 = aims.of("facefilter", figures, "avedge")[2:]
    assert throughput.what.startswith("facefilter, int8: ") and throughput.figure == 90 / 40 and throughput.met
    assert p95.figure == 20 / 40 and p95.met
    assert "net 3.0" not in throughput.because  # which another server spent


@pytest.fixture(scope="module", autouse=True)
def _frameworks() -> None:
    for name in ("fastapi", "litserve", "pytriton"):
        pytest.importorskip(name, reason="pip install 'avedge[peers]'")


@pytest.mark.parametrize(
    ("peer", "workload", "setting"),
    [
        (PEERS[0], "facefilter", Setting(workers=1, threads=1, batch=4, delay_ms=2)),
        (PEERS[1], "facefilter", Setting(workers=1, threads=1, batch=4, delay_ms=2)),
        (PEERS[2], "crowd_counting", Setting(workers=2, threads=1, channels_last=True)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_peer_answers_as_torch_does_under_load_and_leaves_nothing_behind(
    peer: Peer, workload: str, setting: Setting, tmp_path: Path
) -> None:
    from perf.peers.chains import Chain
    from perf.peers.measured import compared

    requests = [request_for(workload, seed) for seed in (0, 1)]
    wanted = Chain(workload, peers.WEIGHTS).answer(requests)
    shapes = {name: array.shape for name, array in wanted[0].items()}
    with serving_peer(peer, WORKLOADS[workload], setting, peers.WEIGHTS, shapes) as endpoint:
        error, answer_bytes = compared(peer.name, endpoint, requests, wanted, EXACT)
        assert error <= EXACT
        with pytest.raises(PerfError, match="a difference of") as caught:
            compared(peer.name, endpoint, requests, wanted[::-1], EXACT)
        assert caught.value.exit_code == 6
        _keeps_answering(endpoint, requests, answer_bytes, tmp_path)
        endpoint.switch(False)  # it must end though it is frozen
        assert marked_processes("avedge-peer-")
    assert not _processes_of(endpoint)  # so nobody of ours listens; a free port may be another program's by now


def _keeps_answering(endpoint: Endpoint, requests: list[Any], answer_bytes: int, folder: Path) -> None:
    paths = [folder / str(index) for index in range(len(requests))]
    for path, request in zip(paths, requests, strict=True):
        path.write_bytes(endpoint.request(request))
    job = Job(endpoint.ports, tuple(map(str, paths)), answer_bytes, concurrency=3, seconds=0.5, warmup_s=0.0)
    run(job)


def _processes_of(endpoint: Endpoint) -> list[int]:
    return [pid for port in endpoint.ports for pid in marked_processes(f'"port": {port},')]


def test_a_peer_that_cannot_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(PerfError, match="(?s)FastAPI ended.*facefilter_identity"),
        serving_peer(PEERS[2], WORKLOADS["facefilter"], Setting(), tmp_path, {}),
    ):
        pass


@pytest.mark.slow
def test_the_command_measures_all_contenders_side_by_side(
    repository: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    commands.add_arguments(parser)
    output = tmp_path / "peers.json"
    options = ["--repository", str(repository), "--samples", str(samples), "--output", str(output)]
    quick = ["--settings", "1", "--rounds", "1", "--seconds", "0.5", "--tune-seconds", "0.5", "--concurrency", "2"]
    assert commands.run(parser.parse_args(["peers", *options, *quick, "--workloads", "facefilter"])) == 0
    record = Record.read(output)
    figures = record.figures["facefilter"]
    contenders = {level["contender"] for level in figures["levels"]}
    assert contenders == {"avedge", "avedge, faces repeated", "PyTriton", "LitServe", "FastAPI"}
    assert max(figures["error_against_torch"].values()) <= EXACT
    assert {row["contender"] for row in figures["perf_analyzer"]} == {"avedge, faces repeated", "PyTriton"}
    assert [aim.bound for aim in record.aims] == [2, 1] and all(aim.figure > 0 for aim in record.aims)
    assert all(cost["processes_below_ms"] > 0 for name, cost in figures["processor_ms"].items() if name != "FastAPI")
    assert "facefilter: every level" in capsys.readouterr().out
    peers.plot(record, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 10_000

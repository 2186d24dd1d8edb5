"""Tensors through shared memory: scripted servers that take part or do not, and the real one."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc as triton
from fake_triton import FakeTriton, nobody, serving
from test_clients_transport_endpoints import FACE, OUTPUTS, numbered, numbers, voice

from clients.errors import BadSetting, ServerUnavailable, Timeout
from clients.transport import region
from clients.transport.aio import AsyncConnection
from clients.transport.connection import Connection

if TYPE_CHECKING:
    from serve.launcher import EmbeddedTriton

FOLDER = Path("/dev/shm")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no /dev/shm here")


def own_regions() -> list[Path]:
    """Regions that have a name still; other tests' programs may be about to give theirs away."""
    return list(FOLDER.glob(f"avedge_client-*-{os.getpid()}-*"))


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    yield
    assert not own_regions()


def test_tensors_go_through_regions_that_are_used_again() -> None:
    fake = voice()
    with serving(fake) as url, Connection(url, shared_memory=True) as connection:
        assert numbers(connection.infer_all("facefilter", numbered(40), OUTPUTS, in_flight=3)) == list(range(40))
        assert 1 <= fake.registered <= 3
        assert not own_regions(), "a region's name is gone as soon as the server has it"
        np.testing.assert_array_equal(fake.requests[5]["face"], FACE)
    assert not fake.regions


def test_a_larger_request_gets_a_larger_region_and_a_smaller_one_the_same() -> None:
    fake = voice()
    with serving(fake) as url, Connection(url, shared_memory=True) as connection:
        for samples in (800, 80_000, 1_600, 80_000):
            mixture = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
            found = connection.infer("facefilter", {"mixture": mixture, "face": FACE}, OUTPUTS)
            np.testing.assert_array_equal(found["speech"], mixture)
    assert fake.registered == 2


def test_asyncio_shares_memory_too() -> None:
    fake = voice()

    async def work(url: str) -> list[float]:
        async with AsyncConnection(url, shared_memory=True) as connection:
            return numbers(await connection.infer_all("facefilter", numbered(20), OUTPUTS, in_flight=3))

    with serving(fake) as url:
        assert asyncio.run(work(url)) == list(range(20))
    assert 1 <= fake.registered <= 3 and not fake.regions


def test_a_server_that_does_not_take_part_gets_tensors_by_grpc(caplog: pytest.LogCaptureFixture) -> None:
    fake = voice(shares=False)
    with caplog.at_level(logging.DEBUG), serving(fake) as url, Connection(url, shared_memory="auto") as connection:
        assert numbers(connection.infer_all("facefilter", numbered(8), OUTPUTS)) == list(range(8))
    said = [record for record in caplog.records if "no shared memory" in record.message]
    assert said and {record.levelno for record in said} == {logging.DEBUG}


def test_shared_memory_that_is_required_is_refused_where_there_is_none() -> None:
    with (
        serving(voice(shares=False)) as url,
        Connection(url, shared_memory=True) as connection,
        pytest.raises(BadSetting, match="there is none: shared memory is switched off"),
    ):
        connection.infer("facefilter", numbered(1)[0], OUTPUTS)


@pytest.mark.parametrize("url", ["edge.example:8001", "http://127.0.0.1:8000"])
def test_only_grpc_to_this_machine_can_share_memory(url: str) -> None:
    with pytest.raises(BadSetting, match="Shared memory was asked for"):
        Connection(url, shared_memory=True)
    Connection(url, shared_memory="auto").close()


def test_another_word_for_shared_memory_is_refused() -> None:
    with pytest.raises(BadSetting, match="shared_memory is 'always'"):
        Connection(shared_memory="always")  # type: ignore[arg-type]


def test_a_full_dev_shm_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with serving(voice()) as url, Connection(url, shared_memory="auto") as connection:
        assert numbers([connection.infer("facefilter", numbered(2)[1], OUTPUTS)]) == [1.0]


def test_a_server_that_was_started_anew_gets_new_regions() -> None:
    fake = voice()
    with serving(fake) as url, Connection(url, shared_memory=True) as connection:
        connection.infer_all("facefilter", numbered(8), OUTPUTS, in_flight=2)
        fake.regions.clear()
        assert numbers(connection.infer_all("facefilter", numbered(8), OUTPUTS, in_flight=2)) == list(range(8))
        assert fake.regions


def test_a_server_that_is_away_leaves_no_region_behind() -> None:
    with nobody() as url, Connection(url, shared_memory=True) as connection:
        with pytest.raises(ServerUnavailable, match="No server answers"):
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        assert not own_regions()


def test_a_region_is_not_written_while_a_late_request_may_still_be_read() -> None:
    fake = voice(delay_s=0.6)
    with serving(fake) as url, Connection(url, timeout_s=0.3, shared_memory=True) as connection:
        with pytest.raises(Timeout):
            connection.infer("facefilter", numbered(8)[7], OUTPUTS)
        fake.delay_s = 0.0
        for request in numbered(5):
            connection.infer("facefilter", request, OUTPUTS)
        time.sleep(0.6)  # the late one is read now
    late = [request["mixture"] for request in fake.requests if request["mixture"][0] == 7]
    assert len(late) == 1 and (late[0] == 7).all()
    assert not fake.regions


CLIENT = """
import os, signal, sys
import numpy as np
from clients.transport.connection import Connection

connection = Connection(sys.argv[1], shared_memory=True)
request = {"mixture": np.ones(800, np.float32), "face": np.zeros((224, 224, 3), np.uint8)}
connection.infer("facefilter", request, ["speech"])
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_region_that_the_server_came_to_too_late_is_forgotten_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(fake: FakeTriton, request: object, context: object) -> object:
        answer = register(fake, request, context)
        time.sleep(0.5)
        return answer

    fake, register = voice(), FakeTriton.SystemSharedMemoryRegister
    monkeypatch.setattr(FakeTriton, "SystemSharedMemoryRegister", late)
    with serving(fake) as url, Connection(url, timeout_s=0.2, shared_memory=True) as connection:
        with pytest.raises(Timeout):
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        assert fake.regions
        connection.close()
        assert not fake.regions


def run_client(root: Path, url: str, end: str) -> int:
    return subprocess.run([sys.executable, "-c", CLIENT, url, end], cwd=root, check=False, timeout=60).returncode


def test_a_program_that_ends_without_closing_leaves_nothing(root: Path) -> None:
    fake = voice()
    with serving(fake) as url:
        assert run_client(root, url, "ends") == 0
        assert fake.registered == 1 and not fake.regions


def test_regions_of_a_killed_client_are_forgotten_by_the_next_and_those_of_the_living_stay(root: Path) -> None:
    fake = voice()
    with serving(fake) as url, Connection(url, shared_memory=True) as living:
        living.infer("facefilter", numbered(1)[0], OUTPUTS)
        assert run_client(root, url, "killed") == -signal.SIGKILL
        assert len(fake.regions) == 2
        with Connection(url, shared_memory=True) as other:
            other.infer("facefilter", numbered(1)[0], OUTPUTS)
            assert len(fake.regions) == 2
        living.infer("facefilter", numbered(1)[0], OUTPUTS)
        assert fake.registered == 3


def test_only_a_region_of_a_dead_process_of_this_machine_is_left_behind() -> None:
    mine = region.Region(64)
    mine.register(triton_that_takes_anything(), 1.0)
    prefix, space, process, began, number = mine.name.split("-")
    assert not region.is_left_behind(mine.name)
    assert region.is_left_behind(f"{prefix}-{space}-{process}-{int(began) - 1}-{number}")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert region.is_left_behind(f"{prefix}-{space}-{gone.pid}-1-{number}")
    for foreign in (f"{prefix}-{int(space) + 1}-{gone.pid}-1-{number}", "another_program", f"{prefix}-{uuid.uuid4()}"):
        assert not region.is_left_behind(foreign)
    mine.close()


def test_the_name_of_a_killed_clients_region_is_removed_by_the_next() -> None:
    space = region.Region(64)
    prefix, number, _, _, _ = space.name.split("-")
    space.close()
    left, foreign = FOLDER / f"{prefix}-{number}-1-1-{'0' * 32}", FOLDER / f"{prefix}-0-1-1-{'0' * 32}"
    try:
        for path in (left, foreign):
            path.write_bytes(b"what somebody said")
        with serving(voice()) as url, Connection(url, shared_memory=True) as connection:
            connection.infer("facefilter", numbered(1)[0], OUTPUTS)
        assert not left.exists() and foreign.exists()
    finally:
        left.unlink(missing_ok=True)
        foreign.unlink(missing_ok=True)


def triton_that_takes_anything() -> object:
    class Anything:
        def register_system_shared_memory(self, *_: object, **__: object) -> None:
            """As if the server had opened it."""

    return Anything()


# the real server


def requests(count: int) -> list[dict[str, np.ndarray]]:
    numbers_ = np.random.default_rng(5)
    face = numbers_.integers(0, 255, (224, 224, 3), np.uint8)
    return [{"mixture": numbers_.normal(0, 0.1, 31_840).astype(np.float32), "face": face} for _ in range(count)]


def entries(server: EmbeddedTriton) -> list[str]:
    """What this server and this program have in /dev/shm; other tests may run beside."""
    return sorted(map(str, [*FOLDER.glob(f"{server._shm_prefix}*"), *own_regions()]))


def known_to(server: EmbeddedTriton) -> list[str]:
    with triton.InferenceServerClient(server.grpc_url) as client:
        return sorted(client.get_system_shared_memory_status().regions)


def test_the_real_server_answers_alike_by_grpc_shared_memory_http_and_asyncio(server: EmbeddedTriton) -> None:
    before = entries(server)
    asked = requests(6)

    async def awaited() -> list[dict[str, np.ndarray]]:
        async with AsyncConnection(server.grpc_url, shared_memory=True) as connection:
            await connection.served("facefilter")
            return await connection.infer_all("facefilter", asked, OUTPUTS)

    found = {"asyncio": asyncio.run(awaited())}
    for name, url, shared in [
        ("grpc", server.grpc_url, False),
        ("shared", server.grpc_url, True),
        ("http", server.http_url, False),
    ]:
        with Connection(url, shared_memory=shared) as connection:
            assert connection.served("facefilter").digest
            found[name] = connection.infer_all("facefilter", asked, OUTPUTS)
            regions = [one for one in known_to(server) if one.startswith("avedge_client")]
            assert (1 <= len(regions) <= 4) if shared else not regions
    assert known_to(server) == []
    assert entries(server) == before
    for name in ("shared", "http", "asyncio"):
        for wanted, answer in zip(found["grpc"], found[name], strict=True):
            for output in OUTPUTS:
                # The batcher may group requests differently, which changes the last bits.
                np.testing.assert_allclose(answer[output], wanted[output], atol=1e-5)


def test_the_real_server_outlives_requests_that_were_left_in_its_shared_memory(server: EmbeddedTriton) -> None:
    before, late = entries(server), 0
    for timeout_s in (0.004, 0.01, 0.02):
        with Connection(server.grpc_url, timeout_s=timeout_s, shared_memory=True) as connection:
            for request in requests(4):
                try:
                    connection.infer("facefilter", request, OUTPUTS)
                except Timeout:
                    late += 1
    assert late, "no request was left behind"
    with Connection(server.grpc_url) as connection:
        assert connection.infer("facefilter", requests(1)[0], OUTPUTS)["speech"].std() > 0
    assert known_to(server) == []
    assert entries(server) == before

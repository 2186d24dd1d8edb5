"""The embedded server with tiny models: one start for all tests of a target."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpcclient
from toy_repository import FLOATS, INDICES, add_doubling, add_doubling_twice, add_model, looking_up
from tritonclient.utils import InferenceServerException

from serve.launcher import EmbeddedTriton
from serve.readiness import Endpoints, is_ready

TOGETHER = "dynamic_batching { max_queue_delay_microseconds: 1000000 }"  # or as soon as a batch of 8 is full


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    repository = tmp_path_factory.mktemp("onnx")
    add_doubling(repository)
    add_doubling_twice(repository)
    add_doubling(repository, "together", length=-1, extra=TOGETHER)
    add_doubling(repository, "cached", extra="response_cache { enable: true }")
    tensors = {"index": (INDICES, 1)}, {"value": (FLOATS, 1)}
    # The value that the runtime refuses outside 0 to 3 shows what a bad request does to its company.
    add_model(repository, "look_up", looking_up(), *tensors, extra=TOGETHER)
    every_option = {
        "intra_op_thread_count": "1",
        "inter_op_thread_count": "1",
        "execution_mode": "0",
        "enable_mem_arena": "1",
        "enable_mem_pattern": "true",
        "memory.enable_memory_arena_shrinkage": "cpu:0",
        "session.use_device_allocator_for_initializers": "1",
    }
    add_doubling(repository, "every_option", parameters=every_option, extra="optimization { graph { level: 1 } }")
    with EmbeddedTriton(repository, stop_timeout_s=0) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedTriton) -> Iterator[grpcclient.InferenceServerClient]:
    with grpcclient.InferenceServerClient(server.grpc_url) as connected:
        yield connected


def tensor(name: str, array: np.ndarray) -> grpcclient.InferInput:
    made = grpcclient.InferInput(name, array.shape, {"float32": "FP32", "int64": "INT64"}[str(array.dtype)])
    made.set_data_from_numpy(array)
    return made


def ask_together(
    client: grpcclient.InferenceServerClient, model: str, name: str, arrays: list[np.ndarray]
) -> list[grpcclient.InferResult | InferenceServerException]:
    """Send all before waiting for any; answers in the order of the requests."""
    answers: dict[int, grpcclient.InferResult | InferenceServerException] = {}
    done = threading.Semaphore(0)

    def keep(result: grpcclient.InferResult | None, error: InferenceServerException | None, place: int = 0) -> None:
        answers[place] = error if result is None else result
        done.release()

    for place, array in enumerate(arrays):
        client.async_infer(model, [tensor(name, array)], partial(keep, place=place), client_timeout=30)
    for _ in arrays:
        assert done.acquire(timeout=30)
    return [answers[place] for place in range(len(arrays))]


def statistics(client: grpcclient.InferenceServerClient, model: str) -> dict:
    return client.get_inference_statistics(model, as_json=True)["model_stats"][0]


def answered(counted: dict) -> int:
    """Requests that were answered, or refused by the model."""
    kinds = counted.get("inference_stats", {})
    return sum(int(kinds.get(kind, {}).get("count", 0)) for kind in ("success", "fail"))


def statistics_after(client: grpcclient.InferenceServerClient, model: str, before: dict, requests: int) -> dict:
    """Statistics with so many more requests in them: Triton counts a moment after it answers."""
    deadline = time.monotonic() + 20
    while answered(found := statistics(client, model)) < answered(before) + requests:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_every_model_and_ensemble_is_ready_when_start_returns(
    server: EmbeddedTriton, client: grpcclient.InferenceServerClient
) -> None:
    assert server.models == ["cached", "double", "every_option", "look_up", "quadruple", "together"]
    assert all(client.is_model_ready(model) for model in server.models)


def test_an_answer_is_the_graphs(client: grpcclient.InferenceServerClient) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(client.infer("double", [tensor("x", x)]).as_numpy("y"), 2 * x)


def test_an_ensemble_runs_its_steps(client: grpcclient.InferenceServerClient) -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    np.testing.assert_array_equal(client.infer("quadruple", [tensor("x", x)]).as_numpy("y"), 4 * x)


def test_an_ensemble_has_answered_before_others_ask(client: grpcclient.InferenceServerClient) -> None:
    assert int(statistics(client, "quadruple")["inference_stats"]["success"]["count"]) >= 3


def test_the_options_of_the_containers_backend_are_taken(client: grpcclient.InferenceServerClient) -> None:
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(client.infer("every_option", [tensor("x", x)]).as_numpy("y"), 2 * x)


def test_requests_run_as_one_batch_and_each_gets_its_own_rows(client: grpcclient.InferenceServerClient) -> None:
    before = statistics(client, "together")
    arrays = [
        np.random.default_rng(rows + seed).random((rows, 5), np.float32) for seed, rows in enumerate([1, 2, 1, 4])
    ]
    for array, answer in zip(arrays, ask_together(client, "together", "x", arrays), strict=True):
        assert isinstance(answer, grpcclient.InferResult)
        np.testing.assert_array_equal(answer.as_numpy("y"), 2 * array)
    after = statistics_after(client, "together", before, len(arrays))
    assert int(after["inference_count"]) - int(before.get("inference_count", 0)) == 8
    assert int(after["execution_count"]) - int(before.get("execution_count", 0)) == 1


def test_requests_of_other_lengths_are_not_batched_and_answered_all_the_same(
    client: grpcclient.InferenceServerClient,
) -> None:
    arrays = [np.full((4, length), length, np.float32) for length in (3, 7, 3)]
    for array, answer in zip(arrays, ask_together(client, "together", "x", arrays), strict=True):
        assert isinstance(answer, grpcclient.InferResult)
        np.testing.assert_array_equal(answer.as_numpy("y"), 2 * array)


def test_a_request_that_the_graph_refuses_fails_alone(client: grpcclient.InferenceServerClient) -> None:
    before = statistics(client, "look_up")
    arrays = [np.array([[index]]) for index in (1, 99, 3, 2, 0, 1, 2, 3)]
    answers = ask_together(client, "look_up", "index", arrays)
    refused = answers.pop(1)
    assert isinstance(refused, InferenceServerException)
    assert "look_up" in refused.message() and "bounds" in refused.message()
    values = [answer.as_numpy("value").item() for answer in answers if isinstance(answer, grpcclient.InferResult)]
    assert values == [10, 30, 20, 0, 10, 20, 30]
    after = statistics_after(client, "look_up", before, len(arrays))
    assert int(after["execution_count"]) - int(before.get("execution_count", 0)) == 1  # they did travel together


def test_a_wrong_shape_is_refused_and_the_server_lives(client: grpcclient.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="unexpected shape"):
        client.infer("double", [tensor("x", np.ones((1, 5), np.float32))])
    assert client.is_server_live()


def test_a_repeated_input_is_answered_from_the_cache(client: grpcclient.InferenceServerClient) -> None:
    x = np.full((1, 4), 3, np.float32)
    before = statistics(client, "cached")
    for _ in range(3):
        np.testing.assert_array_equal(client.infer("cached", [tensor("x", x)]).as_numpy("y"), 2 * x)
    counted = statistics_after(client, "cached", before, 3)
    assert counted["inference_stats"]["cache_hit"]["count"] == "2"
    assert counted["execution_count"] == "1"


def test_another_server_on_the_port_is_not_taken_for_ours(server: EmbeddedTriton) -> None:
    urls = (server.grpc_url, server.http_url, server.metrics_url)
    endpoints = Endpoints(*(url.removeprefix("http://").removesuffix("/metrics") for url in urls))
    name = grpcclient.InferenceServerClient(server.grpc_url).get_server_metadata().name
    assert is_ready(endpoints, name, [])
    assert not is_ready(endpoints, "another", [])


def test_only_this_machine_can_connect(server: EmbeddedTriton) -> None:
    ports = {int(url.split(":")[-1].split("/")[0]) for url in (server.grpc_url, server.http_url, server.metrics_url)}
    assert len(ports) == 3
    listening = [
        line.split()[1].split(":")
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    hosts = {host for host, port in listening if int(port, 16) in ports}
    assert hosts <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same inside IPv6


class TwoOutputs(torch.nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tanh(left) - right, (left * right).sum(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def torch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    repository = tmp_path_factory.mktemp("torchscript")
    file = tmp_path_factory.mktemp("script") / "model.pt"
    torch.jit.script(TwoOutputs()).save(file)
    tensors = {"left": (FLOATS, -1), "right": (FLOATS, -1)}, {"total__1": (FLOATS, 1), "difference__0": (FLOATS, -1)}
    options = {"INTRA_OP_THREAD_COUNT": "1", "INTER_OP_THREAD_COUNT": "1", "DISABLE_OPTIMIZED_EXECUTION": "true"}
    add_model(
        repository,
        "two_outputs",
        file.read_bytes(),
        *tensors,
        target="torchscript",
        parameters=options,
        extra="""
            model_warmup { name: "zeros" batch_size: 1
                inputs { key: "left" value { data_type: TYPE_FP32 dims: 3 zero_data: true } }
                inputs { key: "right" value { data_type: TYPE_FP32 dims: 3 zero_data: true } } }
        """,
    )
    with EmbeddedTriton(repository, target="torchscript", stop_timeout_s=0) as running:
        yield running


def test_torchscript_answers_as_torch_does_whatever_the_order_of_outputs(torch_server: EmbeddedTriton) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(3, 5, generator=generator) for _ in range(2))
    difference, total = TwoOutputs()(left, right)
    with grpcclient.InferenceServerClient(torch_server.grpc_url) as client:
        inputs = [tensor("left", left.numpy()), tensor("right", right.numpy())]
        answer = client.infer("two_outputs", inputs)
    np.testing.assert_allclose(answer.as_numpy("difference__0"), difference.numpy(), rtol=1e-6)
    np.testing.assert_allclose(answer.as_numpy("total__1"), total.numpy(), rtol=1e-6)

"""Every way in which a server can fail becomes one of our exceptions, within the deadline."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from fake_triton import FakeTriton, black_hole, changed, committed_config, crowd_of, nobody, same_voice, serving

from clients.counter import CrowdCounter
from clients.errors import ContractMismatch, ServerUnavailable, Timeout
from clients.separator import SpeechSeparator
from clients.transport.aio import AsyncConnection
from clients.transport.connection import Connection

INPUTS: dict[str, np.ndarray] = {"mixture": np.ones(31_840, np.float32), "face": np.zeros((224, 224, 3), np.uint8)}
OUTPUTS = ("speech", "attention")


def test_an_answer_comes_back_under_its_name_without_the_batch() -> None:
    with serving(FakeTriton({"facefilter": same_voice})) as url, Connection(url) as connection:
        answer = connection.infer("facefilter", INPUTS, OUTPUTS)
    np.testing.assert_array_equal(answer["speech"], INPUTS["mixture"])
    assert answer["attention"].shape == (200,)


def test_answers_keep_the_order_of_the_requests_and_fly_together() -> None:
    fake = FakeTriton({"facefilter": same_voice}, delay_s=0.02)
    requests = [INPUTS | {"mixture": np.full(31_840, value, np.float32)} for value in range(12)]
    with serving(fake) as url, Connection(url) as connection:
        answers = connection.infer_all("facefilter", requests, OUTPUTS, in_flight=3)
    assert [answer["speech"][0] for answer in answers] == list(range(12))
    assert fake.most_in_flight == 3


def test_an_absent_server_is_reported_soon_with_its_address_and_what_to_do() -> None:
    with nobody() as url:
        began = time.monotonic()
        with (
            Connection(url) as connection,
            pytest.raises(ServerUnavailable, match=f"No server answers at {url}") as caught,
        ):
            connection.served("facefilter")
    assert time.monotonic() - began < 5
    assert "avedge serve" in caught.value.remedy and caught.value.exit_code == 5


def test_a_port_that_takes_calls_and_never_answers_is_reported_within_the_deadline() -> None:
    with black_hole() as url:
        began = time.monotonic()
        with Connection(url, timeout_s=0.5) as connection, pytest.raises(ServerUnavailable, match="No server answers"):
            connection.served("facefilter")
    assert time.monotonic() - began < 2


def test_a_server_that_is_not_live_is_not_ready() -> None:
    with (
        serving(FakeTriton({"facefilter": same_voice}, live=False)) as url,
        SpeechSeparator(url) as separator,
        pytest.raises(ServerUnavailable, match="not ready: it says that it is not live"),
    ):
        separator.check()


def test_models_that_are_not_ready_are_named_with_their_reason() -> None:
    fake = FakeTriton({"facefilter": same_voice}, unready={"facefilter": "loading facefilter_separator"})
    with (
        serving(fake) as url,
        SpeechSeparator(url) as separator,
        pytest.raises(ServerUnavailable, match="facefilter: UNAVAILABLE loading facefilter_separator"),
    ):
        separator.check()


def test_a_server_of_other_models_is_told_by_what_it_serves() -> None:
    fake = FakeTriton({"crowd_counting_vision": crowd_of(np.zeros((72, 128)))})
    with (
        serving(fake) as url,
        SpeechSeparator(url) as separator,
        pytest.raises(ContractMismatch, match="does not serve facefilter; it serves crowd_counting_vision") as caught,
    ):
        separator.check()
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("fact", "value", "said"),
    [
        ("contract_version", "2", "contract_version is '2'"),
        ("contract_version", None, "contract_version is None"),
        ("hop_samples", "ten", "hop_samples is 'ten'"),
        ("padded_samples", "31840,-1", "padded_samples is '31840,-1'"),
        ("padded_samples", "12800", "leave too little between two halos of 6400"),
        ("mixture_rms", "nan", "mixture_rms is 'nan'"),
        ("halo_frames", None, "halo_frames is None"),
        ("face_size", "112", r"it takes mixture FP32 \[-1\], face UINT8 \[224, 224, 3\]"),
    ],
)
def test_another_contract_is_refused_with_both_sides(fact: str, value: str | None, said: str) -> None:
    fake = FakeTriton({"facefilter": same_voice}, configs={"facefilter": changed("facefilter", **{fact: value})})
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    face = np.zeros((224, 224, 3), np.uint8)
    with serving(fake) as url, SpeechSeparator(url) as separator, pytest.raises(ContractMismatch, match=said) as caught:
        separator.separate(noise, face, sample_rate_hz=16_000, face_crop=True)
    assert not fake.requests
    assert caught.value.wanted


def test_another_shape_of_a_tensor_is_refused() -> None:
    config = committed_config("crowd_counting_vision")
    config.input[0].dims[:] = [288, 512, 3]
    fake = FakeTriton(
        {"crowd_counting_vision": crowd_of(np.zeros((72, 128)))}, configs={"crowd_counting_vision": config}
    )
    with (
        serving(fake) as url,
        CrowdCounter(url) as counter,
        pytest.raises(ContractMismatch, match=r"picture UINT8 \[288, 512, 3\]") as caught,
    ):
        counter.check(with_sound=False)
    assert "picture UINT8 [576, 1024, 3]" in caught.value.wanted


def test_a_slow_server_is_left_at_the_deadline() -> None:
    fake = FakeTriton({"facefilter": same_voice}, delay_s=3.0)
    with serving(fake) as url, Connection(url, timeout_s=0.3) as connection:
        began = time.monotonic()
        with pytest.raises(Timeout, match="no answer within 0.3 s") as caught:
            connection.infer("facefilter", INPUTS, OUTPUTS)
        assert 0.2 < time.monotonic() - began < 0.8
    assert caught.value.exit_code == 7


def test_a_connection_that_timed_out_still_answers() -> None:
    fake = FakeTriton({"facefilter": same_voice}, delay_s=0.6)
    with serving(fake) as url, Connection(url, timeout_s=0.3) as connection:
        with pytest.raises(Timeout):
            connection.infer("facefilter", INPUTS, OUTPUTS)
        fake.delay_s = 0.0
        assert connection.infer("facefilter", INPUTS, OUTPUTS)["attention"].shape == (200,)


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_server_that_comes_back_is_asked_again(status: grpc.StatusCode) -> None:
    fake = FakeTriton({"facefilter": same_voice}, failures=[(status, "shutting down")] * 3)
    with serving(fake) as url, Connection(url) as connection:
        assert connection.infer("facefilter", INPUTS, OUTPUTS)["attention"].shape == (200,)
    assert not fake.failures


def test_a_full_queue_is_asked_four_times_and_then_called_busy() -> None:
    fake = FakeTriton(
        {"facefilter": same_voice}, failures=[(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")] * 9
    )
    with (
        serving(fake) as url,
        Connection(url) as connection,
        pytest.raises(ServerUnavailable, match="too busy: Exceeds maximum queue size"),
    ):
        connection.infer("facefilter", INPUTS, OUTPUTS)
    assert len(fake.failures) == 5


def test_retries_end_at_the_deadline() -> None:
    fake = FakeTriton({"facefilter": same_voice}, failures=[(grpc.StatusCode.UNAVAILABLE, "away")] * 9)
    with serving(fake) as url, Connection(url, timeout_s=0.2) as connection:
        began = time.monotonic()
        with pytest.raises(ServerUnavailable, match="away"):
            connection.infer("facefilter", INPUTS, OUTPUTS)
    assert time.monotonic() - began < 0.6


def test_a_refused_tensor_is_not_sent_again() -> None:
    fake = FakeTriton({"facefilter": same_voice}, failures=[(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape")] * 2)
    with (
        serving(fake) as url,
        Connection(url) as connection,
        pytest.raises(ContractMismatch, match="refused the request .INVALID_ARGUMENT.: unexpected shape"),
    ):
        connection.infer("facefilter", INPUTS, OUTPUTS)
    assert len(fake.failures) == 1


def test_an_answer_with_values_that_are_no_numbers_is_refused() -> None:
    fake = FakeTriton({"facefilter": lambda inputs: same_voice(inputs) | {"speech": inputs["mixture"] * np.nan}})
    with (
        serving(fake) as url,
        Connection(url) as connection,
        pytest.raises(ContractMismatch, match="speech of model facefilter holds values that are no numbers"),
    ):
        connection.infer("facefilter", INPUTS, OUTPUTS)


@dataclass
class Garbling(FakeTriton):
    """Does something to its answers."""

    garble: Callable[[Any], None] = lambda answer: None  # noqa: E731

    def _answer(self, request: Any, context: Any) -> Any:
        answer = super()._answer(request, context)
        self.garble(answer)
        return answer


def cut_short(answer: Any) -> None:
    answer.raw_output_contents[0] = answer.raw_output_contents[0][:-3]


def without_content(answer: Any) -> None:
    del answer.raw_output_contents[1:]


def of_another_shape(answer: Any) -> None:
    answer.outputs[0].shape[:] = [1, -1, 3]


def of_another_type(answer: Any) -> None:
    answer.outputs[0].datatype = "BYTES"


@pytest.mark.parametrize("garble", [cut_short, without_content, of_another_shape, of_another_type])
def test_an_answer_whose_bytes_are_not_what_it_says_is_refused(garble: Callable[[Any], None]) -> None:
    async def awaited(url: str) -> None:
        async with AsyncConnection(url) as connection:
            await connection.infer("facefilter", INPUTS, OUTPUTS)

    with serving(Garbling({"facefilter": same_voice}, garble=garble)) as url:
        with Connection(url) as connection, pytest.raises(ContractMismatch, match="not made as KServe's protocol says"):
            connection.infer("facefilter", INPUTS, OUTPUTS)
        with pytest.raises(ContractMismatch, match="not made as KServe's protocol says"):
            asyncio.run(awaited(url))


def test_what_a_server_says_can_neither_act_on_a_terminal_nor_forge_a_line_of_a_log() -> None:
    fake = FakeTriton({"facefilter": same_voice}, configs={"a\x1b[31m\nb": committed_config("facefilter")})
    with serving(fake) as url, Connection(url) as connection, pytest.raises(ContractMismatch) as caught:
        connection.served("other")
    assert r"it serves a\x1b[31m\nb, facefilter" in caught.value.seen
    assert str(caught.value).count("\n") == 3 and "\x1b" not in str(caught.value) + repr(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_messages_above_four_megabytes_pass() -> None:
    large = INPUTS | {"mixture": np.ones(2_000_000, np.float32)}  # 8 MB there and 8 MB back
    with serving(FakeTriton({"facefilter": same_voice})) as url, Connection(url) as connection:
        assert connection.infer("facefilter", large, OUTPUTS)["speech"].shape == (2_000_000,)


def test_a_deadline_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout_s is 0"):
        Connection(timeout_s=0)

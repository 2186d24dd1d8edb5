"""Laws of the choice between endpoints and of the budget for retries; no server, and a clock that the test sets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from clients.contract import ServedModel
from clients.errors import ContractMismatch, ServerUnavailable, Timeout
from clients.transport.enquiry import Enquiry
from clients.transport.failures import CallFailed
from clients.transport.fleet import Endpoint, Fleet
from clients.transport.retries import ATTEMPTS, BUDGET_CREDIT, BUDGET_SHARE, wait_before_retry_s
from clients.transport.trip import Trip

AWAY = CallFailed("UNAVAILABLE", "connection refused")
BUSY = CallFailed("UNAVAILABLE", "Exceeds maximum queue size")
LIMITED = CallFailed("RESOURCE_EXHAUSTED", "too many requests")  # as a proxy says it
LATE = CallFailed("DEADLINE_EXCEEDED", "Deadline Exceeded")


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def fleet_of(*urls: str, clock: Clock | None = None) -> Fleet[None]:
    return Fleet([Endpoint(url, None) for url in urls], timeout_s=60.0, clock=clock or Clock())


def contract(digest: str) -> Enquiry:
    return Enquiry(live=True, described=ServedModel("m", ("1",), (), (), {"contract_digest": digest}))


def send(fleet: Fleet[None], fails: dict[str, CallFailed], visited: list[str] | None = None) -> list[str]:
    """One request whose waits take no time; the endpoints that it went to."""
    trip, visited = Trip(fleet, "Model m", 60.0), [] if visited is None else visited
    while True:
        with trip.leg() as endpoint:
            visited.append(endpoint.url)
            if endpoint.url in fails:
                raise fails[endpoint.url]
            return visited


def test_requests_go_where_the_fewest_are_on_the_way() -> None:
    fleet = fleet_of("a", "b", "c")
    under_way = [fleet.board(()) for _ in range(9)]
    assert Counter(one.url for one in under_way) == {"a": 3, "b": 3, "c": 3}
    for endpoint in under_way:
        if endpoint.url != "b":
            fleet.leave(endpoint)
    assert {fleet.board(()).url for _ in range(6)} == {"a", "c"}


def test_requests_one_after_the_other_are_shared_out_evenly() -> None:
    fleet = fleet_of("a", "b", "c")
    assert Counter(send(fleet, {})[0] for _ in range(30)) == {"a": 10, "b": 10, "c": 10}


def test_a_request_that_meets_a_dead_endpoint_is_answered_by_another_at_once() -> None:
    fleet = fleet_of("a", "b", "c")
    trip = Trip(fleet, "Model m", 60.0)
    with trip.leg() as first:
        raise AWAY
    assert trip.wait_s == 0
    with trip.leg() as second:
        pass
    assert second is not first


def test_a_dead_endpoint_gets_no_requests_while_others_live() -> None:
    fleet = fleet_of("a", "b")
    visits = [send(fleet, {"a": AWAY}) for _ in range(50)]
    assert sum("a" in one for one in visits) == 1
    assert all(one[-1] == "b" for one in visits)


def test_a_dead_endpoint_is_left_alone_each_time_about_twice_as_long() -> None:
    clock = Clock()
    fleet = fleet_of("a", "b", clock=clock)
    fleet.heard(fleet.endpoints[1], "m", contract("x"))
    rests = []
    fleet.failed(fleet.endpoints[0], AWAY)
    for _ in range(9):
        rests.append(fleet.endpoints[0].rests_until - clock.now)
        assert fleet.due_for_a_probe() == []
        clock.now = fleet.endpoints[0].rests_until
        ((endpoint, model),) = fleet.due_for_a_probe()
        assert (endpoint.url, model) == ("a", "m")
        assert fleet.due_for_a_probe() == [], "one probe at a time"
        fleet.probed(endpoint, AWAY)
    wanted = np.minimum(0.5 * 2.0 ** np.arange(9), 30)
    assert np.all(np.abs(np.array(rests) / wanted - 1) <= 0.25 + 1e-9)


def test_an_endpoint_that_answers_a_probe_gets_requests_again() -> None:
    clock = Clock()
    fleet = fleet_of("a", "b", clock=clock)
    fleet.heard(fleet.endpoints[1], "m", contract("x"))
    for _ in range(2):
        send(fleet, {"a": AWAY})
    assert [one.healthy for one in fleet.endpoints] == [False, True]
    clock.now += 1
    for endpoint, model in fleet.due_for_a_probe():
        fleet.heard(endpoint, model, contract("x"))
        fleet.probed(endpoint, None)
    assert {send(fleet, {})[0] for _ in range(4)} == {"a", "b"}


def test_that_an_endpoint_is_back_is_said_only_of_one_that_was_away(caplog: pytest.LogCaptureFixture) -> None:
    fleet = fleet_of("a", "b")
    with caplog.at_level("INFO", "clients"):
        for endpoint in fleet.begin_to_ask():
            fleet.probed(endpoint, None)
        assert not caplog.messages
        fleet.probed(fleet.endpoints[0], AWAY)
        fleet.probed(fleet.endpoints[0], None)
    assert caplog.messages[-1] == "endpoint a is back"


def test_a_servers_words_cannot_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    fleet_of("a", "b").failed(Endpoint("a", None), CallFailed("UNAVAILABLE", "gone\nERROR \x1b[31m"))
    assert caplog.messages[0].endswith(r"gone\nERROR \x1b[31m")


def test_a_host_that_no_one_knows_is_no_matter_of_trust() -> None:
    unknown = CallFailed("UNAVAILABLE", "errors resolving typo:1: [field:hostname lookup error:address lookup failed]")
    with pytest.raises(ServerUnavailable, match="No server answers at a: errors resolving typo:1"):
        send(fleet_of("a"), {"a": unknown})


def test_where_all_are_down_the_one_that_rested_longest_is_tried_first() -> None:
    clock = Clock()
    fleet = fleet_of("a", "b", clock=clock)
    fleet.failed(fleet.endpoints[1], AWAY)
    clock.now += 10
    fleet.failed(fleet.endpoints[0], AWAY)
    assert fleet.board(()).url == "b"


def test_an_endpoint_that_was_late_is_left_alone_but_the_request_is_not_sent_again() -> None:
    fleet = fleet_of("a", "b")
    with pytest.raises(Timeout, match="no answer within 60 s"):
        send(fleet, {"a": LATE, "b": LATE})
    assert sum(one.healthy for one in fleet.endpoints) == 1


@pytest.mark.parametrize("failure", [BUSY, LIMITED])
def test_a_busy_endpoint_stays_healthy(failure: CallFailed) -> None:
    fleet = fleet_of("a")
    with pytest.raises(ServerUnavailable, match="too busy") as caught:
        send(fleet, {"a": failure})
    assert fleet.endpoints[0].healthy
    assert f"asked {ATTEMPTS} times" in caught.value.why


@pytest.mark.parametrize("failure", [AWAY, BUSY])
def test_retries_add_a_tenth_of_the_load_and_a_small_credit(failure: CallFailed) -> None:
    fleet, requests, visited = fleet_of("a"), 500, list[str]()
    for _ in range(requests):
        with pytest.raises(ServerUnavailable):
            send(fleet, {"a": failure}, visited=visited)
    sent = len(visited)
    assert requests * (1 + BUDGET_SHARE) - 1 <= sent <= requests * (1 + BUDGET_SHARE) + BUDGET_CREDIT


def test_a_request_without_budget_says_so() -> None:
    fleet = fleet_of("a")
    while fleet.budget.spend():
        pass
    with pytest.raises(ServerUnavailable) as caught:
        send(fleet, {"a": AWAY})
    assert "asked once, and too many requests were sent again lately" in caught.value.why


def test_taking_over_from_a_dead_endpoint_costs_no_budget() -> None:
    fleet = fleet_of("a", "b")
    while fleet.budget.spend():
        pass
    visits = [send(fleet, {"a": AWAY}) for _ in range(2)]
    assert ["a", "b"] in visits and visits[-1][-1] == "b"


def test_a_busy_fleet_is_not_asked_more_than_the_budget_allows() -> None:
    fleet = fleet_of("a", "b", "c")
    while fleet.budget.spend():
        pass
    with pytest.raises(ServerUnavailable, match="too busy"):
        send(fleet, {"a": BUSY, "b": BUSY, "c": BUSY})


@pytest.mark.parametrize(
    ("status", "text"),
    [
        *((status, "unexpected shape") for status in ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "INTERNAL")),
        ("RESOURCE_EXHAUSTED", "Sent message larger than max"),
    ],
)
def test_what_the_server_refuses_is_sent_once(status: str, text: str) -> None:
    fleet = fleet_of("a", "b")
    credit = [fleet.budget.spend() for _ in range(3)]
    assert all(credit)
    with pytest.raises(ContractMismatch, match=rf"refused the request \({status}\): {text}"):
        send(fleet, dict.fromkeys("ab", CallFailed(status, text)))
    assert all(one.healthy for one in fleet.endpoints)


def test_waits_grow_and_are_out_of_step() -> None:
    waits = np.array([[wait_before_retry_s(attempt) for attempt in range(1, 7)] for _ in range(200)])
    wanted = np.array([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert np.all(np.abs(waits / wanted - 1) <= 0.25)
    assert np.all(waits.std(axis=0) > 0.05 * wanted)


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    clock = Clock()
    fleet = fleet_of("a", clock=clock)
    trip = Trip(fleet, "Model m", timeout_s=0.05)
    with pytest.raises(ServerUnavailable, match="connection refused"), trip.leg():
        raise AWAY


def test_two_contracts_are_refused_with_both_sides() -> None:
    fleet = fleet_of("a:1", "b:2")
    fleet.heard(fleet.endpoints[0], "m", contract("1" * 64))
    with pytest.raises(CallFailed) as caught:
        fleet.heard(fleet.endpoints[1], "m", contract("2" * 64))
    assert isinstance(caught.value.refusal, ContractMismatch)
    assert "a:1 has contract 111111111111, b:2 has contract 222222222222" in str(caught.value.refusal)


def test_a_server_that_came_back_with_another_contract_is_told_as_such() -> None:
    fleet = fleet_of("a:1")
    fleet.heard(fleet.endpoints[0], "m", contract("1" * 64))
    assert not fleet.must_ask(fleet.endpoints[0], "m")
    fleet.failed(fleet.endpoints[0], AWAY)
    assert fleet.must_ask(fleet.endpoints[0], "m")
    with pytest.raises(CallFailed) as caught:
        fleet.heard(fleet.endpoints[0], "m", contract("2" * 64))
    assert "serves m by another contract than before: 222222222222" in str(caught.value.refusal)


def test_an_endpoint_that_does_not_fit_leaves_its_requests_to_the_others() -> None:
    fleet = fleet_of("a", "b")
    unfit = CallFailed("UNFIT", "", ContractMismatch("another contract", "ours", "why", "do"))
    visits = [send(fleet, {"a": unfit}) for _ in range(4)]
    assert all(one[-1] == "b" for one in visits) and sum("a" in one for one in visits) == 1
    with pytest.raises(ContractMismatch, match="another contract"):
        send(fleet_of("a"), {"a": unfit})

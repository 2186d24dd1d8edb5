"""Alarms: raised at the threshold, held until the lower one, and what of a command line is refused."""

from __future__ import annotations

import numpy as np
import pytest

from clients.counting.alarms import Alarms, Threshold, parse_thresholds
from clients.counting.regions import Region
from clients.errors import BadInput

GATE = Region("gate", ((0, 0), (9, 0), (9, 9)))


def test_an_alarm_is_raised_at_its_threshold_and_over_only_below_the_lower_one() -> None:
    alarms = Alarms([Threshold("total", 50, 40)])
    told = []
    for count in (10, 49.9, 50, 45, 60, 40, 39.9, 45, 49, 51):
        changes = alarms.update({"total": count})
        told.append(("raised" if changes[0].raised else "over") if changes else bool(alarms.raised))
    assert told == [False, False, "raised", True, True, True, "over", False, False, "raised"]


def test_with_one_threshold_a_trembling_count_would_tell_again_and_again() -> None:
    trembling = 50 + np.random.default_rng(0).normal(0, 1, 500)
    told = {
        clear: sum(len(alarms.update({"total": float(count)})) for count in trembling)
        for clear, alarms in ((clear, Alarms([Threshold("total", 50, clear)])) for clear in (50.0, 45.0))
    }
    assert told[50.0] > 100 and told[45.0] == 1


def test_regions_and_the_whole_photo_have_alarms_of_their_own() -> None:
    alarms = Alarms([Threshold("gate", 5, 4), Threshold("total", 50, 45)])
    (change,) = alarms.update({"total": 20.0, "gate": 7.0})
    assert str(change) == "alarm: 7.0 people in gate, 5 or more" and alarms.raised == ("gate",)
    assert change.to_dict() == {"watched": "gate", "raised": True, "count": 7.0, "threshold": 5.0}
    changes = alarms.update({"total": 60.0, "gate": 1.0})
    assert [str(change) for change in changes] == [
        "alarm over: 1.0 people in gate, fewer than 4",
        "alarm: 60.0 people, 50 or more",
    ]
    assert alarms.raised == ("total",)


def test_the_command_lines_words_become_thresholds() -> None:
    found = parse_thresholds(["200", "gate=20"], ["gate=12"], [GATE])
    assert found == (Threshold("total", 200, 180), Threshold("gate", 20, 12))
    assert parse_thresholds(["total=5"], ["5"], []) == (Threshold("total", 5, 5),)
    assert parse_thresholds([], [], []) == ()


@pytest.mark.parametrize(
    ("alarms", "clears", "seen"),
    [
        (["many"], [], "--alarm many gives no number above 0"),
        (["gate="], [], "--alarm gate= gives no number above 0"),
        (["0"], [], "--alarm 0 gives no number above 0"),
        (["nan"], [], "gives no number above 0"),
        (["inf"], [], "gives no number above 0"),
        (["exit=5"], [], "--alarm exit=5 names a region that is not there"),
        (["5", "total=6"], [], "--alarm is given twice for total"),
        (["5"], ["6"], "The alarm of total would end below 6, and its threshold is 5"),
        (["5"], ["gate=3"], "The alarm of gate would end below 3, and its threshold is none"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(alarms: list[str], clears: list[str], seen: str) -> None:
    with pytest.raises(BadInput, match=seen):
        parse_thresholds(alarms, clears, [GATE])

"""Alarms: too many people, in the photo or in a region, with hysteresis where one count follows another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clients.counting.regions import TOTAL, Region
from clients.errors import BadInput, printable

CLEAR_SHARE = 0.9  # of the threshold, where --alarm-clear says nothing: a count trembles by a few percent


@dataclass(frozen=True)
class Threshold:
    """An alarm is raised by `people` or more, and stays until there are fewer than `clear`."""

    watched: str  # a region's name, or "total"
    people: float
    clear: float


@dataclass(frozen=True)
class AlarmChange:
    """An alarm was raised, or is over."""

    threshold: Threshold
    raised: bool
    count: float

    def __str__(self) -> str:
        where = "" if self.threshold.watched == TOTAL else f" in {self.threshold.watched}"
        if self.raised:
            return f"alarm: {self.count:.1f} people{where}, {self.threshold.people:g} or more"
        return f"alarm over: {self.count:.1f} people{where}, fewer than {self.threshold.clear:g}"

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {
            "watched": self.threshold.watched,
            "raised": self.raised,
            "count": round(self.count, 3),
            "threshold": self.threshold.people if self.raised else self.threshold.clear,
        }


class Alarms:
    """Watches counts that follow each other.

    Args:
        thresholds: one for each that is watched.
    """

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self._thresholds = tuple(thresholds)
        self._raised: set[str] = set()

    @property
    def raised(self) -> tuple[str, ...]:
        """What is too full now, in the thresholds' order."""
        return tuple(one.watched for one in self._thresholds if one.watched in self._raised)

    def update(self, counts: Mapping[str, float]) -> list[AlarmChange]:
        """Take the next counts, by what is watched; gives the alarms that they raised or ended."""
        changes = []
        for threshold in self._thresholds:
            count, before = counts[threshold.watched], threshold.watched in self._raised
            now = count >= (threshold.clear if before else threshold.people)
            if now != before:
                self._raised ^= {threshold.watched}
                changes.append(AlarmChange(threshold, now, count))
        return changes


def parse_thresholds(alarms: Sequence[str], clears: Sequence[str], regions: Sequence[Region]) -> tuple[Threshold, ...]:
    """The thresholds of the command line: N for the whole photo, NAME=N for a region.

    Raises:
        BadInput: no number above 0, no such region, named twice, or an end above the threshold or without one.
    """
    known = {TOTAL, *(region.name for region in regions)}
    raised, ended = (_numbers(words, flag, known) for words, flag in ((alarms, "--alarm"), (clears, "--alarm-clear")))
    for name, people in ended.items():
        if people > raised.get(name, 0):
            seen = f"{raised[name]:g}" if name in raised else "none"
            raise _refused(
                f"The alarm of {name} would end below {people:g}, and its threshold is {seen}",
                "an --alarm of the same name that is as high or higher",
                "it would end before it began",
            )
    return tuple(Threshold(name, people, ended.get(name, CLEAR_SHARE * people)) for name, people in raised.items())


def _numbers(words: Sequence[str], flag: str, known: set[str]) -> dict[str, float]:
    """People by what is watched."""
    numbers: dict[str, float] = {}
    for word in words:
        name, _, text = word.rpartition("=")
        name = name.strip() or TOTAL
        try:
            people = float(text)
        except ValueError:
            people = 0.0
        if not 0 < people < float("inf"):
            raise _refused(
                f"{flag} {printable(word)} gives no number above 0", "N or NAME=N", "nothing can be compared"
            )
        if name not in known:
            raise _refused(
                f"{flag} {printable(word)} names a region that is not there",
                f"one of {', '.join(sorted(known))}",
                "nothing would ever raise it",
            )
        if name in numbers:
            raise _refused(f"{flag} is given twice for {name}", "once each", "one would hide the other")
        numbers[name] = people
    return numbers


def _refused(seen: str, wanted: str, why: str) -> BadInput:
    return BadInput(seen, wanted, why, "correct --alarm, --alarm-clear or --region")

"""Which scenes of a data set are for training, validation and test; the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from train.crowd.scene import Scene
from train.errors import TrainError

Split = Literal["train", "val", "test", "all"]
Readers = Mapping[str, Callable[[], list[Scene]]]  # of each split that a data set has; of "all" where it has none

HELD_OUT_SHARE = 0.1
_HELD_OUT_SEED = 0


class MissingSplitError(TrainError):
    """A split that a data set does not have."""


def by_number(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts IMG_2 before IMG_10, and names that differ in case only always in the same order."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], name


def held_out(names: Iterable[str]) -> set[str]:
    """The tenth of a training set that stands in for its missing validation split.

    Drawn with a fixed seed from the names in natural order, so it depends neither on the machine nor on the order in
    which a folder is listed. At least one, and never all.

    Returns:
        30 of 300 names, 40 of 400.
    """
    ordered = sorted(names, key=by_number)
    size = min(len(ordered) - 1, max(1, round(HELD_OUT_SHARE * len(ordered))))
    places = np.random.default_rng(_HELD_OUT_SEED).permutation(len(ordered))[: max(0, size)]
    return {ordered[place] for place in places}


def select(folder: Path, readers: Readers, split: Split) -> list[Scene]:
    """The scenes of one split.

    Without a validation split, `held_out` of the training set is it. A folder without splits (`readers` of "all") is
    its own test set, and is divided in the same way for training and validation.

    Raises:
        MissingSplitError: the data set has no such split.
        TrainError: there is nothing in it.
    """
    if split == "all" or (split == "test" and "all" in readers):
        scenes = [scene for read in readers.values() for scene in read()]
    elif split in readers and (split != "train" or "val" in readers):
        scenes = readers[split]()
    else:
        scenes = _divided(folder, readers, split)
    if not scenes:
        raise TrainError(f"{folder} holds no picture of the split {split!r}; wanted one at least. Name another folder.")
    return scenes


def _divided(folder: Path, readers: Readers, split: Split) -> list[Scene]:
    """Training or validation of a set that has no validation split of its own."""
    whole = readers.get("train", readers.get("all"))
    if split == "test" or whole is None:
        remedy = "ask for `--split val`, a fixed tenth of the training set" if "train" in readers else "ask for another"
        raise MissingSplitError(
            f"{folder} has no {split} split, only {', '.join(readers)}; wanted pictures of {split}, because a figure "
            f"on other pictures is another figure. Copy that split there, or {remedy}."
        )
    scenes = whole()
    pictures = held_out({scene.picture.as_posix() for scene in scenes})  # one with several sounds stays on one side
    return [scene for scene in scenes if (scene.picture.as_posix() in pictures) == (split == "val")]


def few(names: Sequence[str]) -> str:
    """The first three names and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more

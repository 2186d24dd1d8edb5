"""What `avedge perf accuracy` judges on: drawn from a seed for the occasion, or data sets on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perf.errors import PerfError
from train.corpus.drawer import Drawer
from train.corpus.mixtures import Mixture, read_list
from train.crowd.layouts import read_scenes
from train.crowd.scene import Scene
from train.crowd.splits import MissingSplitError
from train.facefilter.listed import evenly
from train.synthetic.scenes import synthesize_scenes
from train.synthetic.talkers import synthesize_talkers

_LIST = Path("mixtures/test.csv")
_MIXTURES_PER_TALKER = 8  # each talker has six clips, which pair up with all the others'
_FEWEST = 2  # of a split that is made and not used


@dataclass(frozen=True)
class Mixtures:
    """Two-speaker mixtures to judge separation on."""

    root: Path  # of their paths
    rows: Sequence[Mixture]
    among: Sequence[Mixture]  # the whole list that they are taken from
    origin: str


@dataclass(frozen=True)
class Scenes:
    """Photographs or drawn scenes to judge counting on."""

    scenes: Sequence[Scene]
    origin: str

    @property
    def heard(self) -> bool:
        """Whether every one of them has sound."""
        return all(scene.sound is not None for scene in self.scenes)


def mixtures(number: int, seed: int, scratch: Path, corpus: Path | None = None) -> Mixtures:
    """Mixtures of synthetic talkers whom no weights were trained on, or an even share of a corpus's test list.

    Args:
        number: of mixtures; the four pairs of sexes take turns.
        seed: of the talkers and of the mixtures.
        scratch: an empty folder for the talkers.
        corpus: a folder with `mixtures/test.csv`.

    Raises:
        TrainError: the list cannot be read.
    """
    if corpus is not None:
        among = read_list(corpus / _LIST)
        return Mixtures(corpus, evenly(among, number), among, f"{corpus.name}/{_LIST}")
    talkers = max(4, 2 * math.ceil(number / _MIXTURES_PER_TALKER / 2))  # half of each sex
    synthesize_talkers(scratch, _FEWEST, seed, val_talkers=_FEWEST, test_talkers=talkers)
    rows = list(Drawer(scratch, "test", seed, "", 0.0, check=True).rows(number))
    return Mixtures(scratch, rows, rows, f"{talkers} synthetic talkers of seed {seed}")


def scenes(number: int, seed: int, scratch: Path, folder: Path | None = None) -> Scenes:
    """Drawn scenes with sound that no weights were trained on, or an even share of a data set's test split.

    Args:
        number: of scenes.
        seed: of the drawing.
        scratch: an empty folder for the scenes.
        folder: a data set in a layout of its own.

    Raises:
        TrainError: the data set cannot be read.
    """
    if folder is None:
        synthesize_scenes(scratch, {"test": number}, seed)
        return Scenes(read_scenes(scratch, "test"), f"scenes drawn with seed {seed}")
    try:
        split, found = "test", read_scenes(folder, "test")
    except MissingSplitError:
        split, found = "val", read_scenes(folder, "val")
    count = min(number, len(found))
    chosen = [found[place * len(found) // count] for place in range(count)]
    return Scenes(chosen, f"{folder.name}, split {split}")


def require_number(option: str, number: int) -> None:
    """Refuse a set of less than one.

    Raises:
        PerfError: it is (2).
    """
    if number < 1:
        raise PerfError(f"{option} is {number}; a mean needs at least one, and an evaluation a hundred or so.", 2)

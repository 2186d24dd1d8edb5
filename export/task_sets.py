"""What an artefact is calibrated and judged on: talkers and scenes drawn from seeds, kept for the next export.

    <cache>/<digest>/talkers/                 split `val` for calibration, `test` to judge on
    <cache>/<digest>/scenes-<name>/           one folder for each of SCENES

The digest is that of the code that draws and of the numbers here, so that other code never finds old drawings. Nobody
in them was in a training set, whose seeds are others; calibration and judgement share neither talkers nor scenes.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import shutil
import uuid
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from export.errors import ExportError
from export.recipe import TASK_SETS
from train.corpus.mixtures import Mixture
from train.crowd.scene import Scene

log = logging.getLogger(__name__)
LEAST_JUDGED = 100  # mixtures, and pictures
CALIBRATION_MIXTURES, CALIBRATION_SCENES = 24, 16
_SEED = 20_261
_TALKERS = {"train": 2, "val": 6, "test": 14}
_SOURCES = ("synthetic", "corpus")  # packages of train that draw
_TRAIN = Path(__file__).resolve().parents[1] / "train"


@dataclass(frozen=True)
class Sizes:
    """How many to draw."""

    mixtures: int = LEAST_JUDGED
    scenes: int = LEAST_JUDGED
    calibration_mixtures: int = CALIBRATION_MIXTURES
    calibration_scenes: int = CALIBRATION_SCENES
    talkers: int = _TALKERS["test"]
    people: int | None = None  # in every scene; drawn for each where not given

    def scene_parts(self) -> dict[str, int]:
        """Folders of scenes with their sizes; two to judge on, so that two processes draw them."""
        half = self.scenes // 2
        return {"calibration": self.calibration_scenes, "first": self.scenes - half, "second": half}


@dataclass(frozen=True)
class TaskSets:
    """Lists of what lies in a folder."""

    root: Path  # of the mixtures' paths
    mixtures: Sequence[Mixture]
    scenes: Sequence[Scene]
    calibration_mixtures: Sequence[Mixture]
    calibration_scenes: Sequence[Scene]


def drawn(cache: Path = TASK_SETS, sizes: Sizes | None = None) -> TaskSets:
    """Draw the sets, or find them.

    Args:
        cache: where they are kept; safe to delete.
        sizes: how many.

    Raises:
        ExportError: they cannot be written.
    """
    sizes = sizes or Sizes()
    folder = cache / _digest(sizes)
    if not folder.is_dir():
        log.info("drawing %d mixtures and %d scenes to judge on, into %s: a minute or two, once",
                 sizes.mixtures, sizes.scenes, cache)  # fmt: skip
        try:
            _draw(folder, sizes)
        except OSError as error:
            raise ExportError(
                f"{cache} could not be written ({error}); wanted room for 50 MB of drawn talkers and scenes, on which "
                "a converted graph is judged. Free space, or name another folder with --task-sets."
            ) from error
    return _read(folder, sizes)


def _draw(folder: Path, sizes: Sizes) -> None:
    """Draw into a folder beside the final one, which then appears whole."""
    beside = folder.with_name(f".drawing-{uuid.uuid4().hex}")
    beside.mkdir(parents=True)
    try:
        # Not forked: a copy of a process in which torch has started threads may wait for them for ever.
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting = [pool.submit(_draw_talkers, beside / "talkers", sizes.talkers)]
            for number, (name, size) in enumerate(sizes.scene_parts().items()):
                waiting.append(pool.submit(_draw_scenes, beside / f"scenes-{name}", size, number, sizes.people))
            for task in waiting:
                task.result()
        os.replace(beside, folder)
    except OSError:
        if not folder.is_dir():  # else another export was faster
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _draw_talkers(folder: Path, talkers: int) -> None:
    from train.synthetic.talkers import synthesize_talkers

    synthesize_talkers(
        folder, _TALKERS["train"], _SEED, val_talkers=min(_TALKERS["val"], talkers), test_talkers=talkers
    )


def _draw_scenes(folder: Path, size: int, part: int, people: int | None) -> None:
    from train.synthetic.scenes import synthesize_scenes

    synthesize_scenes(folder, {"test": size}, _SEED + part, people=people)


def _read(folder: Path, sizes: Sizes) -> TaskSets:
    from train.corpus.drawer import Drawer
    from train.crowd.layouts import read_scenes

    talkers = folder / "talkers"

    def mixtures(split: str, number: int) -> list[Mixture]:
        return list(Drawer(talkers, split, _SEED, "", 0.0, check=True).rows(number))

    scenes = {name: read_scenes(folder / f"scenes-{name}", "test") for name in sizes.scene_parts()}
    return TaskSets(
        talkers,
        mixtures("test", sizes.mixtures),
        [*scenes["first"], *scenes["second"]],
        mixtures("val", sizes.calibration_mixtures),
        scenes["calibration"],
    )


def _digest(sizes: Sizes) -> str:
    digest = hashlib.sha256(repr((sizes, _SEED, _TALKERS)).encode())
    for path in (*(p for name in _SOURCES for p in sorted((_TRAIN / name).rglob("*.py"))), _TRAIN / "settings.py"):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]

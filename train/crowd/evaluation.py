"""How well a system counts: on any data set, with its pictures as they are or degraded."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from train.crowd.data import read_sound
from train.crowd.degrade import degraded, parse_setting, picture_rng
from train.crowd.frame import density_of_photo, heads_outside, inside_photo, whole
from train.crowd.geometry import GEOMETRIES, Geometry
from train.crowd.ground_truth import (
    block_sums,
    density_of_map,
    grid_counts,
    grid_sums,
    patch_counts,
    patch_counts_of,
)
from train.crowd.intervals import interval_figures, least_pictures, require_pictures
from train.crowd.metrics import (
    GAME_LEVELS,
    correlation,
    errors_by_density,
    grid_average_mean_error,
    mean_absolute_error,
    normalised_absolute_error,
    root_mean_square_error,
)
from train.crowd.scene import Picture, Scene, read_picture
from train.crowd.systems import BATCH, Counted, Observed, System, patches_of
from train.errors import TrainError
from train.progress import told
from train.settings import PATCH_GRID

log = logging.getLogger(__name__)
Truth = Literal["points", "density"]
_SEED = 0  # of the degradations, which are drawn for each picture


@dataclass(frozen=True)
class Options:
    """What is judged.

    Args:
        setting: of `train.crowd.degrade`.
        truth: people by their points, or the sum of the density map; a scene that has only one of them has that.
        constant: what the constant predictor says, people; None where nobody knows.
        share: of the interval to make; None for no interval.
    """

    setting: str = "regular"
    truth: Truth = "points"
    constant: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class Regions:
    """Where people are: in the photo's own grids, by level of GAME, and in the patches of the network's frame."""

    grids: tuple[NDArray[np.float64], ...]  # (4**level,) each
    patches: NDArray[np.float32]  # (P,)
    heads_outside: int = 0  # annotated outside of the photo, and counted at its border

    @property
    def people(self) -> float:
        """In the whole photo."""
        return float(self.grids[0][0])


@dataclass(frozen=True)
class Judged:
    """A picture: what there is and what was counted."""

    truth: Regions
    found: Regions
    counted: Counted


def evaluate(scenes: Sequence[Scene], system: System, options: Options) -> dict[str, Any]:
    """Judge a system on scenes.

    Returns:
        `summarise`'s figures, with `setting`, `truth`, `system` and `seconds`.

    Raises:
        TrainError: a scene that cannot be read, a setting that is not the network's, or too few for an interval.
    """
    began = time.monotonic()
    check_setting(options.setting, system)
    if options.share is not None:
        require_pictures(len(scenes), least_pictures(options.share) + 1, options.share)  # one at a time is left out
    if system.hears and (silent := sum(scene.sound is None for scene in scenes)):
        log.warning("%d of %d pictures have no sound: the network hears silence.", silent, len(scenes))
    judged = list(told(_judge(scenes, system, options), len(scenes), "pictures"))
    if outside := [one.truth.heads_outside for one in judged if one.truth.heads_outside]:
        log.warning(
            "%d heads of %d pictures are annotated outside of them and counted at their border.",
            sum(outside),
            len(outside),
        )
    return {
        "setting": options.setting,
        "truth": _known_by(scenes, options.truth),
        **summarise(judged, system, options),
        "system": system.describe(),
        "seconds": round(time.monotonic() - began, 1),
    }


def check_setting(setting: str, system: System) -> None:
    """Refuse pictures of another resolution than the network was made for.

    Raises:
        TrainError: the setting is unknown or for another network.
    """
    wanted = parse_setting(setting).resolution
    if GEOMETRIES[wanted] != system.geometry:
        low = "--setting low_resolution"
        raise TrainError(
            f"The setting {setting} is for networks of pictures of {_size(GEOMETRIES[wanted])}, and this one sees "
            f"{_size(system.geometry)}; wanted the same, because section 4 trains a network for each. "
            + (f"Name weights of that size, or leave out {low}." if wanted == "low" else f"Judge it with {low}.")
        )


def summarise(judged: Sequence[Judged], system: System, options: Options) -> dict[str, Any]:
    """Figures of pictures that were counted.

    Returns:
        `n`; `heads_outside` of their pictures, counted at the border; `mean_people`; `mae`, `rmse`, `nae` (of pictures
        with people); `game`, by level; `constant_predictor`, its `constant_predictor_mae` and `_rmse`, and
        `mae_over_constant`; `count_correlation`; `patch_correlation` and `importance_correlation` (PIR with the true
        shares) over all patches of the network's frame, where the photo is seen in one; `estimates_mae`: of the sum of
        PCE as the count; `by_density`; `interval` where one was asked for.
        What cannot be said is None.

    Raises:
        TrainError: too few pictures for an interval.
    """
    truth, counts = (np.array([getattr(one, name).people for one in judged]) for name in ("truth", "found"))
    figures: dict[str, Any] = {
        "n": len(judged),
        "heads_outside": sum(one.truth.heads_outside for one in judged),
        "mean_people": float(truth.mean()),
        "mae": mean_absolute_error(counts, truth),
        "rmse": root_mean_square_error(counts, truth),
        "nae": normalised_absolute_error(counts, truth),
        "game": {
            str(level): grid_average_mean_error(
                np.stack([one.found.grids[level] for one in judged]),
                np.stack([one.truth.grids[level] for one in judged]),
            )
            for level in GAME_LEVELS
        },
        **_beside_constant(counts, truth, options.constant),
        "count_correlation": correlation(counts, truth),
        **_of_patches(judged, system),
        "by_density": errors_by_density(counts, truth),
    }
    if options.share is not None:
        figures["interval"] = interval_figures(counts, truth, options.share)
    return figures


def _beside_constant(counts: NDArray[np.float64], truth: NDArray[np.float64], people: float | None) -> dict[str, Any]:
    """Errors of always answering the training set's mean, and how ours compare."""
    names = ("constant_predictor_mae", "constant_predictor_rmse", "mae_over_constant")
    if people is None:
        return {"constant_predictor": None} | dict.fromkeys(names)
    constant = np.full_like(truth, people)
    mae = mean_absolute_error(constant, truth)
    ratio = mean_absolute_error(counts, truth) / mae if mae else None
    return {"constant_predictor": people} | dict(
        zip(names, (mae, root_mean_square_error(constant, truth), ratio), strict=True)
    )


def _of_patches(judged: Sequence[Judged], system: System) -> dict[str, float | None]:
    """Figures over the patches of the network's frame."""
    figures: dict[str, float | None] = dict.fromkeys(("patch_correlation", "importance_correlation", "estimates_mae"))
    if system.view.tiles != 1:
        return figures
    truth, found = (np.stack([getattr(one, name).patches for one in judged]) for name in ("truth", "found"))
    figures["patch_correlation"] = correlation(found, truth)
    people = truth.sum(axis=1, dtype=np.float64)
    importance = [one.counted.importance for one in judged if one.counted.importance is not None]
    if len(importance) == len(judged) and (peopled := people > 0).any():
        shares = truth[peopled] / people[peopled, None]
        figures["importance_correlation"] = correlation(np.stack(importance)[peopled], shares)
    estimates = [one.counted.estimates for one in judged if one.counted.estimates is not None]
    if len(estimates) == len(judged):
        figures["estimates_mae"] = mean_absolute_error(np.stack(estimates).sum(axis=1, dtype=np.float64), people)
    return figures


def _judge(scenes: Iterable[Scene], system: System, options: Options) -> Iterator[Judged]:
    """Judge picture by picture, in order, a few at once."""
    waiting: list[tuple[Observed, Regions]] = []
    for scene in scenes:
        waiting.append(_read(scene, options, system.geometry))
        if len(waiting) == BATCH:
            yield from _count(waiting, system)
            waiting = []
    if waiting:
        yield from _count(waiting, system)


def _count(waiting: Sequence[tuple[Observed, Regions]], system: System) -> Iterator[Judged]:
    counted = system.count([observed for observed, _ in waiting])
    for (_, truth), one in zip(waiting, counted, strict=True):
        grids = tuple(grid_sums(one.density, one.covered, level) for level in GAME_LEVELS)
        patches = patches_of(one, system.geometry) if system.view.tiles == 1 else np.zeros(0, np.float32)
        yield Judged(truth, Regions(grids, patches), one)


def _read(scene: Scene, options: Options, geometry: Geometry) -> tuple[Observed, Regions]:
    """A scene as the system gets it, and its truth."""
    photo = read_picture(scene.picture)
    truth = _truth(scene, photo, options.truth, geometry)
    rng = picture_rng(_SEED, scene.name)
    return Observed(degraded(photo, parse_setting(options.setting), rng), read_sound(scene.sound, None)), truth


def _known_by(scenes: Sequence[Scene], wanted: Truth) -> str:
    """What the people of a data set are known by."""
    kinds = sorted({_truth_of(scene, wanted) for scene in scenes})
    if kinds != [wanted]:
        log.warning("The truth is by %s: not every picture has %s.", " and ".join(kinds), wanted)
    return " and ".join(kinds)


def _truth_of(scene: Scene, wanted: Truth) -> Truth:
    """What a scene's people are known by: as wanted where it has that, else what it has."""
    has = {"points": scene.points is not None, "density": scene.density is not None}
    other: Truth = "density" if wanted == "points" else "points"
    return wanted if has[wanted] or not has[other] else other


def _truth(scene: Scene, photo: Picture, wanted: Truth, geometry: Geometry) -> Regions:
    """Where the people of a scene are, by its points or by its density map."""
    if scene.points is None or _truth_of(scene, wanted) == "density":
        people = density_of_photo(scene, photo)
        covered = float(people.shape[1]), float(people.shape[0])
        grids = tuple(grid_sums(people, covered, level) for level in GAME_LEVELS)
        return Regions(grids, _patches_at(geometry, patch_counts_of(density_of_map(people))))
    points = inside_photo(scene.points, photo, scene.name)
    size = float(photo.shape[1]), float(photo.shape[0])
    grids = tuple(grid_counts(points, size, level) for level in GAME_LEVELS)
    patches = _patches_at(geometry, patch_counts(whole(photo).move(points)))
    return Regions(grids, patches, heads_outside(scene.points, photo))


def _patches_at(geometry: Geometry, patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over 8x8 patches as sums over the geometry's, whose borders are among theirs."""
    return block_sums(patches.reshape(PATCH_GRID, PATCH_GRID), geometry.patch_grid, geometry.patch_grid).reshape(-1)


def _size(geometry: Geometry) -> str:
    return f"{geometry.width}x{geometry.height}"

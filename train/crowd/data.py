"""Crowd scenes from disk as batches for the network: any data set that `train.crowd.layouts` reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.batches import share
from train.corpus.recordings import read_recording
from train.crowd.augment import PLAIN, AugmentSettings, blank, draw_zoom, framed, lit, mosaic, without_people
from train.crowd.degrade import degraded, random_degradation
from train.crowd.frame import density_of_photo, inside_photo, place, whole
from train.crowd.geometry import GEOMETRIES, Geometry
from train.crowd.ground_truth import block_sums, density_map, density_of_map, patch_counts, patch_counts_of
from train.crowd.layouts import read_scenes
from train.crowd.scene import Picture, Scene, read_picture
from train.crowd.splits import few
from train.errors import TrainError
from train.settings import PATCH_GRID, SAMPLE_RATE_HZ, SOUND_SAMPLES

Rng = np.random.Generator

_CYCLE = 60  # examples over which the sources have exactly their shares
_SAME_CROWD = 0.1  # a part with so many fewer people than its photo sounds like another scene
_SIMILAR_SHARE = 50  # one sound in so many counts as similar
_BLANK_AMONG_EMPTY = 0.3


@dataclass(frozen=True)
class Source:
    """A data set, and how large a part of the examples comes from it."""

    folder: Path
    share: float = 1.0  # relative to the other sources'


class CrowdBatch(NamedTuple):
    """B scenes, ready for the network and its losses; sizes of the regular geometry, or of the low-resolution one."""

    picture: Tensor  # UINT8 (B, 576, 1024, 3), RGB; or (B, 72, 128, 3)
    sound: Tensor  # (B, 16000), one second at 16 kHz; zeros where a scene has none
    density: Tensor  # (B, 72, 128), people per cell; or (B, 36, 64)
    patch_counts: Tensor  # (B, 64), people; or (B, 16)


@dataclass(frozen=True)
class Example:
    """One scene as arrays; fields as in `CrowdBatch`, without the batch."""

    picture: NDArray[np.uint8]
    sound: NDArray[np.float32]
    density: NDArray[np.float32]
    patch_counts: NDArray[np.float32]

    def at(self, geometry: Geometry) -> Example:
        """This example for a network of that geometry: itself, or the low-resolution picture of it (section 5.1)."""
        if geometry == GEOMETRIES["regular"]:
            return self
        picture = cv2.resize(self.picture, (geometry.width, geometry.height), interpolation=cv2.INTER_AREA)
        density = block_sums(self.density, geometry.density_height, geometry.density_width)
        patches = self.patch_counts.reshape(PATCH_GRID, PATCH_GRID)
        counts = block_sums(patches, geometry.patch_grid, geometry.patch_grid)
        return Example(picture.astype(np.uint8, copy=False), self.sound, density, counts.reshape(-1))


def read_example(scene: Scene) -> Example:
    """One scene as it is: the whole picture in the frame, the first second of its sound.

    Raises:
        TrainError: a picture, sound or truth that is damaged or does not belong to the others.
    """
    photo = read_picture(scene.picture)
    if scene.points is None:
        density = density_of_map(density_of_photo(scene, photo))
        return Example(place(photo), read_sound(scene.sound, None), density, patch_counts_of(density))
    points = whole(photo).move(inside_photo(scene.points, photo, scene.name))
    return Example(place(photo), read_sound(scene.sound, None), density_map(points), patch_counts(points))


def read_sound(path: Path | None, rng: Rng | None) -> NDArray[np.float32]:
    """One second of a recording, float32 (16000,): the first, or a random one; zeros where there is none.

    Any format, rate and number of channels will do; DISCO's own loader resamples its sounds as well.

    Raises:
        TrainError: a recording that is missing, damaged or too short.
    """
    if path is None:
        return np.zeros(SOUND_SAMPLES, np.float32)
    sound = read_recording(path)
    if len(sound) < SOUND_SAMPLES:
        raise TrainError(
            f"{path} is {len(sound) / SAMPLE_RATE_HZ:.3f} s long; wanted a second or more, which the log-mel is made "
            "of. Record it again, or leave the picture without a sound."
        )
    if rng is None:
        return np.asarray(sound[:SOUND_SAMPLES], np.float32)
    if len(sound) == SOUND_SAMPLES:  # begun elsewhere
        return np.roll(np.asarray(sound, np.float32), int(rng.integers(SOUND_SAMPLES)))
    start = int(rng.integers(len(sound) - SOUND_SAMPLES + 1))
    return np.asarray(sound[start : start + SOUND_SAMPLES], np.float32)


def collate(examples: Sequence[Example], geometry: Geometry = GEOMETRIES["regular"]) -> CrowdBatch:
    """Stack scenes into a batch."""
    sized = (example.at(geometry) for example in examples)
    columns = zip(*((e.picture, e.sound, e.density, e.patch_counts) for e in sized), strict=True)
    return CrowdBatch(*(torch.from_numpy(np.ascontiguousarray(np.stack(column))) for column in columns))


def batches(scenes: Sequence[Scene], size: int, geometry: Geometry = GEOMETRIES["regular"]) -> Iterator[CrowdBatch]:
    """The scenes once, in order, as they are; the last batch may be smaller."""
    for start in range(0, len(scenes), size):
        yield collate([read_example(scene) for scene in scenes[start : start + size]], geometry)


class SceneBatches:
    """Augmented training batches: every scene of a source once, in a new order, then again; a `train.fit.Batches`."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        batch_size: int,
        seed: int,
        augment: AugmentSettings = PLAIN,
        geometry: Geometry = GEOMETRIES["regular"],
    ) -> None:
        self.sets = [read_scenes(source.folder, "train") for source in sources]
        if augment.mosaic_share > 0:
            _require_points([scene for scenes in self.sets for scene in scenes])
        self.shares = [source.share / sum(s.share for s in sources) for source in sources]
        self.cycle = _cycle(self.shares, np.random.default_rng([seed, 2]))
        self.batch_size, self.seed, self.augment, self.geometry = batch_size, seed, augment, geometry
        self.heard = [[scene for scene in scenes if scene.sound is not None] for scenes in self.sets]

    @property
    def mean_people(self) -> float:
        """Of the pictures as they are, each source by its share."""
        means = [float(np.mean([scene.people for scene in scenes])) for scenes in self.sets]
        return float(np.dot(self.shares, means))

    def batch(self, step: int, part: int, parts: int) -> CrowdBatch:
        """Share `part` of `parts` of the batch of step `step`."""
        first = step * self.batch_size
        return collate([self._example(first + item) for item in share(self.batch_size, part, parts)], self.geometry)

    def _example(self, number: int) -> Example:
        """The example of that number since the start of the training."""
        rng = np.random.default_rng([self.seed, 1, number])
        source = int(self.cycle[number % len(self.cycle)])
        scene = self._scene(source, number)
        kind = rng.random()
        if kind < self.augment.empty_share:
            return self._empty(scene, rng)
        muted = scene.sound is not None and rng.random() < self.augment.silence_share
        degrade = 0.0 if muted else self.augment.degraded_share  # or a black picture in silence would mean people
        if kind < self.augment.empty_share + self.augment.mosaic_share:
            scenes = [scene, *(self._any(rng) for _ in range(3))]
            zooms = [draw_zoom(self.augment, rng) for _ in scenes]
            picture, points = mosaic([self._photo(part, degrade, rng) for part in scenes], zooms, rng)
        elif scene.points is None:
            return self._of_map(scene, rng)
        else:
            picture, points = framed(*self._photo(scene, degrade, rng), draw_zoom(self.augment, rng), rng)
        sound = read_sound(None, None) if muted else self._sound(source, scene, len(points), rng)
        return Example(picture, sound, density_map(points), patch_counts(points))

    def _scene(self, source: int, number: int) -> Scene:
        cycles, place_in_cycle = divmod(number, len(self.cycle))
        earlier = int(np.count_nonzero(self.cycle[:place_in_cycle] == source))
        ordinal = cycles * int(np.count_nonzero(self.cycle == source)) + earlier
        scenes = self.sets[source]
        round_number, place_in_round = divmod(ordinal, len(scenes))
        order = np.random.default_rng([self.seed, 0, source, round_number]).permutation(len(scenes))
        return scenes[order[place_in_round]]

    def _any(self, rng: Rng) -> Scene:
        scenes = self.sets[int(rng.choice(len(self.sets), p=self.shares))]
        return scenes[int(rng.integers(len(scenes)))]

    def _photo(self, scene: Scene, degrade: float, rng: Rng) -> tuple[Picture, NDArray[np.float32]]:
        """The photo with its heads, mirrored half of the time."""
        photo = read_picture(scene.picture)
        assert scene.points is not None
        points = inside_photo(scene.points, photo, scene.name)
        if mirrored := rng.random() < 0.5:
            photo = cv2.flip(photo, 1).astype(np.uint8, copy=False)
            points = points * np.array((-1, 1), np.float32) + np.array((photo.shape[1], 0), np.float32)
        return self._taken(photo, degrade, rng), inside_photo(points, photo, scene.name) if mirrored else points

    def _taken(self, photo: Picture, degrade: float, rng: Rng) -> Picture:
        """The photo in other light, and sometimes degraded; before it is framed, so that the padding stays black."""
        photo = lit(photo, self.augment, rng)
        return degraded(photo, random_degradation(rng), rng) if rng.random() < degrade else photo

    def _of_map(self, scene: Scene, rng: Rng) -> Example:
        """A whole picture whose truth is a density map, mirrored half of the time."""
        photo = read_picture(scene.picture)
        people = density_of_photo(scene, photo)
        if rng.random() < 0.5:
            photo, people = cv2.flip(photo, 1).astype(np.uint8, copy=False), people[:, ::-1]
        density = density_of_map(people)
        picture = place(self._taken(photo, self.augment.degraded_share, rng))
        return Example(picture, read_sound(scene.sound, rng), density, patch_counts_of(density))

    def _sound(self, source: int, scene: Scene, people: int, rng: Rng) -> NDArray[np.float32]:
        """The scene's own sound; where only a part of its people is seen, that of a scene with about as many."""
        if scene.sound is None or abs(people - scene.people) <= _SAME_CROWD * scene.people:
            return read_sound(scene.sound, rng)
        heard = self.heard[source]  # of the same data set: others record in another way
        distance = np.abs(np.log1p([other.people for other in heard]) - math.log1p(people))
        nearest = np.argsort(distance, kind="stable")[: max(1, len(heard) // _SIMILAR_SHARE)]
        return read_sound(heard[int(rng.choice(nearest))].sound, rng)

    def _empty(self, scene: Scene, rng: Rng) -> Example:
        """Nobody: a blank picture in silence, or a part of the photo in silence or with any scene's sound."""
        heard = False
        if rng.random() < _BLANK_AMONG_EMPTY or scene.points is None:
            picture = blank(rng)
        else:
            photo = read_picture(scene.picture)
            points = inside_photo(scene.points, photo, scene.name)
            picture = without_people(self._taken(photo, self.augment.degraded_share, rng), points, rng)
            heard = scene.sound is not None and rng.random() < 0.5
        level = np.float32(rng.choice([0.0, 10 ** rng.uniform(-4, -2.5)]))
        sound = level * rng.standard_normal(SOUND_SAMPLES, np.float32)
        if heard:
            sound = read_sound(scene.sound, rng)
        nobody = np.zeros((0, 2), np.float32)
        return Example(picture, sound, density_map(nobody), patch_counts(nobody))


def _require_points(scenes: Sequence[Scene]) -> None:
    if lacking := [scene.name for scene in scenes if scene.points is None]:
        raise TrainError(
            f"{few(lacking)}: a density map and no points; wanted points, because mosaics cut pictures up. Put the "
            "points beside the pictures (docs/crowd.md), or leave augment.mosaic_share at 0."
        )


def _cycle(shares: Sequence[float], rng: Rng) -> NDArray[np.int64]:
    """Which source each of the examples of a cycle comes from; largest remainders, at least one each."""
    if len(shares) == 1:
        return np.zeros(1, np.int64)
    wanted = np.array(shares) * _CYCLE
    counts = np.maximum(1, np.floor(wanted)).astype(int)
    for source in np.argsort(counts - wanted)[: max(0, _CYCLE - int(counts.sum()))]:
        counts[source] += 1
    return rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)

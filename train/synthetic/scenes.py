"""Crowd scenes drawn from a seed: a picture with perspective, the exact points of all heads, and one second of sound.

    <out>/index.csv                     split, scene, people, image, sound, points
    <out>/<split>/images/00000.jpg      1024 x 576, RGB
    <out>/<split>/sounds/00000.flac     1 s, 16 kHz, mono
    <out>/<split>/points/00000.csv      x,y of every head's centre, pixels, 0 <= x < 1024, 0 <= y < 576

Scene i of a split depends on (seed, split, i) alone: the same seed gives the same files, and a longer run begins like
a shorter one.
"""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from train.errors import TrainError
from train.files import write_atomically
from train.settings import PICTURE_HEIGHT, PICTURE_WIDTH, SAMPLE_RATE_HZ
from train.synthetic.ambience import Wave, ambient_sound
from train.synthetic.scene_drawing import (
    Canvas,
    Perspective,
    Rng,
    draw_background,
    draw_distractor,
    draw_person,
    photograph,
    random_perspective,
)

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
INDEX_FIELDS = ("split", "scene", "people", "image", "sound", "points")
MOST_PEOPLE = 300
_EMPTY_SHARE = 0.05  # of the scenes have nobody in them
_JPEG_QUALITY = 92
_SPACING_RADII = 1.25  # no two heads are nearer to each other than this many radii of the smaller one


@dataclass(frozen=True)
class Scene:
    """One drawn example."""

    picture: Canvas  # UINT8 (576, 1024, 3), RGB
    points: NDArray[np.float32]  # (people, 2): x, y of the heads, pixels
    sound: Wave  # float32 (16000,)


def random_count(rng: Rng) -> int:
    """How many people: 0 in one scene of twenty, else 1 to 300 and skewed to the small numbers (mean about 95)."""
    if rng.random() < _EMPTY_SHARE:
        return 0
    return 1 + int((MOST_PEOPLE - 1) * rng.random() ** 2)


def place_heads(rng: Rng, perspective: Perspective, people: int) -> NDArray[np.float32]:
    """Points of at most `people` heads, float32 (n, 2), sorted from far to near.

    Heads stand in groups and alone, and crowd towards the horizon as people on level ground do. Where a small field
    is full before everyone has found a place, fewer are returned.
    """
    groups = rng.uniform((0, perspective.horizon), (PICTURE_WIDTH, PICTURE_HEIGHT), (int(rng.integers(1, 7)), 2))
    together = rng.uniform(0.2, 0.9)
    placed = np.empty((people, 3), np.float32)  # x, y, radius
    count = 0
    for _ in range(20 * people):
        x, y = _candidate(rng, perspective, groups, together)
        if not (0 <= x < PICTURE_WIDTH and perspective.horizon <= y < PICTURE_HEIGHT) or count == people:
            continue
        radius = perspective.radius_at(y)
        before = placed[:count]
        gaps = np.hypot(before[:, 0] - x, before[:, 1] - y)
        if np.all(gaps > _SPACING_RADII * np.minimum(before[:, 2], radius)):
            placed[count] = x, y, radius
            count += 1
    points = placed[:count]
    return points[np.argsort(points[:, 1], kind="stable"), :2]


def _candidate(rng: Rng, perspective: Perspective, groups: NDArray[np.float64], together: float) -> tuple[float, float]:
    if rng.random() < together:
        centre = groups[rng.integers(len(groups))]
        radius = perspective.radius_at(float(centre[1]))
        return float(rng.normal(centre[0], 14 * radius)), float(rng.normal(centre[1], 4 * radius))
    # Level ground seen from a height: equal areas shrink with the square of the distance, so the far half is fuller
    depth = rng.random() ** 1.6
    return float(rng.uniform(0, PICTURE_WIDTH)), perspective.horizon + depth * (PICTURE_HEIGHT - perspective.horizon)


def draw_scene(rng: Rng, people: int | None = None) -> Scene:
    """Draw one scene.

    Args:
        rng: the source of everything; the same state draws the same scene.
        people: how many are wanted; drawn from `random_count` where not given.
    """
    wanted = random_count(rng) if people is None else people
    perspective = random_perspective(rng)
    points = place_heads(rng, perspective, wanted)
    canvas = draw_background(rng, perspective)
    things = [(float(y), float(x), True) for x, y in points]
    things += [
        (y, x, False) for x, y in rng.uniform((0, 0), (PICTURE_WIDTH, PICTURE_HEIGHT), (int(rng.integers(0, 25)), 2))
    ]
    for y, x, is_person in sorted(things):  # far ones first, so that near ones hide them
        draw = draw_person if is_person else draw_distractor
        draw(canvas, rng, x, y, perspective.radius_at(y))
    return Scene(photograph(canvas, rng, perspective.horizon), points, ambient_sound(rng, len(points)))


def scene_rng(seed: int, split: str, index: int) -> Rng:
    """The generator of scene `index` of a split."""
    return np.random.default_rng([seed, SPLITS.index(split), index])


# ---- files ----


def _encoded(scene: Scene) -> tuple[bytes, bytes, bytes]:
    bgr = cv2.cvtColor(scene.picture, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    flac = io.BytesIO()
    soundfile.write(flac, scene.sound, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    rows = [f"{x:.3f},{y:.3f}" for x, y in scene.points]
    return jpeg.tobytes(), flac.getvalue(), "\n".join(["x,y", *rows, ""]).encode()


def write_scene(out: Path, split: str, index: int, scene: Scene) -> dict[str, str | int]:
    """Write the three files of a scene and return its row of the index."""
    names = [
        f"{split}/{kind}/{index:05d}.{ending}"
        for kind, ending in (("images", "jpg"), ("sounds", "flac"), ("points", "csv"))
    ]
    for name, content in zip(names, _encoded(scene), strict=True):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return dict(zip(INDEX_FIELDS, (split, index, len(scene.points), *names), strict=True))


def synthesize_scenes(out: Path, sizes: dict[str, int], seed: int, *, people: int | None = None) -> dict[str, object]:
    """Draw and write the splits; the index is written last, so a folder with an index is complete.

    Args:
        out: folder to fill.
        sizes: scenes per split, e.g. `{"train": 2000, "val": 40, "test": 100}`.
        seed: of the whole set.
        people: wanted in every scene; drawn for each where not given.

    Returns:
        A summary: scenes per split, mean and greatest number of people.

    Raises:
        TrainError: the folder already holds scenes.
    """
    index = out / "index.csv"
    if index.exists():
        raise TrainError(
            f"{index} exists; wanted a folder without scenes, because two sets in one folder would mix their splits. "
            "Name another folder with --out or remove this one."
        )
    rows = []
    for split, size in sizes.items():
        for scene_index in range(size):
            rows.append(write_scene(out, split, scene_index, draw_scene(scene_rng(seed, split, scene_index), people)))
            if (scene_index + 1) % 200 == 0:
                log.info("%s: %d of %d scenes", split, scene_index + 1, size)
    table = io.StringIO()
    writer = csv.DictWriter(table, INDEX_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(index, table.getvalue().encode())
    counts = [int(row["people"]) for row in rows]
    return {
        "out": str(out),
        "scenes": sizes,
        "mean_people": round(float(np.mean(counts)), 2),
        "most_people": max(counts),
    }

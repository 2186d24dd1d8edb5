"""Tiny crowds in the trees of the published data sets: small random pictures, random heads, sound of noise.

Every writer returns the heads by the picture's stem, so that a test knows what it must read back.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.io import savemat

Points = NDArray[np.float64]  # (n, 2)

WIDTH, HEIGHT = 48, 36  # pixels of every picture

# The smallest CC-AV and CC-V worth the name: changes to the preset `compact`
NARROW: dict[str, Any] = {
    "widths": [8, 8, 8],
    "merge_channels": 8,
    "units_per_structure": 1,
    "bottleneck_ratio": 4,
    "audio_widths": [4, 4, 4, 4],
}


def some_heads(rng: np.random.Generator, most: int = 9) -> Points:
    """Up to `most` heads inside of a picture, on thousandths of a pixel, so that text keeps them."""
    return np.round(rng.uniform(0, (WIDTH - 1, HEIGHT - 1), (int(rng.integers(most + 1)), 2)), 3)


def write_picture(path: Path, rng: np.random.Generator) -> None:
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def write_sound(path: Path, rng: np.random.Generator) -> None:
    """One second of noise at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, rng.normal(0, 0.1, 16_000), 16_000)


def write_image_info(path: Path, heads: Points) -> None:
    """An annotation of ShanghaiTech: a cell that holds a structure of location and number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = np.empty((1, 1), object)
    cell[0, 0] = {"location": heads, "number": float(len(heads))}
    savemat(path, {"image_info": cell})


def write_shanghaitech_pictures(
    folder: Path, count: int, *, truth: str = "ground-truth", seed: int = 0
) -> dict[str, Points]:
    """`train_data` or `test_data`: images/IMG_n.jpg and GT_IMG_n.mat."""
    rng = np.random.default_rng(seed)
    heads = {f"IMG_{number}": some_heads(rng) for number in range(1, count + 1)}
    for name, points in heads.items():
        write_picture(folder / "images" / f"{name}.jpg", rng)
        write_image_info(folder / truth / f"GT_{name}.mat", points)
    return heads


def write_qnrf_pictures(folder: Path, count: int, *, seed: int = 0) -> dict[str, Points]:
    """`Train` or `Test` of UCF-QNRF: img_0001.jpg and img_0001_ann.mat side by side."""
    rng = np.random.default_rng(seed)
    heads = {f"img_{number:04d}": some_heads(rng) for number in range(1, count + 1)}
    for name, points in heads.items():
        write_picture(folder / f"{name}.jpg", rng)
        savemat(folder / f"{name}_ann.mat", {"annPoints": points})
    return heads


def write_disco(
    folder: Path, counts: dict[str, int], *, points: bool = False, prefix: str = "", seed: int = 0
) -> dict[str, Points]:
    """DISCO with so many scenes in each split; a map has one in each head's pixel, `points` writes them as text too."""
    rng = np.random.default_rng(seed)
    heads: dict[str, Points] = {}
    for split, count in counts.items():
        for _ in range(count):
            name = f"{len(heads):04d}"
            heads[name] = np.floor(some_heads(rng))
            write_picture(folder / "imgs" / f"{name}.jpg", rng)
            write_sound(folder / "auds" / f"{name}.wav", rng)
            people = np.zeros((HEIGHT, WIDTH))
            np.add.at(people, tuple(heads[name].astype(int).T[::-1]), 1.0)
            maps = folder / "density" / f"{prefix}{split}"
            maps.mkdir(parents=True, exist_ok=True)
            savemat(maps / f"{name}.mat", {"map": people}, do_compression=True)
            if points:
                (folder / "points").mkdir(exist_ok=True)
                lines = "".join(f"{x:.0f} {y:.0f}\n" for x, y in heads[name])
                (folder / "points" / f"new_{name}.txt").write_text(lines)
    return heads


def _named(counts: dict[str, int]) -> list[tuple[str, str]]:
    """Split and name of so many scenes in each split."""
    splits = [split for split, count in counts.items() for _ in range(count)]
    return [(split, f"{split}_{number}") for number, split in enumerate(splits)]


def write_csv_index(folder: Path, counts: dict[str, int], *, sound: bool = True, seed: int = 0) -> dict[str, Points]:
    """index.csv with one file of points for each picture."""
    rng = np.random.default_rng(seed)
    heads, rows = {}, []
    for split, name in _named(counts):
        heads[name] = some_heads(rng)
        write_picture(folder / "images" / f"{name}.png", rng)
        (folder / f"{name}.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in heads[name]))
        row = {"split": split, "image": f"images/{name}.png", "points": f"{name}.csv", "people": len(heads[name])}
        if sound:
            write_sound(folder / "sounds" / f"{name}.flac", rng)
            row["sound"] = f"sounds/{name}.flac"
        rows.append(row)
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return heads


def write_json_index(folder: Path, counts: dict[str, int], *, seed: int = 0) -> dict[str, Points]:
    """index.json with the points inside, without sound."""
    rng = np.random.default_rng(seed)
    heads, rows = {}, []
    for split, name in _named(counts):
        heads[name] = some_heads(rng)
        write_picture(folder / f"{name}.jpg", rng)
        rows.append({"split": split, "image": f"{name}.jpg", "points": heads[name].tolist()})
    (folder / "index.json").write_text(json.dumps(rows))
    return heads

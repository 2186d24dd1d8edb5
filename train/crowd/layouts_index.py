"""Plain pictures and points, listed in an index: users' own data, and the scenes that `avedge synthesize scenes` makes.

    index.csv     split,image,points[,sound], and further columns; paths are relative to the index
                    split   train, val or test; without the column the folder has no splits
                    points  CSV with the header "x,y", pixels of the picture; header alone: nobody there
                    sound   one second or more; empty: none
                    people  if there, must be the number of points
    index.json    the same as a list of {"split", "image", "points": [[x, y], ...], "sound"}

Without rows of `val`, a fixed tenth of `train` is it (`splits.held_out`).
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from train.crowd.annotations import as_points, read_text_points
from train.crowd.scene import Scene
from train.crowd.splits import Split, few, select
from train.errors import TrainError

_SPLITS = ("train", "val", "test")
Row = dict[str, Any]


def is_csv_index(folder: Path) -> bool:
    """Whether the folder holds an index.csv."""
    return (folder / "index.csv").is_file()


def is_json_index(folder: Path) -> bool:
    """Whether the folder holds an index.json."""
    return (folder / "index.json").is_file()


def read_csv_index(folder: Path, split: Split) -> list[Scene]:
    """The scenes of one split, in the order of the index.

    Raises:
        TrainError: columns, files or splits that are missing or wrong.
    """
    index = folder / "index.csv"
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            rows: list[Row] = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainError(f"{index} is no CSV file ({error}); wanted the columns split,image,points.") from error
    return _read_rows(index, rows, split)


def read_json_index(folder: Path, split: Split) -> list[Scene]:
    """The scenes of one split, in the order of the index.

    Raises:
        TrainError: no list of objects; keys, files or splits that are missing or wrong.
    """
    index = folder / "index.json"
    try:
        rows = json.loads(index.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TrainError(f"{index} is no JSON ({error}); wanted a list of scenes. Mend it.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TrainError(f'{index} is no list of objects; wanted [{{"split", "image", "points", "sound"}}, ...].')
    return _read_rows(index, rows, split)


def _read_rows(index: Path, rows: list[Row], split: Split) -> list[Scene]:
    _check_rows(index, rows)
    splits = [name for name in _SPLITS if any(row.get("split") == name for row in rows)]
    readers = {name: partial(_scenes, index, [row for row in rows if row["split"] == name]) for name in splits}
    return select(index.parent, readers or {"all": partial(_scenes, index, rows)}, split)


def _check_rows(index: Path, rows: list[Row]) -> None:
    """Refuse rows without image or points, and splits of other names."""
    wanted = "wanted split (train, val or test), image and points in every row"
    for number, row in enumerate(rows, start=1):
        named = row.get("image") and isinstance(row["image"], str) and isinstance(row.get("sound") or "", str)
        if not named or row.get("points") in (None, ""):
            raise TrainError(
                f"{index}, row {number}, has no image or no points, or a name that is no text; {wanted}. For a "
                "picture of nobody give an empty list of points."
            )
    divided = any(row.get("split") for row in rows)
    for number, row in enumerate(rows, start=1):
        if divided and row.get("split") not in _SPLITS:
            raise TrainError(
                f"{index}, row {number}, has the split {row.get('split')!r}; {wanted}, or no split at all."
            )


def _scenes(index: Path, rows: list[Row]) -> list[Scene]:
    files = [index.parent / row[key] for row in rows for key in ("image", "sound") if row.get(key)]
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise TrainError(
            f"{index} names {len(missing)} files that are not there: {few(missing)}. Wanted all of them, because a "
            "picture that is left out changes every figure. Copy them, or take their rows out."
        )
    times = Counter(row["image"] for row in rows)  # one picture may stand there with several sounds
    return [
        _scene(index, row, f"{row['image']}#{number}" if times[row["image"]] > 1 else row["image"])
        for number, row in enumerate(rows, start=1)
    ]


def _scene(index: Path, row: Row, name: str) -> Scene:
    folder = index.parent
    inline = not isinstance(row["points"], str)
    points = as_points(row["points"], index) if inline else read_text_points(folder / row["points"])
    if row.get("people") not in (None, "") and str(row["people"]).removesuffix(".0") != str(len(points)):
        raise TrainError(
            f"{index} says {row['people']} people for {row['image']}, but {len(points)} points are there; wanted as "
            "many points as people, because one of the two is wrong. Correct or leave out the column `people`."
        )
    return Scene(name, folder / row["image"], points, sound=folder / row["sound"] if row.get("sound") else None)

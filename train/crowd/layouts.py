"""Crowd data sets as they lie on disk: which layout a folder has, and its scenes.

One table names every layout; `layouts_index`, `layouts_matlab` and `layouts_disco` read them and draw their trees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from train.crowd.layouts_disco import is_disco, read_disco
from train.crowd.layouts_index import is_csv_index, is_json_index, read_csv_index, read_json_index
from train.crowd.layouts_matlab import (
    is_qnrf,
    is_qnrf_pictures,
    is_shanghaitech,
    is_shanghaitech_part,
    is_shanghaitech_pictures,
    read_qnrf,
    read_qnrf_pictures,
    read_shanghaitech,
    read_shanghaitech_part,
    read_shanghaitech_pictures,
)
from train.crowd.scene import Scene
from train.crowd.splits import Split
from train.errors import TrainError

__all__ = ["Split", "layout_of", "read_scenes"]


@dataclass(frozen=True)
class _Layout:
    name: str
    holds: str  # what makes it known, in words
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Split], list[Scene]]


# in order: an index says more than the folders beside it
_LAYOUTS = (
    _Layout("index.csv", "index.csv with the columns split,image,points[,sound]", is_csv_index, read_csv_index),
    _Layout("index.json", "index.json, a list of {split, image, points, sound}", is_json_index, read_json_index),
    _Layout(
        "ShanghaiTech part",
        "train_data/ or test_data/ with images/ and ground-truth/",
        is_shanghaitech_part,
        read_shanghaitech_part,
    ),
    _Layout(
        "ShanghaiTech pictures",
        "images/IMG_n.jpg and ground-truth/GT_IMG_n.mat (or ground_truth/)",
        is_shanghaitech_pictures,
        read_shanghaitech_pictures,
    ),
    _Layout("ShanghaiTech", "part_A/ or part_B/ or both", is_shanghaitech, read_shanghaitech),
    _Layout("DISCO", "imgs/<id>.jpg, auds/<id>.wav and density/{train,val,test}/<id>.mat", is_disco, read_disco),
    _Layout("UCF-QNRF", "Train/ or Test/ with img_0001.jpg and img_0001_ann.mat", is_qnrf, read_qnrf),
    _Layout("UCF-QNRF pictures", "img_0001.jpg and img_0001_ann.mat", is_qnrf_pictures, read_qnrf_pictures),
)


def _layout(folder: Path) -> _Layout:
    if not folder.is_dir():
        raise TrainError(f"{folder} is no folder; wanted a crowd data set. Check the path.")
    for layout in _LAYOUTS:
        if layout.recognises(folder):
            return layout
    known = "".join(f"\n  {layout.name}: {layout.holds}" for layout in _LAYOUTS)
    raise TrainError(
        f"{folder} is no crowd data set in a layout that is known; wanted one of these, to find pictures and truth:"
        f"{known}\nName the folder that holds these files, or write an index.csv beside the pictures."
    )


def layout_of(folder: Path) -> str:
    """The name of the folder's layout.

    Raises:
        TrainError: no known layout; lists those that are.
    """
    return _layout(folder).name


def read_scenes(folder: Path, split: Split) -> list[Scene]:
    """The scenes of one split of a data set, in a fixed order; pictures and sounds are not opened.

    Names are the pictures' paths relative to the folder. Points are as in the file, also where they lie outside of the
    picture. Where a data set has no validation split, a fixed tenth of its training set is `val` and not in `train`.

    Raises:
        TrainError: no known layout, no such split, or truth that is damaged or missing.
    """
    return _layout(folder).read(folder, split)

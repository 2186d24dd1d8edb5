"""Photographs with head points in MATLAB files: ShanghaiTech and UCF-QNRF.

    part_A/                              also part_A_final, part_B, part_B_final
      {train_data,test_data}/
        images/IMG_1.jpg
        ground-truth/GT_IMG_1.mat        also ground_truth; `image_info[0,0][0,0][0]` is (n, 2), x and y

    UCF-QNRF/
      {Train,Test}/img_0001.jpg
                   img_0001_ann.mat      `annPoints` is (n, 2), x and y

Six test pictures of part A are near-duplicates of the training pictures IMG_2, 60, 97, 121, 139 and 154: a figure on
its test split is a little too good for whoever trains on all of part A.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.crowd.annotations import read_ann_points, read_image_info
from train.crowd.scene import Scene
from train.crowd.splits import Split, by_number, few, select
from train.errors import TrainError

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png")
_TRUTH_FOLDERS = ("ground-truth", "ground_truth")
_SPLIT_FOLDERS = {"train": "train_data", "test": "test_data"}


def pictures_of(folder: Path) -> dict[str, Path]:
    """The pictures in a folder by their stem, in order of number; hidden files are none.

    Raises:
        TrainError: two pictures of one stem.
    """
    found = (path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS and path.name[0] != ".")
    pictures: dict[str, Path] = {}
    for path in sorted(found, key=lambda path: by_number(path.name)):
        if path.stem in pictures:
            raise TrainError(
                f"{pictures[path.stem]} and {path.name} share their annotation; wanted one picture for each, because "
                "one of them would be dropped. Remove the wrong one."
            )
        pictures[path.stem] = path
    return pictures


def require_pairs(folder: Path, pictures: dict[str, Path], truths: dict[str, Path]) -> None:
    """Refuse pictures without annotation and annotations without picture; both are files by the scene's stem.

    Raises:
        TrainError: names the first few.
    """
    for have, lack, which, other in (
        (pictures, truths, "pictures", "annotation"),
        (truths, pictures, "annotations", "picture"),
    ):
        alone = [path.name for stem, path in have.items() if stem not in lack]
        if alone:
            raise TrainError(
                f"{folder} holds {len(alone)} {which} without their {other}: {few(alone)}. Wanted one for each, "
                f"because a picture that is left out changes every figure. Copy what is missing, or remove the {which}."
            )


def _paired(
    root: Path,
    folder: Path,
    pictures: dict[str, Path],
    truths: dict[str, Path],
    read: Callable[[Path], NDArray[np.float32]],
) -> list[Scene]:
    require_pairs(folder, pictures, truths)
    return [Scene(path.relative_to(root).as_posix(), path, read(truths[stem])) for stem, path in pictures.items()]


# ---- ShanghaiTech ----


def _truth_folder(folder: Path) -> Path | None:
    if not (folder / "images").is_dir():
        return None
    return next((folder / name for name in _TRUTH_FOLDERS if (folder / name).is_dir()), None)


def is_shanghaitech_pictures(folder: Path) -> bool:
    """Whether it is `train_data`, `test_data`, or another folder with images and ground truth."""
    return _truth_folder(folder) is not None


def is_shanghaitech_part(folder: Path) -> bool:
    """Whether it is one part, with its training or test pictures or both."""
    return any(is_shanghaitech_pictures(folder / name) for name in _SPLIT_FOLDERS.values())


def _parts(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.name.lower().startswith("part_") and is_shanghaitech_part(path))
    return sorted(found)


def is_shanghaitech(folder: Path) -> bool:
    """Whether it is the root, with one part or both."""
    return bool(_parts(folder))


def _read_folder(root: Path, folder: Path) -> list[Scene]:
    truth = _truth_folder(folder)
    assert truth is not None  # recognised before
    pictures = pictures_of(folder / "images")
    truths = {path.stem.removeprefix("GT_"): path for path in sorted(truth.glob("[!.]*.mat"))}
    return _paired(root, folder, pictures, truths, read_image_info)


def read_shanghaitech_pictures(folder: Path, split: Split) -> list[Scene]:
    """Everything for `test` and `all`; divided by `held_out` for `train` and `val`."""
    return select(folder, {"all": partial(_read_folder, folder, folder)}, split)


def _read_part(root: Path, part: Path, split: Split) -> list[Scene]:
    readers = {
        name: partial(_read_folder, root, part / subfolder)
        for name, subfolder in _SPLIT_FOLDERS.items()
        if is_shanghaitech_pictures(part / subfolder)
    }
    return select(part, readers, split)


def read_shanghaitech_part(folder: Path, split: Split) -> list[Scene]:
    """One part; `val` is `held_out` of its training pictures."""
    return _read_part(folder, folder, split)


def read_shanghaitech(folder: Path, split: Split) -> list[Scene]:
    """The parts one after the other, each with its own validation tenth."""
    return [scene for part in _parts(folder) for scene in _read_part(folder, part, split)]


# ---- UCF-QNRF ----

_QNRF_FOLDERS = {"train": "Train", "test": "Test"}
_QNRF_ENDING = "_ann"


def is_qnrf_pictures(folder: Path) -> bool:
    """Whether it is `Train` or `Test`."""
    return folder.is_dir() and next(folder.glob(f"*{_QNRF_ENDING}.mat"), None) is not None


def is_qnrf(folder: Path) -> bool:
    """Whether it is the root, with its training or test pictures or both."""
    return any(is_qnrf_pictures(folder / name) for name in _QNRF_FOLDERS.values())


def _read_qnrf_folder(root: Path, folder: Path) -> list[Scene]:
    pictures = pictures_of(folder)
    truths = {path.stem.removesuffix(_QNRF_ENDING): path for path in sorted(folder.glob("[!.]*.mat"))}
    return _paired(root, folder, pictures, truths, read_ann_points)


def read_qnrf_pictures(folder: Path, split: Split) -> list[Scene]:
    """Everything for `test` and `all`; divided by `held_out` for `train` and `val`."""
    return select(folder, {"all": partial(_read_qnrf_folder, folder, folder)}, split)


def read_qnrf(folder: Path, split: Split) -> list[Scene]:
    """The whole data set; `val` is `held_out` of its training pictures."""
    readers = {
        name: partial(_read_qnrf_folder, folder, folder / subfolder)
        for name, subfolder in _QNRF_FOLDERS.items()
        if is_qnrf_pictures(folder / subfolder)
    }
    return select(folder, readers, split)

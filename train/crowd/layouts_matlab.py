"""Data sets whose head points stand in MATLAB files: ShanghaiTech.

    part_A/                              also part_A_final, part_B, part_B_final
      {train_data,test_data}/
        images/IMG_1.jpg
        ground-truth/GT_IMG_1.mat        also ground_truth; `image_info[0,0][0,0][0]` is (n, 2), x and y

Six test pictures of part A are near-duplicates of the training pictures IMG_2, 60, 97, 121, 139 and 154: a figure on
its test split is a little too good for whoever trains on all of part A.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.crowd.scene import Scene
from train.crowd.splits import Split, by_number, few, select
from train.errors import TrainError

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png")
_TRUTH_FOLDERS = ("ground-truth", "ground_truth")
_SPLIT_FOLDERS = {"train": "train_data", "test": "test_data"}


def pictures_of(folder: Path) -> list[Path]:
    """The pictures in a folder by number; hidden files are none."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS and path.name[0] != ".")
    return sorted(found, key=lambda path: by_number(path.name))


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


def as_points(values: object, path: Path) -> NDArray[np.float32]:
    """Points of an annotation, float32 (n, 2), as they stand there.

    Raises:
        TrainError: of another shape, not numbers, or not finite.
    """
    try:
        points = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise TrainError(
            f"{path} holds something that is no numbers ({error}); wanted (n, 2) points. Mend it."
        ) from error
    points = points.reshape(0, 2) if points.size == 0 else points
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        seen = f"shape {points.shape}" if np.isfinite(points).all() else "numbers that are not finite"
        raise TrainError(f"{path} holds points of {seen}; wanted (n, 2), x and y in pixels. Mend the annotation.")
    return points


def read_matlab_points(path: Path, key: str) -> NDArray[np.float32]:
    """Points of a ShanghaiTech (`image_info`) or UCF-QNRF (`annPoints`) annotation, float32 (n, 2).

    Raises:
        TrainError: damaged, or a MATLAB file of another kind.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        values = loadmat(path, variable_names=[key])[key]
        if key == "image_info":
            values = values[0, 0][0, 0][0]
    except (OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, MatReadError) as error:
        raise TrainError(
            f"{path} cannot be read as an annotation ({error!r}); wanted a MATLAB file with head points in {key!r}. "
            "It is damaged or of another data set: copy it again."
        ) from error
    return as_points(values, path)


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
    pictures = {path.stem: path for path in pictures_of(folder / "images")}
    truths = {path.stem.removeprefix("GT_"): path for path in sorted(truth.glob("[!.]*.mat"))}
    require_pairs(folder, pictures, truths)
    return [
        Scene(path.relative_to(root).as_posix(), path, read_matlab_points(truths[stem], "image_info"))
        for stem, path in pictures.items()
    ]


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

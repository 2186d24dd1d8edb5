"""Head points and density maps out of the files that data sets keep them in: MATLAB 5 and text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.errors import TrainError


def read_variable(path: Path, name: str) -> Any:
    """A variable of a MATLAB 5 file, as scipy gives it; nothing in the file is executed.

    Raises:
        TrainError: missing, damaged, of MATLAB 7.3, or without that variable.
    """
    from scipy.io import loadmat, whosmat

    try:
        content = loadmat(path, variable_names=[name])
        held = None if name in content else [variable[0] for variable in whosmat(path)]
    except Exception as error:  # a damaged file makes scipy raise nearly anything, down to zlib's own errors
        raise TrainError(
            f"{path} cannot be read ({type(error).__name__}: {error}); wanted a whole MATLAB 5 file with {name!r}. "
            "Copy it again."
        ) from error
    if held is not None:
        raise TrainError(
            f"{path} holds {', '.join(held) or 'nothing'}; wanted the variable {name!r}, which this layout keeps its "
            "truth in. It is a file of another data set: put the right one there."
        )
    return content[name]


def read_map(path: Path) -> NDArray[np.float64]:
    """The density map `map` of a MATLAB file, float64 (H, W), people per pixel.

    Raises:
        TrainError: as `read_variable`; or no matrix of finite numbers.
    """
    values = np.asarray(read_variable(path, "map"))
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise TrainError(
            f"{path} holds a `map` of {values.dtype} {values.shape} that is no matrix of finite numbers; wanted (H, W) "
            "people per pixel, whose sum is the count. Copy it again."
        )
    return values.astype(np.float64)


def read_image_info(path: Path) -> NDArray[np.float32]:
    """Points of a ShanghaiTech annotation, `image_info[0,0][0,0][0]`, float32 (n, 2).

    Raises:
        TrainError: as `read_variable` and `as_points`; or an `image_info` of another build.
    """
    info = read_variable(path, "image_info")
    try:
        location = info[0, 0][0, 0][0]
    except (IndexError, TypeError) as error:
        raise TrainError(
            f"{path} holds an `image_info` of another build ({error}); wanted ShanghaiTech's, a cell with a structure "
            "whose first field is the points. Copy it again."
        ) from error
    return as_points(location, path)


def read_ann_points(path: Path) -> NDArray[np.float32]:
    """Points of a UCF-QNRF annotation, `annPoints`, float32 (n, 2).

    Raises:
        TrainError: as `read_variable` and `as_points`.
    """
    return as_points(read_variable(path, "annPoints"), path)


def read_text_points(path: Path) -> NDArray[np.float32]:
    """Points of a text file, a line "x,y" or "x y" each, float32 (n, 2); a first line with the letters is no point.

    Raises:
        TrainError: missing, or a line that is not two numbers.
    """
    try:
        lines = [line.replace(",", " ").split() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise TrainError(f"{path} cannot be read ({error}); wanted the points of a picture as text.") from error
    rows = [line for line in lines if line]
    if rows and [name.strip('"').lower() for name in rows[0]] == ["x", "y"]:
        del rows[0]
    wrong = next((row for row in rows if len(row) != 2), None)
    if wrong is not None:
        raise TrainError(f"{path} has the line {' '.join(wrong)!r}; wanted x and y of one head. Mend that line.")
    return as_points(rows, path)


def as_points(values: object, path: Path) -> NDArray[np.float32]:
    """Points of an annotation, float32 (n, 2), as they stand there, also outside of the picture.

    Raises:
        TrainError: of another shape, not numbers, or not finite.
    """
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
            points = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise TrainError(f"{path} holds points that are no numbers ({error}); wanted (n, 2). Mend it.") from error
    points = points.reshape(0, 2) if points.size == 0 else points
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        seen = f"shape {points.shape}" if np.isfinite(points).all() else "numbers that are not finite"
        raise TrainError(f"{path} holds points of {seen}; wanted (n, 2), x and y in pixels. Mend the annotation.")
    return points

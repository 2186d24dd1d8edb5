"""One picture of a crowd with its truth, as the data sets' files hold it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from train.crowd.annotations import read_map
from train.errors import TrainError

Picture = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True)
class Scene:
    """A picture of any size; heads as points, or where there are none, as a density map."""

    name: str  # unique in its data set
    picture: Path
    points: NDArray[np.float32] | None = None  # (n, 2), x and y, pixels of the picture
    density: Path | None = None  # MATLAB file with `map` (H, W), people per pixel of the picture
    sound: Path | None = None

    @cached_property
    def people(self) -> float:
        """The true count: of the points where there are any, else the sum of the density map."""
        return float(len(self.points)) if self.points is not None else float(read_density(self).sum())


def read_picture(path: Path) -> Picture:
    """A picture as RGB, as the client reads it: turned as its EXIF says, grey and CMYK become RGB, 16 bits 8.

    Raises:
        TrainError: missing, damaged or cut short.
    """
    try:
        data = path.read_bytes()
        bgr = None if _is_cut_short(data) else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # OpenCV raises for an empty file, and for one of too many pixels
        bgr = None
    if bgr is None:
        raise TrainError(
            f"{path} is missing or no whole picture; wanted a JPEG or PNG, because people are counted in pixels that "
            "are there. Copy it again."
        )
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _is_cut_short(data: bytes) -> bool:
    """Whether a JPEG ends before its picture does; OpenCV would fill the rest with grey and say nothing."""
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


def read_density(scene: Scene) -> NDArray[np.float64]:
    """The density map of a scene that has one, (H, W), people per pixel.

    Raises:
        TrainError: none, or its file has no matrix `map` of finite numbers.
    """
    if scene.density is None:
        raise TrainError(f"{scene.name} has neither points nor a density map; wanted one of them, to know its people.")
    return read_map(scene.density)

"""A photo with its heads in the network's frame of 1024x576, the same way as the client places it.

The photo keeps its aspect and lies in the top left corner; the rest is zero, the paper's zero-padding (section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from train.crowd.geometry import size_in_frame
from train.crowd.scene import Picture, Scene, read_density
from train.errors import TrainError
from train.settings import PICTURE_HEIGHT, PICTURE_WIDTH

_FAR_OUTSIDE = 0.1  # of the photo's sides: points farther out than this belong to another photo


@dataclass(frozen=True)
class Window:
    """A rectangle of the photo and its size in the frame."""

    left: int  # pixels of the photo
    top: int
    width: int
    height: int
    frame_width: int  # pixels of the frame that it fills, from the top left corner
    frame_height: int

    def cut(self, photo: Picture) -> Picture:
        """The rectangle at its size in the frame; pixels are averaged when it shrinks."""
        part = photo[self.top : self.top + self.height, self.left : self.left + self.width]
        method = cv2.INTER_AREA if self.frame_width < self.width else cv2.INTER_LINEAR
        scaled = cv2.resize(part, (self.frame_width, self.frame_height), interpolation=method)
        return scaled.astype(np.uint8, copy=False)

    def move(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Those of the photo's points that are in the rectangle, (m, 2), in pixels of the frame."""
        moved = points - (self.left, self.top)
        inside = ((moved >= 0) & (moved < (self.width, self.height))).all(axis=1)
        scaled = moved[inside] * (self.frame_width / self.width, self.frame_height / self.height)
        most = np.nextafter(np.array((self.frame_width, self.frame_height), np.float32), np.float32(0))
        return np.minimum(scaled.astype(np.float32), most)  # the border is outside, and rounding may reach it


def whole(photo: Picture) -> Window:
    """The whole photo, as large as it fits."""
    height, width = photo.shape[:2]
    return Window(0, 0, width, height, *size_in_frame(width, height))


def place(photo: Picture) -> Picture:
    """The photo in its frame, UINT8 (576, 1024, 3)."""
    return padded(whole(photo).cut(photo))


def padded(part: Picture) -> Picture:
    """Zeros to the right of a picture and below it, to (576, 1024, 3)."""
    frame = np.zeros((PICTURE_HEIGHT, PICTURE_WIDTH, 3), np.uint8)
    frame[: part.shape[0], : part.shape[1]] = part
    return frame


def heads_outside(points: NDArray[np.float32], photo: Picture) -> int:
    """How many heads `inside_photo` moves: those annotated outside of the photo, (n, 2)."""
    return int(((points < 0) | (points >= (photo.shape[1], photo.shape[0]))).any(axis=1).sum())


def inside_photo(points: NDArray[np.float32], photo: Picture, name: str) -> NDArray[np.float32]:
    """Heads annotated a little outside of the photo, moved to its border, so that everyone is counted.

    Raises:
        TrainError: a head far outside, which says that the points are another photo's, or of another size of it.
    """
    size = np.array((photo.shape[1], photo.shape[0]), np.float32)
    if len(points):
        farthest = np.maximum(-points, points - size).max(axis=0) / size
        if (farthest > _FAR_OUTSIDE).any():
            raise TrainError(
                f"{name} has {photo.shape[1]}x{photo.shape[0]} pixels, but a head up to {100 * farthest.max():.0f} % "
                "outside of it; wanted points of this very picture, or people would be looked for in the wrong place. "
                "See that picture and annotation belong together, and that neither was resized."
            )
    return np.clip(points, 0, np.nextafter(size, np.float32(0))).astype(np.float32)


def density_of_photo(scene: Scene, photo: Picture) -> NDArray[np.float64]:
    """The density map of a scene, (H, W), people per pixel of the map; it may be coarser than its photo.

    Raises:
        TrainError: it has none, or one of another aspect than the photo's, which says that it is another photo's.
    """
    people = read_density(scene)
    (high, wide), (photo_high, photo_wide) = people.shape, photo.shape[:2]
    if abs(high * photo_wide - wide * photo_high) > photo_wide + photo_high:  # both sides of a coarse map are rounded
        raise TrainError(
            f"{scene.name} has {photo_wide}x{photo_high} pixels, but {scene.density} is a map of {wide}x{high}; wanted "
            "one of the same aspect, or people would be looked for in the wrong place. See that picture and map belong "
            "together, and that neither was cut or turned."
        )
    return people

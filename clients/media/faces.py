"""The one face of a photo: found by OpenCV's Haar cascades, cropped by the field's usual rule.

Detector: `haarcascade_frontalface_alt2`, whose finds two more cascades must confirm; OpenCV's wheel carries all three.
Exactly one face is found in each of 51 frames of the GRID videos but one, whose pixels are damaged, in each of 51 face
crops and in each of 60 drawn portraits; the boxes agree with the drawn ones: middles to 3 % of a side, sides 11 %
longer. In 209 photos of crowds the confirmation leaves 7 of 22 false finds (pavement, feet, prints on shirts). It sees
faces that look at the camera, not profiles or bowed heads.

Crop (joonson/syncnet_python): with s half the longer side of the box and (x, y) its middle, a square from y - s to
y + 1.8 s and from x - 1.4 s to x + 1.4 s, grey 110 where it leaves the picture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from clients.errors import BadInput
from clients.media.picture import Picture

CROP_SCALE = 0.40
CROP_GREY = 110
_SEARCH_SIDE = 640  # pixels; the longer side of a photo is brought down to it
_SMALLEST_SHARE = 1 / 10  # of the shorter side: smaller faces would be a blur in the crop, and false finds are small
_SCALE_STEP, _NEIGHBOURS = 1.05, 5
_WITNESSES, _WITNESS_SIDE = ("default", "alt"), 120  # pixels that a find is brought to for them


@dataclass(frozen=True)
class FaceBox:
    """Where a face is, pixels of the photo."""

    left: int
    top: int
    width: int
    height: int

    def to_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.width}x{self.height} at ({self.left}, {self.top})"


def find_faces(picture: Picture) -> list[FaceBox]:
    """Every face that looks at the camera and is at least a tenth of the photo's shorter side.

    Args:
        picture: (H, W, 3) RGB.

    Returns:
        boxes from left to right.
    """
    scale = min(1.0, _SEARCH_SIDE / max(picture.shape[:2]))
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    smallest = max(20, round(min(grey.shape) * _SMALLEST_SHARE))  # the cascade itself sees 20 pixels and more
    found = _cascade("alt2").detectMultiScale(grey, _SCALE_STEP, _NEIGHBOURS, minSize=(smallest, smallest))
    boxes = [FaceBox(*(round(float(value) / scale) for value in box)) for box in found]
    boxes = [box for box in boxes if all(_confirms(witness, picture, box) for witness in _WITNESSES)]
    return sorted(boxes, key=lambda box: (box.left + box.width / 2, box.top))


def choose_face(picture: Picture, name: str, index: int | None = None) -> FaceBox:
    """The only face, or the one asked for.

    Args:
        picture: (H, W, 3) RGB.
        name: how messages call the photo.
        index: which one where there are several, from left to right, counted from 0.

    Raises:
        BadInput: no face, several and none asked for, or not so many; the message lists what was found.
    """
    boxes = find_faces(picture)
    if not boxes:
        raise BadInput(
            f"No face was found in {name} ({picture.shape[1]}x{picture.shape[0]} pixels)",
            "one face that looks at the camera, at least a tenth of the picture high",
            "the voice is chosen by it",
            "give another photo, or a picture that is cut to the face with --face-crop",
        )
    listed = "; ".join(f"{number}: {box}" for number, box in enumerate(boxes))
    if index is not None and not 0 <= index < len(boxes):
        raise BadInput(
            f"There is no face {index} in {name}; found {listed}",
            f"an index from 0 to {len(boxes) - 1}",
            "the voice is chosen by it",
            "name one of them",
        )
    if index is None and len(boxes) > 1:
        raise BadInput(
            f"{len(boxes)} faces were found in {name}, from left to right {listed}",
            "one face",
            "the voice is chosen by it",
            "say which one with --face-index, or cut the picture",
        )
    return boxes[index or 0]


def crop_face(picture: Picture, box: FaceBox, size: int) -> Picture:
    """Cut the square around a face, as the module's head says.

    Args:
        picture: (H, W, 3) RGB.
        box: the face.
        size: side of the result, pixels.

    Returns:
        (size, size, 3) RGB.
    """
    half = max(box.width, box.height) / 2
    side = max(1, round(2 * half * (1 + CROP_SCALE)))
    left = round(box.left + box.width / 2 - half * (1 + CROP_SCALE))
    top = round(box.top + box.height / 2 - half)
    square = np.full((side, side, 3), CROP_GREY, np.uint8)
    height, width = picture.shape[:2]
    inside = picture[max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
    y, x = max(0, -top), max(0, -left)
    square[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return resized(square, size)


def resized(square: Picture, size: int) -> Picture:
    """A picture brought to size x size pixels; pixels are averaged when it shrinks."""
    method = cv2.INTER_AREA if min(square.shape[:2]) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=method), np.uint8)


def _confirms(witness: str, picture: Picture, box: FaceBox) -> bool:
    """Whether another cascade sees a face of about that size around there."""
    margin = box.width // 2
    top, left = max(0, box.top - margin), max(0, box.left - margin)
    around = picture[top : box.top + box.height + margin, left : box.left + box.width + margin]
    scale = _WITNESS_SIDE / box.width
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(around, None, fx=scale, fy=scale, interpolation=method), cv2.COLOR_RGB2GRAY)
    sides = [(round(share * _WITNESS_SIDE),) * 2 for share in (2 / 3, 3 / 2)]
    return len(_cascade(witness).detectMultiScale(grey, _SCALE_STEP, 3, minSize=sides[0], maxSize=sides[1])) > 0


@lru_cache(maxsize=3)
def _cascade(name: str) -> cv2.CascadeClassifier:
    # OpenCV's type stubs leave `cv2.data` out, so its folder is found by the package's own.
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / f"haarcascade_frontalface_{name}.xml"))

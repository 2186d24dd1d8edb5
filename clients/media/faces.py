"""Faces in photos and videos: found by OpenCV's Haar cascades, cropped by the field's usual rule.

Detector: `haarcascade_frontalface_alt2`, whose finds two more cascades must confirm; OpenCV's wheel carries all three.
Exactly one face is found in each of 51 frames of the GRID videos but one, whose pixels are damaged, in each of 51 face
crops and in each of 60 drawn portraits; the boxes agree with the drawn ones: middles to 3 % of a side, sides 11 %
longer. In 209 photos of crowds the confirmation leaves 7 of 22 false finds (pavement, feet, prints on shirts). It sees
faces that look at the camera, not profiles or bowed heads.

Crop (joonson/syncnet_python): with s half the longer side of the box and (x, y) its middle, a square from y - s to
y + 1.8 s and from x - 1.4 s to x + 1.4 s, grey 110 where it leaves the picture.

Over a video, a face is taken for the one that was last seen at about the same place, however long ago. So people who
stay in their places are told apart; who changes place between two looks counts anew, and who takes another one's place
is taken for them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from clients.errors import BadInput
from clients.extras import cv2
from clients.media.picture import Picture

if TYPE_CHECKING:
    from clients.media.video import VideoFrame, VideoReader

Face = TypeVar("Face")

CROP_SCALE = 0.40
CROP_GREY = 110
_SEARCH_SIDE = 640  # pixels; the longer side of a photo is brought down to it
_SMALLEST_SHARE = 1 / 10  # of the shorter side: smaller faces would be a blur in the crop, and false finds are small
_SCALE_STEP, _NEIGHBOURS = 1.05, 5
_WITNESSES, _WITNESS_SIDE = ("default", "alt"), 120  # pixels that a find is brought to for them
_SAME_PLACE = 1 / 3  # of what two boxes cover together is covered by both
_SURE_AFTER = 4  # looks at a video; then a face that was seen in one of them alone is taken for a false find
_looking = threading.Lock()  # a cascade keeps the picture that it looks at: two at once find faces that are in neither
_SHARPNESS_SIDE = 96  # pixels that faces are brought to, so that their sharpness can be compared


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

    def overlap(self, other: FaceBox) -> float:
        """Share of what both cover together that is covered by both, 0 to 1."""
        width = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        both = max(0, width) * max(0, height)
        return both / (self.width * self.height + other.width * other.height - both)


@dataclass(frozen=True)
class TrackedFace:
    """One face of a video, where it was seen best."""

    index: int  # from left to right, from 0
    box: FaceBox  # in `picture`
    picture: Picture  # (H, W, 3) RGB; of the video's picture what `crop_face` needs
    time_s: float  # of the picture
    seen: int  # looks in which the face was found
    place: FaceBox  # in the video's whole picture


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
    found = _detected("alt2", grey, _NEIGHBOURS, (smallest, smallest))
    boxes = [FaceBox(*(round(float(value) / scale) for value in box)) for box in found]
    boxes = [box for box in boxes if all(_confirms(witness, picture, box) for witness in _WITNESSES)]
    return sorted(boxes, key=lambda box: (box.left + box.width / 2, box.top))


def choose_face(picture: Picture, name: str, index: int | None = None) -> FaceBox:
    """The only face of a photo, or the one asked for; see `chosen`.

    Args:
        picture: (H, W, 3) RGB.
        name: how messages call the photo.
        index: which one where there are several.

    Raises:
        BadInput: no face, several and none asked for, or not so many.
    """
    height, width = picture.shape[:2]
    return chosen(find_faces(picture), f"{name} ({width}x{height} pixels)", index)


def chosen(found: Sequence[Face], name: str, index: int | None = None) -> Face:
    """The only one of the faces that were found, or the one asked for.

    Args:
        found: from left to right; each says in words where it is.
        name: how messages call what they were found in.
        index: which one where there are several, from left to right, counted from 0.

    Raises:
        BadInput: no face, several and none asked for, or not so many; the message lists what was found.
    """
    require_any(found, name)
    listed = "; ".join(f"{number}: {face}" for number, face in enumerate(found))
    if index is not None and not 0 <= index < len(found):
        raise BadInput(
            f"There is no face {index} in {name}; found {listed}",
            f"an index from 0 to {len(found) - 1}",
            "the voice is chosen by it",
            "name one of them",
        )
    if index is None and len(found) > 1:
        raise BadInput(
            f"{len(found)} faces were found in {name}, from left to right {listed}",
            "one face",
            "the voice is chosen by it",
            "say which one with --face-index, or take --every-face for the voice of each",
        )
    return found[index or 0]


def require_any(found: Sequence[object], name: str) -> None:
    """Refuse a photo or video in which no face was found.

    Raises:
        BadInput: says what would be found.
    """
    if not found:
        raise BadInput(
            f"No face was found in {name}",
            "one face that looks at the camera, at least a tenth of the picture high",
            "the voice is chosen by it",
            "give another photo, or a picture that is cut to the face with --face-crop",
        )


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
    if square.shape[:2] == (size, size):
        return square.copy()
    method = cv2.INTER_AREA if min(square.shape[:2]) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=method), np.uint8)


def faces_over_time(reader: VideoReader, every_s: float = 1.0) -> list[TrackedFace]:
    """The distinct faces of a video that look at the camera, each where it is largest and sharpest.

    Args:
        reader: of the video; it is read from its beginning.
        every_s: from one look to the next.

    Returns:
        from left to right as they are when most of them are seen together for the first time; empty without faces.

    Raises:
        BadInput: the video is damaged.
    """
    return track_faces(reader.frames(every_s))


def track_faces(frames: Iterable[VideoFrame]) -> list[TrackedFace]:
    """The same for pictures in the order of their times."""
    tracks: list[_Track] = []
    looks = 0
    for frame in frames:
        looks += 1
        _follow(tracks, frame)
    if looks >= _SURE_AFTER:
        tracks = [track for track in tracks if len(track.middles) > 1]
    return [track.result(index) for index, track in enumerate(_left_to_right(tracks))]


@dataclass
class _Track:
    """One face while a video is looked at."""

    last: FaceBox
    middles: dict[float, float] = field(default_factory=dict)  # by time, pixels from the left
    score: float = -1.0

    def see(self, frame: VideoFrame, box: FaceBox) -> None:
        """Take the next sight of it, and keep the picture if it is the best so far."""
        self.last, self.middles[frame.time_s] = box, box.left + box.width / 2
        score = _score(frame.picture, box)
        if score > self.score:
            self.score, self._time_s, self._place = score, frame.time_s, box
            self._picture, self._box = _cut_out(frame.picture, box)

    def result(self, index: int) -> TrackedFace:
        return TrackedFace(index, self._box, self._picture, self._time_s, len(self.middles), self._place)


def _follow(tracks: list[_Track], frame: VideoFrame) -> None:
    """Give each face of a picture to the track that it continues, the best fits first, or to a new one."""
    boxes = find_faces(frame.picture)
    fits = [(track.last.overlap(box), number, track) for number, box in enumerate(boxes) for track in tracks]
    taken: set[int] = set()
    for overlap, number, track in sorted(fits, key=lambda fit: -fit[0]):
        if overlap >= _SAME_PLACE and number not in taken and frame.time_s not in track.middles:
            taken.add(number)
            track.see(frame, boxes[number])
    for number, box in enumerate(boxes):
        if number not in taken:
            tracks.append(_Track(box))
            tracks[-1].see(frame, box)


def _left_to_right(tracks: list[_Track]) -> list[_Track]:
    """In the order of the first of the moments with most faces; a face that is missing there lies where it came."""
    together = Counter(time_s for track in tracks for time_s in track.middles)
    fullest = min(together, key=lambda time_s: (-together[time_s], time_s), default=0.0)
    return sorted(tracks, key=lambda track: track.middles.get(fullest, next(iter(track.middles.values()))))


def _score(picture: Picture, box: FaceBox) -> float:
    """How much a picture shows of a face: its pixels times its sharpness."""
    face = picture[box.top : box.top + box.height, box.left : box.left + box.width]
    grey = cv2.cvtColor(resized(face, _SHARPNESS_SIDE), cv2.COLOR_RGB2GRAY)
    return box.width * box.height * float(cv2.Laplacian(grey, cv2.CV_64F).var())


def _cut_out(picture: Picture, box: FaceBox) -> tuple[Picture, FaceBox]:
    """The part of a picture that `crop_face` looks at, and the box in it; the crop stays the same to the pixel."""
    reach = 2 + round(max(box.width, box.height) * (1 + CROP_SCALE))
    # Even steps, since halves are rounded to even numbers.
    left, top = (max(0, start - reach) // 2 * 2 for start in (box.left, box.top))
    part = picture[top : box.top + box.height + reach, left : box.left + box.width + reach]
    return part.copy(), FaceBox(box.left - left, box.top - top, box.width, box.height)


def _confirms(witness: str, picture: Picture, box: FaceBox) -> bool:
    """Whether another cascade sees a face of about that size around there."""
    margin = box.width // 2
    top, left = max(0, box.top - margin), max(0, box.left - margin)
    around = picture[top : box.top + box.height + margin, left : box.left + box.width + margin]
    scale = _WITNESS_SIDE / box.width
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(around, None, fx=scale, fy=scale, interpolation=method), cv2.COLOR_RGB2GRAY)
    sides = [(round(share * _WITNESS_SIDE),) * 2 for share in (2 / 3, 3 / 2)]
    return len(_detected(witness, grey, 3, *sides)) > 0


def _detected(
    name: str, grey: cv2.typing.MatLike, neighbours: int, least: Sequence[int], most: Sequence[int] = (0, 0)
) -> Sequence[Sequence[int]]:
    with _looking:
        return _cascade(name).detectMultiScale(grey, _SCALE_STEP, neighbours, 0, least, most)


@lru_cache(maxsize=3)
def _cascade(name: str) -> cv2.CascadeClassifier:
    # OpenCV's type stubs leave `cv2.data` out, so its folder is found by the package's own.
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / f"haarcascade_frontalface_{name}.xml"))

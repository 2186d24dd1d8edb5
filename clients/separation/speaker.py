"""Whose voice it is to be: a face in a photo, in an array or in a video, as a crop for the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput, printable
from clients.media import faces, video
from clients.media.picture import Picture, load_picture

Source = str | Path | NDArray[Any]

SMALL_FACE_PIXELS = 64  # wide; the crop around it is 90 pixels, which have to be stretched to 224


@dataclass(frozen=True)
class Portrait:
    """One face."""

    picture: Picture  # (H, W, 3)
    box: faces.FaceBox | None  # where the face is; None: the picture is cut to it already

    def crop(self, size: int) -> Picture:
        """What the network sees, (size, size, 3)."""
        return faces.crop_face(self.picture, self.box, size) if self.box else faces.resized(self.picture, size)

    def warnings(self) -> tuple[str, ...]:
        """What the reader should know of it."""
        width = self.box.width if self.box else min(self.picture.shape[:2])
        if width >= SMALL_FACE_PIXELS:
            return ()
        return (
            f"the face is {width} pixels wide, and less than {SMALL_FACE_PIXELS} show little of it; "
            "a photo from nearer, or of more pixels, would choose the voice more surely",
        )


def find_portrait(mixture: Source | None, face: Source | Portrait | None, index: int | None, is_crop: bool) -> Portrait:
    """The one face that was asked for.

    Args:
        mixture: the recording; asked for a face only where it is a video and no `face` is given.
        face: photo or video, or an array (H, W, 3); a portrait is given back as it is.
        index: which face, where there are several.
        is_crop: the picture is cut to the face already.

    Raises:
        BadInput: no face; several, and none chosen; no picture at all.
    """
    if isinstance(face, Portrait):
        return face
    source = mixture if face is None else face
    if source is None or (face is None and isinstance(mixture, np.ndarray)):
        raise _no_face("Sound came as an array without a face")
    if not isinstance(source, np.ndarray) and Path(source).is_file() and video.has_pictures(Path(source)):
        return _of_video(Path(source), index, is_crop)
    if face is None:
        raise _no_face(f"{printable(str(mixture))} is a recording without pictures, and no face was given")
    photo = load_picture(face)
    if is_crop:
        return Portrait(photo, None)
    name = "the array" if isinstance(face, np.ndarray) else printable(str(face))
    return Portrait(photo, faces.choose_face(photo, name, index))


def find_faces(source: Source, *, most: int = 16) -> tuple[Portrait, ...]:
    """Everybody whose face is shown, from left to right.

    Args:
        source: photo, video or array (H, W, 3).
        most: how many there may be.

    Raises:
        BadInput: nobody's is, or too many are.
    """
    if not isinstance(source, np.ndarray) and Path(source).is_file() and video.has_pictures(Path(source)):
        pictures = list(video.read_frames(Path(source)))
    else:
        pictures = [load_picture(source)]
    for picture in pictures:
        boxes = faces.find_faces(picture)
        if boxes:
            return tuple(Portrait(picture, box) for box in boxes)
    raise _no_face(f"No face was found in {source}")


def _of_video(path: Path, index: int | None, is_crop: bool) -> Portrait:
    """The first of the video's sampled frames in which the face can be told; the last failure if there is none."""
    failure: BadInput | None = None
    for frame in video.read_frames(path):
        if is_crop:
            return Portrait(frame, None)
        try:
            return Portrait(frame, faces.choose_face(frame, f"a frame of {printable(path)}", index))
        except BadInput as error:
            failure = error
    raise failure or _no_face(f"{printable(path)} has no whole picture")


def _no_face(seen: str) -> BadInput:
    return BadInput(
        seen, "a photo of the person to hear", "the voice is chosen by the face", "give one with --face or --identity"
    )

"""Whose voice it is to be: a face in a photo, in an array or in a video, as a crop for the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput, BadSetting, printable
from clients.media import faces, kinds, limits
from clients.media.picture import Picture, load_picture

if TYPE_CHECKING:
    from clients.media.video import VideoFrame, VideoReader

Source = str | Path | NDArray[Any]

MOST_FACES = 16
SMALL_FACE_PIXELS = 64  # wide; the crop around it is 90 pixels, which have to be stretched to 224
_FEWEST_LOOKS, _MOST_LOOKS = 8, 40  # at a video; between them one each second
_BLIND_LOOKS = 120  # at one that does not say how long it is, from its beginning


@dataclass(frozen=True, eq=False)
class Portrait:
    """One face."""

    picture: Picture = field(repr=False)  # (H, W, 3); of a video the part around the face
    box: faces.FaceBox | None  # where the face is in `picture`; None: it is cut to the face already
    place: faces.FaceBox | None = None  # in the whole photo or video picture
    time_s: float | None = None  # of the video's picture
    seen: int | None = None  # looks at the video in which the face was found

    def crop(self, size: int) -> Picture:
        """What the network sees, (size, size, 3)."""
        return faces.crop_face(self.picture, self.box, size) if self.box else faces.resized(self.picture, size)

    def warnings(self) -> tuple[str, ...]:
        """What the reader should know of it."""
        width = self.box.width if self.box else min(self.picture.shape[:2])
        if width >= SMALL_FACE_PIXELS:
            return ()
        return (
            f"the face is {width} pixels wide, and less than {SMALL_FACE_PIXELS} show little of it; a photo from "
            "nearer, or of more pixels, would choose the voice more surely",
        )

    def __str__(self) -> str:
        when = "" if self.time_s is None else f" at {self.time_s:.1f} s, seen in {self.seen} looks"
        return f"{self.place}{when}"


def find_portrait(mixture: Source | None, face: Source | Portrait | None, index: int | None, is_crop: bool) -> Portrait:
    """The one face that was asked for.

    Args:
        mixture: the recording; asked for a face only where it is a video and no `face` is given.
        face: photo or video, or an array (H, W, 3); a portrait is given back as it is.
        index: which face, where there are several.
        is_crop: the picture is cut to the face already; of a video, one of its pictures.

    Raises:
        BadInput: no face; several, and none chosen; no picture at all.
        BadSetting: an index among faces where there is one already.
    """
    if index is not None and (is_crop or isinstance(face, Portrait)):
        raise BadSetting(
            f"Face {index} is asked for of what is one face already",
            "face_index of a photo or video that shows people, or face_crop, or a portrait",
            "there is nothing to choose from",
            "leave one of them out",
        )
    if isinstance(face, Portrait):
        return face
    source = mixture if face is None else face
    if source is None or (face is None and isinstance(mixture, np.ndarray)):
        raise _no_face("Sound came as an array without a face")
    if is_crop:
        return Portrait(_picture(source), None)
    return faces.chosen(_faces_in(source), _name(source), index)


def find_faces(source: Source, *, most: int = MOST_FACES) -> tuple[Portrait, ...]:
    """Everybody whose face is shown, from left to right.

    Args:
        source: photo, video or array (H, W, 3).
        most: how many there may be.

    Raises:
        BadInput: nobody's is, or too many are.
    """
    found, name = _faces_in(source), _name(source)
    faces.require_any(found, name)
    if len(found) > most:
        raise BadInput(
            f"{len(found)} faces were found in {name}",
            f"at most {most}",
            "each takes a whole separation of its own",
            "choose with --face-index, or give the photos of those who matter with --face",
        )
    return tuple(found)


def _faces_in(source: Source) -> Sequence[Portrait]:
    """All faces of a photo or video, from left to right."""
    if not isinstance(source, np.ndarray) and _is_video(source):
        from clients.media.video import VideoReader

        with VideoReader(source) as reader:
            tracked = faces.track_faces(_looks(reader))
        return [Portrait(face.picture, face.box, face.place, face.time_s, face.seen) for face in tracked]
    picture = load_picture(source)
    return [Portrait(picture, box, box) for box in faces.find_faces(picture)]


def _looks(reader: VideoReader) -> Iterator[VideoFrame]:
    """Pictures all over a video: some of a short one, not too many of a long one."""
    duration_s = reader.duration_s
    if duration_s is None:
        return islice(reader.frames(1.0), _BLIND_LOOKS)
    if duration_s <= _MOST_LOOKS:
        return reader.frames(min(1.0, duration_s / _FEWEST_LOOKS))
    starts_s = (number * duration_s / _MOST_LOOKS for number in range(_MOST_LOOKS))
    return (frame for start_s in starts_s for frame in islice(reader.frames(start_s=start_s), 1))


def _picture(source: Source) -> Picture:
    """The photo, or one of a video's pictures."""
    if isinstance(source, np.ndarray) or not _is_video(source):
        return load_picture(source)
    from clients.media.video import read_frames

    for frame in read_frames(Path(source)):
        return frame
    raise _no_face(f"{_name(source)} has no whole picture")


def _is_video(path: str | Path) -> bool:
    """Whether a file has to be read as a video, and not as a photo.

    Raises:
        BadInput: no file, or a recording without pictures.
    """
    path = Path(path)
    limits.require_file(path, "a photo (JPEG or PNG) or a video")
    with path.open("rb") as file:
        head = file.read(kinds.HEAD_BYTES)
    if kinds.is_container(head):
        from clients.media.video import has_pictures  # FFmpeg

        if has_pictures(path):
            return True
    elif not (kinds.is_wav(head) or kinds.is_flac(head)):
        return False
    raise _no_face(f"{_name(path)} is a recording without pictures, and no face was given")


def _name(source: Source) -> str:
    return "the array" if isinstance(source, np.ndarray) else printable(str(source))


def _no_face(seen: str) -> BadInput:
    return BadInput(
        seen, "a photo of the person to hear", "the voice is chosen by the face", "give one with --face or --identity"
    )

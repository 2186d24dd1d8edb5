"""What the tab Separate shows: the faces of a photo or video, and a voice as sound, picture and words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clients.errors import BadInput
from clients.extras import cv2
from clients.media.faces import FaceBox, find_faces
from clients.media.picture import Picture, load_picture
from clients.media.sound import write_wav
from clients.media.video import read_frames
from clients.separator import SeparatedSpeech, SpeechSeparator
from clients.web.facts import facts_html
from clients.web.messages import Upload, require_upload, warnings_html

_VIEW_SIDE = 320  # pixels of a face in the gallery
_VIEW_MARGIN = 0.6  # of the box's side, around it
_BOX_COLOUR = (255, 176, 0)  # on skin and on any background the best seen of the colour-blind safe ones


class Voice(NamedTuple):
    """One answer, as the page shows it."""

    before: Path  # WAV
    after: Path  # WAV
    plot: Path  # PNG
    facts: str  # HTML


def faces_of(upload: Upload, *, is_video: bool) -> tuple[Picture, list[FaceBox]]:
    """A photo, or the first of a video's sampled frames with a face, and the faces in it from left to right.

    These are the faces that `SpeechSeparator.separate` counts with its `face_index`.

    Raises:
        BadInput: not a picture or video, or no face in it.
    """
    require_upload(upload)
    pictures = read_frames(upload.path) if is_video else iter([load_picture(upload.path)])
    for picture in pictures:
        if boxes := find_faces(picture):
            return picture, boxes
    raise BadInput(
        f"No face was found in {upload.name}",
        "a face that looks at the camera, at least a tenth of the picture high",
        "the voice is chosen by it",
        "give another one, or a picture that is cut to the face, and tick “The photo shows the face alone”",
    )


def write_face_views(picture: Picture, boxes: list[FaceBox], folder: Path) -> list[tuple[str, str]]:
    """Every face with its box and what is around it, as JPEG files with captions."""
    views = []
    for number, box in enumerate(boxes, 1):
        path = folder / f"face_{number}.jpg"
        cv2.imwrite(str(path), cv2.cvtColor(_face_view(picture, box), cv2.COLOR_RGB2BGR))
        views.append((str(path), f"Face {number} of {len(boxes)}"))
    return views


def choice_html(index: int, found: int) -> str:
    """Which face is chosen, for people and for screen readers."""
    said = "One face was found." if found == 1 else f"Face {index + 1} of {found} is chosen; choose another to hear it."
    return f'<p class="ave-choice" role="status">{said}</p>'


def separate(
    server: Mapping[str, Any], mixture: Upload, photo: Upload | None, face: int | None, is_crop: bool, folder: Path
) -> Voice:
    """Ask the server, and write what the page plays and shows into a folder.

    Args:
        server: what the client's constructor takes.
        mixture: recording, or a video that shows the person.
        photo: of the person; None to look in the video.
        face: index of the chosen face; None for the only one.
        is_crop: the photo is cut to the face already.
        folder: where the files belong.

    Raises:
        ClientError: as `SpeechSeparator.separate`.
    """
    for upload in (mixture, photo):
        if upload is not None:
            require_upload(upload)
    with SpeechSeparator(**server) as separator:
        result = separator.separate(
            mixture.path, photo.path if photo else None, face_index=None if is_crop else face, face_crop=is_crop
        )
    stem = Path(mixture.name).stem
    before, after, plot = folder / f"{stem}.mixture.wav", folder / f"{stem}.voice.wav", folder / "spectrograms.png"
    write_wav(before, result.mixture, result.sample_rate_hz)
    result.save(after)
    result.plot(plot)
    return Voice(before, after, plot, _facts_html(result))


def _face_view(picture: Picture, box: FaceBox) -> Picture:
    """The square around a face, with its box."""
    margin = round(_VIEW_MARGIN * box.width)
    top, left = box.top - margin, box.left - margin
    side = box.width + 2 * margin
    height, width = picture.shape[:2]
    around = np.zeros((side, side, 3), np.uint8)
    inside = picture[max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
    y, x = max(0, -top), max(0, -left)
    around[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    scale = _VIEW_SIDE / side
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    view = np.ascontiguousarray(cv2.resize(around, (_VIEW_SIDE, _VIEW_SIDE), interpolation=method))
    corner = round(margin * scale)
    opposite = (corner + round(box.width * scale), corner + round(box.height * scale))
    cv2.rectangle(view, (corner, corner), opposite, _BOX_COLOUR, 3)
    return np.asarray(view, np.uint8)


def _facts_html(result: SeparatedSpeech) -> str:
    """The figures of an answer as a list of terms."""
    said = result.to_dict()
    change_db = said["level_change_db"]
    facts = {
        "Time taken": f"{result.timings_s['total']:.2f} s, of it {result.timings_s['server']:.2f} s on the server",
        "Voice": f"{said['seconds']:.2f} s at {result.sample_rate_hz:,} Hz",
        "Level": "silent" if change_db is None else f"{change_db:+.1f} dB against the recording",
        "Attention": f"{100 * said['attention_mean']:.0f} % on average: how much the face weighed",
        "Model": f"{said['model']} {', '.join(said['model_versions'])}",
    }
    return facts_html(facts) + warnings_html(result.warnings)

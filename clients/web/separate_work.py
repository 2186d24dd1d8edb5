"""What the tab Separate shows: the faces of a photo or video, and a voice as sound, picture and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clients.extras import cv2
from clients.media.faces import resized
from clients.media.picture import Picture
from clients.media.sound import write_wav
from clients.outputs import explained, write_whole
from clients.separator import Portrait, SeparatedSpeech, SpeechSeparator
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


def write_face_views(portraits: Sequence[Portrait], folder: Path) -> list[tuple[str, str]]:
    """Every face with its box and what is around it, as JPEG files with captions.

    Raises:
        OutputFailed: the folder is gone, as its page is, or has no room.
    """
    views = []
    for number, portrait in enumerate(portraits, 1):
        path = folder / f"face_{number}.jpg"
        content = cv2.imencode(".jpg", cv2.cvtColor(_face_view(portrait), cv2.COLOR_RGB2BGR))[1].tobytes()
        with explained(path):
            path.write_bytes(content)
        views.append((str(path), f"Face {number}"))
    return views


def choice_html(index: int, found: int) -> str:
    """Which face is chosen, for people and for screen readers."""
    said = "One face was found." if found == 1 else f"Face {index + 1} of {found} is chosen; choose another to hear it."
    return f'<p class="ave-choice" role="status">{said}</p>'


def separate(server: Mapping[str, Any], mixture: Upload, face: Portrait | Upload, folder: Path) -> Voice:
    """Ask the server, and write what the page plays and shows into a folder.

    Args:
        server: what the client's constructor takes.
        mixture: recording or video.
        face: of the person to hear: one that was found, or a picture (of a video, one of its pictures) that shows
            nothing else.
        folder: where the files belong.

    Raises:
        ClientError: as `SpeechSeparator.separate`.
    """
    require_upload(mixture)
    with SpeechSeparator(**server) as separator:
        if isinstance(face, Upload):
            require_upload(face)
            result = separator.separate(mixture.path, face.path, face_crop=True)
        else:
            result = separator.separate(mixture.path, face)
    stem = mixture.path.stem  # Gradio has made it fit for a file's name
    before, after, plot = folder / f"{stem}.mixture.wav", folder / f"{stem}.voice.wav", folder / "spectrograms.png"
    write_whole(before, lambda aside: write_wav(aside, result.mixture, result.sample_rate_hz))
    result.save(after)
    result.plot(plot)
    said = _facts_html(result) + warnings_html(result.warnings, mixture)
    return Voice(before, after, plot, said)


def _face_view(portrait: Portrait) -> Picture:
    """The square around a face, with its box."""
    picture, box = portrait.picture, portrait.box
    if box is None:
        return resized(picture, _VIEW_SIDE)
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
    return facts_html(facts)

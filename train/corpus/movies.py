"""Stills out of a film of a face."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer

from train.corpus.layout import Picture
from train.errors import TrainError
from train.settings import FACE_SIZE

# FFmpeg opens local files only: no playlist or network address can hide behind a name.
_OPTIONS = {"protocol_whitelist": "file"}


def read_film(path: Path, stills: int) -> list[Picture]:
    """Take so many stills out of a film, each the middle of one of as many equal parts, (224, 224, 3) RGB.

    Raises:
        TrainError: missing, damaged, without pictures or cut off, or its pictures are not square.
    """
    if not path.is_file():
        raise TrainError(f"{path} is missing; wanted a film of the face.")
    try:
        with av.open(str(path), mode="r", options=_OPTIONS) as container:
            if not container.streams.video:
                raise TrainError(f"{path} has no pictures; wanted a film of the face.")
            container.streams.video[0].thread_count = 1  # clips are shared out among processes, not pictures
            return _decode(path, container, stills)
    except (av.FFmpegError, ValueError) as error:
        raise TrainError(f"{path} is not a film that can be read ({error}); fetch it again.") from error


def _decode(path: Path, container: InputContainer, stills: int) -> list[Picture]:
    stream = container.streams.video[0]
    frames = stream.frames or _count_frames(path)
    wanted = [int((index + 0.5) * frames / stills) for index in range(stills)]  # a short film gives some twice
    taken: list[Picture] = []
    for number, frame in enumerate(container.decode(stream)):
        if number == wanted[len(taken)]:
            picture = _fitted(path, np.asarray(frame.to_ndarray(format="rgb24")))
            taken.extend([picture] * wanted.count(number))
        if len(taken) == stills:
            return taken
    raise TrainError(f"{path} ends before its {frames} pictures do; it is cut off. Fetch it again.")


def _count_frames(path: Path) -> int:
    with av.open(str(path), mode="r", options=_OPTIONS) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def _fitted(path: Path, picture: Picture) -> Picture:
    high, wide, _ = picture.shape
    if high != wide:
        raise TrainError(f"{path} has pictures of {wide}x{high} pixels; wanted square ones, cropped around the face.")
    if high == FACE_SIZE:
        return picture
    return np.asarray(cv2.resize(picture, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA))

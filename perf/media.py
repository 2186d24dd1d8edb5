"""Files of the samples folder as arrays, read and brought into form by the same code as a client's own inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
# numpy and the clients' media libraries are loaded when they are used: a measurement's --help does not wait for them.


def read_sound(path: Path, rate_hz: int) -> Array:
    """A recording as mono float32 (samples,) at a rate.

    Raises:
        ClientError: It cannot be used; the client's own message.
    """
    from clients.media.sound import load_sound, resample

    sound = load_sound(path)
    return resample(sound.samples, sound.sample_rate_hz, rate_hz)


def cut(sound: Array, length: int) -> list[Array]:
    """Every full stretch of a length, one after the other; a shorter sound is padded with silence to one."""
    from clients.media.sound import fitted

    starts = range(0, max(len(sound) - length, 0) + 1, length)
    return [fitted(sound[start:], length) for start in starts]


def at_level(sound: Array, rms: float) -> Array:
    """The sound brought to an RMS; silence stays silence."""
    import numpy as np

    from clients.media.sound import gain_to

    return np.asarray(sound * gain_to(sound, rms), np.float32)


def read_face(path: Path, size: int) -> Array:
    """A face as RGB uint8 (size, size, 3): a square picture is a crop already, another one a photo of one person.

    Raises:
        ClientError: It cannot be used; the client's own message.
    """
    from clients.media import faces
    from clients.media.picture import load_picture

    picture = load_picture(path)
    if picture.shape[0] == picture.shape[1]:
        return faces.resized(picture, size)
    return faces.crop_face(picture, faces.choose_face(picture, path.name), size)


def read_picture(path: Path, *, height: int, width: int) -> Array:
    """A picture letterboxed to RGB uint8 (height, width, 3).

    Raises:
        ClientError: It cannot be used; the client's own message.
    """
    from clients.media.letterbox import Letterbox
    from clients.media.picture import load_picture

    picture = load_picture(path)
    return Letterbox.fit(picture, frame_width=width, frame_height=height).place(picture)

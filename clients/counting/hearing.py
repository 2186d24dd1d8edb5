"""Which second of sound goes with a picture, and why there is none where there is none."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.contract import ServedModel
from clients.errors import BadInput
from clients.media import limits
from clients.media.sound import Samples, Sound, fitted, resample, sound_of_array
from clients.media.sound_reader import open_sound

HEARD_S = 1.1  # that are read: the second that the networks hear, and a little more for the filter behind it
MIN_HEARD_S = limits.MIN_SECONDS  # of the second; less says nothing of a place


class Fallback(Enum):
    """Why the model that only sees was asked: the word that JSON and tables say, and the sentence for people."""

    NO_SOUND_GIVEN = "no_sound_given", "no sound was given with the picture"
    NO_SOUND_TRACK = "no_sound_track", "there is no sound track"
    SOUND_OFF = "sound_off", "the sound was to be left out"
    SILENT_SECOND = "silent_second", "this second of the sound is silent"
    SOUND_ENDED = "sound_ended", "the sound has ended before this picture"
    TOO_SHORT = "too_short", f"less than {MIN_HEARD_S:g} s of sound is left at this picture"

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence


@dataclass(frozen=True)
class Heard:
    """The second that goes with a picture."""

    samples: Samples  # as the served model wants them
    warnings: tuple[str, ...] = ()


def sound_at(source: str | Path | NDArray[Any], start_s: float, sample_rate_hz: int | None = None) -> Sound:
    """A recording from a moment on, as far as it is heard; of a file no more is read than up to there.

    Args:
        source: path of a recording or video; or an array (N,) or (N, channels), floats at full scale 1 or integers.
        start_s: the moment, seconds.
        sample_rate_hz: of an array; a file knows its own.

    Raises:
        BadInput: not a recording, damaged up to there, or over by then.
    """
    if not 0 <= start_s < limits.MAX_STREAM_SECONDS:
        raise _outside(start_s, f"recordings begin at 0 s, and none is longer than {limits.MAX_STREAM_SECONDS:,} s")
    if isinstance(source, np.ndarray):
        sound = sound_of_array(source, sample_rate_hz)
        start = round(start_s * sound.sample_rate_hz)
        if start >= len(sound.samples):
            raise _outside(start_s, f"{sound.name} is {sound.seconds:.2f} s long")
        return Sound(sound.samples[start:], sound.sample_rate_hz, sound.name)
    with open_sound(source) as reader, closing(reader.pieces()) as pieces:
        rate_hz = reader.sample_rate_hz
        start, end = round(start_s * rate_hz), round((start_s + HEARD_S) * rate_hz)
        kept, read = [np.zeros(0, np.float32)], 0
        for piece in pieces:
            kept.append(piece[max(0, start - read) : max(0, end - read)])
            read += len(piece)
            if read >= end:
                break
    if read <= start:
        raise _outside(start_s, f"{reader.name} is {read / rate_hz:.2f} s long")
    return Sound(np.concatenate(kept), rate_hz, reader.name)


def _outside(start_s: float, seen: str) -> BadInput:
    return BadInput(
        f"The sound was to begin at {start_s:g} s, but {seen}",
        "a start inside the recording",
        "there is nothing to hear elsewhere",
        "give another --sound-start",
    )


def hear(sound: Sound, served: ServedModel) -> Heard | Fallback:
    """The samples that the network hears from a sound's beginning; zeros and a warning where it ends too soon.

    Args:
        sound: what is to be heard first stands first; it may hold less than the network hears, or nothing.
        served: the model that hears.

    Raises:
        BadInput: values that are no numbers.
    """
    rate_hz, wanted = served.integer("sample_rate_hz"), served.integer("sound_samples")
    second = sound.samples[: round(wanted / rate_hz * sound.sample_rate_hz)]
    if len(second) == 0:
        return Fallback.SOUND_ENDED
    if len(second) < MIN_HEARD_S * sound.sample_rate_hz:
        return Fallback.TOO_SHORT
    if not np.isfinite(second).all():
        raise BadInput(
            f"{sound.name} holds values that are no numbers in the second that is heard",
            "finite samples",
            "one of them spoils the answer",
            "repair or export the recording again",
        )
    if np.sqrt(np.mean(np.square(second, dtype=np.float64))) < limits.SILENCE_RMS:
        return Fallback.SILENT_SECOND
    # A little more than is heard goes through the filter, so that its end lies outside.
    enough = sound.samples[: int((wanted / rate_hz + 0.1) * sound.sample_rate_hz)]
    heard = resample(enough, sound.sample_rate_hz, rate_hz)
    warnings = []
    if len(heard) < wanted:
        warnings.append(
            f"{sound.name} gives {len(heard) / rate_hz:.2f} s of the {wanted / rate_hz:g} s heard; silence follows"
        )
    return Heard(np.clip(fitted(heard, wanted), -1, 1), tuple(warnings))

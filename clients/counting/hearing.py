"""Which second of sound goes with a picture, and why there is none where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from clients.contract import ServedModel
from clients.errors import BadInput
from clients.media import limits
from clients.media.sound import Samples, Sound, fitted, resample

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


def from_start(sound: Sound, start_s: float) -> Sound:
    """The recording from a moment on.

    Raises:
        BadInput: it is over by then.
    """
    start = round(start_s * sound.sample_rate_hz)
    if not 0 <= start < len(sound.samples):
        raise BadInput(
            f"The sound was to begin at {start_s:g} s, but {sound.name} is {sound.seconds:.2f} s long",
            "a start inside the recording",
            "there is nothing to hear elsewhere",
            "give another --sound-start",
        )
    return Sound(sound.samples[start:], sound.sample_rate_hz, sound.name)


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

"""What a stream is made of: pictures in time, each with the sound that begins there."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from clients.counting.hearing import MIN_HEARD_S, Fallback
from clients.media.picture import Picture, load_picture
from clients.media.sound import Sound, sound_of_array

# A picture as a file or array; or (time_s, picture, sound).
StreamItem = str | Path | NDArray[Any] | tuple[float, str | Path | NDArray[Any], NDArray[Any] | Sound | Fallback | None]


@dataclass(frozen=True)
class Moment:
    """One picture, and what can be heard with it."""

    time_s: float  # from the stream's beginning
    picture: Picture
    sound: Sound | Fallback  # that begins with the second to hear, or why there is none


def moments_of(
    source: Iterable[StreamItem], every_s: float, sample_rate_hz: int | None
) -> Generator[Moment, None, None]:
    """The moments of pictures that come; see `CrowdCounter.count_stream`.

    Raises:
        BadInput: a picture or sound that nothing can be done with.
    """
    for number, item in enumerate(source):
        yield moment_of(item, number * every_s, sample_rate_hz)


def moment_of(item: StreamItem, time_s: float, sample_rate_hz: int | None) -> Moment:
    """A stream's item, checked.

    Args:
        item: see `StreamItem`.
        time_s: of an item that does not say its own.
        sample_rate_hz: of a sound that is an array.

    Raises:
        BadInput: a picture or sound that nothing can be done with.
    """
    if not isinstance(item, tuple):
        return Moment(time_s, load_picture(item), Fallback.NO_SOUND_GIVEN)
    time_s, picture, sound = item
    return Moment(float(time_s), load_picture(picture), _sound_of(sound, sample_rate_hz))


def _sound_of(given: NDArray[Any] | Sound | Fallback | None, sample_rate_hz: int | None) -> Sound | Fallback:
    if given is None:
        return Fallback.NO_SOUND_GIVEN
    if isinstance(given, (Sound, Fallback)):
        return given
    if sample_rate_hz and len(given) < MIN_HEARD_S * sample_rate_hz:
        return Fallback.TOO_SHORT if len(given) else Fallback.SOUND_ENDED
    return sound_of_array(given, sample_rate_hz)

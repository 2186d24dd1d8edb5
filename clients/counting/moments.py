"""What a stream is made of: pictures in time, each with the sound that begins there."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from clients.counting.hearing import HEARD_S, MIN_HEARD_S, Fallback
from clients.media.picture import Picture, load_picture
from clients.media.sound import Sound, sound_of_array

if TYPE_CHECKING:
    from clients.media.video import VideoSecond

# A picture as a file or array; or (time_s, picture, sound).
StreamItem = str | Path | NDArray[Any] | tuple[float, str | Path | NDArray[Any], NDArray[Any] | Sound | Fallback | None]


class Seconds(Protocol):
    """What can be watched and heard second by second: `VideoReader`, a camera, a network stream."""

    @property
    def name(self) -> str:
        """How messages call it."""

    @property
    def sound_rate_hz(self) -> int | None:
        """Samples per second of its sound; None without."""

    def seconds(self, every_s: float = 1.0, sound_s: float = 1.0) -> Iterator[VideoSecond]:
        """Pictures at 0, `every_s` and so on, each with the sound around it."""


@dataclass(frozen=True)
class Moment:
    """One picture, and what can be heard with it."""

    time_s: float  # from the stream's beginning
    picture: Picture
    sound: Sound | Fallback  # that begins with the second to hear, or why there is none


def moments_of(
    source: str | Path | Seconds | Iterable[StreamItem], every_s: float, sample_rate_hz: int | None, use_sound: bool
) -> Generator[Moment, None, None]:
    """The moments of a video, or of pictures that come; see `CrowdCounter.count_stream`.

    Raises:
        BadInput: a video, picture or sound that nothing can be done with.
    """
    if isinstance(source, (str, Path)):
        from clients.media.video import VideoReader  # FFmpeg takes a moment to load

        with VideoReader(source) as reader:
            yield from _watched(reader, every_s, use_sound)
    elif isinstance(source, Iterable):
        for number, item in enumerate(source):
            yield moment_of(item, number * every_s, sample_rate_hz)
    else:
        yield from _watched(source, every_s, use_sound)


def _watched(reader: Seconds, every_s: float, use_sound: bool) -> Iterator[Moment]:
    for second in reader.seconds(every_s, HEARD_S):
        yield Moment(second.time_s, second.picture, _heard_with(second, reader, use_sound))


def _heard_with(second: VideoSecond, reader: Seconds, use_sound: bool) -> Sound | Fallback:
    if not use_sound:
        return Fallback.SOUND_OFF
    if reader.sound_rate_hz is None:
        return Fallback.NO_SOUND_TRACK
    if second.sound is None:
        return Fallback.SOUND_ENDED
    return Sound(second.sound, reader.sound_rate_hz, f"the sound at {second.time_s:g} s of {reader.name}")


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

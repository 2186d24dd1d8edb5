"""Videos read picture by picture, or second by second with their sound, in memory that does not grow with them.

Times are seconds from the video's beginning, as a player shows it: where pictures come at uneven steps or one is
missing, the one before stays on the screen. Pictures are turned as the video says.

    pictures        A   B     C        D        what the file holds, at uneven steps
    every second    A     B     C     C         what a player shows
    their sound     [-----)     |     |         a second around each; the first one's cannot begin before the video
                       [--|--)  |     |
                             [--|--)  |
                                   [--|--)

H, W: pixels, upright. N: samples.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clients.errors import printable
from clients.extras import av
from clients.media import limits
from clients.media.containers import opened
from clients.media.resampling import Samples
from clients.media.tracks import MAX_LAST_S, Packets, PictureTrack, SoundTrack, start_of
from clients.media.video_frames import NEAR_S, Screen, T, Timed, rotation_of, shown_at, upright
from clients.media.video_head import (
    duration_of,
    frame_rate_of,
    no_pictures,
    picture_stream,
    readable_sound,
    require_container,
)

if TYPE_CHECKING:
    from av import AudioStream, VideoStream
    from av.container import InputContainer

_SHARES = (0.5, 0.25, 0.75, 0.1, 0.9)  # where in a video a face is looked for, in this order
_INDEXED = {"mov", "matroska", "webm"}  # formats in which a jump lands where it should, and times stay right behind it
_SEEK_STEPS_S = (0.0, 10.0, 60.0)  # how much earlier is tried where a jump lands behind the moment that is wanted


@dataclass(frozen=True)
class VideoFrame:
    """A picture of a video."""

    time_s: float
    picture: NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True)
class VideoSecond:
    """A picture and what is heard around it."""

    time_s: float  # of the picture
    picture: NDArray[np.uint8]  # (H, W, 3) RGB
    sound: Samples | None  # (N,), mono at the reader's `sound_rate_hz`; shorter where the sound ends, None behind it


class VideoReader:
    """A video whose head was checked; `frames` and `seconds` read it from the beginning, one pass at a time.

    Attributes:
        name: how messages call it.
        width: pixels, upright.
        height: pixels, upright.
        frame_rate: pictures per second on average; 25 where the file does not say.
        duration_s: length; None where the file does not say.
        sound_rate_hz: samples per second of its sound; None without.
        rotation: degrees that stored pictures are turned by, counterclockwise: 0, 90, 180 or 270.
        damaged: packets of pictures that could not be decoded in this pass; they are left out.

    Args:
        source: path of a video.

    Raises:
        BadInput: no video, damaged, too large, too long, or of a coding that is not read.
    """

    def __init__(self, source: str | Path) -> None:
        self._pass: Generator[object, None, None] | None = None
        self._track: PictureTrack | None = None
        self._path = Path(source)
        self.name = printable(self._path)
        require_container(self._path)
        self._read_head()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, also when it was not read to its end."""
        self._end_pass()

    def _end_pass(self) -> None:
        if self._pass is not None:
            self._pass.close()

    @property
    def has_sound(self) -> bool:
        """Whether it has a sound track that can be read."""
        return self.sound_rate_hz is not None

    @property
    def damaged(self) -> int:
        """See the class."""
        return 0 if self._track is None else self._track.damaged

    def frames(self, every_s: float | None = None, start_s: float = 0.0) -> Iterator[VideoFrame]:
        """Pictures in the order of their times.

        Args:
            every_s: what is on the screen at `start_s`, `start_s + every_s` and so on; None: every picture, at its own
                time.
            start_s: when to begin.

        Raises:
            BadInput: damaged, or too large, too long or with too many pictures behind a head that promised less.
            ValueError: `every_s` is not above 0.
        """
        _require_step(every_s)
        self._end_pass()
        self._pass = frames = self._frames(every_s, start_s)
        return frames

    def seconds(self, every_s: float = 1.0, sound_s: float = 1.0) -> Iterator[VideoSecond]:
        """Pictures at 0, `every_s` and so on, each with the sound around it.

        Args:
            every_s: from one picture to the next.
            sound_s: length of the sound, which begins half a second before the picture, but not before the video.

        Raises:
            BadInput: as for `frames`. Damaged sound becomes silence.
            ValueError: `every_s` is not above 0.
        """
        _require_step(every_s)
        self._end_pass()
        self._pass = seconds = self._seconds(every_s, sound_s)
        return seconds

    def _container(self) -> AbstractContextManager[InputContainer]:
        """The video, opened anew at its beginning."""
        return opened(self._path)

    def _read_head(self) -> None:
        with self._container() as container:
            stream = picture_stream(container, self.name)
            self._start_s = start_of(container)
            self.frame_rate = frame_rate_of(stream, self.name)
            self.duration_s = duration_of(container, stream)
            limits.require_stream_duration(self.name, self.duration_s or 0.0)
            sound = readable_sound(container)
            self.sound_rate_hz = None if sound is None else sound.rate
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise no_pictures(self.name, "holds no picture that can be decoded")
            self.rotation = rotation_of(first[1])
            self.height, self.width = upright(first[1]).shape[:2]

    def _frames(self, every_s: float | None, start_s: float) -> Generator[VideoFrame, None, None]:
        with self._container() as container:
            stream = picture_stream(container, self.name)
            decoded, screen = self._from(container, stream, start_s), Screen()
            for time_s, frame in decoded if every_s is None else self._shown(decoded, every_s, start_s):
                if time_s >= start_s - NEAR_S:
                    yield VideoFrame(time_s, screen.show(frame))

    def _seconds(self, every_s: float, sound_s: float) -> Generator[VideoSecond, None, None]:
        with self._container() as container:
            stream, sound = picture_stream(container, self.name), readable_sound(container)
            packets = Packets(container, [stream] if sound is None else [stream, sound])
            track, screen = self._pictures(stream), Screen()
            self._track = track
            heard = None if sound is None else _Heard(sound, packets, self.name, self._start_s, self.duration_s)
            for time_s, frame in self._shown(track.frames(packets.of(stream)), every_s, 0.0):
                around = None if heard is None else heard.between(max(0.0, time_s - 0.5), sound_s)
                yield VideoSecond(time_s, screen.show(frame), around)

    def _from(self, container: InputContainer, stream: VideoStream, start_s: float) -> Iterator[Timed[av.VideoFrame]]:
        """All pictures from the last one at or before a moment on, and maybe some before it."""
        if start_s <= 0 or not _INDEXED & set(container.format.name.split(",")):
            return self._decoded(container, stream)
        for earlier_s in _SEEK_STEPS_S:
            container.seek(int((self._start_s + max(0.0, start_s - earlier_s)) * av.time_base))
            decoded = self._decoded(container, stream)
            first = next(decoded, None)
            if first is not None and first[0] <= start_s:
                return chain([first], decoded)
        container.seek(int(self._start_s * av.time_base))
        return self._decoded(container, stream)

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[Timed[av.VideoFrame]]:
        self._track = self._pictures(stream)
        return self._track.frames(Packets(container, [stream]).of(stream))

    def _pictures(self, stream: VideoStream) -> PictureTrack:
        return PictureTrack(stream, self.name, self._start_s, self.duration_s or 0.0)

    def _shown(self, frames: Iterable[Timed[T]], every_s: float, start_s: float) -> Iterator[Timed[T]]:
        return shown_at(frames, every_s, start_s, min(1 / self.frame_rate, MAX_LAST_S))


def _require_step(every_s: float | None) -> None:
    if every_s is not None and not every_s > 0:
        raise ValueError(f"pictures every {every_s} s; the step is above 0")


class _Heard:
    """The sound of a video, asked for by stretches whose beginnings never fall."""

    def __init__(
        self, stream: AudioStream, packets: Packets, name: str, start_s: float, promised_s: float | None
    ) -> None:
        self._track = SoundTrack(stream, name, start_s, promised_s or 0.0)
        self._pieces = self._track.pieces(packets.of(stream), skip_damaged=True)
        self._rate_hz = stream.rate
        self._held = np.zeros(0, np.float32)
        self._held_from = 0  # number of the first sample that is held

    def between(self, begin_s: float, seconds: float) -> Samples | None:
        """The sound from a moment on; None where it is over by then."""
        pieces, reached = [self._held], self._held_from + len(self._held)
        while not reached or reached < self._place(begin_s + seconds):
            piece = next(self._pieces, None)
            if piece is None:  # it has ended, or pauses for long
                break
            pieces.append(piece)
            reached += len(piece)
            if reached <= self._place(begin_s):
                pieces, self._held_from = [pieces[0][:0]], reached
        held, begin = np.concatenate(pieces), self._place(begin_s)
        gone = min(len(held), max(0, begin - self._held_from))
        self._held, self._held_from = held[gone:], self._held_from + gone
        if reached <= max(0, begin):
            return None
        end = begin + round(seconds * self._rate_hz)
        before = np.zeros(max(0, min(end, 0) - begin), np.float32)
        return np.asarray(np.concatenate((before, self._held[: max(0, end - self._held_from)])), np.float32)

    def _place(self, time_s: float) -> int:
        """Number of the sample that is heard at a moment; right once there was a sample."""
        return round((time_s - self._track.begins_s) * self._rate_hz)


def read_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Some pictures of a video, the middle one first, each (H, W, 3) RGB.

    Only key frames are given: they are whole pictures, where frames after a jump or a lost one may be torn.

    Raises:
        BadInput: no pictures, damaged, or too large.
    """
    name = printable(path)
    with opened(path) as container:
        stream = picture_stream(container, name)
        start, duration = container.start_time or 0, container.duration or 0
        for share in _SHARES if duration else (0.0,):
            container.seek(int(start + duration * share))
            frame = next((frame for frame in container.decode(stream) if frame.key_frame), None)
            if frame is not None:
                yield upright(frame)

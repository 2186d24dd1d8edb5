"""The packets of a container on their way to pictures and samples, each with its time.

Times are seconds from the container's beginning. Packets are read once, in the order of the file, and wait for their
track still coded, so that pictures and sound can be asked for in any order and only little is held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import numpy as np

from clients.extras import av
from clients.media import limits
from clients.media.containers import Patience
from clients.media.resampling import Samples

if TYPE_CHECKING:
    from av import AudioStream, VideoStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

    Track = AudioStream | VideoStream
    TrackPacket = Packet[Stream]  # at run time it takes no brackets

# What may wait of one track, still coded; files keep pictures and sound within a second or two.
MAX_WAITING_BYTES, MAX_WAITING_PACKETS = 64_000_000, 100_000
MAX_WAITING_S = 10.0  # of pictures, while sound is looked for
MAX_LAST_S = 10.0  # that the last picture stays on the screen
_JITTER_S = 0.1  # containers round times, and clocks drift; up to this, samples are taken to follow each other
_JUMP_S = 10.0  # forward; more is a gap only if the header's length has room for it
_JUMP_BACK_S = 1.0  # less is pictures in a wrong order
_MAX_BAD_PACKETS = 250  # one behind the other: ten seconds of pictures


class Packets:
    """The packets of some tracks, taken track by track.

    While pictures are taken, sound waits, and the oldest is dropped when too much of it does: it is no longer wanted.
    While sound is taken, pictures wait, but not for long.

    Args:
        container: read from where it stands.
        streams: the tracks.
    """

    def __init__(self, container: InputContainer, streams: list[Track]) -> None:
        self._source = container.demux(streams)
        self._queues = {stream.index: _Queue() for stream in streams}
        self._sounds = {stream.index for stream in streams if stream.type == "audio"}

    def of(self, stream: Track) -> Iterator[TrackPacket | None]:
        """The packets of a track; None where sound has none for so long that the pictures wait in vain."""
        own = self._queues[stream.index]
        while True:
            while own.packets:
                yield own.take()
            if stream.index in self._sounds and any(self._queues[other].is_long() for other in self._pictures()):
                yield None
            packet = next(self._source, None)
            if packet is None:
                return
            index = packet.stream.index  # the mark of the end has no other
            self._queues[index].put(packet)
            if index in self._sounds and index != stream.index and self._queues[index].is_full():
                self._queues[index].take()

    def _pictures(self) -> set[int]:
        return self._queues.keys() - self._sounds


class _Queue:
    """The packets of a track that wait."""

    def __init__(self) -> None:
        self.packets: deque[TrackPacket] = deque()
        self._bytes = 0

    def put(self, packet: TrackPacket) -> None:
        self.packets.append(packet)
        self._bytes += packet.size

    def take(self) -> TrackPacket:
        packet = self.packets.popleft()
        self._bytes -= packet.size
        return packet

    def is_full(self) -> bool:
        return self._bytes > MAX_WAITING_BYTES or len(self.packets) > MAX_WAITING_PACKETS

    def is_long(self) -> bool:
        """Whether it is full, or spans a long time."""
        ends = [self.packets[0], self.packets[-1]] if self.packets else []
        times = [float(packet.dts * packet.time_base) for packet in ends if packet.dts is not None]
        return self.is_full() or (len(times) == 2 and times[1] - times[0] > MAX_WAITING_S)


class PictureTrack:
    """Decodes pictures.

    Args:
        stream: the track.
        name: how messages call the file.
        start_s: the container's first moment in its own time.
        promised_s: the container's length by its header, 0 where it does not say.
        endless: it may be longer than 24 h.
    """

    def __init__(
        self, stream: VideoStream, name: str, start_s: float, promised_s: float, *, endless: bool = False
    ) -> None:
        self._name, self._start_s, self._promised_s, self._endless = name, start_s, promised_s, endless
        self._step_s = min(1 / float(stream.average_rate or 25), MAX_LAST_S)
        self._last_s: float | None = None
        self._shift_s = 0.0  # what is taken off the container's times, after jumps in them
        self._patience = Patience(name)
        self._in_second, self._second = 0, -1
        self.damaged = 0  # packets that gave no picture

    def frames(self, packets: Iterator[TrackPacket | None]) -> Iterator[tuple[float, av.VideoFrame]]:
        """Pictures with their times, which never fall; damaged packets are left out.

        Raises:
            BadInput: too many, too large, or nothing but damage.
        """
        bad = 0
        self._patience.renew()
        for packet in packets:
            if packet is None:
                continue
            try:
                decoded = packet.decode()
                bad = 0
            except av.FFmpegError:
                self.damaged, bad = self.damaged + 1, bad + 1
                if bad > _MAX_BAD_PACKETS:
                    raise
                decoded = []
            self._patience.check()
            for frame in decoded:
                assert isinstance(frame, av.VideoFrame)
                yield self._timed(frame)
                self._patience.renew()

    def _timed(self, frame: av.VideoFrame) -> tuple[float, av.VideoFrame]:
        limits.require_picture_size(self._name, frame.width, frame.height, limits.MAX_VIDEO_PIXELS)
        time_s = self._time_of(frame)
        if not self._endless:
            limits.require_stream_duration(self._name, time_s)
        self._in_second = self._in_second + 1 if int(time_s) == self._second else 1
        self._second = int(time_s)
        limits.require_frame_rate(self._name, self._in_second)
        return time_s, frame

    def _time_of(self, frame: av.VideoFrame) -> float:
        """Never before the last one's; where the container's clock jumps, the next step behind it."""
        last_s = self._last_s or 0.0
        due_s = 0.0 if self._last_s is None else last_s + self._step_s
        time_s = due_s if frame.time is None else frame.time - self._start_s - self._shift_s
        if _is_jump(time_s - last_s, time_s, self._promised_s):
            self._shift_s += time_s - due_s
            time_s = due_s
        self._last_s = max(time_s, last_s)
        return self._last_s


class SoundTrack:
    """Decodes sound, mixes it down and lays it on the time line: gaps become silence.

    Args:
        stream: the track.
        name: how messages call the file.
        start_s: the container's first moment in its own time.
        promised_s: the track's length by its header, 0 where it does not say.
    """

    def __init__(self, stream: AudioStream, name: str, start_s: float, promised_s: float) -> None:
        self._name, self._start_s, self._promised_s = name, start_s, promised_s
        self._rate_hz = stream.rate
        self._shape: tuple[str, str, int] | None = None
        self._begins_s = 0.0
        self._shift_s = 0.0  # what is taken off the container's times, after jumps in them
        self._patience = Patience(name)
        self.samples = 0  # so far, gaps included

    @property
    def begins_s(self) -> float:
        """When the first sample is heard."""
        return self._begins_s

    def pieces(
        self, packets: Iterator[TrackPacket | None], *, skip_damaged: bool = False
    ) -> Generator[Samples | None, None, None]:
        """Samples, one piece behind the other; None where there are none for so long that others wait in vain.

        Args:
            packets: the track's.
            skip_damaged: let what follows damage be laid behind silence, instead of raising FFmpeg's error.

        Raises:
            BadInput: too many channels, or another absurd form.
        """
        self._patience.renew()
        for packet in packets:
            if packet is None:
                yield None
                continue
            self._patience.check()
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                if not skip_damaged:
                    raise
                continue
            for frame in decoded:
                assert isinstance(frame, av.AudioFrame)
                for piece in self._placed(frame):
                    self.samples += len(piece)
                    yield piece
                    self._patience.renew()

    def _placed(self, frame: av.AudioFrame) -> Iterator[Samples]:
        """A frame's samples, behind the silence that is missing before them."""
        limits.require_sound_format(self._name, channels=frame.layout.nb_channels, rate_hz=frame.sample_rate)
        if frame.time is not None:
            yield from self._gap(frame.time - self._start_s)
        for part in self._planes(frame):
            yield np.asarray(part.to_ndarray().mean(axis=0, dtype=np.float32))  # (channels, n) -> (n,)

    def _gap(self, time_s: float) -> Iterator[Samples]:
        if self.samples == 0:
            self._begins_s = time_s
            return
        due_s = self._begins_s + self._shift_s + self.samples / self._rate_hz
        gap_s = time_s - due_s
        if abs(gap_s) <= _JITTER_S:
            return
        if gap_s < 0 or _is_jump(gap_s, time_s, self._promised_s):
            self._shift_s += gap_s
            return
        missing = round(gap_s * self._rate_hz)
        for start in range(0, missing, self._rate_hz):
            yield np.zeros(min(self._rate_hz, missing - start), np.float32)

    def _planes(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """The frame as planes of floats at the track's rate; a few streams change their form on the way."""
        shape = frame.format.name, frame.layout.name, frame.sample_rate
        if shape != self._shape:
            self._shape = shape
            self._resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=self._rate_hz)
        return self._resampler.resample(frame)


def _is_jump(gap_s: float, time_s: float, promised_s: float) -> bool:
    """Whether a container counts by another clock from here on: backwards, or far and beyond the promised end."""
    return gap_s < -_JUMP_BACK_S or (gap_s > _JUMP_S and time_s > promised_s + 1)


def promised_sound_s(container: InputContainer, stream: AudioStream) -> float:
    """Length of a sound track as the header says, seconds; 0 if it does not say."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # The whole file's length is the sound's only where there are no pictures, which may go on in silence.
    return 0.0 if container.streams.video else (container.duration or 0) / av.time_base


def start_of(container: InputContainer) -> float:
    """The container's first moment in its own time, seconds."""
    return (container.start_time or 0) / av.time_base

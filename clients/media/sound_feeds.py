"""Sound on its way into a video that is being written: given in step with the pictures, so that little has to wait.

Players read a file from its beginning to its end and want pictures and sound of one moment near each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from clients.errors import printable
from clients.extras import av
from clients.media.container_sound import ContainerReader, sound_stream
from clients.media.containers import complaints, opened
from clients.media.resampling import Resampler, Samples
from clients.media.tracks import start_of

if TYPE_CHECKING:
    from av import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

    TimedPacket = tuple[float, Packet[AudioStream]]

# What is copied as it is: what all players of such a file know.
_IN_MOV = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac"})
_COPIED = {
    "mov": _IN_MOV,
    "mp4": _IN_MOV | {"flac", "opus", "libopus"},
    "matroska": _IN_MOV | {"flac", "opus", "libopus"},
}
_AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_AAC_BITS_PER_SECOND = 128_000  # more than one voice needs
_AAC_BITS_PER_SAMPLE = 6  # the most that the coding holds
_BLOCK_SAMPLES = 1 << 14


class SoundFeed:
    """Writes packets of sound as the pictures come.

    Args:
        output: what is written.
        packets: each with the time at which it begins, seconds.
    """

    def __init__(self, output: OutputContainer, packets: Iterator[TimedPacket]) -> None:
        self._output, self._packets = output, packets
        self._next: TimedPacket | None = None

    def advance(self, until_s: float) -> None:
        """Write the sound that begins before a moment."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None or self._next[0] >= until_s:
                return
            with as_os_errors():
                self._output.mux(self._next[1])
            self._next = None


@contextmanager
def as_os_errors() -> Iterator[None]:
    """FFmpeg's complaints about where is written; what it says of the packets themselves stays, see `complaints`.

    Raises:
        OSError: in their place.
    """
    try:
        yield
    except (av.ArgumentError, av.InvalidDataError):
        raise  # no disk says so, but times that a damaged file has given
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


def copied_or_encoded(output: OutputContainer, path: Path, stack: ExitStack) -> SoundFeed:
    """The sound of a video as it is where players know its coding, else as AAC.

    Args:
        output: what is written; it gets a track of sound.
        path: the video.
        stack: closes it.

    Raises:
        BadInput: it has no sound that can be read.
    """
    container = stack.enter_context(opened(path))
    stream = sound_stream(container, printable(path))
    if stream.codec_context.codec.name in _COPIED[output.format.name]:
        copy = output.add_stream_from_template(stream)
        return SoundFeed(output, _copied(container, stream, copy, printable(path)))
    reader = ContainerReader(path)
    stack.callback(reader.close)
    return encoded(output, reader.pieces(), reader.sample_rate_hz, reader.begins_s)


def encoded(output: OutputContainer, blocks: Iterable[Samples], rate_hz: int, begins_s: float) -> SoundFeed:
    """Samples as AAC.

    Args:
        output: what is written; it gets a track of sound.
        blocks: mono, each (n,).
        rate_hz: their rate; one that AAC does not have becomes 48 kHz.
        begins_s: when the first one is to be heard.
    """
    aac_hz = rate_hz if rate_hz in _AAC_RATES_HZ else 48_000
    stream = output.add_stream("aac", rate=aac_hz, layout="mono")
    stream.bit_rate = min(_AAC_BITS_PER_SECOND, _AAC_BITS_PER_SAMPLE * aac_hz)
    return SoundFeed(output, _encoded(stream, _resampled(blocks, Resampler(rate_hz, aac_hz)), aac_hz, begins_s))


def _copied(container: InputContainer, stream: AudioStream, target: AudioStream, name: str) -> Iterator[TimedPacket]:
    with complaints(name):
        for packet in container.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue  # the mark of the end
            shift = round(start_of(container) / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            begins_s = float(packet.pts * packet.time_base)
            packet.stream = target
            yield begins_s, packet


def _resampled(blocks: Iterable[Samples], resampler: Resampler) -> Iterator[Samples]:
    for block in blocks:
        yield resampler.push(block)
    yield resampler.end()


def _encoded(stream: AudioStream, blocks: Iterable[Samples], rate_hz: int, begins_s: float) -> Iterator[TimedPacket]:
    position = round(begins_s * rate_hz)
    for block in blocks:
        for start in range(0, len(block), _BLOCK_SAMPLES):
            part = block[None, start : start + _BLOCK_SAMPLES]
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), position
            position += part.shape[1]
            yield from _timed(stream.encode(frame), rate_hz)
    yield from _timed(stream.encode(None), rate_hz)


def _timed(packets: Iterable[Packet[AudioStream]], rate_hz: int) -> Iterator[TimedPacket]:
    for packet in packets:
        yield float((packet.pts or 0) * (packet.time_base or Fraction(1, rate_hz))), packet

"""Writing videos: pictures with the sound of another one, and a video's own pictures with another sound.

MP4 and MKV, by the name of the file. Both appear under their name only when they are whole.

H, W: pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadInput, printable
from clients.extras import av
from clients.media.container_sound import ContainerReader
from clients.media.containers import complaints, opened
from clients.media.sound_feeds import as_os_errors, copied_or_encoded, encoded
from clients.media.sound_reader import open_sound
from clients.media.tracks import start_of
from clients.media.video_head import picture_stream
from clients.media.whole import WholeFile

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import OutputContainer
    from av.packet import Packet

ENDINGS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_MP4_OPTIONS = {"movflags": "+faststart"}  # the index at the beginning, so that a page can play it while it comes
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "libopenh264": {},
    "mpeg4": {},
}
_MAX_REORDERED = 16  # the most that a coding may need to know of later pictures
_MAX_TICKS = 65_535  # per second; what MPEG-4 can say
_BITS_PER_PIXEL = 0.2  # where an encoder has to be told a rate and not a quality


class VideoWriter:
    """A video that is written while its pictures come; when the `with` ends in an error, there is no file.

    H.264 where FFmpeg was built with an encoder for it, else MPEG-4. Colours are BT.709. A side of an odd length gets
    one more row or column, as the coding wants even ones.

    Args:
        path: MP4, MOV or MKV by its ending; a file that is there is replaced.
        width: of the pictures, pixels.
        height: of the pictures, pixels.
        frame_rate: pictures per second.
        sound_from: a video whose sound goes along, from its beginning up to the last picture.

    Raises:
        BadInput: `sound_from` has no sound that can be read.
        OSError: it cannot be written.
        ValueError: another ending.
    """

    def __init__(
        self, path: str | Path, width: int, height: int, frame_rate: float, sound_from: Path | None = None
    ) -> None:
        self._size, self._source = (height, width), printable(sound_from or path)
        self._whole, self._stack = WholeFile(path), ExitStack()
        self._step = Fraction(1 / frame_rate).limit_denominator(_MAX_TICKS)
        self.frames = 0  # so far
        with _discarding(self._stack, self._whole):
            self._output = _created(self._whole, self._stack)
            self._stream = self._add_pictures()
            self._sound = None if sound_from is None else copied_or_encoded(self._output, sound_from, self._stack)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture (H, W, 3) RGB.

        Raises:
            BadInput: the sound that is copied is damaged.
            OSError: it cannot be written.
            ValueError: a picture of another size.
        """
        if picture.shape != (*self._size, 3) or picture.dtype != np.uint8:
            raise ValueError(f"a picture of shape {picture.shape} and type {picture.dtype} for {self._size} and uint8")
        odd = [(0, side % 2) for side in self._size]
        rgb = av.VideoFrame.from_ndarray(np.pad(picture, (*odd, (0, 0)), mode="edge"), format="rgb24")
        colours = av.video.reformatter
        frame = rgb.reformat(
            format="yuv420p", dst_colorspace=colours.Colorspace.ITU709, dst_color_range=colours.ColorRange.MPEG
        )
        frame.pts, frame.time_base = self.frames, self._step
        self.frames += 1
        with complaints(self._source), as_os_errors():
            self._output.mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.advance(float(self.frames * self._step))

    def close(self) -> None:
        """Write what is on the way and give the file its name.

        Raises:
            BadInput: the sound that is copied is damaged; there is no file then.
            OSError: it cannot be written; there is no file then.
            ValueError: no picture came.
        """
        if not self.frames:
            self.discard()
            raise ValueError("a video without a picture")
        with _discarding(self._stack, self._whole), complaints(self._source), as_os_errors():
            self._output.mux(self._stream.encode(None))
            self._stack.close()
            self._whole.finish()

    def discard(self) -> None:
        """Leave no file."""
        _discard(self._stack, self._whole)

    def _add_pictures(self) -> VideoStream:
        name = next(name for name in _ENCODERS if name in av.codecs_available)
        stream = self._output.add_stream(name, rate=1 / self._step, options=_ENCODERS[name])
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = (side + side % 2 for side in self._size)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._step
        colours = av.video.reformatter
        context.colorspace, context.color_range = colours.Colorspace.ITU709, colours.ColorRange.MPEG
        context.color_primaries, context.color_trc = colours.ColorPrimaries.BT709, colours.ColorTrc.BT709
        if not _ENCODERS[name]:
            stream.bit_rate = round(stream.height * stream.width * _BITS_PER_PIXEL / self._step)
        return stream


def replace_sound(video: Path, sound: Path, target: Path) -> None:
    """Write a video's pictures, as they are, with another sound, which begins when the video's own begins.

    Args:
        video: the video; its rotation goes along, further tracks do not.
        sound: a recording, such as the voice separated from the video's sound.
        target: MP4, MOV or MKV by its ending; a file that is there is replaced.

    Raises:
        BadInput: the video or the recording cannot be read, or MP4 cannot hold the coding of the pictures.
        OSError: it cannot be written; there is no target then.
        ValueError: another ending.
    """
    name, whole = printable(video), WholeFile(target)
    with ExitStack() as stack, _discarding(stack, whole), complaints(name):
        source = stack.enter_context(opened(video))
        begins_s = ContainerReader(video).begins_s if source.streams.audio else 0.0
        reader = stack.enter_context(open_sound(sound))
        stream = picture_stream(source, name)
        output = _created(whole, stack)
        pictures = _add_copy(output, stream, name, target)
        feed = encoded(output, reader.pieces(), reader.sample_rate_hz, begins_s)
        shift = round(start_of(source) / (stream.time_base or 1))
        for dts, packet in _with_dts(source.demux(stream), stream):
            packet.dts = dts - shift
            packet.pts = None if packet.pts is None else packet.pts - shift
            feed.advance(float(packet.dts * packet.time_base))
            packet.stream = pictures
            with as_os_errors():
                output.mux(packet)
        feed.advance(float("inf"))
        with as_os_errors():
            output.close()
        whole.finish()


def _created(whole: WholeFile, stack: ExitStack) -> OutputContainer:
    ending = whole.path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"a video is written as {', '.join(ENDINGS)}, not as {ending or 'a file without ending'}")
    options = {} if ENDINGS[ending] == "matroska" else _MP4_OPTIONS
    whole.part.touch()  # FFmpeg looks at the place only when the first packet comes
    with as_os_errors():
        return stack.enter_context(av.open(f"file:{whole.part}", "w", format=ENDINGS[ending], options=options))


def _add_copy(output: OutputContainer, stream: VideoStream, name: str, target: Path) -> VideoStream:
    try:
        return output.add_stream_from_template(stream, opaque=True)
    except ValueError:
        raise BadInput(
            f"The pictures of {name} are {printable(stream.codec_context.name)}, which {target.suffix} cannot hold",
            "H.264, MPEG-4 or another coding of this container",
            "they are copied as they are",
            "write an .mkv instead",
        ) from None


def _with_dts(packets: Iterable[Packet[VideoStream]], stream: VideoStream) -> Iterator[tuple[int, Packet[VideoStream]]]:
    """Packets with their decoding times, which MKV does not store and which are first known some packets later."""
    step = max(1, round(1 / ((stream.average_rate or 25) * (stream.time_base or 1))))
    marked = (packet for packet in packets if packet.size)  # the mark of the end has no content
    early: list[Packet[VideoStream]] = []
    for packet in marked:
        early.append(packet)
        if packet.dts is not None or len(early) == _MAX_REORDERED:
            break
    times = [packet.pts if packet.dts is None else packet.dts for packet in early]
    last = min((time for time in times if time is not None), default=0) - len(early) * step
    for packet in chain(early, marked):
        last = last + step if packet.dts is None else max(last + 1, packet.dts)
        yield last, packet


@contextmanager
def _discarding(stack: ExitStack, whole: WholeFile) -> Iterator[None]:
    """Leave no file when there is an error."""
    try:
        yield
    except BaseException:
        _discard(stack, whole)
        raise


def _discard(stack: ExitStack, whole: WholeFile) -> None:
    with suppress(av.FFmpegError, OSError):  # of the end of a file that nobody wants
        stack.close()
    whole.discard()

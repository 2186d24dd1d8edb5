"""The sound track of a container, read block by block through FFmpeg."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from clients.errors import BadInput, printable
from clients.media import limits, wav_check
from clients.media.containers import opened, require_decoder
from clients.media.resampling import Samples
from clients.media.sound_reader import SoundReader
from clients.media.tracks import Packets, SoundTrack, promised_sound_s, start_of

if TYPE_CHECKING:
    from av import AudioStream
    from av.container import InputContainer


class ContainerReader(SoundReader):
    """The first sound track of a video or another container.

    Attributes:
        begins_s: when its first sample is heard, seconds from the container's beginning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        name = printable(path)
        with opened(path) as container:
            stream = sound_stream(container, name)
            self._promised_s = promised_sound_s(container, stream)
            samples = round(self._promised_s * stream.rate) or None
            super().__init__(name, stream.rate, samples)
            if samples is not None:
                limits.require_not_short(name, samples + 1, self.sample_rate_hz)
                limits.require_stream_duration(name, self._promised_s)
            track = self._track(container, stream)
            next(track.pieces(Packets(container, [stream]).of(stream)), None)
            self.begins_s = track.begins_s

    def pieces(self) -> Generator[Samples, None, None]:
        """See `SoundReader`."""
        with opened(self._path) as container:
            stream = sound_stream(container, self.name)
            track = self._track(container, stream)
            for piece in track.pieces(Packets(container, [stream]).of(stream)):
                if piece is not None:
                    yield piece
        held_s = track.samples / self.sample_rate_hz
        if held_s < 0.9 * self._promised_s - 0.5:  # coders add and cut a little at both ends
            raise wav_check.cut_short(self.name, f"{self._promised_s:.1f} s of sound", f"{held_s:.1f} s")

    def _track(self, container: InputContainer, stream: AudioStream) -> SoundTrack:
        return SoundTrack(stream, self.name, start_of(container), self._promised_s)


def sound_stream(container: InputContainer, name: str) -> AudioStream:
    """A container's first sound track, when it can be read.

    Raises:
        BadInput: no sound, or of a coding or form that is not read.
    """
    if not container.streams.audio:
        raise BadInput(f"{name} has no sound track", "a file with sound", "there is nothing to hear", "give another")
    stream = container.streams.audio[0]
    require_decoder(stream, name)
    limits.require_sound_format(name, channels=stream.codec_context.channels, rate_hz=stream.rate)
    return stream

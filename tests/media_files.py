"""Media files for tests, made with FFmpeg, which the tests then read by our own code."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 16_000
TICKS = 1_000  # of the clock of a video with uneven steps, per second


def tone(rate_hz: int, seconds: float = 1.0, frequency_hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency_hz * np.arange(round(rate_hz * seconds)) / rate_hz)).astype(np.float32)


def noise(seconds: float, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate_hz))).astype(np.float32)


def clicks(seconds: float, at_s: Sequence[float], rate_hz: int = RATE_HZ) -> np.ndarray:
    """Silence with short bursts of noise."""
    sound, burst = np.zeros(round(seconds * rate_hz), np.float32), noise(0.01, rate_hz) * 5
    for second in at_s:
        start = round(second * rate_hz)
        sound[start : start + len(burst)] = burst
    return sound


def click_times(sound: np.ndarray, rate_hz: int = RATE_HZ) -> list[float]:
    """When bursts begin: where the level first passes a tenth of the peak, a quarter of a second after the last one."""
    loud = np.flatnonzero(np.abs(sound) > 0.1 * np.abs(sound).max()) / rate_hz
    return [float(time) for time, before in zip(loud, np.r_[-1, loud], strict=False) if time - before > 0.25]


def flat(grey: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), grey, np.uint8)


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    times_s: Iterable[float] | None = None,
    *,
    rate: float = 25.0,
    sound: np.ndarray | None = None,
    sound_begins_s: float = 0.0,
    codec: str = "libx264",
    sound_codec: str = "aac",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    apart: bool = False,
) -> Path:
    """A video of the pictures at their times, by default at a constant rate.

    Args:
        path: its ending chooses the container.
        pictures: (H, W, 3) RGB.
        times_s: of each picture.
        rate: pictures per second.
        sound: mono at 16 kHz.
        sound_begins_s: when it is first heard.
        codec: of the pictures.
        sound_codec: of the sound.
        options: of the pictures' encoder.
        container: options of the container.
        apart: all sound behind all pictures.
    """
    pictures = list(pictures)
    step = 1 / Fraction(rate).limit_denominator(1001) if times_s is None else Fraction(1, TICKS)
    marks = range(len(pictures)) if times_s is None else [round(time_s * TICKS) for time_s in times_s]
    settings = {**(container or {}), **({"max_interleave_delta": "1"} if apart else {})}
    with av.open(str(path), "w", options=settings) as output:
        stream = output.add_stream(codec, rate=Fraction(rate).limit_denominator(1001), options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = step
        packets = []
        heard = None if sound is None else output.add_stream(sound_codec, rate=RATE_HZ, layout="mono")
        for picture, mark in zip(pictures, marks, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = mark, step
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if heard is not None:
            packets += encoded_sound(heard, sound, sound_begins_s)
        if not apart:
            packets.sort(key=lambda packet: float(packet.dts * packet.time_base))
        for packet in packets:
            output.mux(packet)
    return path


def encoded_sound(stream: av.AudioStream, sound: np.ndarray, begins_s: float) -> list[av.Packet]:
    frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), round(begins_s * RATE_HZ)
    return [*stream.encode(frame), *stream.encode(None)]


def turned_by_its_head(path: Path, clockwise: int) -> Path:
    """An MP4 whose head says that players are to turn it, as phones write it."""
    data = bytearray(path.read_bytes())
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    matrix = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    place = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    data[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path

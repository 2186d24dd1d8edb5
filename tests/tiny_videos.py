"""Small videos with a sound of their own, made here: what is seen and heard at every moment is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE_HZ = 16_000
CODEC = "libx264" if "libx264" in av.codecs_available else "mpeg4"


def write_video(
    path: Path,
    *,
    seconds: float = 4,
    rate: int = 8,
    size: tuple[int, int] = (96, 128),
    picture_at: Callable[[float], np.ndarray] | None = None,
    sound: np.ndarray | None = None,
) -> Path:
    """A video; the sound is (N,) at 16 kHz, lossless, from the beginning on.

    Args:
        path: an MKV, which holds FLAC.
        seconds: of pictures.
        rate: pictures per second.
        size: height and width.
        picture_at: RGB by the time in seconds; grey if left out.
        sound: none if left out.
    """
    samples = np.zeros(0, np.int16) if sound is None else np.round(np.clip(sound, -1, 1) * 32_767).astype(np.int16)
    with av.open(str(path), "w") as output:
        pictures = output.add_stream(CODEC, rate=rate)
        pictures.height, pictures.width, pictures.pix_fmt = *size, "yuv420p"
        coding = "mp2" if path.suffix == ".ts" else "flac"
        heard = None if sound is None else output.add_stream(coding, rate=RATE_HZ, layout="mono")
        written = 0
        for number in range(round(seconds * rate)):
            picture = np.full((*size, 3), 90, np.uint8) if picture_at is None else picture_at(number / rate)
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            written = _write_sound(output, heard, samples, written, round((number + 1) / rate * RATE_HZ))
        output.mux(pictures.encode(None))
        _write_sound(output, heard, samples, written, len(samples))
        if heard is not None:
            output.mux(heard.encode(None))
    return path


def _write_sound(output: Any, heard: Any, samples: np.ndarray, start: int, end: int) -> int:
    """Write a stretch of the samples; gives where it ended."""
    piece = samples[start:end]
    if heard is not None and len(piece):
        frame = av.AudioFrame.from_ndarray(piece[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, start
        output.mux(heard.encode(frame))
    return start + len(piece)


def tones(frequencies: list[float], seconds: float = 1.0) -> np.ndarray:
    """A tone each; 0 is silence."""
    times = np.arange(round(RATE_HZ * seconds)) / RATE_HZ
    return np.concatenate([0.3 * np.sin(2 * np.pi * hz * times) for hz in frequencies]).astype(np.float32)


def pitch_hz(sound: np.ndarray) -> float:
    """The loudest frequency of a second at 16 kHz."""
    return float(np.argmax(np.abs(np.fft.rfft(sound))) * RATE_HZ / len(sound))

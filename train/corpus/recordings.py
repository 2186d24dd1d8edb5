"""Recordings of any format and rate, as others' lists name them: mono at 16 kHz, or a reason why not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from av.container import InputContainer
from numpy.typing import NDArray

from train.corpus.layout import Waveform
from train.errors import TrainError
from train.settings import SAMPLE_RATE_HZ

LONGEST_S = 3600.0  # of a recording that is held in memory whole
# FFmpeg opens local files only: no playlist or network address can hide in a list.
_OPTIONS = {"protocol_whitelist": "file"}


def read_recording(path: Path) -> Waveform:
    """Read a recording, (N,) at 16 kHz, the mean of its channels: WAV, FLAC and the like, else whatever FFmpeg opens.

    Raises:
        TrainError: missing, damaged, without sound, longer than an hour, or with values that are no numbers.
    """
    if not path.is_file():
        raise TrainError(f"{path} is missing; wanted a recording. Check the root folder of the list.")
    try:
        samples, rate_hz = _read_sound_file(path)
    except soundfile.LibsndfileError:
        samples, rate_hz = _read_container(path)
    if not len(samples):
        raise TrainError(f"{path} holds no sound; fetch or make it again.")
    if not np.isfinite(samples).all():
        raise TrainError(f"{path} has samples that are no numbers; fetch or make it again.")
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    return np.asarray(samples, np.float32)


def _read_sound_file(path: Path) -> tuple[NDArray[np.float32], int]:
    with soundfile.SoundFile(path) as file:
        _require_length(path, file.frames / file.samplerate)
        samples = file.read(dtype="float32", always_2d=True)  # (N, channels)
        return samples.mean(axis=1), file.samplerate


def _read_container(path: Path) -> tuple[NDArray[np.float32], int]:
    try:
        with av.open(str(path), mode="r", options=_OPTIONS) as container:
            if not container.streams.audio:
                raise TrainError(f"{path} has no sound track; wanted a recording.")
            return _decode(path, container)
    except (av.FFmpegError, ValueError) as error:
        raise TrainError(f"{path} is not a recording that can be read ({error}); fetch or make it again.") from error


def _decode(path: Path, container: InputContainer) -> tuple[NDArray[np.float32], int]:
    stream = container.streams.audio[0]
    rate_hz = stream.rate
    to_float = av.AudioResampler(format="fltp", rate=rate_hz)  # only the sample format changes
    blocks, samples = [], 0
    for frame in container.decode(stream):
        for part in to_float.resample(frame):
            blocks.append(part.to_ndarray().mean(axis=0))  # (channels, n) -> (n,)
            samples += len(blocks[-1])
        _require_length(path, samples / rate_hz)
    return (np.concatenate(blocks) if blocks else np.empty(0, np.float32)), rate_hz


def _require_length(path: Path, seconds: float) -> None:
    if seconds > LONGEST_S:
        raise TrainError(f"{path} is {seconds:.0f} s long; wanted at most {LONGEST_S:.0f} s. Cut it.")

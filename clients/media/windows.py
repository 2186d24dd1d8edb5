"""Long recordings as overlapping windows, and the answers joined again.

    recording |==========================================================|
    window 0  |---------------------------|fade|halo|
    window 1                    |halo|fade|---------------------------|   (ends with the recording)

Two neighbours share a halo, a fade and a halo. The network sees no further than a halo, so in the fade, which has one
on either side, both windows hold what the whole recording would have given; they are blended there linearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
FADE_FRAMES = 10


@dataclass(frozen=True)
class Window:
    """A stretch of the recording that goes as one request."""

    start: int  # sample of the recording
    length: int  # samples, one of the served lengths; may reach beyond the recording's end


@dataclass(frozen=True)
class Plan:
    """How a recording is cut; all numbers are samples, multiples of the hop."""

    windows: tuple[Window, ...]
    halo: int
    fade: int


def plan_windows(samples: int, padded_samples: Sequence[int], *, hop: int, halo_frames: int) -> Plan:
    """Cut a recording into windows of served lengths, as few as there can be.

    Args:
        samples: length of the recording.
        padded_samples: the lengths that are served.
        hop: samples per frame; windows begin at whole frames, so that all see the same frames.
        halo_frames: frames that an output frame sees to either side.

    Raises:
        ValueError: the longest served length leaves too little between its halos.
    """
    lengths = sorted(padded_samples)
    halo, fade = halo_frames * hop, FADE_FRAMES * hop
    step = (lengths[-1] - 2 * halo - fade) // hop * hop
    if step < fade:
        raise ValueError(f"windows of {lengths[-1]} samples leave too little between two halos of {halo}")
    windows, start = [], 0
    while start + lengths[-1] < samples:
        windows.append(Window(start, lengths[-1]))
        start += step
    windows.append(Window(start, next(length for length in lengths if length >= samples - start)))
    return Plan(tuple(windows), halo, fade)


def cut(recording: Samples, window: Window) -> Samples:
    """The window's samples, with zeros beyond the recording's end."""
    piece = recording[window.start : window.start + window.length]
    return np.pad(piece, (0, window.length - len(piece)))


def join(pieces: Sequence[Samples], plan: Plan, samples: int, hop: int = 1) -> Samples:
    """Blend the windows' answers into one.

    Args:
        pieces: one per window: waveforms, or with `hop` the frames of them.
        plan: how the recording was cut.
        samples: length of the recording.
        hop: 1 for waveforms; for values per frame the samples of one frame.

    Returns:
        (samples,) for waveforms, (samples // hop + 1,) for frames.
    """
    length = samples if hop == 1 else samples // hop + 1
    joined = np.zeros(length, np.float32)
    halo, fade = plan.halo // hop, plan.fade // hop
    for number, (window, piece) in enumerate(zip(plan.windows, pieces, strict=True)):
        start = window.start // hop
        weights = np.ones(len(piece), np.float32)
        if number > 0:
            weights[:halo] = 0
            weights[halo : halo + fade] = _rise(fade)
        if number < len(plan.windows) - 1:
            # The next window fades in from one halo behind its start; this one fades out under it.
            out = plan.windows[number + 1].start // hop - start + halo
            weights[out : out + fade] = 1 - _rise(fade)
            weights[out + fade :] = 0
        end = min(length, start + len(piece))
        joined[start:end] += (weights * piece)[: end - start]
    return joined


def _rise(fade: int) -> Samples:
    """0 to 1, both left out."""
    return (np.arange(1, fade + 1, dtype=np.float32)) / (fade + 1)

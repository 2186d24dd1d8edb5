"""Recordings of any length as overlapping windows, and the answers joined again, both while they come.

    recording |==========================================================|
    window 0  |---------------------------|fade|halo|
    window 1                    |halo|fade|---------------------------|   (ends with the recording)

Two neighbours share a halo, a fade and a halo. The network sees no further than a halo, so in the fade, which has one
on either side, both windows hold what the whole recording would have given; they are blended there linearly.

Windows follow each other at one step, and a window is cut as soon as its samples are there. So a recording that is
known as a whole, one that is read block by block, and a microphone's are cut at the same places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
FADE_FRAMES = 10


@dataclass(frozen=True)
class Layout:
    """How recordings are cut; all numbers are samples, the halo, the fade and the step multiples of the hop."""

    lengths: tuple[int, ...]  # that are served, ascending; all windows but the last have the longest
    hop: int
    halo: int
    fade: int
    step: int  # from one window's start to the next one's

    @property
    def longest(self) -> int:
        """Length of all windows but the last."""
        return self.lengths[-1]


def layout_of(padded_samples: Sequence[int], *, hop: int, halo_frames: int) -> Layout:
    """The layout for the served lengths.

    Args:
        padded_samples: the lengths that are served.
        hop: samples per frame; windows begin at whole frames, so that all see the same frames.
        halo_frames: frames that an output frame sees to either side.

    Raises:
        ValueError: the longest length leaves too little between its halos.
    """
    lengths = sorted(padded_samples)
    halo, fade = halo_frames * hop, FADE_FRAMES * hop
    step = (lengths[-1] - 2 * halo - fade) // hop * hop
    if step < fade:
        raise ValueError(f"windows of {lengths[-1]} samples leave too little between two halos of {halo}")
    return Layout(tuple(lengths), hop, halo, fade, step)


@dataclass(frozen=True)
class Window:
    """A stretch of the recording that goes as one request."""

    samples: Samples  # of a served length, with zeros beyond the recording's end
    valid: int  # samples of the recording in it


class Cutter:
    """Cuts what it is given into windows."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held = np.zeros(0, np.float32)  # from the next window's start on
        self._new = 0  # samples that no window has yet

    def push(self, samples: Samples) -> Iterator[Window]:
        """Take the next samples, any number of them; gives the windows that are complete now."""
        self._held = np.concatenate((self._held, samples))
        self._new += len(samples)
        longest, step = self._layout.longest, self._layout.step
        while len(self._held) >= longest:
            yield Window(self._held[:longest], longest)
            self._held = self._held[step:]
            self._new = len(self._held) - (longest - step)

    def end(self) -> Iterator[Window]:
        """The recording is over; gives the last window, of the shortest length that holds what is left."""
        if self._new > 0:
            valid = len(self._held)
            length = next(length for length in self._layout.lengths if length >= valid)
            yield Window(np.pad(self._held, (0, length - valid)), valid)
        self._held, self._new = self._held[:0], 0


class Joiner:
    """Blends the windows' answers, in order, into one.

    Args:
        layout: how the recording was cut.
        hop: 1 for waveforms; for values per frame the samples of one frame.
    """

    def __init__(self, layout: Layout, hop: int = 1) -> None:
        self._hop = hop
        self._step, self._halo, self._fade = layout.step // hop, layout.halo // hop, layout.fade // hop
        self._pending: Samples | None = None  # of the last answer, from where the next one fades in

    def push(self, answer: Samples, valid: int) -> Samples:
        """Take a window's answer; gives what no later window can change.

        Args:
            answer: (length,) for waveforms, (length // hop + 1,) for frames.
            valid: samples of the recording in the window.
        """
        own = answer[: valid if self._hop == 1 else valid // self._hop + 1]
        start = 0
        if self._pending is not None:
            start, end = self._halo, self._halo + self._fade
            rise = _rise(self._fade)
            faded = self._pending[: self._fade] * (1 - rise) + own[start:end] * rise
            own = np.concatenate((own[:start], faded, own[end:]))
        done = min(len(own), self._step + self._halo)
        self._pending = own[done:]
        return own[start:done]

    def end(self) -> Samples:
        """There is no later window; gives what was kept for one."""
        rest = np.zeros(0, np.float32) if self._pending is None else self._pending
        self._pending = None
        return rest


def _rise(fade: int) -> Samples:
    """0 to 1, both left out."""
    return (np.arange(1, fade + 1, dtype=np.float32)) / (fade + 1)

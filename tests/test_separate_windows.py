"""Recordings cut into windows while they come, and the answers joined again."""

from __future__ import annotations

import numpy as np
import pytest
from separation_parts import HALO_FRAMES, HOP, PADDED, REACH, noise

from clients.media import windows

LAYOUT = windows.layout_of(PADDED, hop=HOP, halo_frames=HALO_FRAMES)


def cut(recording: np.ndarray, layout: windows.Layout, block: int = 10**9) -> list[windows.Window]:
    """All windows of a recording that comes in blocks."""
    cutter = windows.Cutter(layout)
    found = [w for start in range(0, len(recording), block) for w in cutter.push(recording[start : start + block])]
    return [*found, *cutter.end()]


def join(pieces: list[np.ndarray], cuts: list[windows.Window], hop: int = 1) -> np.ndarray:
    joiner = windows.Joiner(LAYOUT, hop)
    joined = [joiner.push(piece, window.valid) for piece, window in zip(pieces, cuts, strict=True)]
    return np.concatenate([*joined, joiner.end()])


@pytest.mark.parametrize("samples", [1, 31_840, 31_841, 113_440 + 127_840, 127_840, 127_841, 500_000])
def test_windows_have_served_lengths_follow_at_one_step_and_hold_the_whole_recording(samples: int) -> None:
    recording = noise(samples)
    cuts = cut(recording, LAYOUT)
    assert LAYOUT.step % HOP == 0 and LAYOUT.longest - LAYOUT.step == 2 * LAYOUT.halo + LAYOUT.fade
    assert all(len(window.samples) in PADDED for window in cuts)
    assert all(window.valid == LAYOUT.longest for window in cuts[:-1])
    for number, window in enumerate(cuts):
        start = number * LAYOUT.step
        np.testing.assert_array_equal(window.samples[: window.valid], recording[start : start + window.valid])
        assert not window.samples[window.valid :].any()
    assert (len(cuts) - 1) * LAYOUT.step + cuts[-1].valid == samples
    assert len(cuts) == 1 or cuts[-1].valid > LAYOUT.longest - LAYOUT.step, "the last window would hold nothing new"


@pytest.mark.parametrize("block", [1_000, 127_840, 130_000])
def test_a_recording_that_comes_in_blocks_is_cut_at_the_same_places(block: int) -> None:
    recording = noise(400_000)
    for whole, part in zip(cut(recording, LAYOUT), cut(recording, LAYOUT, block), strict=True):
        np.testing.assert_array_equal(whole.samples, part.samples)
        assert whole.valid == part.valid


def test_a_short_recording_takes_the_smallest_length_that_holds_it() -> None:
    lengths = [[len(window.samples) for window in cut(noise(n), LAYOUT)] for n in (31_840, 31_841, 63_841)]
    assert lengths == [[31_840], [63_840], [127_840]]


def test_windows_that_were_only_cut_are_joined_to_the_recording() -> None:
    recording = noise(400_000)
    cuts = cut(recording, LAYOUT)
    joined = join([window.samples for window in cuts], cuts)
    assert len(cuts) == 4
    np.testing.assert_allclose(joined, recording, atol=1e-6)


def test_frames_are_joined_to_one_per_hop_and_one_more() -> None:
    recording = noise(400_000)
    cuts = cut(recording, LAYOUT)
    frames = np.arange(400_000 // HOP + 1, dtype=np.float32)
    starts = [number * LAYOUT.step // HOP for number in range(len(cuts))]
    pieces = [
        np.pad(frames, (0, 800))[start : start + len(window.samples) // HOP + 1]
        for start, window in zip(starts, cuts, strict=True)
    ]
    np.testing.assert_allclose(join(pieces, cuts, HOP), frames, atol=1e-3)


def test_what_lies_within_a_halo_of_a_cut_is_not_used() -> None:
    cuts = cut(noise(300_000), LAYOUT)
    pieces = []
    for number, window in enumerate(cuts):
        piece = np.ones(len(window.samples), np.float32)
        piece[: REACH if number else 0] = 1e6
        piece[len(piece) - REACH if number < len(cuts) - 1 else window.valid :] = 1e6
        pieces.append(piece)
    np.testing.assert_allclose(join(pieces, cuts), 1, atol=1e-6)


def test_lengths_that_leave_nothing_between_two_halos_are_refused() -> None:
    with pytest.raises(ValueError, match="31840 samples leave too little between two halos of 16000"):
        windows.layout_of([31_840], hop=HOP, halo_frames=100)

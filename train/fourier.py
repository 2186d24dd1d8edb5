"""The Fourier transform of 400-sample frames, and its adjoint, as two small matrix products instead of a large one.

Legend: B batch, T frames, F = 257 bins. Sample n = 32 a + b of a frame (a < 13, b < 32) stands at n + 56 of the
512-point transform, because the 400-sample window sits in its middle. So (Cooley & Tukey 1965)

    X[f]  =  sum over b of  exp(-2 pi i f (b + 56) / 512)  *  sum over a of  x[32 a + b] exp(-2 pi i f a / 16)

The inner sum depends on f only through f mod 16, and as x is real, f mod 16 = 9 … 15 repeat 7 … 1 as conjugates. That
leaves 8 groups of bins, each with two rows of inner sums: real and imaginary part for f mod 16 = 1 … 7, and one group
for the two that are real, f mod 16 = 0 and 8. Both products together take 41 thousand multiplications a frame; the
dense basis took 206 thousand. Everything here is a matrix product, a sum or a copy, which every runtime has (TensorRT
imports no DFT). Matrices are made in float64 and rounded once: made in float32, the transform is off by 1e-3.

Frames are columns: a step of the transform works on rows of T neighbouring numbers, and reordering rows costs a copy.
Bins stay in the order of the groups, (B, 8, 2, 33, T), as long as nobody asks for theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.settings import FFT_SIZE, FREQUENCY_BINS, HOP_SAMPLES, WINDOW_SAMPLES, exact_div

WINDOW_OFFSET = exact_div(FFT_SIZE - WINDOW_SAMPLES, 2)  # where the window starts inside the transform
INNER_SIZE, OUTER_SIZE = 16, 32  # FFT_SIZE is their product; a frame is laid out in rows of OUTER_SIZE samples
GROUPS = INNER_SIZE // 2
PLACES = OUTER_SIZE + 1  # bins of a group: 33 in the first; the others repeat their first bin, to be as long
ROWS = -(-WINDOW_SAMPLES // OUTER_SIZE)  # 13, the last one half empty
FRAME_SAMPLES = ROWS * OUTER_SIZE  # 416, of which the window leaves 400


def hann() -> Tensor:
    """Periodic Hann window, float64 (400,)."""
    return torch.hann_window(WINDOW_SAMPLES, periodic=True, dtype=torch.float64)


def grouped_bins() -> Tensor:
    """Bin of every place, (8, 33), 0 to 511; one above 256 is the mirror of 512 minus itself."""
    bins = torch.arange(GROUPS)[:, None] + INNER_SIZE * torch.arange(PLACES)
    first_half = FREQUENCY_BINS // INNER_SIZE + 1  # 17 multiples of 16, both ends among them
    bins[0, first_half:] = GROUPS + INNER_SIZE * torch.arange(PLACES - first_half)
    return bins % FFT_SIZE


def folded_bins() -> Tensor:
    """The same with mirrors named by the bin that they mirror, (8, 33), 0 to 256; every bin is there."""
    return torch.minimum(grouped_bins(), FFT_SIZE - grouped_bins())


def places_of_bins() -> Tensor:
    """First place of every bin, counted through all groups, (257,)."""
    first = {bin_: place for place, bin_ in reversed(list(enumerate(folded_bins().flatten().tolist())))}
    return torch.tensor([first[bin_] for bin_ in range(FREQUENCY_BINS)])


def inner_matrix() -> Tensor:
    """Sums over a, float64 (16, 13): two rows for each group."""
    angles = 2 * torch.pi / INNER_SIZE * torch.outer(torch.arange(GROUPS), torch.arange(ROWS)).double()
    rows = torch.stack([torch.cos(angles), -torch.sin(angles)], dim=1)  # (8, 2, 13)
    rows[0, 1] = 1 - 2 * (torch.arange(ROWS) % 2)  # f mod 16 = 8, in the place of an imaginary part of zero
    return rows.flatten(0, 1)


def outer_matrices() -> Tensor:
    """Sums over b, float64 (8, 66, 64): a group's 33 real then 33 imaginary parts, of its 2 rows of 32 inner sums."""
    bins = grouped_bins()
    samples = torch.arange(OUTER_SIZE, dtype=torch.float64) + WINDOW_OFFSET
    angles = 2 * torch.pi / FFT_SIZE * (bins[:, :, None] * samples)  # (8, 33, 32)
    share = torch.tensor([1, 1j], dtype=torch.complex128).repeat(GROUPS, PLACES, 1)  # real row, imaginary row
    own_row = bins[0] % INNER_SIZE // GROUPS  # the first group: row 0 for f mod 16 = 0, row 1 for 8
    share[0] = functional.one_hot(own_row, 2).to(torch.complex128)
    products = torch.polar(torch.ones_like(angles), -angles)[:, :, None, :] * share[..., None]  # (8, 33, 2, 32)
    mirrored = (bins > FFT_SIZE // 2)[:, :, None, None]
    imaginary = torch.where(mirrored, -products.imag, products.imag)
    return torch.stack([products.real, imaginary], dim=1).flatten(3).flatten(1, 2)


def _inverse_weights() -> Tensor:
    """What every place adds to a waveform, float64 (8, 33): inner bins count twice, for their mirrors; repeats not."""
    weights = torch.full((GROUPS, PLACES), 2.0 / FFT_SIZE, dtype=torch.float64)
    weights[(folded_bins() == 0) | (folded_bins() == FFT_SIZE // 2)] = 1.0 / FFT_SIZE
    weights[1:, -1] = 0
    return weights


class Analysis(nn.Module):
    """Blocks of one hop each to the windowed spectra of frames that start with every block."""

    def __init__(self) -> None:
        super().__init__()
        window = functional.pad(hann(), (0, FRAME_SAMPLES - WINDOW_SAMPLES))
        self.register_buffer("window", window.float().unsqueeze(1), persistent=False)
        self.register_buffer("inner", inner_matrix().float(), persistent=False)
        self.register_buffer("outer", outer_matrices().float(), persistent=False)
        self.window: Tensor
        self.inner: Tensor
        self.outer: Tensor

    def forward(self, blocks: Tensor) -> Tensor:
        """Transform (B, 160, T + 2), column t the t-th hop of the waveform, into (B, 8, 2, 33, T)."""
        rest = FRAME_SAMPLES - 2 * HOP_SAMPLES
        frames = torch.cat([blocks[..., :-2], blocks[..., 1:-1], blocks[:, :rest, 2:]], dim=1)  # (B, 416, T)
        rows = (frames * self.window).unflatten(1, (ROWS, OUTER_SIZE)).flatten(2)  # (B, 13, 32 T)
        sums = torch.matmul(self.inner, rows).unflatten(2, (OUTER_SIZE, -1))  # (B, 16, 32, T)
        sums = sums.unflatten(1, (GROUPS, 2)).flatten(2, 3)  # (B, 8, 64, T)
        return torch.matmul(self.outer, sums).unflatten(2, (2, PLACES))


class Synthesis(nn.Module):
    """Spectra to windowed frames, laid over each other: with the division by `window_sum` the inverse of `Analysis`."""

    def __init__(self) -> None:
        super().__init__()
        window = functional.pad(hann(), (0, FRAME_SAMPLES - WINDOW_SAMPLES)).unsqueeze(1)
        weights = _inverse_weights().unsqueeze(1).expand(-1, 2, -1).flatten(1)  # (8, 66)
        outer = (outer_matrices() * weights.unsqueeze(2)).transpose(1, 2).contiguous()
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("squared_window", window.square().float(), persistent=False)
        self.register_buffer("inner", inner_matrix().T.contiguous().float(), persistent=False)
        self.register_buffer("outer", outer.float(), persistent=False)
        self.window: Tensor
        self.squared_window: Tensor
        self.inner: Tensor
        self.outer: Tensor

    def window_sum(self, frames: int) -> Tensor:
        """Sum of the squared windows over each sample, (1, 160 T)."""
        return _overlap_add(self.squared_window.expand(1, -1, frames))

    def forward(self, spectrum: Tensor) -> Tensor:
        """Invert (B, 8, 2, 33, T) into (B, 160 T), without the first and the last hop, which one frame alone covers.

        The first frame's sample 160 comes first.
        """
        sums = torch.matmul(self.outer, spectrum.flatten(2, 3))  # (B, 8, 64, T)
        rows = sums.unflatten(2, (2, OUTER_SIZE)).flatten(1, 2).flatten(2)  # (B, 16, 32 T)
        frames = torch.matmul(self.inner, rows).unflatten(2, (OUTER_SIZE, -1)).flatten(1, 2)  # (B, 416, T)
        return _overlap_add(frames * self.window)


def _overlap_add(frames: Tensor) -> Tensor:
    """Add frames (B, 416, T) at their hops, (B, 160 T): the middle hop of each, the next's start, the last's end."""
    starts, middles, ends = frames.split([HOP_SAMPLES, HOP_SAMPLES, FRAME_SAMPLES - 2 * HOP_SAMPLES], dim=1)
    missing = 2 * HOP_SAMPLES + HOP_SAMPLES - FRAME_SAMPLES
    added = middles + functional.pad(starts[..., 1:], (0, 1)) + functional.pad(ends[..., :-1], (1, 0, 0, missing))
    return added.transpose(1, 2).flatten(1)

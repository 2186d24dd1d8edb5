"""How separation and matching are judged; the same definitions through torch and through the server."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio, signal_distortion_ratio

SDR_TAPS = 512  # BSS-eval's distortion filter, as the papers' SDR


def sdr_db(estimate: Tensor, reference: Tensor) -> Tensor:
    """SDR of BSS-eval, 512 taps, float64, dB; NaN where the solver gives none. Both (..., N); one value per row."""
    return signal_distortion_ratio(estimate.double(), reference.double(), filter_length=SDR_TAPS)


def si_sdr_db(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant SDR, dB. Both (..., N); one value per row."""
    return scale_invariant_signal_distortion_ratio(estimate.double(), reference.double())


def matching_accuracy(similarity: Tensor, ways: int) -> float:
    """How often a face finds its voice among `ways`, the others drawn at random from the rest; exact, without drawing.

    A face with r of the other N - 1 voices ranked above its own wins with C(N-1-r, ways-1) / C(N-1, ways-1).

    Args:
        similarity: (N, N), row i being face i against all voices, the diagonal its own.
        ways: 2 to N.
    """
    others = len(similarity) - 1
    if not 2 <= ways <= others + 1:
        raise ValueError(f"{ways}-way matching needs 2 to {others + 1} voices to choose from")
    own = similarity.diagonal().unsqueeze(1)
    above = (similarity >= own).sum(dim=1) - 1  # a tie counts against the face
    wins = [math.comb(others - int(rank), ways - 1) / math.comb(others, ways - 1) for rank in above]
    return sum(wins) / len(wins)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def share_true(values: Tensor) -> float:
    """Share of true values; NaN of none."""
    return float(values.double().mean()) if values.numel() else math.nan


def mean_finite(values: Tensor) -> float:
    """Mean of what is finite; NaN where nothing is."""
    finite = values[torch.isfinite(values)]
    return float(finite.mean()) if finite.numel() else math.nan

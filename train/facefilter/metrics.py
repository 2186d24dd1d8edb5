"""How separation and matching are judged; the same definitions through torch and through the server."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.audio import (
    scale_invariant_signal_distortion_ratio,
    signal_distortion_ratio,
    signal_noise_ratio,
)

SDR_TAPS = 512  # BSS-eval's distortion filter, as the papers' SDR
# Added to the reference's power on the diagonal where the plain equations cannot be solved: 90 dB below it.
_LOAD = 1e-9


def sdr_db(estimate: Tensor, reference: Tensor) -> Tensor:
    """SDR of BSS-eval, 512 taps, float64, dB.

    Args:
        estimate: (..., N).
        reference: (..., N).

    Returns:
        one value per row; NaN where either is silent or no filter can be found.
    """
    rows = [_sdr_of_row(*pair) for pair in zip(_rows(estimate), _rows(reference), strict=True)]
    return torch.tensor(rows, dtype=torch.float64).reshape(estimate.shape[:-1])


def si_sdr_db(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant SDR, dB. Both (..., N); one value per row."""
    return scale_invariant_signal_distortion_ratio(estimate.double(), reference.double())


def snr_db(estimate: Tensor, reference: Tensor) -> Tensor:
    """Plain SNR, dB: a wrong level counts as noise. Both (..., N); one value per row."""
    return signal_noise_ratio(estimate.double(), reference.double())


def matching_accuracy(similarity: Tensor, ways: int) -> float:
    """How often a face finds its voice among `ways`, the others drawn at random from the rest; exact, without drawing.

    Args:
        similarity: (N, N), row i being face i against all voices, the diagonal its own.
        ways: 2 to N.
    """
    others = len(similarity) - 1
    if not 2 <= ways <= others + 1:
        raise ValueError(f"{ways}-way matching needs 2 to {others + 1} voices to choose from")
    own = similarity.diagonal().unsqueeze(1)
    above = (similarity >= own).sum(dim=1) - 1  # a tie counts against the face
    wins = [chance_of_winning(int(rank), others, ways) for rank in above]
    return sum(wins) / len(wins)


def chance_of_winning(above: int, others: int, ways: int) -> float:
    """Chance that none of `ways - 1` voices, drawn of `others`, is among the `above` that beat the right one.

    C(others - above, ways - 1) / C(others, ways - 1).
    """
    return math.comb(others - above, ways - 1) / math.comb(others, ways - 1)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_interval(values: NDArray[np.float64], *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean whose values (n,) are independent but no yes or no: percentiles of redrawn means."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _rows(signals: Tensor) -> Tensor:
    return signals.double().reshape(-1, signals.shape[-1])


def _sdr_of_row(estimate: Tensor, reference: Tensor) -> float:
    if not estimate.any() or not reference.any():
        return math.nan
    for load in (None, _LOAD):  # row by row: in a batch, one singular row would lose them all
        try:
            value = float(signal_distortion_ratio(estimate, reference, filter_length=SDR_TAPS, load_diag=load))
        except torch.linalg.LinAlgError:
            continue
        if math.isfinite(value):
            return value
    return math.nan

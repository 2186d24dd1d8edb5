"""The three losses of sections 3.3 to 3.5 and their sum, Eq. 8, 10, 12 and 13.

All are sums over patches or cells and means over the batch: only so are the three of comparable size (a zero
prediction for 88 people costs about 0.5, 1 and 0.5). B batch, P = 64 patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from train.settings import CELL_PIXELS

_HUBER_PEOPLE = 3.0  # errors below are squared
_HUBER_PEOPLE_OF_PICTURE = 30.0
_LEAST_PROBABILITY = 1e-8  # inside the logarithm of Eq. 8


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses; the defaults are the paper's."""

    importance_weight: float = 1.0  # Eq. 13 adds the three losses
    estimate_weight: float = 1.0
    density_weight: float = 1.0
    patch_sum_weight: float = 0.0  # of `patch_sum_loss`, which is not in the paper
    count_weight: float = 0.0  # of `count_loss`, which is not in the paper either
    least_people: float = 1.0  # Eq. 10 divides by the number of people, but by no less than this


def importance_loss(importance: Tensor, patch_counts: Tensor) -> Tensor:
    """Eq. 8: Kullback-Leibler divergence of the true shares from PIR, over sqrt(P).

    A picture without people has no shares to rank (Eq. 7 divides by zero): it costs nothing here.

    Args:
        importance: PIR (B, P), each row summing to 1.
        patch_counts: (B, P), people.
    """
    people = patch_counts.sum(dim=1, keepdim=True)
    shares = patch_counts / people.clamp(min=1e-6)  # all zero where there is nobody
    divergence = torch.xlogy(shares, shares) - shares * importance.clamp(min=_LEAST_PROBABILITY).log()  # 0 log 0 = 0
    return divergence.sum(dim=1).mean() / math.sqrt(importance.shape[1])


def estimate_loss(estimates: Tensor, patch_counts: Tensor, *, least_people: float = 1.0) -> Tensor:
    """Eq. 10: squared errors of the patches' counts, over the square of the picture's count.

    Args:
        estimates: PCE (B, P), people.
        patch_counts: (B, P), people.
        least_people: the smallest count divided by; 1 guards empty pictures only.
    """
    people = patch_counts.sum(dim=1, keepdim=True).clamp(min=least_people)
    return ((patch_counts - estimates) / people).square().sum(dim=1).mean()


def density_loss(density: Tensor, target: Tensor) -> Tensor:
    """Eq. 12 for a map of cells.

    The paper sums over pixels of the map that is up-sampled 8x. With each cell spread evenly over its 64 pixels, that
    sum is the squared difference of the cells over 64, plus a constant that no map of cells can change; the constant
    is left out.

    Args:
        density: (B, 72, 128), people per cell.
        target: the same.
    """
    return (density - target).square().sum(dim=(1, 2)).mean() / CELL_PIXELS**2


def patch_sum_loss(patch_sums: Tensor, patch_counts: Tensor) -> Tensor:
    """Mean Huber loss of the density's patch sums, in people: an addition of ours, off by default.

    Eq. 12 alone rewards an empty map while heads cannot be located to a cell yet: in one trial of CC-V on drawn scenes
    the density was zero everywhere within 160 steps, from where no gradient leads back. This loss keeps the mass in the
    right patches meanwhile.

    Args:
        patch_sums: (B, P), people.
        patch_counts: (B, P), people.
    """
    return functional.huber_loss(patch_sums, patch_counts, delta=_HUBER_PEOPLE)


def count_loss(patch_sums: Tensor, patch_counts: Tensor) -> Tensor:
    """Mean Huber loss of the whole count over P, in people: an addition of ours, off by default.

    Where a picture tells little, `patch_sum_loss` leads to the median of every patch, and most patches of a crowd are
    nearly empty: the sum of the medians is far below the median of the sums.

    Args:
        patch_sums: (B, P), people.
        patch_counts: (B, P), people.
    """
    loss = functional.huber_loss(patch_sums.sum(dim=1), patch_counts.sum(dim=1), delta=_HUBER_PEOPLE_OF_PICTURE)
    return loss / patch_sums.shape[1]


def total_loss(parts: dict[str, Tensor], settings: LossSettings) -> Tensor:
    """Eq. 13, with weights: of those of the parts importance, estimate, density, patch_sum and count that there are."""
    weights = {
        "importance": settings.importance_weight,
        "estimate": settings.estimate_weight,
        "density": settings.density_weight,
        "patch_sum": settings.patch_sum_weight,
        "count": settings.count_weight,
    }
    return torch.stack([weights[name] * value for name, value in parts.items()]).sum()

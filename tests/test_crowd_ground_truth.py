"""Ground truth, losses and metrics of crowd counting against closed forms and a map at full resolution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from train.crowd.ground_truth import density_map, patch_counts
from train.crowd.losses import density_loss, estimate_loss, importance_loss, patch_sum_loss
from train.crowd.metrics import grid_average_mean_error, mean_absolute_error, root_mean_square_error
from train.errors import TrainError


def points(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, np.float32).reshape(-1, 2)


def test_density_is_the_full_resolution_map_of_15x15_gaussians_summed_over_cells() -> None:
    heads = points((100.0, 50.0), (517.4, 300.9), (519.0, 303.0))
    dots = np.zeros((576, 1024))
    for x, y in heads.astype(int):
        dots[y, x] += 1
    profile = stats.norm.pdf(np.arange(-7, 8), scale=4.0)
    kernel = np.outer(profile, profile)
    full = ndimage.convolve(dots, kernel / kernel.sum(), mode="constant")
    np.testing.assert_allclose(density_map(heads), full.reshape(72, 8, 128, 8).sum(axis=(1, 3)), atol=1e-6)


@pytest.mark.parametrize("head", [(0.0, 0.0), (1023.9, 575.9), (0.0, 300.0), (512.0, 575.0), (1023.0, 2.0)])
def test_a_head_at_the_border_keeps_its_whole_mass(head: tuple[float, float]) -> None:
    density = density_map(points(head))
    assert density.sum() == pytest.approx(1.0, abs=1e-6) and density.min() >= 0
    assert density[int(head[1]) // 8, int(head[0]) // 8] > 0.1


def test_the_map_of_many_heads_sums_to_their_number() -> None:
    heads = np.random.default_rng(0).uniform((0, 0), (1024, 576), (250, 2)).astype(np.float32)
    assert density_map(heads).sum() == pytest.approx(250, abs=1e-3)
    assert density_map(points()).sum() == 0 and patch_counts(points()).sum() == 0


def test_patches_hold_their_left_and_upper_edges_only() -> None:
    below_the_edges = (np.nextafter(np.float32(128), np.float32(0)), np.nextafter(np.float32(72), np.float32(0)))
    assert patch_counts(points(below_the_edges)).argmax() == 0
    assert patch_counts(points((128.0, 71.0))).argmax() == 1
    assert patch_counts(points((127.0, 72.0))).argmax() == 8
    assert patch_counts(points((1023.9, 575.9))).argmax() == 63
    edges = points(*((128.0 * column, 72.0 * row) for row in range(8) for column in range(8)))
    assert (patch_counts(edges) == 1).all()


def test_a_head_outside_of_the_picture_is_refused_with_its_place() -> None:
    with pytest.raises(TrainError, match=r"head at \(1024, 5\); wanted 0 <= x < 1024"):
        density_map(points((1024.0, 5.0)))
    with pytest.raises(TrainError, match=r"head at \(3, -1\)"):
        patch_counts(points((3.0, -1.0)))


# ---- losses ----

COUNTS = torch.tensor([[3.0, 1.0, 0.0, 4.0], [0.0, 0.0, 0.0, 2.0]])


def test_every_loss_is_zero_for_a_perfect_answer() -> None:
    shares = COUNTS / COUNTS.sum(dim=1, keepdim=True)
    density = torch.rand(2, 72, 128)
    assert importance_loss(shares, COUNTS).item() == pytest.approx(0, abs=1e-6)
    assert estimate_loss(COUNTS, COUNTS) == patch_sum_loss(COUNTS, COUNTS) == density_loss(density, density) == 0


def test_the_importance_loss_is_the_divergence_over_the_root_of_the_patches() -> None:
    uniform = torch.full((2, 4), 0.25)
    wanted = np.mean([stats.entropy(row, [0.25] * 4) for row in COUNTS.numpy()]) / math.sqrt(4)
    assert importance_loss(uniform, COUNTS).item() == pytest.approx(wanted, rel=1e-5)


def test_the_estimate_loss_of_an_empty_answer_is_the_sum_of_squared_shares() -> None:
    wanted = np.mean([(9 + 1 + 16) / 64, 1.0])
    assert estimate_loss(torch.zeros(2, 4), COUNTS).item() == pytest.approx(wanted, rel=1e-6)
    assert estimate_loss(torch.zeros(2, 4), COUNTS, least_people=4).item() == pytest.approx(
        np.mean([26 / 64, 4 / 16]), rel=1e-6
    )


def test_pictures_without_people_cost_a_finite_amount_and_have_gradients() -> None:
    nobody = torch.zeros(1, 4)
    importance = torch.full((1, 4), 0.25, requires_grad=True)
    estimates = torch.full((1, 4), 0.5, requires_grad=True)
    total = importance_loss(importance, nobody) + estimate_loss(estimates, nobody)
    total.backward()
    assert total.item() == pytest.approx(4 * 0.25)  # no shares to rank; errors over one person, not over none
    assert importance.grad is not None and torch.isfinite(importance.grad).all()
    assert importance_loss(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0.0, 0, 0, 5]])).isfinite()  # log of zero


def test_the_density_loss_of_cells_differs_from_that_of_pixels_by_a_constant() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(1, 576, 1024, generator=generator, dtype=torch.float64)
    cells = pixels.unflatten(1, (72, 8)).unflatten(3, (128, 8)).sum(dim=(2, 4))

    def at_full_resolution(density: torch.Tensor) -> torch.Tensor:
        spread = density.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2) / 64
        return (spread - pixels).square().sum()

    first, second = (torch.rand(1, 72, 128, generator=generator, dtype=torch.float64) * 64 for _ in range(2))
    wanted = at_full_resolution(first) - at_full_resolution(second)
    assert (density_loss(first, cells) - density_loss(second, cells)).item() == pytest.approx(wanted.item(), rel=1e-9)


def test_the_three_losses_of_an_empty_answer_are_of_comparable_size() -> None:
    heads = np.random.default_rng(1).uniform((0, 0), (1024, 576), (88, 2))
    target = torch.from_numpy(density_map(heads))[None]
    assert 0.1 < density_loss(torch.zeros_like(target), target).item() < 1.0


# ---- metrics ----


def test_errors_of_counts_are_those_computed_by_hand() -> None:
    counts, truth = np.array([10.0, 20.0]), np.array([13.0, 16.0])
    assert mean_absolute_error(counts, truth) == 3.5
    assert root_mean_square_error(counts, truth) == pytest.approx(math.sqrt((9 + 16) / 2))


def test_game_sees_people_in_the_wrong_place_that_mae_does_not() -> None:
    found, truth = np.array([[5.0, 0.0]]), np.array([[0.0, 5.0]])
    assert grid_average_mean_error(found, truth) == 10.0
    assert mean_absolute_error(found.sum(axis=1), truth.sum(axis=1)) == 0.0

"""Ground truth, losses and metrics of crowd counting against closed forms and a map at full resolution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import interpolate, ndimage, stats

from clients.media.letterbox import Letterbox
from train.crowd.ground_truth import (
    density_map,
    density_of_map,
    grid_counts,
    grid_sums,
    patch_counts,
    patch_counts_of,
)
from train.crowd.losses import count_loss, density_loss, estimate_loss, importance_loss, patch_sum_loss
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


# ---- density maps as truth ----


def sums_between(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sums of (H, W) pixels between edges, fractions of pixels by area: the integral, interpolated, differenced."""
    integral = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    axes = [np.arange(length, dtype=float) for length in integral.shape]
    at = np.meshgrid(np.clip(rows, 0, axes[0][-1]), np.clip(columns, 0, axes[1][-1]), indexing="ij")
    corners = interpolate.RegularGridInterpolator(axes, integral)(np.stack(at, axis=-1))
    return np.diff(np.diff(corners, axis=0), axis=1)


PHOTOS = [(1080, 1920), (768, 1024), (501, 333), (36, 48), (700, 3000), (3, 5)]  # height and width


@pytest.mark.parametrize("shape", PHOTOS)
def test_a_map_is_shared_over_the_cells_by_area_and_keeps_its_sum(shape: tuple[int, int]) -> None:
    people = np.random.default_rng(0).random(shape) ** 4
    people *= 88 / people.sum()
    place = Letterbox.fit(np.zeros((*shape, 3), np.uint8), frame_width=1024, frame_height=576)
    pixels_high, pixels_wide = shape[0] / place.height, shape[1] / place.width  # of the photo, in one of the frame
    wanted = sums_between(people, np.arange(0, 577, 8) * pixels_high, np.arange(0, 1025, 8) * pixels_wide)
    density = density_of_map(people)
    assert density.shape == (72, 128) and density.dtype == np.float32
    np.testing.assert_allclose(density, wanted, atol=1e-6)
    assert density.sum(dtype=float) == pytest.approx(88, rel=1e-6)
    assert patch_counts_of(density).sum(dtype=float) == pytest.approx(88, rel=1e-6)


@pytest.mark.parametrize("shape", PHOTOS)
def test_a_map_fills_exactly_the_cells_that_the_client_keeps(shape: tuple[int, int]) -> None:
    density = density_of_map(np.ones(shape))
    rows, columns = Letterbox.fit(np.zeros((*shape, 3), np.uint8), frame_width=1024, frame_height=576).cells(8)
    assert (density[:rows, :columns] > 0).all() and density.sum() == pytest.approx(density[:rows, :columns].sum())


def test_heads_as_points_and_as_a_map_of_the_photo_say_the_same() -> None:
    """A 1920x1080 photo: its 15x15 kernels are narrower in the frame, so places and patches agree, not every cell."""
    columns, rows = np.meshgrid(np.arange(40, 1900, 160), np.arange(40, 1060, 120))
    heads = np.stack([columns, rows], axis=-1).reshape(-1, 2)  # far from the borders of the patches of 240x135 pixels
    heads = heads[((heads % (240, 135) > 15) & (heads % (240, 135) < (225, 120))).all(axis=1)]
    dots = np.zeros((1080, 1920))
    dots[heads[:, 1], heads[:, 0]] = 1
    people = ndimage.gaussian_filter(dots, 4.0, mode="constant", radius=7)
    from_map, from_points = density_of_map(people), density_map(heads * (1024 / 1920))
    assert len(heads) > 30
    assert from_map.sum() == pytest.approx(from_points.sum(), rel=1e-5)
    np.testing.assert_allclose(patch_counts_of(from_map), patch_counts(heads * (1024 / 1920)), atol=1e-4)
    for density in (from_map, from_points):  # the middle of a pixel is half a pixel beyond its corner
        middle = np.array(ndimage.center_of_mass(density))[::-1] * 8 + 4
        np.testing.assert_allclose(middle, heads.mean(axis=0) * (1024 / 1920), atol=0.6)


def test_patches_of_a_density_are_blocks_of_9_by_16_cells() -> None:
    density = np.zeros((72, 128))
    density[8, 15], density[9, 16], density[71, 127] = 1, 2.5, 3
    counts = patch_counts_of(density)
    assert counts[[0, 9, 63]].tolist() == [1, 2.5, 3] and counts.sum() == 6.5


# ---- regions of the photo's own grid ----


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_people_per_region_are_those_of_a_histogram(level: int) -> None:
    heads = np.random.default_rng(level).uniform((0, 0), (333, 501), (400, 2))
    edges = [np.linspace(0, length, 2**level + 1) for length in (501, 333)]
    wanted = np.histogramdd(heads[:, ::-1], bins=edges)[0]
    np.testing.assert_array_equal(grid_counts(heads, (333, 501), level), wanted.reshape(-1))


def test_a_region_holds_its_left_and_upper_edge_and_whoever_stands_outside_next_to_it() -> None:
    assert grid_counts(points((50.0, 0.0), (49.9, 40.0)), (100, 80), 1).tolist() == [0, 1, 1, 0]
    assert grid_counts(points((-2.0, 3.0), (100.0, 90.0)), (100, 80), 1).tolist() == [1, 0, 0, 1]
    assert grid_counts(points(), (100, 80), 2).tolist() == [0.0] * 16


@pytest.mark.parametrize("covered", [(128.0, 72.0), (96.0, 72.0), (47.875, 72.0), (128.0, 29.875), (0.125, 72.0)])
def test_sums_over_the_grid_cut_cells_by_area_and_lose_nobody(covered: tuple[float, float]) -> None:
    density = np.random.default_rng(0).random((72, 128)).astype(np.float32)
    columns, rows = covered
    touched = density[: math.ceil(rows), : math.ceil(columns)].astype(float)
    for level in range(4):
        sums = grid_sums(density, covered, level)
        assert sums.shape == (4**level,) and sums.sum() == pytest.approx(touched.sum(), rel=1e-12)
        # the last cell is narrower: its edge in whole cells is beyond the photo's
        edges = [stretched(np.linspace(0, length, 2**level + 1), length) for length in (rows, columns)]
        np.testing.assert_allclose(sums, sums_between(touched, *edges).reshape(-1), atol=1e-9)
    np.testing.assert_allclose(grid_sums(touched, covered, 3), sums)  # with or without the cells beyond


def stretched(edges: np.ndarray, length: float) -> np.ndarray:
    """Places along the photo as places along its cells, where the last one is counted as whole."""
    whole = math.ceil(length) - 1
    return np.where(edges > whole, whole + (edges - whole) / (length - whole), edges)


def test_sums_over_the_grid_by_hand() -> None:
    assert grid_sums(np.ones((3, 3)), (2.5, 1.2), 1) == pytest.approx([0.75, 1.05, 1.75, 2.45])


def test_a_grid_of_more_cells_than_there_are_is_refused() -> None:
    for covered in ((128.5, 72.0), (72.0, 128.0), (0.0, 72.0)):
        with pytest.raises(TrainError, match=r"covers .* columns and .* rows of cells, but the density has 128 and 72"):
            grid_sums(np.zeros((72, 128)), covered, 1)


@pytest.mark.parametrize("size", [(1024, 576), (400, 300), (300, 900)])
def test_the_true_density_and_the_heads_agree_in_every_region(size: tuple[int, int]) -> None:
    """Heads in the middle of the sixteenths of a photo: their kernels stay inside of a region."""
    width, height = size
    middles = np.stack(np.meshgrid(np.arange(4) + 0.5, np.arange(4) + 0.5), axis=-1).reshape(-1, 2)
    heads = middles * (width / 4, height / 4)
    heads = np.repeat(heads, np.arange(16), axis=0)
    place = Letterbox.fit(np.zeros((height, width, 3), np.uint8), frame_width=1024, frame_height=576)
    density = density_map(heads * (place.width / width, place.height / height))
    found = grid_sums(density, (place.width / 8, place.height / 8), 2)
    np.testing.assert_allclose(found, grid_counts(heads, size, 2), atol=1e-3)


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


def test_the_count_loss_sees_the_sum_alone_and_grows_with_the_error_not_its_square() -> None:
    truth = torch.tensor([[3.0, 1.0, 0.0, 8.0], [0.0, 0.0, 0.0, 0.0]])
    moved = truth[:, [3, 0, 1, 2]]  # the same people elsewhere
    assert count_loss(moved, truth) == 0
    near, far, farther = (count_loss(truth + shift, truth).item() for shift in (1.0, 100.0, 200.0))
    assert near == pytest.approx(0.5 * 4**2 / 4)  # four people too many, over four patches
    assert farther - far == pytest.approx(30 * 400 / 4)

"""Errors of counts against torchmetrics, SciPy and closed forms; intervals against their promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics import MeanAbsoluteError, MeanSquaredError

from train.crowd.ground_truth import grid_counts
from train.crowd.intervals import (
    fit_interval,
    interval_figures,
    least_pictures,
    left_out_coverage,
    quantile_rank,
)
from train.crowd.metrics import (
    DENSITY_CLASSES,
    correlation,
    errors_by_density,
    grid_average_mean_error,
    mean_absolute_error,
    normalised_absolute_error,
    root_mean_square_error,
)
from train.errors import TrainError


def crowds(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Counts and truths whose errors grow with the crowd and have heavy tails."""
    rng = np.random.default_rng(seed)
    truth = np.round(rng.gamma(1.0, 200.0, n))
    return truth * (1 + 0.2 * rng.standard_t(3, n)) + rng.normal(0, 10, n), truth


def test_mae_and_rmse_are_those_of_torchmetrics() -> None:
    counts, truth = crowds(0)
    both = torch.from_numpy(counts), torch.from_numpy(truth)
    mae, mse = MeanAbsoluteError(), MeanSquaredError(squared=False)
    assert mean_absolute_error(counts, truth) == pytest.approx(float(mae(*both)), rel=1e-5)
    assert root_mean_square_error(counts, truth) == pytest.approx(float(mse(*both)), rel=1e-5)


def test_nae_leaves_out_pictures_of_nobody_and_is_in_shares_of_the_crowd() -> None:
    counts, truth = np.array([8.0, 30.0, 5.0]), np.array([10.0, 20.0, 0.0])
    assert normalised_absolute_error(counts, truth) == pytest.approx((0.2 + 0.5) / 2)
    assert normalised_absolute_error(7 * counts, 7 * truth) == pytest.approx((0.2 + 0.5) / 2)
    assert normalised_absolute_error(np.ones(3), np.zeros(3)) is None
    assert normalised_absolute_error(np.array([0.0]), np.array([0.01])) == pytest.approx(0.01)  # divided by one person


def test_game_of_level_0_is_the_mae_and_a_finer_grid_never_gives_a_smaller_error() -> None:
    rng = np.random.default_rng(1)
    size = (320.0, 200.0)
    found, truth = ([rng.uniform((0, 0), size, (n, 2)) for n in rng.integers(0, 60, 12)] for _ in range(2))
    games = [
        grid_average_mean_error(
            *(np.stack([grid_counts(heads, size, level) for heads in all_]) for all_ in (found, truth))
        )
        for level in range(4)
    ]
    counts = [np.array([len(heads) for heads in all_], float) for all_ in (found, truth)]
    assert games[0] == mean_absolute_error(*counts)
    assert games == sorted(games) and games[3] > games[0]


def test_correlation_is_pearsons_and_none_where_there_is_nothing_to_correlate() -> None:
    counts, truth = crowds(2)
    assert correlation(counts, truth) == pytest.approx(stats.pearsonr(counts, truth).statistic)
    assert correlation(counts.reshape(20, 20), truth.reshape(20, 20)) == pytest.approx(correlation(counts, truth))
    assert correlation(np.full(5, 3.0), np.arange(5.0)) is None and correlation(np.ones(1), np.ones(1)) is None


def test_classes_of_density_divide_the_pictures_and_their_errors_add_up() -> None:
    counts, truth = crowds(3)
    rows = errors_by_density(counts, truth)
    assert sum(row["n"] for row in rows) == len(truth)
    assert sum(row["n"] * row["mae"] for row in rows) / len(truth) == pytest.approx(mean_absolute_error(counts, truth))
    assert sum(row["n"] * row["bias"] for row in rows) / len(truth) == pytest.approx((counts - truth).mean())
    edges = np.array([most for _, most in DENSITY_CLASSES] + [5000], float)
    assert [row["people"] for row in errors_by_density(edges, edges)] == [
        "0", "1-50", "51-100", "101-200", "201-500", "501-1000", ">1000",
    ]  # fmt: skip
    assert [row["people"] for row in errors_by_density(edges[:1], np.array([0.4]))] == [
        "0"
    ]  # a map's sum of nearly none


def test_the_rank_is_the_smallest_that_holds_the_share_of_exchangeable_errors() -> None:
    for n in (5, 9, 10, 19, 99):
        for share in (0.5, 0.8, 0.9, 0.95):
            rank = quantile_rank(n, share)  # a new error is below the k-th of n with probability k / (n + 1)
            assert rank / (n + 1) >= share - 1e-12 and (rank - 1) / (n + 1) < share
    for share in (0.5, 0.8, 0.9, 0.95):
        least = least_pictures(share)
        enough, too_few = least - least // 4, least - 1 - (least - 1) // 4
        assert quantile_rank(enough, share) <= enough
        assert least == 4 or quantile_rank(too_few, share) == too_few + 1  # beyond all


def test_an_interval_holds_its_share_of_new_pictures_whatever_the_seed() -> None:
    held = []
    for seed in range(60):
        counts, truth = crowds(seed, 240)
        interval = fit_interval(counts[:40], truth[:40], 0.9)
        held.append(np.mean(np.abs(counts - truth)[40:] <= interval.half_width(counts[40:])))
    assert np.mean(held) >= 0.9 - 0.02  # 60 makings, each of its own luck (standard deviation 0.06): 0.008 of error
    assert np.mean(held) < 0.96  # and not by being wider than it must


@pytest.mark.parametrize("seed", range(3))
def test_coverage_of_left_out_pictures_is_nominal(seed: int) -> None:
    counts, truth = crowds(seed + 100, 150)
    assert left_out_coverage(counts, truth, 0.8) == pytest.approx(0.8, abs=0.1)


def test_an_interval_is_measured_in_the_counts_own_unit_and_widens_with_the_crowd() -> None:
    counts, truth = crowds(5)
    interval, tenfold = fit_interval(counts, truth, 0.9), fit_interval(10 * counts, 10 * truth, 0.9)
    assert tenfold.relative == pytest.approx(interval.relative)
    assert tenfold.absolute == pytest.approx(10 * interval.absolute)
    assert interval.relative > 0.1 and interval.absolute > 0
    small, large, none = interval.half_width(np.array([10.0, 1000.0, -5.0]))
    assert none < small < large and none == interval.absolute
    figures = interval_figures(counts, truth, 0.9)
    assert figures["mean_width"] < 2 * interval.half_width(counts).mean()  # nobody is less than none
    assert (figures["absolute"], figures["relative"]) == (interval.absolute, interval.relative)


def test_perfect_counts_have_no_width_and_too_few_pictures_are_refused() -> None:
    truth = np.arange(40.0)
    figures = interval_figures(truth, truth, 0.9)
    assert figures["mean_width"] < 1e-3 and figures["coverage"] == 1
    with pytest.raises(TrainError, match="Saw 10 pictures; wanted 11 or more"):
        fit_interval(truth[:10], truth[:10], 0.9)
    assert math.isfinite(fit_interval(truth[:11], truth[:11], 0.9).absolute)

"""The baselines of Table 1 against published sizes, closed forms and each other; narrow networks, low resolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from train.crowd.baseline_parts import BaselineOptions, Output, cells_of, widths_of
from train.crowd.baselines import AudioCsrNet, Context, HeardUnit, Mcnn, baseline_options_of, build_baseline
from train.crowd.geometry import GEOMETRIES
from train.crowd.interface import Counter
from train.crowd.network import CrowdDensitySum
from train.errors import TrainError

NAMES = ("mcnn", "csrnet", "cannet", "audiocsrnet")
NARROW: dict[str, Any] = {"width_share": 0.0625, "resolution": "low"}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def answer(counter: Counter, batch: int = 2) -> Tensor:
    geometry = counter.geometry
    picture = torch.randint(0, 256, (batch, geometry.height, geometry.width, 3), dtype=torch.uint8)
    density, importance, estimates = counter(picture, torch.randn(batch, 1, 96, 64) if counter.audio else None)
    assert importance is None and estimates is None
    out: Tensor = density
    return out


# ---- sizes ----


def convolution(inputs: int, outputs: int, kernel: int, bias: bool = True) -> int:
    return inputs * outputs * kernel**2 + outputs * bias


def row(inputs: int, widths: tuple[int, ...]) -> int:
    return sum(convolution(a, b, 3) for a, b in zip((inputs, *widths[:-1]), widths, strict=True))


FRONT = row(3, (64, 64, 128, 128, 256, 256, 256, 512, 512, 512))
BACK = row(512, (512, 512, 512, 256, 128, 64))
BACK_CHANNELS = 512 * 3 + 256 + 128 + 64
CONTEXT = 4 * convolution(512, 512, 1, bias=False) + convolution(512, 512, 1) + convolution(1024, 512, 1)
VGGISH = row(1, (64, 128, 256, 256, 512, 512))
COLUMNS = sum(
    convolution(3, a, k) + convolution(a, 2 * a, k2) + convolution(2 * a, a, k2) + convolution(a, a // 2, k2)
    for a, k, k2 in ((16, 9, 7), (20, 7, 5), (24, 5, 3))
)


@pytest.mark.parametrize(
    ("name", "by_hand", "pinned"),
    [
        ("mcnn", COLUMNS + 31, 133_705),  # published 0.13 M
        ("csrnet", FRONT + BACK + 65, 16_263_489),  # published 16.26 M
        ("cannet", FRONT + CONTEXT + BACK + 2 * BACK_CHANNELS + 65, 18_103_489),  # published 18.1 M
        # No number published: CSRNet, VGGish's convolutions, and linear layers from 512 values to gains and shifts
        ("audiocsrnet", FRONT + VGGISH + BACK + (512 + 1) * 2 * BACK_CHANNELS + 65, 22_798_785),
    ],
)
def test_parameters_of_the_paper_preset_are_the_published_ones(name: str, by_hand: int, pinned: int) -> None:
    with torch.device("meta"):
        counter = build_baseline(name, "paper")
    assert sum(parameter.numel() for parameter in counter.parameters()) == by_hand == pinned


def test_the_front_of_the_paper_preset_has_the_shapes_of_vgg_16() -> None:
    with torch.device("meta"):
        front = build_baseline("csrnet", "paper").front
    shapes = [tuple(module.weight.shape) for module in front.modules() if isinstance(module, nn.Conv2d)]
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512)
    assert shapes == [(after, before, 3, 3) for before, after in zip(widths[:-1], widths[1:], strict=True)]


@pytest.mark.parametrize(("name", "factor"), [("mcnn", 4), ("csrnet", 8), ("cannet", 8), ("audiocsrnet", 8)])
def test_features_have_the_published_share_of_the_pictures_size(name: str, factor: int) -> None:
    counter = build_baseline(name, "paper", **NARROW)
    pixels, log_mel = torch.randn(1, 3, 72, 128), torch.randn(1, 1, 96, 64)
    found = counter.features(pixels, log_mel if counter.audio else None)
    assert found.shape[2:] == (72 // factor, 128 // factor)


# ---- densities ----


@pytest.mark.parametrize("preset", ["paper", "compact"])
@pytest.mark.parametrize("name", NAMES)
def test_an_untrained_baseline_answers_the_wanted_mean_and_all_of_it_learns(name: str, preset: str) -> None:
    counter = build_baseline(name, preset, **NARROW)
    counter.scale_to(90.0)
    density = answer(counter)
    assert density.shape == (2, 36, 64) and (density > 0).all()
    count, patch_counts = CrowdDensitySum()(density.detach())
    assert patch_counts.shape == (2, 16)
    np.testing.assert_allclose(count[:, 0].numpy(), 90.0, rtol=0.15)
    density.square().sum().backward()
    assert all(parameter.grad is not None for parameter in counter.parameters())


def test_at_regular_resolution_the_map_has_72_by_128_cells() -> None:
    for name in ("mcnn", "csrnet"):
        with torch.no_grad():
            assert answer(build_baseline(name, "compact", width_share=0.03), batch=1).shape == (1, 72, 128)


@pytest.mark.parametrize("size", [(144, 256), (72, 128), (36, 64), (9, 16)])
def test_a_map_of_any_size_becomes_cells_by_area(size: tuple[int, int]) -> None:
    values = torch.rand(2, 1, *size)
    cells = cells_of(values, GEOMETRIES["regular"])
    assert torch.allclose(cells, functional.interpolate(values, (72, 128), mode="area"))
    assert torch.allclose(cells.mean(dim=(1, 2, 3)), values.mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("output", ["softplus", "relu", "linear"])
def test_only_the_linear_output_goes_below_zero_and_only_softplus_always_has_a_gradient(output: Output) -> None:
    counter = build_baseline("mcnn", "paper", output=output, **NARROW)
    with torch.no_grad():
        assert counter.last.bias is not None
        counter.last.bias.fill_(-5.0)  # as after a step too far
    density = answer(counter, batch=1)
    assert bool((density < 0).any()) == (output == "linear")
    density.sum().backward()
    assert counter.last.weight.grad is not None
    assert bool((counter.last.weight.grad != 0).any()) == (output != "relu")


def test_the_published_start_fades_over_the_layers_and_ours_does_not() -> None:
    picture = torch.randn(1, 3, 72, 128)
    spreads = {}
    for start in ("published", "ours"):
        counter = build_baseline("csrnet", "paper", width_share=0.25, resolution="low")
        if start == "published":
            for module in counter.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.normal_(module.weight, std=0.01)
        with torch.no_grad():
            spreads[start] = float(counter.features(picture, None).std())
    assert spreads["published"] < 1e-9 < 0.1 < spreads["ours"]


# ---- what each one does ----


def test_mcnn_joins_columns_with_kernels_of_three_sizes() -> None:
    counter = build_baseline("mcnn", "paper", resolution="low")
    assert isinstance(counter, Mcnn)
    kernels = [[m.kernel_size[0] for m in c.modules() if isinstance(m, nn.Conv2d)] for c in counter.columns]
    assert kernels == [[9, 7, 7, 7], [7, 5, 5, 5], [5, 3, 3, 3]]


def test_context_follows_a_plain_sum_over_scales() -> None:
    context, features = Context(3), torch.rand(2, 3, 6, 12)
    with torch.no_grad():
        total, weights = torch.zeros_like(features), torch.zeros_like(features)
        for scale, side in zip(context.scales, (1, 2, 3, 6), strict=True):
            means = features.reshape(2, 3, side, 6 // side, side, 12 // side).mean(dim=(3, 5))
            block = functional.interpolate(scale(means), (6, 12), mode="bilinear")
            weight = torch.sigmoid(context.weigh(features - block))
            total, weights = total + weight * block, weights + weight
        wanted = torch.relu(context.join(torch.cat((total / weights, features), dim=1)))
        assert torch.allclose(context(features), wanted, atol=1e-6)


def test_the_sound_is_gain_and_shift_of_each_normalised_channel() -> None:
    unit = HeardUnit(2, 3, sound=4).eval()
    features, sound = torch.randn(2, 2, 5, 5), torch.randn(2, 4)
    with torch.no_grad():
        nn.init.normal_(unit.film.weight)
        assert unit.norm.running_mean is not None and unit.norm.running_var is not None
        unit.norm.running_mean.copy_(torch.randn(3))
        convolved = functional.conv2d(features, unit.convolution.weight, unit.convolution.bias, padding=2, dilation=2)
        normalised = (convolved - unit.norm.running_mean[:, None, None]) / (1 + 1e-5) ** 0.5
        film = sound @ unit.film.weight.T + unit.film.bias
        wanted = torch.relu(normalised * film[:, :3, None, None] + film[:, 3:, None, None])
        assert torch.allclose(unit(features, sound), wanted, atol=1e-5)


def test_audiocsrnet_listens_in_all_six_dilated_layers_and_the_others_do_not() -> None:
    counter = build_baseline("audiocsrnet", "compact", **NARROW).eval()
    assert isinstance(counter, AudioCsrNet) and len(counter.back) == 6
    picture = torch.randint(0, 256, (1, 72, 128, 3), dtype=torch.uint8)
    first, second = torch.randn(2, 1, 1, 96, 64)
    with torch.no_grad():
        for heard in counter.back:
            nn.init.normal_(heard.film.weight, std=0.5)
        assert not torch.allclose(counter(picture, first)[0], counter(picture, second)[0], rtol=1e-3)
    with pytest.raises(ValueError, match="AudioCSRNet is called with a log-mel"):
        counter(picture)
    for name in ("mcnn", "csrnet", "cannet"):
        with pytest.raises(ValueError, match="is called without one"):
            build_baseline(name, "compact", **NARROW)(picture, first)


def test_published_normalisations_stand_in_the_dilated_layers_alone_and_compact_ones_everywhere() -> None:
    def norms(name: str, preset: str) -> int:
        return sum(isinstance(m, nn.BatchNorm2d) for m in build_baseline(name, preset, **NARROW).modules())

    assert [norms(name, "paper") for name in NAMES] == [0, 0, 6, 6]
    assert [norms(name, "compact") for name in NAMES] == [12, 16, 16, 10 + 6 + 6]  # AudioCSRNet: six in the sound too


# ---- options ----


def test_compact_baselines_see_512_by_288_and_low_ones_the_whole_small_picture() -> None:
    for name in NAMES:
        assert baseline_options_of(name, "compact").picture_reduction == 2
        assert baseline_options_of(name, "compact", resolution="low").picture_reduction == 1
        assert baseline_options_of(name, "paper") == BaselineOptions()


def test_impossible_options_are_refused_by_name() -> None:
    with pytest.raises(TrainError, match="picture_reduction 2 at resolution 'low'"):
        baseline_options_of("mcnn", "compact", resolution="low", picture_reduction=2)
    with pytest.raises(TrainError, match="output 'sigmoid'; wanted one of softplus, relu, linear"):
        baseline_options_of("mcnn", "compact", output="sigmoid")
    with pytest.raises(TrainError, match=r"options \['branches'\]; this network has"):
        baseline_options_of("mcnn", "compact", branches=1)
    with pytest.raises(TrainError, match="preset 'large'"):
        baseline_options_of("mcnn", "large")


def test_no_width_shrinks_to_nothing() -> None:
    assert widths_of((64, 0, 8), 0.01) == [1, 0, 1]

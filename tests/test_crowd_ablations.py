"""The ablations of Table 3, the low resolution of section 4, and what all counting networks share; tiny widths."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train.checkpoint import save_weights
from train.crowd.fusion import ThreeBranchFusion, TwoBranchFusion
from train.crowd.losses import importance_loss
from train.crowd.models import build_counter, load_counter, save_counter
from train.crowd.names import MODELS
from train.crowd.network import CrowdCounter, CrowdDensitySum, density_of_patches, patches_of_density
from train.crowd.options import CrowdOptions, options_of
from train.crowd.visual import PatchEmbedding
from train.errors import TrainError

TINY: dict[str, Any] = {
    "widths": (8, 8, 8),
    "merge_channels": 8,
    "units_per_structure": 1,
    "bottleneck_ratio": 4,
    "audio_widths": (4, 4, 4, 4),
}
LOW = TINY | {"resolution": "low"}
# Table 3, but for "w/o explicit PIR, PCE", which is a matter of the losses' weights
ABLATIONS: dict[str, dict[str, Any]] = {
    "w/o PIR branch": {"patch_streams": "estimate"},
    "w/o PCE branch": {"patch_streams": "importance"},
    "w/o AVT": {"transformer": False},
    "w/o CCM": {"co_attention": "none"},
    "w/o A^T in the MSB fusion": {"fusion_audio": False},
    "only S1 branch": {"branches": 1},
    "two branches": {"branches": 2},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def parameters(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


def cc(model: str = "crowd_av", **options: Any) -> CrowdCounter:
    counter = build_counter(model, "compact", **(LOW | options))
    assert isinstance(counter, CrowdCounter)
    return counter


def answer(counter: nn.Module, batch: int = 2) -> tuple[Tensor, Tensor | None, Tensor | None]:
    geometry, audio = counter.geometry, counter.audio
    assert not isinstance(geometry, Tensor) and not isinstance(geometry, nn.Module)
    picture = torch.randint(0, 256, (batch, geometry.height, geometry.width, 3), dtype=torch.uint8)
    out: tuple[Tensor, Tensor | None, Tensor | None] = (
        counter(picture, torch.randn(batch, 1, 96, 64)) if audio else counter(picture)
    )
    return out


# ---- ablations ----


@pytest.mark.parametrize("model", ["crowd_av", "crowd_v"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablated_network_counts_starts_at_the_wanted_mean_and_trains_all_that_it_has(name: str, model: str) -> None:
    counter = cc(model, **ABLATIONS[name])
    counter.scale_to(90.0)
    density, importance, estimates = answer(counter, batch=8)
    assert density.shape == (8, 36, 64) and density.min() >= 0
    assert float(density.detach().sum()) / 8 == pytest.approx(90.0, rel=0.2)
    streams = ABLATIONS[name].get("patch_streams", "both") if ABLATIONS[name].get("transformer", True) else "neither"
    assert (importance is not None) == (streams in ("both", "importance"))
    assert (estimates is not None) == (streams in ("both", "estimate"))
    for patches in (importance, estimates):
        assert patches is None or patches.shape == (8, 16)
    loss = density.square().sum()
    if importance is not None:
        loss = loss + importance_loss(importance, torch.rand(8, 16))
    if estimates is not None:
        loss = loss + estimates.square().sum()
    loss.backward()
    assert [name for name, parameter in counter.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("resolution", ["regular", "low"])
def test_each_ablation_takes_away_the_parameters_of_its_part_and_no_others(resolution: str) -> None:
    def removed(**options: Any) -> int:
        return parameters(whole) - parameters(build_counter("crowd_av", "compact", **sizes, **options))

    sizes = TINY | {"resolution": resolution}
    whole = build_counter("crowd_av", "compact", **sizes)
    assert isinstance(whole, CrowdCounter) and whole.transformer is not None
    p = whole.geometry.patches
    assert removed(patch_streams="estimate") == p * p + p + 1  # Linear(P, P), and a weight of AW_AVT's layer
    assert removed(patch_streams="importance") == p + 1 + 1  # Linear(P, 1), and the same
    assert removed(transformer=False) == parameters(whole.transformer) == (p * p + p) + (p + 1) + 3
    assert removed(co_attention="none") == 1  # the share of the mixture
    assert removed(fusion_audio=False) == (144 + 1) * (72 + 36 + 18)  # Linear(A^T) to the row lengths of S1 to S3
    branches, fusion = whole.visual.branches, whole.visual.branches.stage_fusions[0]
    structures = branches.stage_structures[0]
    of_third = [branches.to_third, structures[2], fusion.third_to_first, fusion.third_to_second]
    of_third += [fusion.first_to_third, fusion.second_to_third, fusion.attentions[2]]
    of_second = [branches.to_second, branches.two_branch, branches.second_structures[1], structures[1]]
    of_second += [fusion.second_to_first, fusion.first_to_second, *fusion.attentions[:2]]
    kernels = 8 * 8 * 9  # of the merge, for one branch
    assert removed(branches=2) == sum(map(parameters, of_third)) + kernels
    assert removed(branches=1) == sum(map(parameters, of_third + of_second)) + 2 * kernels


def test_without_avt_the_co_attention_gets_v_and_without_ccm_the_density_is_av_attd() -> None:
    for options in ({"transformer": False}, {"co_attention": "none"}):
        counter = cc("crowd_v", **options).eval()
        picture = torch.randint(0, 256, (1, 72, 128, 3), dtype=torch.uint8)
        with torch.no_grad():
            visual = counter.visual(picture)
            if counter.transformer is None:
                assert counter.co_attention is not None
                wanted = counter.co_attention(visual, visual, None)
            else:
                wanted = counter.transformer(visual, None)[2]
            assert torch.equal(counter(picture)[0], density_of_patches(wanted))


@pytest.mark.parametrize(
    ("options", "gain"), [({}, 1), ({"co_attention": "none"}, 1 / 16), ({"transformer": False}, 1)]
)
def test_without_ccm_the_untrained_density_is_smaller_by_the_number_of_patches(
    options: dict[str, Any], gain: float
) -> None:
    counter = cc("crowd_av", **options)
    assert counter.untrained_mean == pytest.approx(gain / math.sqrt(2 * math.pi))  # mean of ReLU of a normal variable


@pytest.mark.parametrize("form", ["query_add", "mul", "gate", "paper"])
@pytest.mark.parametrize("residual", ["convex", "add", "none"])
def test_every_co_attention_starts_at_the_wanted_mean(form: str, residual: str) -> None:
    counter = cc("crowd_av", co_attention=form, co_attention_residual=residual)
    counter.scale_to(50.0)
    with torch.no_grad():
        assert float(answer(counter, batch=8)[0].sum()) / 8 == pytest.approx(50.0, rel=0.15)


def test_unscaled_the_untrained_network_counts_thousands_whatever_it_sees() -> None:
    counter = build_counter("crowd_v", "compact", **TINY)
    with torch.no_grad():
        assert float(answer(counter)[0].sum()) / 2 == pytest.approx(3_700, rel=0.1)


def test_switches_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(TrainError, match="patch_streams 'estimate' with transformer False"):
        options_of("compact", transformer=False, patch_streams="estimate")
    with pytest.raises(TrainError, match="branches is 4"):
        options_of("compact", branches=4)
    deaf = {"transformer": False, "co_attention": "none"}
    for silent in ({"fusion_audio": False, "patch_audio": False}, {"branches": 1, "patch_audio": False}):
        with pytest.raises(TrainError, match="nothing that listens; train CC-V"):
            cc("crowd_av", **deaf, **silent)
    assert cc("crowd_av", **deaf).audio and not cc("crowd_v", **deaf, branches=1).audio


def test_a_picture_reduction_does_not_apply_to_low_resolution() -> None:
    assert options_of("compact", resolution="low").picture_reduction == 1
    with pytest.raises(TrainError, match="resolution 'low'"):
        options_of("compact", resolution="low", picture_reduction=2)
    with pytest.raises(ValueError, match="does not give a merge"):
        CrowdOptions(resolution="low", merge_stride=1)


def test_two_branches_hear_in_their_later_fusions_and_not_in_the_first() -> None:
    branches = cc("crowd_av", branches=2).visual.branches
    assert isinstance(branches.two_branch, TwoBranchFusion)
    assert all(attention.audio is None for attention in branches.two_branch.attentions)
    assert all(attention.audio is not None for attention in branches.stage_fusions[0].attentions)
    assert isinstance(cc("crowd_av").visual.branches.stage_fusions[0], ThreeBranchFusion)


def test_sound_in_the_patches_changes_nothing_before_training_and_reaches_a_picture_without_contrast() -> None:
    deaf, hears = cc("crowd_av", patch_audio=False).eval(), cc("crowd_av").eval()
    missing = hears.load_state_dict(deaf.state_dict(), strict=False).missing_keys
    assert missing == ["visual.patches.sound.weight", "visual.patches.sound.bias"]
    black = torch.zeros(1, 72, 128, 3, dtype=torch.uint8)
    sounds = torch.randn(2, 1, 96, 64)
    with torch.no_grad():
        assert torch.equal(deaf(black, sounds[:1])[0], hears(black, sounds[:1])[0])
        nn.init.normal_(hears.visual.patches.sound.weight)
        first, second = (hears(black, sound[None])[0] for sound in sounds)
    assert not torch.allclose(first, second, rtol=0.01)


# ---- low resolution ----


def test_low_resolution_gives_16_patches_of_the_same_144_cells_of_two_pixels() -> None:
    counter = cc("crowd_av").eval()
    with torch.no_grad():
        density, importance, estimates = answer(counter)
    assert importance is not None and estimates is not None
    assert density.shape == (2, 36, 64) and importance.shape == estimates.shape == (2, 16)
    assert counter.geometry.cell_pixels == 2  # so that the map grows to the picture by 2, not by the printed 8
    count, patch_counts = CrowdDensitySum()(density)
    blocks = density.unflatten(1, (4, 9)).unflatten(3, (4, 16)).sum(dim=(2, 4)).flatten(1)
    assert torch.allclose(patch_counts, blocks) and torch.allclose(count, blocks.sum(dim=1, keepdim=True))


def test_a_value_of_a_low_patch_lands_in_that_patch_and_nowhere_else() -> None:
    for patch, cell in ((0, 0), (6, 17), (15, 143)):
        values = torch.zeros(1, 16, 144)
        values[0, patch, cell] = 2.0
        density = density_of_patches(values)[0]
        assert density[9 * (patch // 4) + cell // 16, 16 * (patch % 4) + cell % 16] == 2.0 and density.sum() == 2.0
        assert torch.equal(patches_of_density(density[None]), values)


@pytest.mark.parametrize(("rows", "outer_rows"), [("paper", range(1, 6)), ("overlap", range(12, 19))])
def test_all_low_rows_of_patches_see_the_picture_the_outer_ones_of_the_literal_padding_little_of_it(
    rows: str, outer_rows: range
) -> None:
    module = PatchEmbedding(options_of("compact", merge_rows=rows, **LOW)).eval()
    branches = [torch.randn(1, 8, h, w, requires_grad=True) for h, w in ((72, 128), (36, 64), (18, 32))]
    visual = module(*branches)
    assert visual.shape == (1, 16, 144)
    seen = []  # by each row of patches: rows of S3, of which there are 18
    for row in range(4):
        gradient = torch.autograd.grad(visual[0, 4 * row : 4 * row + 4].sum(), branches, retain_graph=True)[2]
        seen.append(torch.nonzero(gradient.abs().sum(dim=(0, 1, 3)))[:, 0])
    assert len(seen[0]) in outer_rows and len(seen[3]) in outer_rows
    middles = [float(rows_seen.double().mean()) for rows_seen in seen]
    assert middles == sorted(middles) and len(set(middles)) == 4


def test_low_rows_of_features_are_shared_by_the_area_that_patches_cover() -> None:
    shares = PatchEmbedding(options_of("compact", **LOW)).row_shares
    assert torch.allclose(shares.sum(dim=1), torch.ones(4))  # each patch row is a mean
    heights = torch.tensor([1.5, 2.0, 2.0, 2.0, 1.5])  # rows of the merge that each stands for
    assert torch.allclose(shares.sum(dim=0), heights / 2.25)
    assert torch.allclose(shares[0], torch.tensor([1.5, 0.75, 0, 0, 0]) / 2.25)


# ---- by name ----


def test_every_network_comes_back_from_its_file_whatever_the_file_is_called(tmp_path: Path) -> None:
    for model in MODELS.values():
        options = LOW if model.startswith("crowd") else {"resolution": "low", "width_share": 0.0625}
        counter = build_counter(model, "compact", **options).eval()
        counter.scale_to(31.0)
        path = tmp_path / "some.safetensors"
        save_counter(path, counter)
        again = load_counter(path)
        assert again.model == model and type(again) is type(counter) and not again.training
        assert again.options == counter.options and again.audio == (model in ("crowd_av", "audiocsrnet"))
        torch.manual_seed(1)
        wanted = answer(counter)[0]
        torch.manual_seed(1)
        assert torch.equal(answer(again)[0], wanted)


def test_what_is_no_counting_network_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="'vgg'; the counting networks are mcnn, .*crowd_av"):
        build_counter("vgg", "compact")
    path = tmp_path / "other.safetensors"
    save_weights(path, nn.Linear(1, 1), model="facefilter_separator", options={})
    with pytest.raises(TrainError, match="'facefilter_separator'"):
        load_counter(path)


def test_committed_weights_have_the_present_behaviour_by_default(root: Path) -> None:
    for name, audio in (("crowd_av", True), ("crowd_v", False)):
        counter = load_counter(root / "train" / "weights" / f"{name}.safetensors")
        assert counter.model == name and counter.audio == audio and counter.geometry.patches == 64

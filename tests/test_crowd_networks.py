"""CC-AV and CC-V against independent sums, plain NumPy and closed forms; tiny inputs where the layer allows it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from train.crowd.attention import AudioVisualTransformer, CoAttentionModule
from train.crowd.fusion import InterBranchAttention
from train.crowd.network import (
    CrowdCounter,
    CrowdDensitySum,
    density_of_patches,
    patches_of_density,
)
from train.crowd.options import CoAttention, CrowdOptions, options_of
from train.crowd.visual import PatchEmbedding, PictureInput
from train.errors import TrainError

TINY = {"widths": (8, 8, 8), "merge_channels": 8, "units_per_structure": 1, "audio_widths": (4, 4, 4, 4)}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pictures(batch: int) -> Tensor:
    return torch.randint(0, 256, (batch, 576, 1024, 3), dtype=torch.uint8)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def tiny(audio: bool, **options: object) -> CrowdCounter:
    return CrowdCounter(options_of("compact", **(TINY | options)), audio=audio).eval()


# ---- parameter counts, summed by hand from the paper's sizes ----


def unit(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel**2 + 2 * outputs  # convolution without bias, batch normalisation


def structure(width: int) -> int:
    inner = width // 4
    return 4 * (unit(width, inner, 1) + unit(inner, inner, 3) + unit(inner, width, 1))


def visual_parameters() -> int:
    first, second, third = 32, 64, 128
    stem = unit(3, first, 3) + unit(first, first, 3)
    structures = 4 * structure(first) + 3 * structure(second) + 2 * structure(third)
    transitions = unit(first, second, 3) + unit(second, third, 3)
    two_branch = unit(first, second, 3) + unit(second, first, 1)
    ups = unit(second, first, 1) + unit(third, first, 1) + unit(third, second, 1)
    downs = unit(first, second, 3) + unit(first, first, 3) + unit(first, third, 3) + unit(second, third, 3)
    merge = unit(first + second + third, 256, 3) + unit(256, 144, 3) + unit(144, 144, 3)
    return stem + structures + transitions + two_branch + 2 * (ups + downs) + merge


def sound_parameters() -> int:
    def stage(inputs: int, outputs: int) -> int:
        shortcut = 0 if inputs == outputs else unit(inputs, outputs, 1)
        return unit(inputs, outputs, 3) + 3 * unit(outputs, outputs, 3) + shortcut

    stages = stage(32, 32) + stage(32, 64) + stage(64, 128) + stage(128, 256)
    fusion_layers = 2 * (144 + 1) * (144 + 72 + 36)  # Linear(A^T) to the row lengths of two stages' three fusions
    patches = 144 * 144 + 144  # patch_audio
    return unit(1, 32, 3) + stages + 256 * 144 + 144 + fusion_layers + patches


@pytest.mark.parametrize(("audio", "pinned"), [(False, 1_682_022), (True, 4_611_549)])
def test_parameters_of_the_paper_preset_are_those_summed_by_hand(audio: bool, pinned: int) -> None:
    importance = 64 * 64 + 64 if audio else 64 + 1
    heads = importance + (64 + 1) + (2 + 1) + 1  # PIR, PCE, AW_AVT, the share of the co-attention
    by_hand = visual_parameters() + heads + (sound_parameters() if audio else 0)
    counter = CrowdCounter(options_of("paper"), audio=audio)
    assert sum(parameter.numel() for parameter in counter.parameters()) == by_hand == pinned


# ---- inputs and outputs ----


@pytest.mark.parametrize("audio", [False, True])
def test_density_is_never_negative_and_its_sum_is_the_count(audio: bool) -> None:
    counter = tiny(audio, density_scale=0.3)
    inputs = (pictures(2), torch.randn(2, 1, 96, 64)) if audio else (pictures(2),)
    with torch.no_grad():
        density, importance, estimates = counter(*inputs)
        count, patch_counts = CrowdDensitySum()(density)
    assert density.shape == (2, 72, 128) and importance.shape == estimates.shape == (2, 64)
    assert density.min() >= 0 and density.max() > 0
    assert torch.allclose(importance.sum(dim=1), torch.ones(2), atol=1e-6)
    assert torch.allclose(count[:, 0].double(), density.double().sum(dim=(1, 2)), rtol=1e-5)
    assert torch.allclose(patch_counts.sum(dim=1, keepdim=True), count)


def test_each_picture_of_a_batch_is_counted_as_if_alone() -> None:
    counter = tiny(audio=True)
    picture, log_mel = pictures(3), torch.randn(3, 1, 96, 64)
    with torch.no_grad():
        together = counter(picture, log_mel)
        alone = counter(picture[1:2], log_mel[1:2])
    for batched, single in zip(together, alone, strict=True):
        assert torch.allclose(batched[1:2], single, atol=1e-5)


def test_the_scale_of_the_density_multiplies_the_count_and_nothing_else() -> None:
    one, three = tiny(audio=False, density_scale=1.0), tiny(audio=False, density_scale=3.0)
    three.load_state_dict(one.state_dict())
    picture = pictures(1)
    with torch.no_grad():
        single, triple = one(picture), three(picture)
    assert torch.allclose(3 * single[0], triple[0], rtol=1e-5)
    assert torch.equal(single[1], triple[1]) and torch.equal(single[2], triple[2])


def test_sound_for_cc_v_and_silence_for_cc_av_are_refused() -> None:
    with pytest.raises(ValueError, match="CC-AV is called with a log-mel"):
        tiny(audio=True)(pictures(1))
    with pytest.raises(ValueError, match="CC-V is called without one"):
        tiny(audio=False)(pictures(1), torch.zeros(1, 1, 96, 64))


def test_halving_the_picture_inside_the_network_is_the_mean_of_two_by_two_pixels() -> None:
    picture = torch.randint(0, 256, (1, 4, 6, 3), dtype=torch.uint8)
    whole, half = PictureInput(1)(picture), PictureInput(2)(picture)
    blocks = whole.numpy().reshape(1, 3, 2, 2, 3, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(half.numpy(), blocks, atol=1e-5)


def test_unshuffling_the_picture_keeps_every_pixel_as_pixel_unshuffle_does() -> None:
    picture = torch.randint(0, 256, (2, 4, 6, 3), dtype=torch.uint8)
    wanted = torch.pixel_unshuffle(PictureInput(1)(picture), 2).unflatten(1, (3, 4)).transpose(1, 2).flatten(1, 2)
    unshuffling = PictureInput(2, "unshuffle")
    assert unshuffling.channels == 12 and torch.allclose(unshuffling(picture), wanted)
    counter, averaging = tiny(audio=False, reduction="unshuffle"), tiny(audio=False)
    assert parameters(counter) - parameters(averaging) == (12 - 3) * 8 * 9  # the stem's first convolution


def test_unshuffling_becomes_a_graph_that_answers_alike() -> None:
    picture, module = torch.randint(0, 256, (2, 8, 12, 3), dtype=torch.uint8), PictureInput(2, "unshuffle").eval()
    program = torch.onnx.export(module, (picture,), dynamo=True, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    three = picture[[0, 1, 0]].numpy()
    found = session.run(None, {session.get_inputs()[0].name: three})[0]
    np.testing.assert_allclose(found, module(torch.from_numpy(three)).numpy(), rtol=1e-6)


def test_unknown_presets_and_options_are_refused_by_name() -> None:
    with pytest.raises(TrainError, match="'large'; wanted one of paper, compact"):
        options_of("large")
    with pytest.raises(TrainError, match="'colour'"):
        options_of("compact", colour="red")
    with pytest.raises(TrainError, match="co_attention 'qury_add'; wanted one of query_add, mul, gate, paper, none"):
        options_of("compact", co_attention="qury_add")
    with pytest.raises(ValueError, match="does not give a merge of 32x18"):
        CrowdOptions(picture_reduction=2)


# ---- inter-branch fusion, Eq. 2-4 ----


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("scale", ["paper", "sqrt"])
@pytest.mark.parametrize("audio", [False, True])
def test_fusion_per_channel_follows_equations_2_to_4(scale: str, audio: bool) -> None:
    module = InterBranchAttention(
        height=3, width=5, scale=scale, residual=False, audio_size=7 if audio else None
    ).double()
    source, target, sound = (torch.randn(*size, dtype=torch.float64) for size in ((2, 4, 3, 5), (2, 4, 3, 5), (2, 7)))
    found = module(source, target, sound if audio else None).detach().numpy()

    keys = source.numpy()  # (B, C, H, W); a row is a column of the picture, W rows of length H
    queries = keys
    if audio:
        assert module.audio is not None
        layer = module.audio[0]
        shift = sound.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        queries = keys + shift[:, None, :, None]
    logits = np.einsum("bchv,bchw->bcvw", queries, keys) / (np.sqrt(3) if scale == "sqrt" else 1)
    # the softmax is float32 by design, hence the tolerance
    np.testing.assert_allclose(found, np.einsum("bcvw,bchw->bchv", softmax(logits), target.numpy()), atol=1e-6)


def test_fusion_between_channels_follows_equation_3_on_flattened_maps() -> None:
    module = InterBranchAttention(
        height=3, width=5, reading="channels", scale="paper", residual=False, audio_size=7
    ).double()
    source, target, sound = (torch.randn(*size, dtype=torch.float64) for size in ((2, 4, 3, 5), (2, 4, 3, 5), (2, 7)))
    assert module.audio is not None
    layer = module.audio[0]
    shift = sound.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    keys = source.numpy().reshape(2, 4, 15)
    weights = softmax(np.einsum("bcn,bdn->bcd", keys + shift[:, None], keys))
    wanted = np.einsum("bcd,bdn->bcn", weights, target.numpy().reshape(2, 4, 15)).reshape(2, 4, 3, 5)
    np.testing.assert_allclose(module(source, target, sound).detach().numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize(("scale", "identity"), [("paper", True), ("sqrt", False)])
def test_without_a_scale_the_fusion_does_nothing(scale: str, identity: bool) -> None:
    module = InterBranchAttention(height=144, width=256, scale=scale, residual=False)
    source, target = torch.randn(1, 1, 144, 256), torch.randn(1, 1, 144, 256)
    assert torch.allclose(module(source, target), target, atol=1e-3) == identity


def test_the_residual_fusion_adds_the_target() -> None:
    plain = InterBranchAttention(height=3, width=5, residual=False)
    residual = InterBranchAttention(height=3, width=5, residual=True)
    source, target = torch.randn(1, 2, 3, 5), torch.randn(1, 2, 3, 5)
    assert torch.allclose(residual(source, target), plain(source, target) + target)


# ---- patches and their rows ----


def test_a_value_of_a_patch_lands_in_that_patch_and_nowhere_else() -> None:
    for patch, cell in ((0, 0), (9, 17), (37, 100), (63, 143)):
        values = torch.zeros(1, 64, 144)
        values[0, patch, cell] = 2.0
        density = density_of_patches(values)[0]
        row, column = 9 * (patch // 8) + cell // 16, 16 * (patch % 8) + cell % 16
        assert density[row, column] == 2.0 and density.sum() == 2.0
        assert CrowdDensitySum()(density[None])[1][0, patch] == 2.0


def test_laying_patches_out_and_back_changes_nothing_and_both_views_hold_the_same_people() -> None:
    values = torch.rand(2, 64, 144)
    assert torch.equal(patches_of_density(density_of_patches(values)), values)
    raw = density_of_patches(values, aligned=False)
    assert torch.equal(raw.flatten(), values.flatten())


def test_the_raw_view_puts_two_values_in_nine_into_their_own_patch_and_the_aligned_one_all() -> None:
    own = torch.arange(64.0).repeat_interleave(144).reshape(1, 64, 144)  # each value names its patch
    wanted = density_of_patches(own)
    assert torch.equal(patches_of_density(wanted), own)
    right = (density_of_patches(own, aligned=False) == wanted).double().mean().item()
    assert right == pytest.approx(2 / 9, abs=0.001)


def test_the_density_sum_is_the_sum_over_blocks_of_9_by_16_cells() -> None:
    density = torch.rand(2, 72, 128)
    count, patch_counts = CrowdDensitySum()(density)
    blocks = density.numpy().reshape(2, 8, 9, 8, 16).sum(axis=(2, 4)).reshape(2, 64)
    np.testing.assert_allclose(patch_counts.numpy(), blocks, rtol=1e-5)
    np.testing.assert_allclose(count[:, 0].numpy(), blocks.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize(("rows", "blind"), [("paper", {0, 7}), ("overlap", set())])
def test_rows_of_patches_see_the_picture_except_the_outer_ones_of_the_literal_padding(
    rows: str, blind: set[int]
) -> None:
    module = PatchEmbedding(options_of("compact", merge_rows=rows, **TINY)).eval()
    branches = [
        torch.randn(1, 8, height, width, requires_grad=True) for height, width in ((72, 128), (36, 64), (18, 32))
    ]
    visual = module(*branches)  # (1, 64, 144)
    assert visual.shape == (1, 64, 144)
    seen = [
        torch.autograd.grad(visual[0, 8 * row : 8 * row + 8].sum(), branches, retain_graph=True)[2].abs().sum() > 0
        for row in range(8)
    ]
    assert {row for row in range(8) if not seen[row]} == blind


def test_rows_of_features_are_shared_by_the_area_that_patches_cover() -> None:
    shares = PatchEmbedding(options_of("compact", **TINY)).row_shares
    assert torch.allclose(shares.sum(dim=1), torch.ones(8))  # each patch row is a mean
    assert torch.allclose(shares.sum(dim=0), torch.full((9,), 8 / 9))  # and no feature row counts more than another
    assert torch.allclose(shares[0, :3], torch.tensor([8 / 9, 1 / 9, 0.0]))


def test_the_convolutions_after_the_merge_need_stride_2_and_at_low_resolution_another_padding() -> None:
    def size(height: int, width: int, stride: int, rows_padding: int) -> tuple[int, int]:
        first = nn.Conv2d(1, 1, 3, stride, padding=1)
        second = nn.Conv2d(1, 1, 3, stride, padding=(rows_padding, 1))
        found = second(first(torch.zeros(1, 1, height, width)))
        return found.shape[2], found.shape[3]

    assert size(18, 32, stride=1, rows_padding=4) == (24, 32)  # as printed
    assert size(18, 32, stride=2, rows_padding=4) == (8, 8)
    assert size(9, 16, stride=2, rows_padding=4) == (6, 4)  # the same at low resolution, for which the paper wants 4x4
    assert size(9, 16, stride=2, rows_padding=2) == (4, 4)


# ---- AVT and co-attention ----


def sample_attention() -> tuple[Tensor, Tensor, Tensor]:
    return torch.rand(2, 64, 144, dtype=torch.float64), torch.rand(2, 64, 144, dtype=torch.float64), torch.randn(2, 144)


def test_the_literal_equation_11_has_rank_one_and_the_default_has_not() -> None:
    attended, visual, sound = sample_attention()
    arguments = (attended, visual, sound.double())
    literal = CoAttentionModule(form="paper", residual="none", scale="paper")(*arguments)
    default = CoAttentionModule(form="query_add", residual="none", scale="sqrt")(*arguments)
    assert torch.linalg.matrix_rank(literal, rtol=1e-5).tolist() == [1, 1]
    assert (torch.linalg.matrix_rank(default, rtol=1e-5) > 10).all()
    assert torch.allclose(literal.sum(dim=1), visual.sum(dim=1), rtol=1e-5)  # all patches: the sum of V, however shared


def test_equation_11_as_printed_averages_the_patches_and_the_convex_form_keeps_them() -> None:
    attended, visual, _ = sample_attention()

    def spread(residual: str) -> float:
        """How much patches differ, as a share of how much they do in V."""
        mixed = CoAttentionModule(form="query_add", residual=residual, scale="sqrt")(attended / 64, visual, None)
        return float(mixed.detach().std(dim=1).mean() / visual.std(dim=1).mean())

    assert spread("none") < 0.1 < 0.85 < spread("convex") < 0.95


def test_dropout_behind_the_heads_would_zero_what_the_losses_look_at() -> None:
    _, visual, sound = sample_attention()
    for wanted in (False, True):
        module = AudioVisualTransformer(audio=True, scale="sqrt", dropout=0.3, head_dropout=wanted).double().train()
        importance, estimates, _ = module(visual, sound.double())
        assert bool((importance == 0).any()) == bool((estimates == 0).any()) == wanted


@pytest.mark.parametrize("form", get_args(CoAttention))
@pytest.mark.parametrize("residual", ["none", "add", "convex"])
def test_co_attention_of_what_is_not_negative_is_not_negative(form: str, residual: str) -> None:
    attended, visual, sound = sample_attention()
    module = CoAttentionModule(form=form, residual=residual, scale="sqrt")
    assert module(attended, visual, sound.double()).min() >= 0


def test_cc_v_is_cc_av_without_its_sound() -> None:
    attended, visual, _ = sample_attention()
    silence = torch.zeros(2, 144, dtype=torch.float64)
    module = CoAttentionModule(form="query_add", residual="convex", scale="sqrt")
    assert torch.allclose(module(attended, visual, silence), module(attended, visual, None))

    hears = AudioVisualTransformer(audio=True, scale="sqrt", dropout=0.0, head_dropout=False).double()
    sees = AudioVisualTransformer(audio=False, scale="sqrt", dropout=0.0, head_dropout=False).double()
    sees.estimate.load_state_dict(hears.estimate.state_dict())
    assert torch.allclose(hears(visual, silence)[1], sees(visual, None)[1])  # PCE, Eq. 9

    fusion = InterBranchAttention(height=3, width=5, audio_size=144)
    assert fusion.audio is not None
    nn.init.zeros_(fusion.audio[0].bias)
    source, target = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    assert torch.allclose(fusion(source, target, silence.float()), fusion(source, target, None))


def test_pir_and_pce_follow_equations_6_and_9() -> None:
    _, visual, sound = sample_attention()
    module = AudioVisualTransformer(audio=True, scale="paper", dropout=0.0, head_dropout=False).double()
    importance, estimates, attended = (part.detach().numpy() for part in module(visual, sound.double()))
    v, a = visual.numpy(), sound.double().numpy()
    weights = {name: value.detach().numpy() for name, value in module.named_parameters()}
    np.testing.assert_allclose(
        importance,
        np.einsum("bpz,bz->bp", v, a) @ weights["importance.weight"].T + weights["importance.bias"],
        rtol=1e-6,
    )
    products = np.einsum("bpz,bqz->bpq", v + a[:, None], v)
    np.testing.assert_allclose(
        estimates, products @ weights["estimate.weight"][0] + weights["estimate.bias"], rtol=1e-6
    )
    logits = np.stack([importance, estimates], axis=2) @ weights["combine.0.weight"][0]
    np.testing.assert_allclose(attended, softmax(logits)[:, :, None] * v, atol=1e-6)

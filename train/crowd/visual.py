"""Visual feature extraction (VFE), section 3.2: a picture in, 144 values for each of its 8x8 patches out.

    picture -> stem -> RS(S1) -> RS(S1, S2) + two-branch fusion -> K x [RS(S1, S2, S3) + three-branch fusion] -> merge
    -> V

B batch, C channels, P = 64 patches (row-major), Z = 144 values of a patch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.crowd.fusion import InterBranchAttention, ThreeBranchFusion, TwoBranchFusion
from train.crowd.layers import conv_unit, downsample, residual_structure
from train.crowd.options import CrowdOptions, Reduction
from train.settings import PATCH_EMBEDDING, PATCH_GRID

# Mean and deviation of ShanghaiTech A's pixels, which AudioCSRNet's DISCO setting uses too; the paper states none
_PICTURE_MEAN = (0.4108, 0.3706, 0.3597)
_PICTURE_STD = (0.2786, 0.2693, 0.2716)
_MERGE_ROWS = 9  # rows of features that become the 8 rows of patches


class PictureInput(nn.Module):
    """UINT8 picture to normalised feature map; it lives in the network, so that training and serving cannot differ."""

    mean: Tensor
    std: Tensor

    def __init__(self, factor: int, reduction: Reduction = "average") -> None:
        super().__init__()
        self.factor = factor
        self.unshuffles = reduction == "unshuffle" and factor > 1
        repeats = factor**2 if self.unshuffles else 1
        self.channels = len(_PICTURE_MEAN) * repeats  # of the feature map
        mean, std = (torch.tensor(colours).repeat(repeats) for colours in (_PICTURE_MEAN, _PICTURE_STD))
        self.register_buffer("mean", 255 * mean[:, None, None], persistent=False)
        self.register_buffer("std", 255 * std[:, None, None], persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """UINT8 (B, H, W, 3) RGB to float (B, channels, H / factor, W / factor)."""
        # float first: TensorRT takes UINT8 at its door only
        pixels = picture.float()
        if self.unshuffles:
            pixels = _space_to_depth(pixels, self.factor)
        pixels = pixels.permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
        if self.factor > 1 and not self.unshuffles:
            pixels = functional.avg_pool2d(pixels, self.factor)
        return (pixels - self.mean) / self.std


def _space_to_depth(pixels: Tensor, factor: int) -> Tensor:
    """(B, H, W, C) to (B, H / factor, W / factor, factor^2 C): rows of a block, then columns, then colours.

    Neighbours in a row are neighbours in memory already, so that only rows are joined: twice as fast as
    `pixel_unshuffle`, which differs in the order of its channels alone.
    """
    height, width = pixels.shape[1] // factor, pixels.shape[2] // factor
    rows = pixels.flatten(2).unflatten(1, (height, factor))  # (B, h, factor, W C)
    return torch.cat([rows[:, :, row].unflatten(2, (width, -1)) for row in range(factor)], dim=3)


class MultiScaleBranches(nn.Module):
    """The MSB module: three resolutions side by side, fused by attention (section 3.2.1)."""

    def __init__(self, options: CrowdOptions, audio_size: int | None) -> None:
        super().__init__()
        self.options = options
        self.audio_size = audio_size if options.fusion_audio else None
        widths = options.widths
        self.first_structure = self._structures(1)
        self.to_second = downsample(widths[0], widths[1], levels=1)
        self.second_structures = self._structures(2)
        self.two_branch = TwoBranchFusion(widths, [self._attention(branch, None) for branch in (0, 1)])
        self.to_third = downsample(widths[1], widths[2], levels=1)
        stages = range(options.fusion_stages)
        self.stage_structures = nn.ModuleList(self._structures(3) for _ in stages)
        self.stage_fusions = nn.ModuleList(
            ThreeBranchFusion(widths, [self._attention(branch, self.audio_size) for branch in (0, 1, 2)])
            for _ in stages
        )

    def _structures(self, branches: int) -> nn.ModuleList:
        chosen = self.options
        return nn.ModuleList(
            residual_structure(width, ratio=chosen.bottleneck_ratio, units=chosen.units_per_structure)
            for width in chosen.widths[:branches]
        )

    def _attention(self, branch: int, audio_size: int | None) -> InterBranchAttention:
        height, width = self.options.branch_sizes[branch]
        return InterBranchAttention(
            height=height,
            width=width,
            reading=self.options.attention_reading,
            scale=self.options.attention_scale,
            residual=self.options.fusion_residual,
            audio_size=audio_size,
            dropout=self.options.dropout,
        )

    def forward(self, features: Tensor, audio: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C1, H/4, W/4) to the three branches' features, at a quarter, an eighth and a sixteenth of the picture."""
        first = self.first_structure[0](features)
        second = self.to_second(first)
        first, second = (rs(x) for rs, x in zip(self.second_structures, (first, second), strict=True))
        first, second = self.two_branch(first, second)
        third = self.to_third(second)
        for structures, fusion in zip(self.stage_structures, self.stage_fusions, strict=True):
            assert isinstance(structures, nn.ModuleList)
            first, second, third = (rs(x) for rs, x in zip(structures, (first, second, third), strict=True))
            first, second, third = fusion(first, second, third, audio)
        return first, second, third


class PatchEmbedding(nn.Module):
    """Merge of the branches into V (section 3.2.2): 3x3 convolutions from 32x18 features down to 8x8 patches."""

    row_shares: Tensor

    def __init__(self, options: CrowdOptions) -> None:
        super().__init__()
        overlap = options.merge_rows == "overlap"
        self.merge = conv_unit(sum(options.widths), options.merge_channels, stride=options.merge_stride)
        self.first = conv_unit(options.merge_channels, PATCH_EMBEDDING, stride=2)  # 18 x 32 -> 9 x 16
        stride, padding = ((1, 2), (1, 1)) if overlap else ((2, 2), (4, 1))
        self.second = nn.Conv2d(PATCH_EMBEDDING, PATCH_EMBEDDING, 3, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(PATCH_EMBEDDING)
        self.overlap = overlap
        self.register_buffer("row_shares", _row_shares(), persistent=False)

    def forward(self, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        """Three branches to V (B, P, Z), never negative."""
        pooled = [functional.avg_pool2d(first, 4), functional.avg_pool2d(second, 2), third]
        features = self.second(self.first(self.merge(torch.cat(pooled, dim=1))))
        if self.overlap:
            features = self.row_shares @ features  # (8, 9) @ (B, Z, 9, 8) -> (B, Z, 8, 8)
        return torch.relu(self.norm(features)).flatten(2).transpose(1, 2)  # (B, Z, 8, 8) -> (B, P, Z)


def _row_shares() -> Tensor:
    """(8, 9): the share of each row of features in each row of patches, by the area they have in common."""
    edges = (
        torch.arange(PATCH_GRID + 1, dtype=torch.float64) * _MERGE_ROWS / PATCH_GRID
    )  # of the patches, in feature rows
    rows = torch.arange(_MERGE_ROWS, dtype=torch.float64)
    common = torch.minimum(edges[1:, None], rows + 1) - torch.maximum(edges[:-1, None], rows)
    return (common.clamp(min=0) * PATCH_GRID / _MERGE_ROWS).float()


class VisualFeatures(nn.Module):
    """VFE: picture and sound embedding to V."""

    def __init__(self, options: CrowdOptions, audio_size: int | None) -> None:
        super().__init__()
        width = options.widths[0]
        self.picture_input = PictureInput(options.picture_reduction, options.reduction)
        channels = self.picture_input.channels
        self.stem = nn.Sequential(conv_unit(channels, width, stride=2), conv_unit(width, width, stride=2))
        self.branches = MultiScaleBranches(options, audio_size)
        self.patches = PatchEmbedding(options)

    def forward(self, picture: Tensor, audio: Tensor | None = None) -> Tensor:
        """UINT8 (B, 576, 1024, 3) RGB and (B, Z) to V (B, P, Z), never negative."""
        features = self.stem(self.picture_input(picture))
        out: Tensor = self.patches(*self.branches(features, audio))
        return out

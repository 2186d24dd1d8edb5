"""Visual feature extraction (VFE), section 3.2: a picture in, 144 values for each of its patches out.

    picture -> stem -> RS(S1) -> RS(S1, S2) + two-branch fusion -> K x [RS(S1, S2, S3) + three-branch fusion] -> merge
    -> V

Eq. 5 writes V = VFE(X) although section 3.2 calls the stem's output X; here the picture goes in.

B batch, C channels, P = 64 patches (row-major; 16 at low resolution), Z = 144 values of a patch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.crowd.fusion import InterBranchAttention, ThreeBranchFusion, TwoBranchFusion
from train.crowd.geometry import Resolution
from train.crowd.layers import conv_unit, downsample, residual_structure
from train.crowd.options import CrowdOptions, Reduction
from train.settings import PATCH_EMBEDDING

# Mean and deviation of ShanghaiTech A's pixels, which AudioCSRNet's DISCO setting uses too; the paper states none
_PICTURE_MEAN = (0.4108, 0.3706, 0.3597)
_PICTURE_STD = (0.2786, 0.2693, 0.2716)
# Where the rows of features that become rows of patches meet. Regular: nine halves of the merge's 18 rows. Low: the
# stride-2 convolution answers at rows 0, 2, 4, 6 and 8 of the merge's nine, so that its outer rows stand for less.
_ROW_EDGES: dict[Resolution, tuple[float, ...]] = {
    "regular": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    "low": (0, 1.5, 3.5, 5.5, 7.5, 9),
}
_ROW_PADDING: dict[Resolution, int] = {"regular": 4, "low": 2}  # of the literal merge


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
    """The MSB module: up to three resolutions side by side, fused by attention (section 3.2.1)."""

    def __init__(self, options: CrowdOptions, audio_size: int | None) -> None:
        super().__init__()
        self.options = options
        self.audio_size = audio_size if options.fusion_audio else None
        widths, branches = options.widths, options.branches
        self.first_structure = self._structures(1)
        self.to_second = downsample(widths[0], widths[1], levels=1) if branches > 1 else None
        self.second_structures = self._structures(min(2, branches))
        self.two_branch = self._fusion(2, None) if branches > 1 else None
        self.to_third = downsample(widths[1], widths[2], levels=1) if branches > 2 else None
        stages = range(options.fusion_stages)
        self.stage_structures = nn.ModuleList(self._structures(branches) for _ in stages)
        self.stage_fusions = nn.ModuleList(self._fusion(branches, self.audio_size) for _ in stages if branches > 1)

    def _fusion(self, branches: int, audio_size: int | None) -> TwoBranchFusion | ThreeBranchFusion:
        attentions = [self._attention(branch, audio_size) for branch in range(branches)]
        kind = ThreeBranchFusion if branches == 3 else TwoBranchFusion
        return kind(self.options.widths, attentions)

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

    def forward(self, features: Tensor, audio: Tensor | None) -> tuple[Tensor, ...]:
        """(B, C1, H, W) of the stem to the features of each branch, at this size, its half and its quarter."""
        branches: tuple[Tensor, ...] = (self.first_structure[0](features),)
        if self.to_second is not None and self.two_branch is not None:
            branches = self.two_branch(*_each(self.second_structures, (*branches, self.to_second(branches[0]))), None)
        else:
            branches = _each(self.second_structures, branches)
        if self.to_third is not None:
            branches = (*branches, self.to_third(branches[1]))
        for stage, structures in enumerate(self.stage_structures):
            assert isinstance(structures, nn.ModuleList)
            branches = _each(structures, branches)
            if self.stage_fusions:
                branches = self.stage_fusions[stage](*branches, audio)
        return branches


def _each(structures: nn.ModuleList, branches: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(structure(features) for structure, features in zip(structures, branches, strict=True))


class PatchEmbedding(nn.Module):
    """Merge of the branches into V (section 3.2.2): 3x3 convolutions from 32x18 features down to 8x8 patches.

    At low resolution from 16x9 down to 4x4.
    """

    row_shares: Tensor

    def __init__(self, options: CrowdOptions, audio_size: int | None = None) -> None:
        super().__init__()
        overlap = options.merge_rows == "overlap"
        inputs = sum(options.widths[: options.branches])
        self.merge = conv_unit(inputs, options.merge_channels, stride=options.merge_stride)
        # 18 x 32 -> 9 x 16; at low resolution 9 x 16 -> 5 x 8
        self.first = conv_unit(options.merge_channels, PATCH_EMBEDDING, stride=2)
        stride, padding = ((1, 2), (1, 1)) if overlap else ((2, 2), (_ROW_PADDING[options.resolution], 1))
        self.second = nn.Conv2d(PATCH_EMBEDDING, PATCH_EMBEDDING, 3, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(PATCH_EMBEDDING)
        self.overlap = overlap
        shares = _row_shares(_ROW_EDGES[options.resolution], options.geometry.patch_grid)
        self.register_buffer("row_shares", shares, persistent=False)
        self.sound = nn.Linear(audio_size, PATCH_EMBEDDING) if audio_size and options.patch_audio else None
        if self.sound is not None:
            nn.init.zeros_(self.sound.weight)  # at first as without it
            nn.init.zeros_(self.sound.bias)

    def forward(self, *branches: Tensor, audio: Tensor | None = None) -> Tensor:
        """One to three branches, each half the size of the one before, and (B, Z) to V (B, P, Z), never negative."""
        pooled = [functional.avg_pool2d(features, 4 >> level) for level, features in enumerate(branches)]
        features = self.second(self.first(self.merge(torch.cat(pooled, dim=1))))
        if self.overlap:
            features = self.row_shares @ features  # (8, 9) @ (B, Z, 9, 8) -> (B, Z, 8, 8)
        features = self.norm(features)
        if self.sound is not None and audio is not None:
            features = features + self.sound(audio)[:, :, None, None]
        return torch.relu(features).flatten(2).transpose(1, 2)  # (B, Z, 8, 8) -> (B, P, Z)


def _row_shares(edges: tuple[float, ...], patch_rows: int) -> Tensor:
    """(patch rows, feature rows): the share of each row of features in each row of patches, by their common area."""
    rows = torch.tensor(edges, dtype=torch.float64)
    patches = torch.linspace(edges[0], edges[-1], patch_rows + 1, dtype=torch.float64)
    common = torch.minimum(patches[1:, None], rows[1:]) - torch.maximum(patches[:-1, None], rows[:-1])
    return (common.clamp(min=0) * patch_rows / edges[-1]).float()


class VisualFeatures(nn.Module):
    """VFE: picture and sound embedding to V."""

    def __init__(self, options: CrowdOptions, audio_size: int | None) -> None:
        super().__init__()
        width = options.widths[0]
        self.picture_input = PictureInput(options.picture_reduction, options.reduction)
        channels = self.picture_input.channels
        stride = options.stem_stride
        self.stem = nn.Sequential(conv_unit(channels, width, stride=stride), conv_unit(width, width, stride=stride))
        self.branches = MultiScaleBranches(options, audio_size)
        self.patches = PatchEmbedding(options, audio_size)

    def forward(self, picture: Tensor, audio: Tensor | None = None) -> Tensor:
        """UINT8 (B, H, W, 3) RGB and (B, Z) to V (B, P, Z), never negative."""
        features = self.stem(self.picture_input(picture))
        out: Tensor = self.patches(*self.branches(features, audio), audio=audio)
        return out

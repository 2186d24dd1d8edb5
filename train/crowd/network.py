"""CC-AV and CC-V: a picture, with one second of its sound or without, to a density map (Sajid et al., ICCVW 2021).

B batch, P = 64 patches in row-major order (16 at low resolution), Z = 144 = 9 x 16 density cells of one patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from train.crowd.attention import FIRST_SHARE, AudioVisualTransformer, CoAttentionModule
from train.crowd.audio import SoundFeatures
from train.crowd.interface import Counter
from train.crowd.options import CrowdOptions
from train.crowd.visual import VisualFeatures
from train.errors import TrainError
from train.settings import PATCH_CELLS_HIGH, PATCH_CELLS_WIDE, PATCH_EMBEDDING

_MEAN_RELU_OF_NORMAL = 1 / math.sqrt(2 * math.pi)


def density_of_patches(values: Tensor, *, aligned: bool = True) -> Tensor:
    """Lay the patches' values out as a map (section 3.5).

    Args:
        values: (B, P, Z).
        aligned: each patch fills its own 9x16 cells; else the numbers are laid out row by row as they come.

    Returns:
        (B, 72, 128), at low resolution (B, 36, 64).
    """
    side = math.isqrt(values.shape[1])
    if not aligned:
        return values.flatten(1).unflatten(1, (side * PATCH_CELLS_HIGH, side * PATCH_CELLS_WIDE))
    grid = values.unflatten(2, (PATCH_CELLS_HIGH, PATCH_CELLS_WIDE)).unflatten(1, (side, side))
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, 8, 8, 9, 16) -> (B, 8, 9, 8, 16) -> (B, 72, 128)


def patches_of_density(density: Tensor) -> Tensor:
    """The inverse of `density_of_patches`: (B, 72, 128) to (B, P, Z)."""
    side = density.shape[1] // PATCH_CELLS_HIGH
    rows = density.unflatten(1, (side, PATCH_CELLS_HIGH)).unflatten(3, (side, PATCH_CELLS_WIDE))
    return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, 8, 9, 8, 16) -> (B, 8, 8, 9, 16) -> (B, P, Z)


class CrowdCounter(Counter):
    """The whole network: CC-AV with `audio`, else CC-V, which has none of the operations on the sound (section 5.2)."""

    options: CrowdOptions

    def __init__(self, options: CrowdOptions, *, audio: bool) -> None:
        super().__init__("crowd_av" if audio else "crowd_v", options, audio=audio)
        if audio and not _hears(options):
            raise TrainError(
                "CC-AV without the AVT, the co-attention and the sound in fusions and patches has nothing that "
                "listens; train CC-V, or keep one of transformer, co_attention, patch_audio and fusion_audio (which "
                "needs 2 or 3 branches)."
            )
        self.sound = (
            SoundFeatures(widths=options.audio_widths, units=options.audio_units, dropout=options.dropout)
            if audio
            else None
        )
        self.visual = VisualFeatures(options, PATCH_EMBEDDING if audio else None)
        self.transformer = self._transformer() if options.transformer else None
        self.co_attention = (
            CoAttentionModule(
                form=options.co_attention, residual=options.co_attention_residual, scale=options.patch_logit_scale
            )
            if options.co_attention != "none"
            else None
        )

    def _transformer(self) -> AudioVisualTransformer:
        return AudioVisualTransformer(
            audio=self.audio,
            scale=self.options.patch_logit_scale,
            dropout=self.options.dropout,
            head_dropout=self.options.head_dropout,
            patches=self.geometry.patches,
            streams=self.options.patch_streams,
        )

    @property
    def untrained_mean(self) -> float:
        """0.40, the mean of V behind an untrained batch normalisation and ReLU, and what the co-attention makes of it.

        Its mixtures are means and keep that; `gate`, and AV_ATTD in the place of the mixture, are V under weights that
        sum to 1 over the patches, hence P times smaller. The residual form `add` adds V itself.
        """
        if self.co_attention is None:
            return _MEAN_RELU_OF_NORMAL / (self.geometry.patches if self.options.transformer else 1)
        mixture = 1 / self.geometry.patches if self.audio and self.options.co_attention == "gate" else 1.0
        share = {"none": mixture, "add": 1 + mixture, "convex": 1 + FIRST_SHARE * (mixture - 1)}
        return _MEAN_RELU_OF_NORMAL * share[self.options.co_attention_residual]

    def forward(self, picture: Tensor, log_mel: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Count, as `Counter.forward` says; the density is never negative.

        Raises:
            ValueError: CC-AV without sound, or CC-V with it.
        """
        self.require_sound(log_mel)
        sound = self.sound(log_mel) if self.sound is not None else None
        visual = self.visual(picture, sound)
        importance, estimates, attended = None, None, visual
        if self.transformer is not None:
            importance, estimates, attended = self.transformer(visual, sound)
        people = attended if self.co_attention is None else self.co_attention(attended, visual, sound)
        aligned = self.options.density_view == "patch_aligned"
        density = density_of_patches(people * self.options.density_scale, aligned=aligned)
        shares = torch.softmax(importance.float(), dim=1) if importance is not None else None
        return density, shares, estimates


def _hears(options: CrowdOptions) -> bool:
    fusions = options.fusion_audio and options.branches > 1 and options.fusion_stages > 0
    return options.transformer or options.co_attention != "none" or options.patch_audio or fusions


class CrowdDensitySum(nn.Module):
    """The count is the sum of the density map, section 3.5; likewise in each patch."""

    def forward(self, density: Tensor) -> tuple[Tensor, Tensor]:
        """Density (B, 72, 128), people per cell, to count (B, 1) and patch counts (B, 64), row-major, people.

        At low resolution (B, 36, 64) to (B, 1) and (B, 16).
        """
        patch_counts = patches_of_density(density).sum(dim=2)
        return patch_counts.sum(dim=1, keepdim=True), patch_counts

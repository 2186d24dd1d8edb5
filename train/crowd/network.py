"""CC-AV and CC-V: a picture, with one second of its sound or without, to a density map (Sajid et al., ICCVW 2021).

B batch, P = 64 patches in row-major order, Z = 144 = 9 x 16 density cells of one patch.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.checkpoint import load_weights, read_options
from train.crowd.attention import AudioVisualTransformer, CoAttentionModule
from train.crowd.audio import SoundFeatures
from train.crowd.options import CrowdOptions, options_of
from train.crowd.visual import VisualFeatures
from train.settings import (
    DENSITY_HEIGHT,
    DENSITY_WIDTH,
    PATCH_CELLS_HIGH,
    PATCH_CELLS_WIDE,
    PATCH_EMBEDDING,
    PATCH_GRID,
)


def density_of_patches(values: Tensor, *, aligned: bool = True) -> Tensor:
    """Lay the patches' values out as a map (section 3.5).

    Args:
        values: (B, P, Z).
        aligned: each patch fills its own 9x16 cells; else the numbers are laid out row by row as they come.

    Returns:
        (B, 72, 128).
    """
    if not aligned:
        return values.flatten(1).unflatten(1, (DENSITY_HEIGHT, DENSITY_WIDTH))
    grid = values.unflatten(2, (PATCH_CELLS_HIGH, PATCH_CELLS_WIDE)).unflatten(1, (PATCH_GRID, PATCH_GRID))
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, 8, 8, 9, 16) -> (B, 8, 9, 8, 16) -> (B, 72, 128)


def patches_of_density(density: Tensor) -> Tensor:
    """The inverse of `density_of_patches`: (B, 72, 128) to (B, P, Z)."""
    rows = density.unflatten(1, (PATCH_GRID, PATCH_CELLS_HIGH)).unflatten(3, (PATCH_GRID, PATCH_CELLS_WIDE))
    return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, 8, 9, 8, 16) -> (B, 8, 8, 9, 16) -> (B, P, Z)


class CrowdCounter(nn.Module):
    """The whole network: CC-AV with `audio`, else CC-V, which has none of the operations on the sound (section 5.2)."""

    def __init__(self, options: CrowdOptions, *, audio: bool) -> None:
        super().__init__()
        self.options = options
        self.sound = (
            SoundFeatures(widths=options.audio_widths, units=options.audio_units, dropout=options.dropout)
            if audio
            else None
        )
        self.visual = VisualFeatures(options, PATCH_EMBEDDING if audio else None)
        self.transformer = AudioVisualTransformer(
            audio=audio, scale=options.patch_logit_scale, dropout=options.dropout, head_dropout=options.head_dropout
        )
        self.co_attention = CoAttentionModule(
            form=options.co_attention, residual=options.co_attention_residual, scale=options.patch_logit_scale
        )

    @property
    def audio(self) -> bool:
        """Whether this network listens, that is, is CC-AV."""
        return self.sound is not None

    def forward(self, picture: Tensor, log_mel: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Count.

        Args:
            picture: UINT8 (B, 576, 1024, 3), RGB.
            log_mel: (B, 1, 96, 64), frames by bands, of the second of sound (`train.dsp.CrowdLogMel`); none for CC-V.

        Returns:
            Density (B, 72, 128), people per cell of 8x8 pixels, never negative; patch importance PIR (B, 64), a share
            of the people each, summing to 1; patch estimates PCE (B, 64), people, which training may leave slightly
            below 0.

        Raises:
            ValueError: CC-AV without sound, or CC-V with it.
        """
        if (log_mel is not None) != self.audio:
            kind, wanted = ("CC-AV", "with a log-mel") if self.audio else ("CC-V", "without one")
            raise ValueError(f"{kind} is called {wanted}; count silent pictures with CC-V, and sound with CC-AV")
        sound = self.sound(log_mel) if self.sound is not None else None
        visual = self.visual(picture, sound)
        importance, estimates, attended = self.transformer(visual, sound)
        people = self.co_attention(attended, visual, sound) * self.options.density_scale
        density = density_of_patches(people, aligned=self.options.density_view == "patch_aligned")
        return density, torch.softmax(importance.float(), dim=1), estimates


class CrowdDensitySum(nn.Module):
    """The count is the sum of the density map, section 3.5; likewise in each patch."""

    def forward(self, density: Tensor) -> tuple[Tensor, Tensor]:
        """Density (B, 72, 128), people per cell, to count (B, 1) and patch counts (B, 64), row-major, people."""
        patch_counts = patches_of_density(density).sum(dim=2)
        return patch_counts.sum(dim=1, keepdim=True), patch_counts


def build_crowd_counter(preset: str, audio: bool, **options: Any) -> CrowdCounter:
    """Build an untrained network.

    Args:
        preset: `paper` or `compact`.
        audio: CC-AV, else CC-V.
        options: changes to the preset, fields of `CrowdOptions`.
    """
    return CrowdCounter(options_of(preset, **options), audio=audio)


def model_name(audio: bool) -> str:
    """The name under which weights are stored and served."""
    return "crowd_av" if audio else "crowd_v"


def stored_options(counter: CrowdCounter) -> dict[str, Any]:
    """What `load_crowd_counter` needs to rebuild the network."""
    return asdict(counter.options)


def load_crowd_counter(path: Path) -> CrowdCounter:
    """Rebuild a trained network from its weights, in evaluation mode.

    Args:
        path: `crowd_av….safetensors` or `crowd_v….safetensors`; the name begins with the model's.

    Raises:
        TrainError: no such file, a damaged one, or one of another model.
    """
    audio = path.name.startswith(model_name(audio=True))
    options = read_options(path, model=model_name(audio))
    counter = build_crowd_counter("paper", audio, **options)
    load_weights(path, counter, model=model_name(audio))
    return counter.eval()

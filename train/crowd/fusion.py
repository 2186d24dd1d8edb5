"""Inter-branch fusion by attention, section 3.2.1: what the other branches see weighs the target branch.

B batch, C channels, H and W of the target branch, Z = 144 values of the sound embedding.
"""

import math

import torch
from torch import Tensor, nn

from train.crowd.layers import downsample, upsample
from train.crowd.options import AttentionReading, Scale


class InterBranchAttention(nn.Module):
    """Eq. 2-4: `softmax((C + Linear(A)) C^T) C_T`, with C the resampled sources' sum and C_T the target.

    Eq. 2 prints the transpose of the source before its resampling, whose size does not fit; here, as in Eq. 3 and 4,
    it is the resampled one. The softmax runs along rows, because AW multiplies the target from the left.
    """

    def __init__(
        self,
        *,
        height: int,
        width: int,
        reading: AttentionReading = "channel_matrix",
        scale: Scale = "sqrt",
        residual: bool = True,
        audio_size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.reading = reading
        self.size = (height, width)
        self.residual = residual
        row_length = height if reading == "channel_matrix" else height * width
        self.scale = 1.0 if scale == "paper" else 1.0 / math.sqrt(row_length)
        self.audio = nn.Sequential(nn.Linear(audio_size, row_length), nn.Dropout(dropout)) if audio_size else None

    def _rows(self, features: Tensor) -> Tensor:
        if self.reading == "channel_matrix":
            return features.transpose(2, 3)  # (B, C, H, W) -> (B, C, W, H)
        return features.flatten(2)  # (B, C, H, W) -> (B, C, H * W)

    def _maps(self, rows: Tensor) -> Tensor:
        if self.reading == "channel_matrix":
            return rows.transpose(2, 3)  # (B, C, W, H) -> (B, C, H, W)
        return rows.unflatten(2, self.size)  # (B, C, H * W) -> (B, C, H, W)

    def forward(self, source: Tensor, target: Tensor, audio: Tensor | None = None) -> Tensor:
        """Attend to the target.

        Args:
            source: (B, C, H, W), the other branches brought to the target's size and summed.
            target: (B, C, H, W).
            audio: (B, Z), where the module was built with `audio_size`.

        Returns:
            (B, C, H, W).
        """
        keys = self._rows(source)
        queries = keys
        if self.audio is not None and audio is not None:
            shift = self.audio(audio)  # (B, row length), added to every row
            queries = keys + (shift[:, None, None] if self.reading == "channel_matrix" else shift[:, None])
        logits = (queries @ keys.transpose(-2, -1)) * self.scale
        weights = torch.softmax(logits.float(), dim=-1).to(target.dtype)  # in fp32: unscaled logits pass fp16's range
        attended = self._maps(weights @ self._rows(target))
        return target + attended if self.residual else attended


class TwoBranchFusion(nn.Module):
    """S1 -> S2 and S2 -> S1 (Eq. 2), both from the features before this fusion.

    The paper's one does not hear the sound; those of a network cut down to two branches do, where they were built to.
    """

    def __init__(self, widths: tuple[int, ...], attentions: list[InterBranchAttention]) -> None:
        super().__init__()
        self.down = downsample(widths[0], widths[1], levels=1)
        self.up = upsample(widths[1], widths[0], levels=1)
        self.attentions = nn.ModuleList(attentions)

    def forward(self, first: Tensor, second: Tensor, audio: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both branches, same shapes in and out; audio (B, Z) or none."""
        return self.attentions[0](self.up(second), first, audio), self.attentions[1](self.down(first), second, audio)


class ThreeBranchFusion(nn.Module):
    """{S2, S3} -> S1, {S1, S3} -> S2, {S1, S2} -> S3 (Eq. 3, 4), with the sound; all from the features as they came."""

    def __init__(self, widths: tuple[int, int, int], attentions: list[InterBranchAttention]) -> None:
        super().__init__()
        first, second, third = widths
        self.second_to_first = upsample(second, first, levels=1)
        self.third_to_first = upsample(third, first, levels=2)
        self.first_to_second = downsample(first, second, levels=1)
        self.third_to_second = upsample(third, second, levels=1)
        self.first_to_third = downsample(first, third, levels=2)
        self.second_to_third = downsample(second, third, levels=1)
        self.attentions = nn.ModuleList(attentions)

    def forward(
        self, first: Tensor, second: Tensor, third: Tensor, audio: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All three branches, same shapes in and out; audio (B, Z) or none."""
        to_first = self.second_to_first(second) + self.third_to_first(third)
        to_second = self.first_to_second(first) + self.third_to_second(third)
        to_third = self.first_to_third(first) + self.second_to_third(second)
        return (
            self.attentions[0](to_first, first, audio),
            self.attentions[1](to_second, second, audio),
            self.attentions[2](to_third, third, audio),
        )

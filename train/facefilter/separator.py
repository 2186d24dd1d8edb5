"""The separation network of FaceFilter section 4, Table 1: a mixture's magnitude and a face's identity in, a mask out.

    magnitude ─> speech encoder ─┬───────────────────> A (F, T) ─┐
                                 └> attention (1, T) ─┐          ├─> mask estimator ─> mask x magnitude
    identity ──> image encoder ──────────> v (F) ──── x ─> V ────┘

Legend: B batch, T frames, C channels (paper 1536), F features (paper 512). Convolutions run over time; frequencies are
channels.
Nothing but convolutions sees a neighbouring frame, so any T works and a long recording can be cut with a halo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.checkpoint import load_network
from train.settings import FREQUENCY_BINS, IDENTITY_SIZE

SEPARATOR = "facefilter_separator"
AUDIO_ONLY = "facefilter_audio_only"

PRESETS: dict[str, dict[str, Any]] = {
    # Table 1; 225,785,090 parameters
    "paper": {"channels": 1536, "features": 512},
    # trains on one CPU core in an hour; residual mask blocks because ten plain ones learn slowly
    "compact": {"channels": 160, "features": 128, "mask_blocks": 10, "mask_residual": True, "input_compression": 0.3},
}


class ConvBlock(nn.Module):
    """Convolution over time, batch norm, ReLU; length kept.

    Figure 3, which says what is in a block, is not in the published text; this order is the plainest reading.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: frames, odd.
        separable: depth-wise then point-wise convolution.
        pre_activation: batch norm and ReLU before the convolution ("The Conversation", arXiv 1804.04121).
        residual: add the input (needs as many channels in as out).
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, separable: bool, pre_activation: bool, residual: bool = False
    ) -> None:
        super().__init__()
        self.residual = residual
        padding = kernel // 2
        if separable:
            convolution: nn.Module = nn.Sequential(
                nn.Conv1d(inputs, inputs, kernel, padding=padding, groups=inputs, bias=False),
                nn.Conv1d(inputs, outputs, 1, bias=False),
            )
        else:
            convolution = nn.Conv1d(inputs, outputs, kernel, padding=padding, bias=False)
        norm = nn.BatchNorm1d(inputs if pre_activation else outputs)
        parts = [norm, nn.ReLU(), convolution] if pre_activation else [convolution, norm, nn.ReLU()]
        self.layers = nn.Sequential(*parts)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, T) to (B, outputs, T)."""
        mapped: Tensor = self.layers(features)
        return features + mapped if self.residual else mapped


def fc_block(inputs: int, outputs: int) -> nn.Sequential:
    """Position-wise linear layer, batch norm, ReLU on (B, inputs, T)."""
    return nn.Sequential(nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs), nn.ReLU())


def speech_encoder(channels: int, features: int, blocks: int, style: dict[str, Any]) -> nn.Sequential:
    """Magnitude (B, 257, T) to features (B, F, T): ConvBlock, ResBlocks, FCBlock (Table 1)."""
    return nn.Sequential(
        ConvBlock(FREQUENCY_BINS, channels, **style),
        *(ConvBlock(channels, channels, residual=True, **style) for _ in range(blocks)),
        fc_block(channels, features),
    )


def mask_estimator(
    inputs: int, channels: int, blocks: int, style: dict[str, Any], *, residual: bool, voices: int = 1
) -> nn.Sequential:
    """Features (B, inputs, T) to mask logits (B, 257 voices, T): ConvBlocks and a linear layer (Table 1)."""
    return nn.Sequential(
        ConvBlock(inputs, channels, **style),
        *(ConvBlock(channels, channels, residual=residual, **style) for _ in range(blocks - 1)),
        nn.Conv1d(channels, FREQUENCY_BINS * voices, 1),
    )


class Separator(nn.Module):
    """FaceFilter's separation network.

    Args:
        channels: of the convolutions (Table 1: 1536).
        features: of the encoders' outputs (Table 1: 512).
        kernel: frames of each convolution; 5 after "The Conversation", on which the paper builds (section 4).
        encoder_blocks: ResBlocks of the speech encoder (Table 1: 4).
        mask_blocks: ConvBlocks of the mask estimator (Table 1: 15).
        separable: depth-wise separable convolutions; the paper does not say, off is the plain reading.
        mask_residual: shortcuts around all mask blocks but the first; off is the letter of Table 1.
        pre_activation: batch norm and ReLU before each convolution; off.
        input_compression: exponent of the magnitude as the encoder sees it; 1 is the paper's, 0.3 trains faster.
        attention: weight the face per frame (section 4, second strategy); off repeats it with weight one (the first).
    """

    def __init__(
        self,
        *,
        channels: int,
        features: int,
        kernel: int = 5,
        encoder_blocks: int = 4,
        mask_blocks: int = 15,
        separable: bool = False,
        mask_residual: bool = False,
        pre_activation: bool = False,
        input_compression: float = 1.0,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.input_compression = input_compression
        style: dict[str, Any] = {"kernel": kernel, "separable": separable, "pre_activation": pre_activation}
        self.image_encoder = nn.Sequential(fc_block(IDENTITY_SIZE, channels), fc_block(channels, features))
        self.speech_encoder = speech_encoder(channels, features, encoder_blocks, style)
        self.attention = nn.Conv1d(features, 1, 1) if attention else None
        self.mask_estimator = mask_estimator(2 * features, channels, mask_blocks, style, residual=mask_residual)

    def encode(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """What is heard, (B, F, T), and how much the face counts at each frame, (B, 1, T) in [0, 1]."""
        seen = magnitude if self.input_compression == 1.0 else magnitude.pow(self.input_compression)
        speech = self.speech_encoder(seen)
        weights = torch.ones_like(speech[:, :1]) if self.attention is None else torch.sigmoid(self.attention(speech))
        return speech, weights

    def estimate(self, speech: Tensor, weights: Tensor, identity: Tensor) -> Tensor:
        """Mask (B, 257, T) for one identity (B, 1024) each, from what `encode` gave."""
        face = self.image_encoder(identity.unsqueeze(2))  # (B, F, 1)
        fused = torch.cat([speech, face * weights], dim=1)  # (B, 2 F, T)
        return torch.sigmoid(self.mask_estimator(fused))

    def masks(self, magnitude: Tensor, identities: Tensor) -> Tensor:
        """Masks (B, K, 257, T) for K identities (B, K, 1024) in each mixture, which is encoded once."""
        speech, weights = self.encode(magnitude)
        people = identities.shape[1]
        each = (speech.repeat_interleave(people, dim=0), weights.repeat_interleave(people, dim=0))
        return self.estimate(*each, identities.flatten(0, 1)).unflatten(0, (-1, people))

    def forward(self, magnitude: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what the owner of the face said.

        Args:
            magnitude: (B, 257, T) of a mixture whose waveform was brought to RMS 0.1 (`train.settings.MIXTURE_RMS`).
            identity: (B, 1024) of the face.

        Returns:
            separated magnitude (B, 257, T), nowhere above the mixture's; attention (B, T) in [0, 1], the face's weight.
        """
        speech, weights = self.encode(magnitude)
        return self.estimate(speech, weights, identity) * magnitude, weights.squeeze(1)


class AudioOnlySeparator(nn.Module):
    """The paper's baseline without a face: both voices at once, in an order that nothing fixes (Table 2, first row).

    The same encoder and mask estimator, the latter half as wide at its door and twice at its end. Arguments as of
    `Separator`.
    """

    def __init__(
        self,
        *,
        channels: int,
        features: int,
        kernel: int = 5,
        encoder_blocks: int = 4,
        mask_blocks: int = 15,
        separable: bool = False,
        mask_residual: bool = False,
        pre_activation: bool = False,
        input_compression: float = 1.0,
    ) -> None:
        super().__init__()
        self.input_compression = input_compression
        style: dict[str, Any] = {"kernel": kernel, "separable": separable, "pre_activation": pre_activation}
        self.speech_encoder = speech_encoder(channels, features, encoder_blocks, style)
        self.mask_estimator = mask_estimator(features, channels, mask_blocks, style, residual=mask_residual, voices=2)

    def masks(self, magnitude: Tensor) -> Tensor:
        """Masks (B, 2, 257, T) of a mixture's magnitude (B, 257, T)."""
        seen = magnitude if self.input_compression == 1.0 else magnitude.pow(self.input_compression)
        logits = self.mask_estimator(self.speech_encoder(seen))
        return torch.sigmoid(logits).unflatten(1, (2, FREQUENCY_BINS))

    def forward(self, magnitude: Tensor) -> Tensor:
        """Separate a magnitude (B, 257, T) into two, (B, 2, 257, T), neither of them anywhere above it."""
        return self.masks(magnitude) * magnitude.unsqueeze(1)


def build_separator(preset: str = "paper", **options: Any) -> Separator:
    """Make a separator of a preset, single options replaced."""
    return Separator(**{**PRESETS[preset], **options})


def load_separator(path: Path) -> Separator:
    """Read a trained separator, in evaluation mode.

    Raises:
        TrainError: the file is missing, damaged or of another model.
    """
    return load_network(Separator, path, model=SEPARATOR)


def build_audio_only(preset: str = "paper", **options: Any) -> AudioOnlySeparator:
    """Make a separator without a face of a preset, single options replaced."""
    return AudioOnlySeparator(**{**PRESETS[preset], **options})


def load_audio_only(path: Path) -> AudioOnlySeparator:
    """Read a trained separator without a face, in evaluation mode.

    Raises:
        TrainError: the file is missing, damaged or of another model.
    """
    return load_network(AudioOnlySeparator, path, model=AUDIO_ONLY)

"""The cross-modal biometric networks of FaceFilter section 3: a face and a voice in one space ("Perfect Match", VGG-M).

Both answer with 1,024 values of unit length, so that the cosine of a face and a voice is their inner product.
Legend: B batch, T frames of 10 ms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.checkpoint import load_network
from train.settings import IDENTITY_SIZE

FACE_IDENTITY = "facefilter_identity"
SPEECH_IDENTITY = "facefilter_voice_identity"

# channels of conv1..conv6 and of the hidden layer of the head; the face's average pooling before conv1
FACE_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"channels": [96, 256, 256, 256, 256, 512], "pool": 1},
    "compact": {"channels": [32, 96, 96, 96, 96, 256], "pool": 2},
}
SPEECH_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"channels": [96, 256, 384, 256, 256, 512]},
    "compact": {"channels": [32, 64, 96, 96, 96, 256]},
}


def _conv(inputs: int, outputs: int, kernel: Any, stride: Any = 1, padding: Any = 0) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs), nn.ReLU())


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, channels), nn.BatchNorm1d(channels), nn.ReLU(), nn.Linear(channels, IDENTITY_SIZE)
    )


class FaceIdentity(nn.Module):
    """VGG-M for faces, two-dimensional (joonson/syncnet_trainer's visual stream with k7 in place of (5, 7, 7)).

    Sizes of preset `paper`: 224 -> 109 -> 54 -> 26 -> 13 -> 13 -> 13 -> 13 -> 6 -> 1, 7.91 M parameters.

    Args:
        channels: of the six convolutions; the head's hidden layer is as wide as the last.
        pool: average-pool the picture by this factor first (1: off, as published; 2: `compact`).
    """

    def __init__(self, *, channels: list[int], pool: int = 1) -> None:
        super().__init__()
        self.pool = pool
        first, second, third, fourth, fifth, last = channels
        rest = 6 if pool == 1 else 2  # what 224 or 112 pixels come down to
        self.layers = nn.Sequential(
            _conv(3, first, 7, 2),
            nn.MaxPool2d(3, 2),
            _conv(first, second, 5, 2, 1),
            nn.MaxPool2d(3, 2, 1),
            _conv(second, third, 3, 1, 1),
            _conv(third, fourth, 3, 1, 1),
            _conv(fourth, fifth, 3, 1, 1),
            nn.MaxPool2d(3, 2),
            _conv(fifth, last, rest),
        )
        self.head = _head(last)

    def forward(self, face: Tensor) -> Tensor:
        """Identify faces.

        Args:
            face: (B, 224, 224, 3) uint8 RGB, cut by the crop rule of `train.synthetic.faces.crop_face`.

        Returns:
            (B, 1024), unit length.
        """
        # float first: TensorRT takes UINT8 at its door only
        pixels = face.float().permute(0, 3, 1, 2) / 127.5 - 1.0  # (B, 3, 224, 224) in [-1, 1]
        if self.pool > 1:
            pixels = functional.avg_pool2d(pixels, self.pool)
        return functional.normalize(self.head(self.layers(pixels).flatten(1)), dim=1)


class SpeechIdentity(nn.Module):
    """VGGVox for 40 mel bands, averaged over time (clovaai/voxceleb_trainer's strides); 4.30 M in preset `paper`.

    40 x 200 -> 40 x 99 -> 40 x 49 -> 19 x 24 -> 10 x 12 -> (three of 10 x 12) -> 4 x 5 -> 1 x 5 -> mean over time.

    Args:
        channels: of the six convolutions; the head's hidden layer is as wide as the last.
    """

    def __init__(self, *, channels: list[int]) -> None:
        super().__init__()
        first, second, third, fourth, fifth, last = channels
        self.layers = nn.Sequential(
            _conv(1, first, (5, 7), (1, 2), 2),
            nn.MaxPool2d((1, 3), (1, 2)),
            _conv(first, second, 5, 2, 1),
            nn.MaxPool2d(3, 2, 1),
            _conv(second, third, 3, 1, 1),
            _conv(third, fourth, 3, 1, 1),
            _conv(fourth, fifth, 3, 1, 1),
            nn.MaxPool2d(3, 2),
            _conv(fifth, last, (4, 1)),
        )
        self.head = _head(last)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Identify voices.

        Args:
            log_mel: (B, 40, T) of `train.dsp.IdentityLogMel`, T at least 60.

        Returns:
            (B, 1024), unit length.
        """
        features = self.layers(log_mel.unsqueeze(1)).mean(dim=(2, 3))  # (B, C, 1, T') -> (B, C)
        return functional.normalize(self.head(features), dim=1)


class MatchingLoss(nn.Module):
    """Which of the batch's N voices belongs to this face? Cross-entropy over the batch, the diagonal being right.

    Args:
        similarity: `cosine`: w * cos + b with learnable w = 10 > 0, b = -5 (joonson/syncnet_trainer, default);
            `inverse_euclidean`: one over the distance ("Perfect Match").
    """

    def __init__(self, similarity: Literal["cosine", "inverse_euclidean"] = "cosine") -> None:
        super().__init__()
        self.similarity = similarity
        if similarity == "cosine":
            self.weight = nn.Parameter(torch.tensor(10.0))
            self.bias = nn.Parameter(torch.tensor(-5.0))

    def logits(self, faces: Tensor, voices: Tensor) -> Tensor:
        """Similarity of every face to every voice, (N, N), from two (N, 1024) of unit length."""
        cosine = faces @ voices.T
        if self.similarity == "cosine":
            return self.weight.clamp(min=1e-6) * cosine + self.bias
        squared_distance = (2 - 2 * cosine).clamp(min=1e-6)
        return squared_distance.rsqrt()

    def forward(self, faces: Tensor, voices: Tensor) -> Tensor:
        """Loss of a batch; log N when nothing is known."""
        logits = self.logits(faces, voices)
        return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def build_face_identity(preset: str = "paper", **options: Any) -> FaceIdentity:
    """Make a face network of a preset, single options replaced."""
    return FaceIdentity(**{**FACE_PRESETS[preset], **options})


def build_speech_identity(preset: str = "paper", **options: Any) -> SpeechIdentity:
    """Make a speech network of a preset, single options replaced."""
    return SpeechIdentity(**{**SPEECH_PRESETS[preset], **options})


def load_face_identity(path: Path) -> FaceIdentity:
    """Read a trained face network, in evaluation mode.

    Raises:
        TrainError: the file is missing, damaged or of another model.
    """
    return load_network(FaceIdentity, path, model=FACE_IDENTITY)


def load_speech_identity(path: Path) -> SpeechIdentity:
    """Read a trained speech network, in evaluation mode.

    Raises:
        TrainError: the file is missing, damaged or of another model.
    """
    return load_network(SpeechIdentity, path, model=SPEECH_IDENTITY)

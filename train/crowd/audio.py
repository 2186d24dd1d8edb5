"""Audio feature extraction (AFE), section 3.1: the log-mel of one second in, the sound embedding A out."""

import math

from torch import Tensor, nn

from train.crowd.layers import BasicUnit, conv_unit
from train.settings import PATCH_EMBEDDING

SILENCE = math.log(0.01)  # VGGish's log-mel of silence, log(0 + 0.01)


class SoundFeatures(nn.Module):
    """A small ResNet, global average pooling and a linear layer: A = AFE(A_LMS), Eq. 1.

    The paper's network was pretrained on AudioSet; none with 144 outputs is published, so this one learns with the
    rest.
    """

    def __init__(self, *, widths: tuple[int, int, int, int], units: int, dropout: float) -> None:
        super().__init__()
        stages: list[nn.Module] = [conv_unit(1, widths[0], stride=2)]
        for index, width in enumerate(widths):
            before = widths[max(0, index - 1)]
            stages.append(BasicUnit(before, width, stride=1 if index == 0 else 2))
            stages.extend(BasicUnit(width, width, stride=1) for _ in range(units - 1))
        self.trunk = nn.Sequential(*stages)
        self.embed = nn.Sequential(nn.Linear(widths[-1], PATCH_EMBEDDING), nn.Dropout(dropout))

    def forward(self, log_mel: Tensor) -> Tensor:
        """(B, 1, 96, 64), frames by bands as VGGish gives them (the paper prints the transpose), to A (B, Z)."""
        features = self.trunk(log_mel - SILENCE)  # so that the convolutions' zero padding means silence
        out: Tensor = self.embed(features.mean(dim=(2, 3)))
        return out

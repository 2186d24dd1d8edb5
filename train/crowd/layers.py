"""Building blocks that the branches and the audio network share: convolution units, residual structures, resampling.

B batch, C channels, H and W height and width of a feature map.
"""

from torch import Tensor, nn


def conv_unit(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution, batch normalisation and (usually) ReLU; the size is kept but for the stride."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """ResNet's three-layer unit 1x1, 3x3, 1x1 around a shortcut, at constant width (He et al. 2016, figure 5)."""

    def __init__(self, channels: int, *, ratio: int) -> None:
        super().__init__()
        inner = channels // ratio
        last = conv_unit(inner, channels, kernel=1, relu=False)
        self.body = nn.Sequential(conv_unit(channels, inner, kernel=1), conv_unit(inner, inner), last)
        norm = last[-1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)  # an untrained unit passes its input on (Goyal et al. 2017, section 5.1)
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) in and out, never negative."""
        out: Tensor = self.relu(features + self.body(features))
        return out


def residual_structure(channels: int, *, ratio: int, units: int) -> nn.Sequential:
    """The paper's RS block: residual units in a row, section 3.2."""
    return nn.Sequential(*(Bottleneck(channels, ratio=ratio) for _ in range(units)))


class BasicUnit(nn.Module):
    """ResNet's two-layer unit, with a projected shortcut where size or width change."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_unit(inputs, outputs, stride=stride), conv_unit(outputs, outputs, relu=False))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_unit(inputs, outputs, kernel=1, stride=stride, relu=False)
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride), never negative."""
        out: Tensor = self.relu(self.shortcut(features) + self.body(features))
        return out


def downsample(inputs: int, outputs: int, *, levels: int) -> nn.Sequential:
    """One 3x3 stride-2 convolution per level; the width changes at the last one, as in HRNet's fusion layers."""
    kept = [conv_unit(inputs, inputs, stride=2) for _ in range(levels - 1)]
    return nn.Sequential(*kept, conv_unit(inputs, outputs, stride=2))


def upsample(inputs: int, outputs: int, *, levels: int) -> nn.Sequential:
    """1x1 convolution to the target's width, then bilinear.

    Section 3.2.1 names the interpolation only, which cannot change the number of channels; the 1x1 is HRNet's.
    """
    bilinear = nn.Upsample(scale_factor=float(2**levels), mode="bilinear", align_corners=False)
    return nn.Sequential(conv_unit(inputs, outputs, kernel=1), bilinear)

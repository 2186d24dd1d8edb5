"""What the baselines of Table 1 share: options, the way from a map of values to a density, and their layers.

B batch, C channels, h and w height and width of a feature map.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from train.crowd.geometry import Geometry
from train.crowd.interface import Counter
from train.crowd.options import PictureOptions
from train.crowd.visual import PictureInput

Output = Literal["softplus", "relu", "linear"]

_FIRST_BIAS: dict[Output, float] = {"softplus": math.log(math.e - 1), "relu": 1.0, "linear": 1.0}  # each answers 1


@dataclass(frozen=True)
class BaselineOptions(PictureOptions):
    """Every choice in a baseline."""

    width_share: float = 1.0
    """Channels of every layer, as a share of the published ones."""
    batch_norm: bool = False
    """Batch normalisation behind every convolution but the last. The published CANNet and AudioCSRNet have it in their
    dilated layers only, and here always; the other two have none and lean on ImageNet (MCNN on columns trained one by
    one)."""
    output: Output = "linear"
    """Of the last convolution: `linear` as published, whose density may be negative; `relu`, which can go silent for
    good; `softplus`, which is positive and never without a gradient. Its bias starts where the answer is 1 (published:
    0), so that `density_scale` has one meaning for all three."""

    def __post_init__(self) -> None:
        """Refuse pictures that do not lead to the density's cells."""
        wanted = (1,) if self.resolution == "low" else (1, 2)
        if self.picture_reduction not in wanted:
            raise ValueError(
                f"picture_reduction {self.picture_reduction} at resolution {self.resolution!r}; it can be "
                f"{' or '.join(map(str, wanted))} there"
            )


class Baseline(Counter):
    """A counter without patch importance and patch estimates."""

    options: BaselineOptions

    def __init__(self, model: str, options: BaselineOptions, *, audio: bool = False) -> None:
        super().__init__(model, options, audio=audio)
        self.picture_input = PictureInput(options.picture_reduction, options.reduction)

    @abstractmethod
    def features(self, pixels: Tensor, log_mel: Tensor | None) -> Tensor:
        """Normalised picture (B, C, H, W), and sound (B, 1, 96, 64) where it listens, to what the last layer sees."""

    def finish(self, width: int) -> None:
        """Add the last layer, over so many channels, and initialise all convolutions: a constructor's last step."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.last = nn.Conv2d(width, 1, 1)
        nn.init.normal_(self.last.weight, std=0.01)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, _FIRST_BIAS[self.options.output])

    @property
    def untrained_mean(self) -> float:
        """1, by the last layer's first bias."""
        return 1.0

    def forward(self, picture: Tensor, log_mel: Tensor | None = None) -> tuple[Tensor, None, None]:
        """Count, as `Counter.forward` says; only the output `linear` can give negative densities."""
        self.require_sound(log_mel)
        values = self.last(self.features(self.picture_input(picture), log_mel)).float()
        if self.options.output != "linear":
            values = functional.relu(values) if self.options.output == "relu" else functional.softplus(values)
        return cells_of(values, self.geometry)[:, 0] * self.options.density_scale, None, None


def cells_of(values: Tensor, geometry: Geometry) -> Tensor:
    """Bring a map to the density cells of `geometry` by area: smaller values are averaged, larger ones repeated.

    Args:
        values: (B, C, h, w), a whole number of times finer or coarser than the cells.
        geometry: whose cells.

    Returns:
        (B, C, rows, columns), of the same mean.
    """
    rows, height = geometry.density_height, values.shape[2]
    if height >= rows:
        return functional.avg_pool2d(values, height // rows)
    return functional.interpolate(values, scale_factor=float(rows // height), mode="nearest")


def widths_of(plan: Sequence[int], share: float) -> list[int]:
    """Published widths, narrowed to one channel at least; 0 stays 0."""
    return [max(1, round(width * share)) if width else 0 for width in plan]


def unit(inputs: int, outputs: int, kernel: int = 3, *, dilation: int = 1, norm: bool = False) -> nn.Sequential:
    """Convolution that keeps the size and has a bias (as published, even before a normalisation), and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation)
    return nn.Sequential(convolution, *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU())


def row(inputs: int, widths: Sequence[int], *, dilation: int = 1, norm: bool = False) -> nn.Sequential:
    """3x3 units one after the other; a width of 0 is a max pooling that halves the map."""
    layers: list[nn.Module] = []
    for width in widths:
        if width == 0:
            layers.append(nn.MaxPool2d(2))
        else:
            layers.append(unit(inputs, width, dilation=dilation, norm=norm))
            inputs = width
    return nn.Sequential(*layers)

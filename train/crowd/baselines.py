"""The counting networks that Table 1 compares with: MCNN, CSRNet, CANNet and AudioCSRNet.

- MCNN: Zhang, Zhou, Chen, Gao, Ma, "Single-Image Crowd Counting via Multi-Column Convolutional Neural Network", CVPR
  2016.
- CSRNet: Li, Zhang, Chen, "CSRNet: Dilated Convolutional Neural Networks for Understanding the Highly Congested
  Scenes", CVPR 2018.
- CANNet: Liu, Salzmann, Fua, "Context-Aware Crowd Counting", CVPR 2019.
- AudioCSRNet: Hu et al., "Ambient Sound Helps: Audiovisual Crowd Counting in Extreme Conditions", 2020.

All but MCNN begin with the first ten convolutions of VGG-16, which their authors took from ImageNet, and AudioCSRNet's
sound network comes from AudioSet. Here they start from nothing unless a training names weights to start from; hence
He's initialisation in place of the published normal one of deviation 0.01, which fades over sixteen layers.

B batch, C channels, h and w height and width of a feature map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.crowd.audio import SILENCE
from train.crowd.baseline_parts import Baseline, BaselineOptions, row, unit, widths_of
from train.crowd.options import changed, preset_of

_VGG_FRONT = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512)  # 0: max pooling
_DILATED_BACK = (512, 512, 512, 256, 128, 64)
_VGGISH = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0)
_COLUMNS = (  # of MCNN: (width, kernel) of the four convolutions; a pooling follows each of the first two
    ((16, 9), (32, 7), (16, 7), (8, 7)),
    ((20, 7), (40, 5), (20, 5), (10, 5)),
    ((24, 5), (48, 3), (24, 3), (12, 3)),
)
_CONTEXT_SIDES = (1, 2, 3, 6)  # of CANNet: blocks per side that the picture is averaged to

_COMPACT = BaselineOptions(
    picture_reduction=2, reduction="unshuffle", width_share=0.125, batch_norm=True, output="softplus"
)
# Narrowed until a step of training costs about as much as one of CC-V compact, on one CPU core in bfloat16; MCNN's 9x9
# kernels over the 12 channels of an unshuffled picture would double its cost.
_PRESETS = {
    "paper": {"mcnn": BaselineOptions(), "others": BaselineOptions()},
    "compact": {"mcnn": replace(_COMPACT, reduction="average", width_share=0.375), "others": _COMPACT},
}


class Mcnn(Baseline):
    """Three columns with large, middle and small kernels, for near and far heads; a quarter of the picture's size.

    Zhang et al. feed grey pictures; this one sees colours, as the networks that Table 1 quotes do.
    """

    def __init__(self, options: BaselineOptions) -> None:
        super().__init__("mcnn", options)
        self.columns = nn.ModuleList(self._column(plan) for plan in _COLUMNS)
        self.finish(sum(widths_of([plan[-1][0] for plan in _COLUMNS], options.width_share)))

    def _column(self, plan: Sequence[tuple[int, int]]) -> nn.Sequential:
        norm = self.options.batch_norm
        widths = [self.picture_input.channels, *widths_of([width for width, _ in plan], self.options.width_share)]
        units = [
            unit(inputs, outputs, kernel, norm=norm)
            for inputs, outputs, (_, kernel) in zip(widths[:-1], widths[1:], plan, strict=True)
        ]
        return nn.Sequential(units[0], nn.MaxPool2d(2), units[1], nn.MaxPool2d(2), *units[2:])

    def features(self, pixels: Tensor, log_mel: Tensor | None) -> Tensor:
        """(B, C, H, W) to (B, 30, H/4, W/4), at the published widths."""
        return torch.cat([column(pixels) for column in self.columns], dim=1)


class CsrNet(Baseline):
    """VGG-16's first ten convolutions and six dilated ones; an eighth of the picture's size."""

    def __init__(self, options: BaselineOptions) -> None:
        super().__init__("csrnet", options)
        front, back = (widths_of(plan, options.width_share) for plan in (_VGG_FRONT, _DILATED_BACK))
        self.front = row(self.picture_input.channels, front, norm=options.batch_norm)
        self.back = row(front[-1], back, dilation=2, norm=options.batch_norm)
        self.finish(back[-1])

    def features(self, pixels: Tensor, log_mel: Tensor | None) -> Tensor:
        """(B, C, H, W) to (B, 64, H/8, W/8), at the published widths."""
        out: Tensor = self.back(self.front(pixels))
        return out


class Context(nn.Module):
    """CANNet's context: averages over ever smaller blocks, each weighed by how far the place differs from it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in _CONTEXT_SIDES)
        self.weigh = nn.Conv2d(width, width, 1)
        self.join = nn.Conv2d(2 * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) in and out, never negative."""
        blocks = [
            functional.interpolate(
                scale(functional.adaptive_avg_pool2d(features, side)),
                size=features.shape[2:],
                mode="bilinear",
                align_corners=False,
            )
            for scale, side in zip(self.scales, _CONTEXT_SIDES, strict=True)
        ]
        weights = [torch.sigmoid(self.weigh(features - block)) for block in blocks]
        weighted = torch.stack([weight * block for weight, block in zip(weights, blocks, strict=True)]).sum(dim=0)
        return torch.relu(self.join(torch.cat((weighted / torch.stack(weights).sum(dim=0), features), dim=1)))


class CanNet(Baseline):
    """CSRNet with the context of each place, at several scales, before the dilated convolutions."""

    def __init__(self, options: BaselineOptions) -> None:
        super().__init__("cannet", options)
        front, back = (widths_of(plan, options.width_share) for plan in (_VGG_FRONT, _DILATED_BACK))
        self.front = row(self.picture_input.channels, front, norm=options.batch_norm)
        self.context = Context(front[-1])
        self.back = row(front[-1], back, dilation=2, norm=True)
        self.finish(back[-1])

    def features(self, pixels: Tensor, log_mel: Tensor | None) -> Tensor:
        """(B, C, H, W) to (B, 64, H/8, W/8), at the published widths."""
        out: Tensor = self.back(self.context(self.front(pixels)))
        return out


class HeardUnit(nn.Module):
    """A dilated convolution whose batch normalisation takes its gain and shift from the sound (FiLM)."""

    def __init__(self, inputs: int, outputs: int, *, sound: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=2, dilation=2)
        self.norm = nn.BatchNorm2d(outputs, affine=False)
        self.film = nn.Linear(sound, 2 * outputs)
        # An untrained layer neither amplifies nor shifts; published: torch's own random start.
        nn.init.normal_(self.film.weight, std=0.01)
        with torch.no_grad():
            self.film.bias.copy_(torch.cat((torch.ones(outputs), torch.zeros(outputs))))

    def forward(self, features: Tensor, sound: Tensor) -> Tensor:
        """(B, C, h, w) and the sound's (B, S) to (B, C', h, w), never negative."""
        gain, shift = self.film(sound)[:, :, None, None].chunk(2, dim=1)
        return torch.relu(self.norm(self.convolution(features)) * gain + shift)


class AudioCsrNet(Baseline):
    """CSRNet whose dilated convolutions listen: VGGish's convolutions, averaged to 512 values, steer each of them.

    The sound is counted from silence, so that the convolutions' zero padding means silence; VGGish itself is not.
    """

    def __init__(self, options: BaselineOptions) -> None:
        super().__init__("audiocsrnet", options, audio=True)
        front, back, sound = (widths_of(plan, options.width_share) for plan in (_VGG_FRONT, _DILATED_BACK, _VGGISH))
        embedding = max(sound)
        self.front = row(self.picture_input.channels, front, norm=options.batch_norm)
        self.sound = row(1, sound, norm=options.batch_norm)
        inputs = [front[-1], *back[:-1]]
        self.back = nn.ModuleList(
            HeardUnit(before, after, sound=embedding) for before, after in zip(inputs, back, strict=True)
        )
        self.finish(back[-1])

    def features(self, pixels: Tensor, log_mel: Tensor | None) -> Tensor:
        """(B, C, H, W) and (B, 1, 96, 64) to (B, 64, H/8, W/8), at the published widths."""
        assert log_mel is not None
        sound = self.sound(log_mel - SILENCE).mean(dim=(2, 3))  # (B, 512, 6, 4) -> (B, 512)
        features = self.front(pixels)
        for heard in self.back:
            features = heard(features, sound)
        return features


_NETWORKS: dict[str, Callable[[BaselineOptions], Baseline]] = {
    "mcnn": Mcnn,
    "csrnet": CsrNet,
    "cannet": CanNet,
    "audiocsrnet": AudioCsrNet,
}


def baseline_options_of(model: str, preset: str, **changes: Any) -> BaselineOptions:
    """A preset of a baseline with some of its options changed; at `resolution="low"` the picture is not reduced.

    Args:
        model: mcnn, csrnet, cannet or audiocsrnet.
        preset: `paper`, the published widths, or `compact`, which trains from nothing on one CPU core.
        changes: fields of `BaselineOptions`.

    Raises:
        TrainError: no such preset, no such option or value, or options that contradict each other.
    """
    presets = {name: of.get(model, of["others"]) for name, of in _PRESETS.items()}
    if changes.get("resolution") == "low":
        changes = {"picture_reduction": 1} | changes
    return changed(preset_of(presets, preset), changes)


def build_baseline(model: str, preset: str, **options: Any) -> Baseline:
    """Build an untrained baseline; arguments and errors as `baseline_options_of`."""
    return _NETWORKS[model](baseline_options_of(model, preset, **options))

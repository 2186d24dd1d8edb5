"""What the separator is trained for: FaceFilter Eq. 1 to 3."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from train.dsp import IdentityLogMel
from train.facefilter.identity import SpeechIdentity
from train.settings import MIXTURE_RMS


def separation_loss(target: Tensor, separated: Tensor, *, epsilon: float) -> Tensor:
    """L_SS, Eq. 2: mean squared difference of the logarithms of two magnitudes (B, 257, T).

    The paper names no epsilon, yet it decides what silence weighs: with 1e-5 nearly all of the loss comes from bins in
    which nothing is heard. In short runs of preset `compact` 1e-5 gave 1.1 dB, 0.1 1.6 dB, 1 2.2 dB and 5 2.7 dB
    (`perf/results/facefilter_synthetic.json`).

    Args:
        target: magnitude of the reference.
        separated: mask times the mixture's magnitude.
        epsilon: added to both before the logarithm, for a mixture of unit RMS (speech there has magnitudes around 12).

    Returns:
        a scalar, zero exactly where the magnitudes are equal.
    """
    floor = epsilon * MIXTURE_RMS
    return (torch.log(target + floor) - torch.log(separated + floor)).square().mean()


class SpeakerRepresentationLoss(nn.Module):
    """L_SRL, Eq. 3: one minus the cosine of target and separated speech under the frozen speech identity network.

    Args:
        network: trained on matching faces and voices; kept in evaluation mode, never trained here.
    """

    def __init__(self, network: SpeechIdentity) -> None:
        super().__init__()
        self.log_mel = IdentityLogMel()
        self.network = network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> SpeakerRepresentationLoss:
        """Stay in evaluation mode: the batch statistics of separated speech must not enter."""
        return super().train(False)

    def forward(self, target: Tensor, separated: Tensor) -> Tensor:
        """Compare two magnitudes (B, 257, T); a scalar in [0, 2], zero for equal ones."""
        with torch.no_grad():
            wanted = self.network(self.log_mel(target))
        cosine: Tensor = (wanted * self.network(self.log_mel(separated))).sum(dim=1)
        return (1 - cosine).mean()

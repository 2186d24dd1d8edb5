"""A speaker encoder that nothing here was trained with: statistics of the cepstrum, as text-independent systems used.

FaceFilter's own speech identity network cannot judge a separator that was trained to please it (L_SRL). This one has no
weights at all: for each voice the mean and the standard deviation over time of 19 mel cepstral coefficients, which
tell a vocal tract and a pitch's neighbourhood and not the level.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from train.dsp import Stft, mel_filters
from train.settings import SAMPLE_RATE_HZ

BANDS, COEFFICIENTS = 40, 19
_HEARD_DB = 30.0  # frames further below the loudest one are pauses, in which only what is left of the other is heard
_FLOOR_DB = 60.0  # below the loudest band


def cosines() -> Tensor:
    """DCT-II of the bands without its constant row, orthonormal, (19, 40): the level falls out."""
    orders = torch.arange(1, COEFFICIENTS + 1, dtype=torch.float64).unsqueeze(1)
    places = (torch.arange(BANDS, dtype=torch.float64) + 0.5) / BANDS
    return math.sqrt(2 / BANDS) * torch.cos(math.pi * orders * places)


class Voiceprint(nn.Module):
    """Waveforms (B, N) to (B, 38), of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = Stft()
        self.register_buffer("filters", mel_filters(BANDS, 0.0, SAMPLE_RATE_HZ / 2, linear_in="hertz").float())
        self.register_buffer("cosines", cosines().float())
        self.filters: Tensor
        self.cosines: Tensor

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Describe voices; silence is described by zeros."""
        mel = torch.matmul(self.filters, self.stft(waveform)[0].square())  # (B, 40, T)
        loudest = mel.amax(dim=(1, 2), keepdim=True)
        cepstrum = torch.matmul(self.cosines, torch.log(mel.clamp(min=1e-20) + loudest * 10 ** (-_FLOOR_DB / 10)))
        power = mel.sum(dim=1, keepdim=True)
        heard = (power > power.amax(dim=2, keepdim=True) * 10 ** (-_HEARD_DB / 10)).float()  # (B, 1, T)
        frames = heard.sum(dim=2).clamp(min=1)
        mean = (cepstrum * heard).sum(dim=2) / frames
        spread = (((cepstrum - mean.unsqueeze(2)).square() * heard).sum(dim=2) / frames).sqrt()
        return nn.functional.normalize(torch.cat([mean, spread], dim=1), dim=1) * (loudest.squeeze(2) > 0)

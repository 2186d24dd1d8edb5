"""What a training of the separator shows: one mixture seen and heard, beside what was wanted and what came out."""

from __future__ import annotations

from torch import Tensor

from train.learner import Shown
from train.pictures import in_a_column, spectrogram, titled

_SIZE = 480, 200  # pixels of one spectrogram


def shown_separation(mixture: Tensor, wanted: Tensor, separated: Tensor, spectra: Tensor) -> Shown:
    """Spectrograms on one scale, and the sounds.

    Args:
        mixture: waveform (N,) at 16 kHz.
        wanted: the target's waveform (N,).
        separated: the network's, under the mixture's phase (N,).
        spectra: magnitudes of the three, (3, frequencies, frames).
    """
    magnitudes = spectra.float().cpu().numpy()
    titles = ("mixture", "wanted", "separated")
    pictures = [
        titled(spectrogram(magnitude, float(magnitudes.max()), _SIZE), title)
        for title, magnitude in zip(titles, magnitudes, strict=True)
    ]
    sounds = (waveform.float().cpu().numpy() for waveform in (mixture, wanted, separated))
    return Shown({"spectrograms": in_a_column(pictures)}, dict(zip(titles, sounds, strict=True)))

"""STFT, its inverse, log-mel and Griffin-Lim as torch modules on matrix products: the one implementation.

Training uses these modules and export writes them out, so what is served is what was trained with. Legend: B batch,
N samples, T = N / 160 + 1 frames, F = 257 bins. A frame is centred on its hop, as in `torch.stft(center=True)`:

    samples   0        160       320
    frame 0  ─┼─200──>                      the first and last frames look into a reflected edge
    frame 1  <──200──┼──200──>
    frame 2            <──200──┼──200──>

`train/fourier.py` transforms the frames.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.fourier import GROUPS, PLACES, Analysis, Synthesis, folded_bins, hann, places_of_bins
from train.settings import (
    FFT_SIZE,
    FREQUENCY_BINS,
    GRIFFIN_LIM_ITERATIONS,
    HOP_SAMPLES,
    LOG_MEL_BANDS,
    LOG_MEL_FRAMES,
    SAMPLE_RATE_HZ,
    WINDOW_SAMPLES,
)

HALF_WINDOW = WINDOW_SAMPLES // 2
TINY_POWER = 1e-12  # keeps phase and gradient finite in digital silence; speech power is above 1e-6


class Stft(nn.Module):
    """Waveform to magnitude and spectrum; equals `torch.stft(n_fft=512, hop 160, Hann 400, center=True, reflect)`."""

    def __init__(self) -> None:
        super().__init__()
        self.analysis = Analysis()
        self.register_buffer("places", places_of_bins(), persistent=False)
        self.register_buffer("order", _rows_of_bins(), persistent=False)
        self.places: Tensor
        self.order: Tensor

    def grouped(self, waveform: Tensor) -> Tensor:
        """Transform (B, N) with N a multiple of 160 and at least 320 into (B, 8, 2, 33, T), `train.fourier`'s order."""
        # The last frame looks 200 samples beyond the end; 80 more fill its hop and meet no window.
        margins = (HALF_WINDOW, HALF_WINDOW + 3 * HOP_SAMPLES - WINDOW_SAMPLES)
        padded = functional.pad(waveform, margins, mode="reflect")  # (B, N + 480)
        blocks = padded.unflatten(1, (-1, HOP_SAMPLES)).transpose(1, 2)  # (B, 160, T + 2)
        spectrum: Tensor = self.analysis(blocks)
        return spectrum

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Transform (B, N) with N a multiple of 160 and at least 320 into (B, 2, F, T), real then imaginary."""
        return self._by_bins(self.grouped(waveform))

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Transform (B, N) into the magnitude (B, F, T) and the spectrum (B, 2, F, T)."""
        grouped = self.grouped(waveform)
        # Within short groups: ONNX Runtime takes ten times as long to add two halves of a whole spectrum.
        magnitude = _power(grouped).sqrt().flatten(1, 3)  # (B, 264, T)
        return magnitude.index_select(1, self.places), self._by_bins(grouped)

    def _by_bins(self, grouped: Tensor) -> Tensor:
        rows = grouped.flatten(1, 3)  # (B, 528, T)
        return rows.index_select(1, self.order).unflatten(1, (2, FREQUENCY_BINS))


class InverseStft(nn.Module):
    """Spectrum to waveform by weighted overlap-add; the exact inverse of `Stft`."""

    def __init__(self) -> None:
        super().__init__()
        self.synthesis = Synthesis()
        bins = folded_bins()
        order = torch.stack([bins, bins + FREQUENCY_BINS], dim=1)  # (8, 2, 33): real then imaginary parts
        self.register_buffer("bins", bins.flatten(), persistent=False)
        self.register_buffer("order", order.flatten(), persistent=False)
        self.bins: Tensor
        self.order: Tensor

    def group(self, magnitude: Tensor) -> Tensor:
        """Bring (B, F, T) into `train.fourier`'s order, (B, 8, 1, 33, T)."""
        return magnitude.index_select(1, self.bins).unflatten(1, (GROUPS, 1, PLACES))

    def group_spectrum(self, spectrum: Tensor) -> Tensor:
        """Bring (B, 2, F, T) into `train.fourier`'s order, (B, 8, 2, 33, T)."""
        return spectrum.flatten(1, 2).index_select(1, self.order).unflatten(1, (GROUPS, 2, PLACES))

    def gain(self, frames: int) -> Tensor:
        """One over the sum of the squared windows, (1, N); it differs only in the first and last 40 samples."""
        return 1 / _without_edges(self.synthesis.window_sum(frames))

    def ungrouped(self, spectrum: Tensor, gain: Tensor) -> Tensor:
        """Invert (B, 8, 2, 33, T) in `train.fourier`'s order with the gain at hand, (B, N)."""
        return _without_edges(self.synthesis(spectrum)) * gain

    def forward(self, spectrum: Tensor) -> Tensor:
        """Invert (B, 2, F, T) into (B, N)."""
        return self.ungrouped(self.group_spectrum(spectrum), self.gain(spectrum.shape[-1]))


class GriffinLim(nn.Module):
    """Phase for a separated magnitude (Griffin & Lim 1984), started from the mixture's phase.

    A random start loses to the mixture itself; from the mixture's phase a few iterations suffice. The loop is
    unrolled when exported: ONNX Loop does not build for TensorRT. Its spectra stay in the order in which the
    transform makes them.
    """

    def __init__(self, iterations: int = GRIFFIN_LIM_ITERATIONS) -> None:
        super().__init__()
        self.iterations = iterations
        self.stft = Stft()
        self.inverse = InverseStft()

    def forward(self, separated_magnitude: Tensor, spectrum: Tensor) -> Tensor:
        """Find the speech waveform.

        Args:
            separated_magnitude: (B, F, T), what the speech should have.
            spectrum: (B, 2, F, T) of the mixture, whose phase is the start.

        Returns:
            (B, N) waveform; with no iterations it is the separated magnitude under the mixture's phase.
        """
        gain = self.inverse.gain(spectrum.shape[-1])
        wanted, found = self.inverse.group(separated_magnitude), self.inverse.group_spectrum(spectrum)
        for _ in range(self.iterations):
            found = self.stft.grouped(self.inverse.ungrouped(_with_magnitude(found, wanted), gain))
        return self.inverse.ungrouped(_with_magnitude(found, wanted), gain)


def _power(grouped: Tensor) -> Tensor:
    """Squared magnitude of a spectrum (B, 8, 2, 33, T), (B, 8, 1, 33, T)."""
    # A product, not a square: ONNX has a power for the latter, which takes three times as long.
    return (grouped * grouped).sum(dim=2, keepdim=True)


def _rows_of_bins() -> Tensor:
    """Row of every bin's real part, then of every imaginary part, in a grouped spectrum, (514,)."""
    places = places_of_bins()
    real = places // PLACES * (2 * PLACES) + places % PLACES
    return torch.cat([real, real + PLACES])


def _without_edges(added: Tensor) -> Tensor:
    """From frames laid over each other (B, 160 T) the waveform (B, N): frame 0 is centred on its first sample."""
    return added[:, HALF_WINDOW - HOP_SAMPLES : HALF_WINDOW - 2 * HOP_SAMPLES]


def _with_magnitude(spectrum: Tensor, wanted: Tensor) -> Tensor:
    """The phase of a spectrum (B, 8, 2, 33, T) under another magnitude (B, 8, 1, 33, T), zero where it is silent."""
    # A clamp, not a sum: the ONNX optimiser takes `+ 1e-12` for `+ 0`, drops it, and digital silence becomes NaN.
    return spectrum * (wanted / _power(spectrum).clamp(min=TINY_POWER).sqrt())


def fast_spectrum(waveform: Tensor) -> Tensor:
    """Complex spectrum (..., F, T) of waveforms (..., N): what `Stft` gives, by FFT, for losses (six times faster)."""
    flat = torch.stft(waveform.flatten(0, -2), return_complex=True, **_fft_shape(waveform))  # (B, F, T)
    return flat.unflatten(0, waveform.shape[:-1])


def fast_waveform(spectrum: Tensor, samples: int) -> Tensor:
    """Waveforms (..., samples) of complex spectra (..., F, T): what `InverseStft` gives, by FFT."""
    flat = torch.istft(spectrum.flatten(0, -3), length=samples, **_fft_shape(spectrum.real))
    return flat.unflatten(0, spectrum.shape[:-2])


def _fft_shape(like: Tensor) -> dict[str, Any]:
    window = hann().to(like)
    return {"n_fft": FFT_SIZE, "hop_length": HOP_SAMPLES, "win_length": WINDOW_SAMPLES, "window": window}


def hertz_to_mel(hertz: Tensor) -> Tensor:
    """HTK's mel scale."""
    return 2595.0 * torch.log10(1.0 + hertz / 700.0)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """Inverse of HTK's mel scale."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def mel_filters(bands: int, low_hz: float, high_hz: float, *, linear_in: str) -> Tensor:
    """Triangular filters with equally spaced peaks in mel, float64 (bands, 257), peak one.

    Args:
        bands: number of triangles.
        low_hz: lower edge of the first.
        high_hz: upper edge of the last.
        linear_in: `hertz` for triangles straight in hertz (librosa's and torchaudio's `htk`, unnormalised), `mel` for
            triangles straight in mel with a zero first bin (VGGish).
    """
    edges = torch.tensor([low_hz, high_hz], dtype=torch.float64)
    low_mel, high_mel = hertz_to_mel(edges).tolist()
    peaks = torch.linspace(low_mel, high_mel, bands + 2, dtype=torch.float64)
    bins = torch.linspace(0, SAMPLE_RATE_HZ / 2, FREQUENCY_BINS, dtype=torch.float64)
    if linear_in == "mel":
        bins = hertz_to_mel(bins)
    else:
        peaks = mel_to_hertz(peaks)
    width = peaks.diff()
    rising = (bins - peaks[:-2, None]) / width[:-1, None]
    falling = (peaks[2:, None] - bins) / width[1:, None]
    filters = torch.minimum(rising, falling).clamp(min=0)
    if linear_in == "mel":
        filters[:, 0] = 0
    return filters


class IdentityLogMel(nn.Module):
    """Magnitude to the 40-band log-mel of the speech identity network, level-free by instance normalisation.

    Source: joonson/syncnet_trainer (power, 40 HTK bands of 0-8000 Hz, + 1e-6, log, InstanceNorm1d); FaceFilter 5.1.
    Differentiable, so that the speaker representation loss (Eq. 3) reaches the mask.
    """

    def __init__(self) -> None:
        super().__init__()
        filters = mel_filters(40, 0.0, SAMPLE_RATE_HZ / 2, linear_in="hertz")
        self.register_buffer("filters", filters.float(), persistent=False)
        self.filters: Tensor

    def forward(self, magnitude: Tensor) -> Tensor:
        """Map (B, F, T) to (B, 40, T)."""
        mel = torch.matmul(self.filters, magnitude.square())
        return functional.instance_norm(torch.log(mel + 1e-6))


class CrowdLogMel(nn.Module):
    """One second of sound to VGGish's log-mel: 96 frames (no padding) of 64 HTK bands, 125-7500 Hz, ln(mel + 0.01)."""

    def __init__(self) -> None:
        super().__init__()
        self.analysis = Analysis()
        filters = torch.zeros(LOG_MEL_BANDS, GROUPS * PLACES, dtype=torch.float64)
        filters[:, places_of_bins()] = mel_filters(LOG_MEL_BANDS, 125.0, 7500.0, linear_in="mel")
        self.register_buffer("filters", filters.float(), persistent=False)
        self.filters: Tensor

    def forward(self, sound: Tensor) -> Tensor:
        """Map (B, 16000) at 16 kHz in [-1, 1] to (B, 1, 96, 64)."""
        used = sound[:, : (LOG_MEL_FRAMES + 2) * HOP_SAMPLES]  # VGGish drops the last 25 ms
        blocks = used.unflatten(1, (-1, HOP_SAMPLES)).transpose(1, 2)  # (B, 160, 98)
        magnitude = _power(self.analysis(blocks)).sqrt().flatten(1, 3)  # (B, 264, 96)
        return torch.log(torch.matmul(self.filters, magnitude) + 0.01).transpose(1, 2).unsqueeze(1)

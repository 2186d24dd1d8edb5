"""STFT, its inverse, log-mel and Griffin-Lim as torch modules on a convolution basis: the one implementation.

Training uses these modules and export writes them out, so what is served is what was trained with. Legend: B batch,
N samples, T = N / 160 + 1 frames, F = 257 bins. A frame is centred on its hop, as in `torch.stft(center=True)`:

    samples   0        160       320
    frame 0  ─┼─200──>                      the first and last frames look into a reflected edge
    frame 1  <──200──┼──200──>
    frame 2            <──200──┼──200──>

The 400-sample window sits inside the 512-point transform, so the kernels are 400 long and carry a phase offset of
(512 - 400) / 2 = 56 samples; that is exact and a fifth cheaper than 512-long ones. Bases are made in float64 and
rounded once: made in float32, the STFT is off by 1e-3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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
WINDOW_OFFSET = (FFT_SIZE - WINDOW_SAMPLES) // 2  # where the window starts inside the transform
TINY_POWER = 1e-12  # keeps phase and gradient finite in digital silence; speech power is above 1e-6


def _hann() -> Tensor:
    """Periodic Hann window, float64 (400,)."""
    return torch.hann_window(WINDOW_SAMPLES, periodic=True, dtype=torch.float64)


def _angles() -> Tensor:
    """Angle of every bin at every window sample, float64 (257, 400)."""
    bins = torch.arange(FREQUENCY_BINS, dtype=torch.float64)
    samples = torch.arange(WINDOW_SAMPLES, dtype=torch.float64) + WINDOW_OFFSET
    return 2 * torch.pi / FFT_SIZE * torch.outer(bins, samples)


def analysis_basis() -> Tensor:
    """Windowed cosines then minus sines, float64 (514, 1, 400)."""
    return (torch.cat([torch.cos(_angles()), -torch.sin(_angles())]) * _hann()).unsqueeze(1)


def synthesis_basis() -> Tensor:
    """Inverse transform times the window, float64 (514, 1, 400); inner bins count twice, for their mirrors."""
    weight = torch.full((FREQUENCY_BINS, 1), 2.0 / FFT_SIZE, dtype=torch.float64)
    weight[0] = weight[-1] = 1.0 / FFT_SIZE
    return (torch.cat([weight * torch.cos(_angles()), -weight * torch.sin(_angles())]) * _hann()).unsqueeze(1)


def magnitude_of(spectrum: Tensor) -> Tensor:
    """Magnitude of a (B, 2, F, T) spectrum, (B, F, T)."""
    return spectrum.square().sum(dim=1).sqrt()


class Stft(nn.Module):
    """Waveform to magnitude and spectrum; equals `torch.stft(n_fft=512, hop 160, Hann 400, center=True, reflect)`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", analysis_basis().float(), persistent=False)
        self.basis: Tensor

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Transform (B, N) with N a multiple of 160 and at least 320 into (B, 2, F, T), real then imaginary."""
        padded = functional.pad(waveform.unsqueeze(1), (HALF_WINDOW, HALF_WINDOW), mode="reflect")  # (B, 1, N + 400)
        return functional.conv1d(padded, self.basis, stride=HOP_SAMPLES).unflatten(1, (2, FREQUENCY_BINS))

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Transform (B, N) into the magnitude (B, F, T) and the spectrum (B, 2, F, T)."""
        spectrum = self.spectrum(waveform)
        return magnitude_of(spectrum), spectrum


class InverseStft(nn.Module):
    """Spectrum to waveform by weighted overlap-add; the exact inverse of `Stft`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", synthesis_basis().float(), persistent=False)
        self.register_buffer("squared_window", _hann().square().float().view(1, 1, -1), persistent=False)
        self.basis: Tensor
        self.squared_window: Tensor

    def window_sum(self, spectrum: Tensor) -> Tensor:
        """Sum of the squared windows over each sample, (B, 1, N); it differs only in the first and last 40 samples."""
        ones = torch.ones_like(spectrum[:, :1, 0, :])  # (B, 1, T)
        summed = functional.conv_transpose1d(ones, self.squared_window, stride=HOP_SAMPLES)
        return summed[:, :, HALF_WINDOW:-HALF_WINDOW]

    def overlap_add(self, spectrum: Tensor, window_sum: Tensor) -> Tensor:
        """Invert (B, 2, F, T) with the window sum at hand, (B, N)."""
        added = functional.conv_transpose1d(spectrum.flatten(1, 2), self.basis, stride=HOP_SAMPLES)  # (B, 1, N + 400)
        return (added[:, :, HALF_WINDOW:-HALF_WINDOW] / window_sum).squeeze(1)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Invert (B, 2, F, T) into (B, N)."""
        return self.overlap_add(spectrum, self.window_sum(spectrum))


class GriffinLim(nn.Module):
    """Phase for a separated magnitude (Griffin & Lim 1984), started from the mixture's phase.

    A random start loses to the mixture itself; from the mixture's phase a few iterations suffice. The loop is
    unrolled when exported: ONNX Loop does not build for TensorRT.
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
        window_sum = self.inverse.window_sum(spectrum)
        wanted = separated_magnitude.unsqueeze(1)  # (B, 1, F, T)
        for _ in range(self.iterations):
            spectrum = self.stft.spectrum(self.inverse.overlap_add(wanted * _phase(spectrum), window_sum))
        return self.inverse.overlap_add(wanted * _phase(spectrum), window_sum)


def _phase(spectrum: Tensor) -> Tensor:
    """Unit-modulus copy of a spectrum (B, 2, F, T), zero where it is silent."""
    # A clamp, not a sum: the ONNX optimiser takes `+ 1e-12` for `+ 0`, drops it, and digital silence becomes NaN.
    return spectrum * spectrum.square().sum(dim=1, keepdim=True).clamp(min=TINY_POWER).rsqrt()


def fast_spectrum(waveform: Tensor) -> Tensor:
    """Complex spectrum (..., F, T) of waveforms (..., N): what `Stft` gives, by FFT, for losses (six times faster)."""
    flat = torch.stft(waveform.flatten(0, -2), return_complex=True, **_fft_shape(waveform))  # (B, F, T)
    return flat.unflatten(0, waveform.shape[:-1])


def fast_waveform(spectrum: Tensor, samples: int) -> Tensor:
    """Waveforms (..., samples) of complex spectra (..., F, T): what `InverseStft` gives, by FFT."""
    flat = torch.istft(spectrum.flatten(0, -3), length=samples, **_fft_shape(spectrum.real))
    return flat.unflatten(0, spectrum.shape[:-2])


def _fft_shape(like: Tensor) -> dict[str, Any]:
    window = _hann().to(like)
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
        self.register_buffer("basis", analysis_basis().float(), persistent=False)
        filters = mel_filters(LOG_MEL_BANDS, 125.0, 7500.0, linear_in="mel")
        self.register_buffer("filters", filters.float(), persistent=False)
        self.basis: Tensor
        self.filters: Tensor

    def forward(self, sound: Tensor) -> Tensor:
        """Map (B, 16000) at 16 kHz in [-1, 1] to (B, 1, 96, 64)."""
        used = sound[:, : (LOG_MEL_FRAMES - 1) * HOP_SAMPLES + WINDOW_SAMPLES]  # VGGish drops the last 25 ms
        spectrum = functional.conv1d(used.unsqueeze(1), self.basis, stride=HOP_SAMPLES)
        magnitude = magnitude_of(spectrum.unflatten(1, (2, FREQUENCY_BINS)))  # (B, F, 96)
        return torch.log(torch.matmul(self.filters, magnitude) + 0.01).transpose(1, 2).unsqueeze(1)

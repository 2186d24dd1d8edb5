import librosa
import numpy as np
import pytest
import torch

from train.dsp import (
    CrowdLogMel,
    GriffinLim,
    IdentityLogMel,
    InverseStft,
    Stft,
    analysis_basis,
    magnitude_of,
    mel_filters,
)
from train.settings import HOP_SAMPLES, MIXTURE_RMS, TRAINING_SAMPLES, frames_of


def noise(samples: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed)) * MIXTURE_RMS


def reference_stft(waveform: torch.Tensor) -> torch.Tensor:
    window = torch.hann_window(400, dtype=torch.float64)
    found = torch.stft(waveform.double(), 512, 160, 400, window, center=True, pad_mode="reflect", return_complex=True)
    return torch.view_as_real(found).movedim(-1, 1)  # (B, 2, 257, T)


def snr_db(reference: torch.Tensor, found: torch.Tensor) -> float:
    return float(10 * torch.log10(reference.square().sum() / (reference - found).square().sum()))


@pytest.mark.parametrize("samples", [320, 1600, TRAINING_SAMPLES])
def test_stft_equals_torch_stft_in_float64_to_1e_5(samples: int) -> None:
    waveform = noise(samples, batch=2)
    magnitude, spectrum = Stft()(waveform)
    assert spectrum.shape == (2, 2, 257, frames_of(samples))
    torch.testing.assert_close(spectrum.double(), reference_stft(waveform), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        magnitude.double(), torch.linalg.vector_norm(reference_stft(waveform), dim=1), atol=1e-5, rtol=0
    )


def test_two_seconds_of_the_papers_are_200_frames() -> None:
    assert Stft()(noise(TRAINING_SAMPLES))[0].shape[-1] == 200


@pytest.mark.parametrize("samples", [1600, 16000, TRAINING_SAMPLES])
def test_inverse_of_stft_is_the_identity(samples: int) -> None:
    waveform = noise(samples)
    found = InverseStft()(Stft().spectrum(waveform))
    assert found.shape == waveform.shape
    assert snr_db(waveform, found) > 110  # float32 arithmetic; a wrong window or edge gives below 40


def test_inverse_of_any_spectrum_equals_torch_istft() -> None:
    spectrum = torch.randn(1, 2, 257, 50, generator=torch.Generator().manual_seed(1))
    spectrum[:, 1, [0, -1]] = 0  # a real signal's first and last bins are real
    found = InverseStft()(spectrum)
    window = torch.hann_window(400, dtype=torch.float64)
    reference = torch.istft(torch.view_as_complex(spectrum.double().movedim(1, -1).contiguous()), 512, 160, 400, window)
    torch.testing.assert_close(found.double(), reference, atol=1e-5, rtol=0)


def test_griffin_lim_without_iterations_keeps_the_mixture_phase() -> None:
    mixture = noise(8000)
    magnitude, spectrum = Stft()(mixture)
    torch.testing.assert_close(GriffinLim(iterations=0)(magnitude, spectrum), mixture, atol=1e-5, rtol=0)


def test_griffin_lim_comes_nearer_to_the_wanted_magnitude_with_every_iteration() -> None:
    target, other = noise(8000, seed=1).cumsum(-1) * 0.1, noise(8000, seed=2)
    wanted, _ = Stft()(target)
    _, spectrum = Stft()(target + other)
    errors = [
        float((Stft()(GriffinLim(iterations=n)(wanted, spectrum))[0] - wanted).square().mean())
        for n in (0, 1, 2, 5, 10)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.8 * errors[0]


def test_griffin_lim_agrees_with_numpy_written_out() -> None:
    target, other = noise(4800, seed=3).cumsum(-1) * 0.1, noise(4800, seed=4)
    wanted, _ = Stft()(target)
    _, spectrum = Stft()(target + other)
    found = GriffinLim(iterations=3)(wanted, spectrum)[0].double().numpy()

    window = torch.hann_window(400, dtype=torch.float64).numpy()
    padded = np.pad(window, 56)

    def analyse(x: np.ndarray) -> np.ndarray:
        edged = np.pad(x, 256, mode="reflect")
        return np.stack(
            [np.fft.rfft(edged[t : t + 512] * padded) for t in range(0, len(edged) - 511, HOP_SAMPLES)], axis=1
        )

    def synthesise(z: np.ndarray) -> np.ndarray:
        total, weight = np.zeros(4800 + 512), np.zeros(4800 + 512)
        for t in range(z.shape[1]):
            total[t * 160 : t * 160 + 512] += np.fft.irfft(z[:, t]) * padded
            weight[t * 160 : t * 160 + 512] += padded**2
        return total[256:-256] / weight[256:-256]

    phase = np.exp(1j * np.angle(analyse((target + other)[0].double().numpy())))
    for _ in range(3):
        phase = np.exp(1j * np.angle(analyse(synthesise(wanted[0].double().numpy() * phase))))
    reference = synthesise(wanted[0].double().numpy() * phase)
    assert snr_db(torch.from_numpy(reference), torch.from_numpy(found)) > 60


def test_identity_mel_filters_equal_librosa_htk_without_norm() -> None:
    reference = librosa.filters.mel(
        sr=16000, n_fft=512, n_mels=40, fmin=0, fmax=8000, htk=True, norm=None, dtype=np.float64
    )
    np.testing.assert_allclose(mel_filters(40, 0, 8000, linear_in="hertz").numpy(), reference, atol=1e-9)


def test_identity_log_mel_does_not_depend_on_the_level() -> None:
    magnitude, _ = Stft()(noise(16000) * 10)
    mel = IdentityLogMel()
    torch.testing.assert_close(mel(magnitude), mel(magnitude * 3), atol=1e-3, rtol=0)


def vggish_log_mel(sound: np.ndarray) -> np.ndarray:
    """VGGish's mel_features.py written out in numpy."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, 400)[::160]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitude = np.abs(np.fft.rfft(frames * window, 512))
    mel = lambda hz: 1127.0 * np.log(1.0 + hz / 700.0)  # noqa: E731
    bins, edges = mel(np.linspace(0, 8000, 257)), np.linspace(mel(125.0), mel(7500.0), 66)
    weights = np.empty((257, 64))
    for i in range(64):
        lower, centre, upper = edges[i : i + 3]
        weights[:, i] = np.maximum(0, np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)))
    weights[0] = 0
    return np.log(magnitude @ weights + 0.01)[:96]


def test_crowd_log_mel_equals_vggish() -> None:
    sound = noise(16000, seed=5)
    found = CrowdLogMel()(sound)
    assert found.shape == (1, 1, 96, 64)
    np.testing.assert_allclose(found[0, 0].numpy(), vggish_log_mel(sound[0].double().numpy()), atol=1e-4)


def test_silence_is_the_floor_of_crowd_log_mel() -> None:
    torch.testing.assert_close(CrowdLogMel()(torch.zeros(1, 16000)), torch.full((1, 1, 96, 64), float(np.log(0.01))))


def test_a_basis_made_in_float32_would_miss_the_tolerance() -> None:
    """Why the basis is made in float64: this is the fault that the first test guards against."""
    k, n = torch.arange(257.0), torch.arange(400.0) + 56
    naive = torch.cos(2 * torch.pi * k[:, None] * n / 512) * torch.hann_window(400)
    assert (analysis_basis()[:257, 0].float() - naive).abs().max() > 1e-6


def test_magnitude_is_the_modulus() -> None:
    spectrum = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert float(magnitude_of(spectrum)) == 5.0

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from train.dsp import (
    CrowdLogMel,
    GriffinLim,
    IdentityLogMel,
    InverseStft,
    Stft,
    mel_filters,
)
from train.fourier import folded_bins, grouped_bins, inner_matrix, outer_matrices, places_of_bins
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


def test_spectrum_equals_scipy() -> None:
    waveform = noise(3200, seed=7)
    padded = np.pad(waveform[0].double().numpy(), 256, mode="reflect")
    window = np.pad(scipy.signal.get_window("hann", 400), 56)  # in the middle of the transform
    _, _, scaled = scipy.signal.stft(padded, window=window, nperseg=512, noverlap=352, boundary=None, padded=False)
    reference = scaled * window.sum()
    found = Stft().spectrum(waveform)[0].double().numpy()
    np.testing.assert_allclose(found[0] + 1j * found[1], reference, atol=1e-5)


def test_stft_is_as_exact_as_float32_allows() -> None:
    waveform = noise(TRAINING_SAMPLES)
    # The dense convolution basis reached 129 dB; a basis made in float32 reaches 90.
    assert snr_db(reference_stft(waveform), Stft().spectrum(waveform)) > 132


def test_stft_is_linear() -> None:
    first, second = noise(1600, seed=1), noise(1600, seed=2)
    stft = Stft()
    mixed = 2 * stft.spectrum(first) - 3 * stft.spectrum(second)
    torch.testing.assert_close(stft.spectrum(2 * first - 3 * second), mixed, atol=1e-4, rtol=0)


def test_one_tone_lights_one_bin() -> None:
    tone = torch.cos(2 * torch.pi * 40 / 512 * torch.arange(3200, dtype=torch.float64))
    magnitude = Stft()(tone.float()[None])[0][0, :, 10]
    assert int(magnitude.argmax()) == 40
    assert float(magnitude[40]) == pytest.approx(100, rel=1e-3)  # half the sum of the window: a cosine has two halves


def test_the_two_products_are_the_transform() -> None:
    frame = torch.randn(416, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sums = (inner_matrix() @ frame.view(13, 32)).view(8, 64, 1)
    found = torch.matmul(outer_matrices(), sums).view(8, 2, 33)
    placed = torch.zeros(512, dtype=torch.float64)
    placed[56:472] = frame
    wanted = torch.fft.rfft(placed)[folded_bins()]  # (8, 33)
    torch.testing.assert_close(torch.complex(found[:, 0], found[:, 1]), wanted, atol=1e-11, rtol=0)


def test_every_bin_has_a_place() -> None:
    assert grouped_bins().shape == (8, 33)
    assert folded_bins().flatten()[places_of_bins()].tolist() == list(range(257))


def test_a_matrix_made_in_float32_would_miss_the_tolerance() -> None:
    """Why the matrices are made in float64: this is the fault that the first test guards against."""
    angles = 2 * torch.pi / 512 * grouped_bins()[:, :, None] * (torch.arange(32) + 56)  # float32
    assert (outer_matrices()[:, :33, :32].float() - torch.cos(angles))[1:].abs().max() > 1e-5


def test_gradients_are_those_of_torch_stft() -> None:
    waveform, same = noise(1600).requires_grad_(), noise(1600).double().requires_grad_()
    (found,) = torch.autograd.grad(Stft()(waveform)[0].sum(), waveform)
    (wanted,) = torch.autograd.grad(torch.linalg.vector_norm(reference_stft(same), dim=1).sum(), same)
    assert snr_db(wanted, found) > 80


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


def griffin_lim_in_float64(wanted: np.ndarray, mixture: np.ndarray, iterations: int) -> np.ndarray:
    """The loop with numpy's transform, frame by frame."""
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400), 56)

    def analyse(x: np.ndarray) -> np.ndarray:
        edged = np.pad(x, 256, mode="reflect")
        frames = [edged[t : t + 512] * window for t in range(0, len(edged) - 511, HOP_SAMPLES)]
        return np.stack([np.fft.rfft(frame) for frame in frames], axis=1)

    def synthesise(z: np.ndarray) -> np.ndarray:
        total, weight = np.zeros(len(mixture) + 512), np.zeros(len(mixture) + 512)
        for t in range(z.shape[1]):
            total[t * 160 : t * 160 + 512] += np.fft.irfft(z[:, t]) * window
            weight[t * 160 : t * 160 + 512] += window**2
        return total[256:-256] / weight[256:-256]

    phase = np.exp(1j * np.angle(analyse(mixture)))
    for _ in range(iterations):
        phase = np.exp(1j * np.angle(analyse(synthesise(wanted * phase))))
    return synthesise(wanted * phase)


@pytest.mark.parametrize("iterations", [0, 1, 2, 3, 10])
def test_griffin_lim_agrees_with_numpy_written_out_after_every_iteration(iterations: int) -> None:
    target, other = noise(4800, seed=3).cumsum(-1) * 0.1, noise(4800, seed=4)
    wanted, _ = Stft()(target)
    _, spectrum = Stft()(target + other)
    found = GriffinLim(iterations)(wanted, spectrum)
    reference = griffin_lim_in_float64(wanted[0].double().numpy(), (target + other)[0].double().numpy(), iterations)
    assert snr_db(torch.from_numpy(reference), found[0]) > 90


def test_griffin_lim_of_digital_silence_is_silence() -> None:
    silence = torch.zeros(2, 2, 257, 21)
    assert float(GriffinLim(3)(torch.rand(2, 257, 21), silence).abs().max()) == 0
    half = noise(3200)
    half[:, 1600:] = 0
    magnitude, spectrum = Stft()(half)
    assert torch.isfinite(GriffinLim(3)(magnitude * 0.5, spectrum)).all()


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

"""What people compute an STFT and Griffin-Lim with today, written for `perf.dsp` as fast as each library allows.

Legend: B batch, N samples, T frames, F = 257 bins. All transform 400-sample periodic Hann windows in the middle of 512
points, every 160 samples, centred and reflected, as `train.dsp` does; all but librosa's start from the mixture's phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from train.settings import FFT_SIZE, HOP_SAMPLES, LOG_MEL_BANDS, LOG_MEL_FRAMES, WINDOW_SAMPLES

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]
Call = Callable[[], Array]
_OVERLAPPING = -(-FFT_SIZE // HOP_SAMPLES)  # hops that a frame reaches into
_TINY = 1e-6  # keeps a phase finite in digital silence, as in `train.dsp`


@dataclass(frozen=True)
class Problem:
    """One Griffin-Lim to solve: bring a magnitude to a waveform, from the phase of a mixture."""

    mixture: Array  # (B, N) float32
    spectrum: Array  # (B, F, T) complex128, of the mixture
    wanted: Array  # (B, F, T) float64, what the answer's magnitude should be

    @property
    def tensors(self) -> tuple[Array, Array]:
        """Wanted magnitude (B, F, T) and spectrum (B, 2, F, T), as the served graph takes them, float32."""
        parts = np.stack([self.spectrum.real, self.spectrum.imag], axis=1)
        return self.wanted.astype(np.float32), parts.astype(np.float32)


def draw_problem(batch: int, samples: int, seed: int = 0) -> Problem:
    """Two sounds that swell and fade like two talkers; the first one's magnitude is wanted.

    Source and filter are drawn: red noise through envelopes of eight swells a second.
    """
    draw = np.random.default_rng(seed)
    swells = max(2, samples // 2_000)
    times, knots = np.arange(samples), np.linspace(0, samples, swells)

    def sound() -> Array:
        noise = draw.standard_normal((batch, samples))
        noise[:, 1:] += 0.9 * noise[:, :-1]
        envelopes = [np.interp(times, knots, draw.random(swells)) ** 2 for _ in range(batch)]
        return np.asarray(0.1 * noise * np.stack(envelopes))

    target, other = sound(), sound()
    mixture = (target + other).astype(np.float32)
    spectrum, wanted = scipy_stft(mixture.astype(np.float64)), np.abs(scipy_stft(target))
    return Problem(mixture, spectrum.swapaxes(1, 2), wanted.swapaxes(1, 2))


def convergence_db(waveform: Array, wanted: Array) -> float:
    """Spectral convergence in dB: distance of the magnitude (B, N) reached from the wanted (B, F, T); lower is better.

    Source: Sturmel & Daudet 2011, section 2.
    """
    reached = np.abs(scipy_stft(waveform.astype(np.float64))).swapaxes(1, 2)
    return float(20 * np.log10(np.linalg.norm(reached - wanted) / np.linalg.norm(wanted)))


def error_db(found: Array, reference: Array) -> float:
    """Power of the error over the power of the reference, in dB."""
    difference = found.astype(reference.dtype) - reference
    return float(20 * np.log10(np.linalg.norm(difference) / np.linalg.norm(reference)))


# scipy: a plain loop over frames in rows; in float64 it is the reference


def _window(dtype: Any) -> Array:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
    return np.pad(hann, (FFT_SIZE - WINDOW_SAMPLES) // 2).astype(dtype)


def scipy_stft(waveform: Array, workers: int = 1) -> Array:
    """Spectra (B, T, F) of (B, N) in the waveform's precision."""
    import scipy.fft

    edged = np.pad(waveform, ((0, 0), (FFT_SIZE // 2, FFT_SIZE // 2)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(edged, FFT_SIZE, axis=1)[:, ::HOP_SAMPLES]
    windowed = frames * _window(waveform.dtype)
    return np.asarray(scipy.fft.rfft(windowed, overwrite_x=True, workers=workers))


def _overlap_add(frames: Array) -> Array:
    """Add frames (B, T, 512) at their hops, without the margins: (B, N)."""
    batch, count, _ = frames.shape
    added = np.zeros((batch, count + _OVERLAPPING - 1, HOP_SAMPLES), frames.dtype)
    for hop in range(_OVERLAPPING):
        piece = frames[..., hop * HOP_SAMPLES : (hop + 1) * HOP_SAMPLES]
        added[:, hop : hop + count, : piece.shape[-1]] += piece
    return added.reshape(batch, -1)[:, FFT_SIZE // 2 : FFT_SIZE // 2 + HOP_SAMPLES * (count - 1)]


def scipy_griffin_lim(wanted: Array, spectrum: Array, iterations: int, workers: int = 1) -> Array:
    """Solve with wanted (B, T, F) and spectrum (B, T, F) in their own precision."""
    import scipy.fft

    window = _window(wanted.dtype)
    weights = _overlap_add(np.broadcast_to(window**2, (1, wanted.shape[1], FFT_SIZE)))
    found = spectrum
    for iteration in range(iterations + 1):
        found = found * (wanted / np.maximum(np.abs(found), _TINY))
        frames = scipy.fft.irfft(found, FFT_SIZE, overwrite_x=True, workers=workers)
        frames *= window
        waveform = _overlap_add(frames) / weights
        if iteration < iterations:
            found = scipy_stft(waveform, workers)
    return waveform


def _scipy_call(problem: Problem, iterations: int, workers: int) -> Call:
    wanted = np.ascontiguousarray(problem.wanted.swapaxes(1, 2), dtype=np.float32)
    spectrum = np.ascontiguousarray(problem.spectrum.swapaxes(1, 2), dtype=np.complex64)
    return lambda: scipy_griffin_lim(wanted, spectrum, iterations, workers)


def reference(problem: Problem, iterations: int) -> Array:
    """The answer (B, N) in float64."""
    return scipy_griffin_lim(problem.wanted.swapaxes(1, 2), problem.spectrum.swapaxes(1, 2), iterations)


# torch's own transform, eagerly


def _torch_shape() -> dict[str, Any]:
    import torch

    window = torch.hann_window(WINDOW_SAMPLES)
    return {"n_fft": FFT_SIZE, "hop_length": HOP_SAMPLES, "win_length": WINDOW_SAMPLES, "window": window}


def _torch_call(problem: Problem, iterations: int) -> Call:
    import torch

    shape, samples = _torch_shape(), problem.mixture.shape[1]
    wanted = torch.from_numpy(problem.wanted.astype(np.float32))
    start = torch.from_numpy(problem.spectrum.astype(np.complex64))

    def turned(spectrum: torch.Tensor) -> torch.Tensor:
        return spectrum * (wanted / spectrum.abs().clamp(min=_TINY))

    def solve() -> Array:
        with torch.inference_mode():
            found = start
            for _ in range(iterations):
                waveform = torch.istft(turned(found), length=samples, **shape)
                found = torch.stft(waveform, return_complex=True, **shape)
            answer: Array = torch.istft(turned(found), length=samples, **shape).numpy()
            return answer

    return solve


def _sizes() -> dict[str, Any]:
    """What librosa is told."""
    return {"n_fft": FFT_SIZE, "hop_length": HOP_SAMPLES, "win_length": WINDOW_SAMPLES, "pad_mode": "reflect"}


def stft_contenders(waveform: Array, cores: int) -> dict[str, Callable[[], tuple[Array, Array]]]:
    """Each one's magnitude and spectrum of (B, N), which is what the served graph gives."""
    import librosa
    import torch

    shape, tensor = _torch_shape(), torch.from_numpy(waveform)

    def by_torch() -> tuple[Array, Array]:
        spectrum = torch.stft(tensor, return_complex=True, **shape)
        return spectrum.abs().numpy(), spectrum.numpy()

    def by_librosa() -> tuple[Array, Array]:
        spectrum = librosa.stft(waveform, **_sizes())
        return np.abs(spectrum), spectrum

    def by_scipy(workers: int) -> tuple[Array, Array]:
        spectrum = scipy_stft(waveform, workers)
        return np.abs(spectrum), spectrum

    calls = {"torch FFT, eager": by_torch, "librosa": by_librosa}
    return calls | {f"scipy loop, workers={workers}": partial(by_scipy, workers) for workers in sorted({1, cores})}


def griffin_lim_contenders(problem: Problem, iterations: int, cores: int) -> dict[str, Call]:
    """Each one's answer (B, N) after so many iterations; librosa starts from a random phase, seeded: it takes no other.

    Its momentum is off, as in the original algorithm that all run.
    """
    import librosa

    wanted, samples = problem.wanted.astype(np.float32), problem.mixture.shape[1]

    def by_librosa() -> Array:
        sizes = _sizes() | {"momentum": 0.0, "random_state": 0, "length": samples}
        return np.asarray(librosa.griffinlim(wanted, n_iter=iterations, **sizes))

    calls = {"torch FFT, eager": _torch_call(problem, iterations), "librosa": by_librosa}
    for workers in sorted({1, cores}):
        calls[f"scipy loop, workers={workers}"] = _scipy_call(problem, iterations, workers)
    return calls


def crowd_log_mel(sound: Array) -> Array:
    """VGGish's log-mel of one second (B, 16000) in float64, (B, 1, 96, 64)."""
    from train.dsp import mel_filters

    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), WINDOW_SAMPLES, axis=1)[
        :, ::HOP_SAMPLES
    ]
    offset = (FFT_SIZE - WINDOW_SAMPLES) // 2
    window = _window(np.float64)[offset:-offset]
    magnitude = np.abs(np.fft.rfft(frames[:, :LOG_MEL_FRAMES] * window, FFT_SIZE))  # (B, 96, F)
    filters = mel_filters(LOG_MEL_BANDS, 125.0, 7500.0, linear_in="mel").numpy()
    return np.asarray(np.log(magnitude @ filters.T + 0.01)[:, None])

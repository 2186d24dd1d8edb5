"""What a voice has: pitch, vocal tract and tilt, measured in a recording and set beside other speakers of the sex.

Pitch is the median of autocorrelation peaks (Boersma 1993, with the window's own autocorrelation divided out). The
vocal tract's scale is a weighted mean of the logarithms of F1, F3 and F4 (median over voiced frames; F2 depends on the
words most), each by linear prediction at three settings. Tilt is the slope of the voiced frames' mean power spectrum
over logarithmic frequency.

All three follow exactly when a voice is resampled or coloured, so that `VoiceAnalysis.measure` gives them for any
perturbation of a voice without another look at it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from train.corpus.layout import Sex, Waveform
from train.settings import SAMPLE_RATE_HZ

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

LOWEST_HZ, HIGHEST_HZ = 60.0, 420.0  # of a voice's pitch
_PITCH_RATE_HZ, _PITCH_WINDOW, _PITCH_HOP = 8000, 384, 80  # 48 ms every 10 ms
FRAME_RATE_HZ = _PITCH_RATE_HZ // _PITCH_HOP  # of a pitch track
_PERIODIC = 0.75  # of a frame's energy makes it voiced,
_HOARSE, _HOARSE_SHARE = 0.4, 0.5  # or being in the upper half of the loud frames and above 0.4, in a rough voice
_LOUD = 0.15  # of the 95th percentile of the frames' level
_OCTAVE_COST = 0.03  # what a peak an octave lower must be higher, or the double of every period would win
_FEWEST_VOICED, _FEWEST_FORMANTS = 30, 5  # frames of 10 ms
_MOST_FRAMES = 600  # for linear prediction
_PREDICTORS = ((10_000, 10), (11_000, 11), (11_000, 12))  # sample rate and order: errors of each differ
_FORMANT_WEIGHTS = np.array([0.1, 0.0, 0.6, 0.3])  # F1 to F4; chosen for agreement of two halves of a recording
_REFERENCE_LOG_HZ = 7.765  # the same mean in the median man of LibriSpeech: his tract scale is one
_SPECTRUM = 512  # samples of a spectrum's frame
_TILT_BAND_HZ = (200.0, 4000.0)
_LARGEST_Z = 2.5


@dataclass(frozen=True)
class Norm:
    """Middle and spread of speakers of a sex; pitch in log2 Hz, tract in log, tilt in dB per octave."""

    pitch: tuple[float, float]
    tract: tuple[float, float]
    tilt: tuple[float, float]


# Pitch: the constants of synthetic talkers (`train.synthetic.talkers.draw_person`), so that faces mean the same there.
# Tract and tilt: middle and spread over 88 women and 89 men of LibriSpeech, each speaker's longest recording; the
# spread lies between the standard deviation and 1.48 times the median deviation, the tails being estimation errors.
NORMS: dict[Sex, Norm] = {
    "F": Norm((float(np.log2(200)), 0.22), (0.130, 0.036), (-6.98, 2.07)),
    "M": Norm((float(np.log2(122)), 0.28), (0.0, 0.051), (-6.76, 1.93)),
}


@dataclass(frozen=True)
class VoiceMeasure:
    """A voice's three numbers."""

    f0_hz: float  # median over voiced frames
    tract: float  # scale of the formants, one for the median man; above: a shorter vocal tract
    tilt_db_per_octave: float  # of the long-term spectrum; more negative sounds softer

    def scores(self, sex: Sex) -> tuple[float, float, float]:
        """Set the voice beside its sex.

        Returns:
            pitch_z, tract_z, softness_z, each within +-2.5: higher, with higher formants, softer than the middle.
        """
        norm = NORMS[sex]
        found = (np.log2(self.f0_hz), np.log(self.tract), self.tilt_db_per_octave)
        z = [
            (value - middle) / spread
            for value, (middle, spread) in zip(found, (norm.pitch, norm.tract, norm.tilt), strict=True)
        ]
        pitch_z, tract_z, brightness_z = np.clip(z, -_LARGEST_Z, _LARGEST_Z).tolist()
        return pitch_z, tract_z, -brightness_z


@dataclass(frozen=True)
class VoiceAnalysis:
    """What was found in a recording, enough to say what its perturbed copies would measure."""

    f0_hz: float
    tract: float
    spectrum_db: Values  # (257,) mean power of voiced frames, 0 to 8 kHz

    def measure(self, *, pitch: float = 1.0, formants: float = 1.0, tilt_db_per_octave: float = 0.0) -> VoiceMeasure:
        """Measure the voice as if its pitch and formants were multiplied and its spectrum tilted.

        Args:
            pitch: factor of the fundamental frequency.
            formants: factor of every formant; resampling multiplies both.
            tilt_db_per_octave: slope of a filter that the voice went through.
        """
        own_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, len(self.spectrum_db))[1:]
        octaves = np.linspace(np.log2(_TILT_BAND_HZ[0]), np.log2(_TILT_BAND_HZ[1]), 60)
        levels = np.interp(octaves - np.log2(formants), np.log2(own_hz), self.spectrum_db[1:])
        slope = float(np.polyfit(octaves, levels, 1)[0])
        return VoiceMeasure(self.f0_hz * pitch, self.tract * formants, slope + tilt_db_per_octave)


def measure_voice(waveform: Waveform) -> VoiceMeasure:
    """Measure a voice, (N,) at 16 kHz; the same samples always give the same numbers.

    Raises:
        ValueError: less than 0.3 s of it is voiced.
    """
    return analyse_voice(waveform).measure()


def analyse_voice(waveform: Waveform) -> VoiceAnalysis:
    """Find pitch, tract scale and long-term spectrum of a voice, (N,) at 16 kHz.

    Raises:
        ValueError: less than 0.3 s of it is voiced, or it holds values that are no numbers.
    """
    samples = np.asarray(waveform, np.float64)
    if not np.isfinite(samples).all():
        raise ValueError("the waveform has samples that are no numbers")
    f0_hz, voiced = track_pitch(samples)
    middles = (np.flatnonzero(voiced) * _PITCH_HOP + _PITCH_WINDOW / 2) / _PITCH_RATE_HZ  # seconds
    return VoiceAnalysis(float(np.median(f0_hz[voiced])), _tract(samples, middles), _spectrum_db(samples, middles))


def track_pitch(samples: Values) -> tuple[Values, Flags]:
    """Follow the pitch of a voice, (N,) at 16 kHz.

    Returns:
        fundamental frequency in Hz and whether the frame is voiced, both (frames,), one each 10 ms from 24 ms on.

    Raises:
        ValueError: less than 0.3 s of it is voiced.
    """
    slow = soxr.resample(samples, SAMPLE_RATE_HZ, _PITCH_RATE_HZ)
    if len(slow) < _PITCH_WINDOW:
        raise ValueError(f"only {len(samples) / SAMPLE_RATE_HZ:.2f} s of sound; no voice can be measured in it")
    frames = np.lib.stride_tricks.sliding_window_view(slow, _PITCH_WINDOW)[::_PITCH_HOP]  # (frames, 384)
    frames = frames - frames.mean(axis=1, keepdims=True)
    levels = np.sqrt(np.mean(frames**2, axis=1))
    loud = levels > max(_LOUD * np.percentile(levels, 95), 1e-5)
    periodicity = _periodicity(frames)
    f0_hz, strength = _best_period(periodicity, LOWEST_HZ, HIGHEST_HZ)
    voiced = _voiced(loud, strength)
    if voiced.sum() >= _FEWEST_VOICED:  # look again around the median: octave errors fall away
        middle_hz = float(np.median(f0_hz[voiced]))
        f0_hz, strength = _best_period(periodicity, max(LOWEST_HZ, 0.55 * middle_hz), min(HIGHEST_HZ, 1.9 * middle_hz))
        voiced = _voiced(loud, strength)
    if voiced.sum() < _FEWEST_VOICED:
        raise ValueError(f"only {voiced.sum() / 100:.2f} s of voiced sound; 0.3 s are needed to measure a voice")
    return f0_hz, voiced


def _voiced(loud: Flags, strength: Values) -> Flags:
    if not loud.any():
        return loud
    enough = min(_PERIODIC, max(_HOARSE, float(np.quantile(strength[loud], 1 - _HOARSE_SHARE))))
    return np.asarray(loud & (strength > enough))


def _periodicity(frames: Values) -> Values:
    """Autocorrelation of each frame over that of its window, one at lag zero: (frames, n) -> (frames, n)."""
    window = np.hanning(frames.shape[1])
    size = 2 * frames.shape[1]

    def autocorrelation(signals: Values) -> Values:
        found: Values = np.fft.irfft(np.abs(np.fft.rfft(signals, size)) ** 2)[..., : frames.shape[1]]
        return found

    own, of_window = autocorrelation(frames * window), autocorrelation(window)
    normal: Values = own / np.maximum(own[:, :1], 1e-12) / (of_window / of_window[0] + 1e-12)
    return normal


def _best_period(periodicity: Values, lowest_hz: float, highest_hz: float) -> tuple[Values, Values]:
    """The frequency and height of each frame's best peak between two frequencies, refined by a parabola."""
    first, last = int(_PITCH_RATE_HZ / highest_hz), int(np.ceil(_PITCH_RATE_HZ / lowest_hz))
    heights = periodicity[:, first : last + 1]
    is_peak = (heights > periodicity[:, first - 1 : last]) & (heights >= periodicity[:, first + 1 : last + 2])
    cost = _OCTAVE_COST * np.log2(np.arange(first, last + 1) / first)
    lag = first + np.where(is_peak, heights - cost, -np.inf).argmax(axis=1)
    before, top, after = (periodicity[np.arange(len(lag)), lag + step] for step in (-1, 0, 1))
    bend = np.minimum(before - 2 * top + after, -1e-12)
    return _PITCH_RATE_HZ / (lag + np.clip(0.5 * (before - after) / bend, -0.5, 0.5)), top


def _tract(samples: Values, middles_s: Values) -> float:
    chosen = middles_s[np.linspace(0, len(middles_s) - 1, min(len(middles_s), _MOST_FRAMES)).astype(int)]
    logs = [np.log(_formants(samples, chosen, rate_hz, order)) @ _FORMANT_WEIGHTS for rate_hz, order in _PREDICTORS]
    return float(np.exp(np.mean(logs) - _REFERENCE_LOG_HZ))


def _formants(samples: Values, middles_s: Values, rate_hz: int, order: int) -> Values:
    """Median F1 to F4 in Hz, (4,), of frames of 32 ms around the given times, by linear prediction."""
    sound = soxr.resample(samples, SAMPLE_RATE_HZ, rate_hz)
    sound = np.append(sound[0], sound[1:] - 0.97 * sound[:-1])
    size = int(0.032 * rate_hz)
    starts = np.clip((middles_s * rate_hz).astype(int) - size // 2, 0, len(sound) - size)
    frames = sound[starts[:, None] + np.arange(size)] * np.hamming(size)  # (frames, size)
    lags = np.fft.irfft(np.abs(np.fft.rfft(frames, 1024)) ** 2)[:, : order + 1]
    lags[:, 0] = lags[:, 0] * 1.0001 + 1e-12  # keeps the equations solvable
    toeplitz = lags[:, np.abs(np.subtract.outer(np.arange(order), np.arange(order)))]  # (frames, order, order)
    predictors = np.linalg.solve(toeplitz, lags[:, 1:, None])[..., 0]  # (frames, order)
    companion = np.zeros_like(toeplitz)
    companion[:, 0] = predictors
    companion[:, np.arange(1, order), np.arange(order - 1)] = 1
    poles = np.linalg.eigvals(companion)
    hz, bandwidth_hz = np.angle(poles) * rate_hz / (2 * np.pi), -np.log(np.abs(poles)) * rate_hz / np.pi
    sharp = (hz > 150) & (hz < rate_hz / 2 - 100) & (bandwidth_hz < 500)
    lowest = np.sort(np.where(sharp, hz, np.inf), axis=1)[:, :4]
    complete = lowest[np.isfinite(lowest[:, 3])]
    if len(complete) < _FEWEST_FORMANTS:
        raise ValueError(f"only {len(complete)} frames show four formants; no vocal tract can be measured")
    middle: Values = np.median(complete, axis=0)
    return middle


def _spectrum_db(samples: Values, middles_s: Values) -> Values:
    starts = (middles_s * SAMPLE_RATE_HZ).astype(int) - _SPECTRUM // 2
    starts = np.clip(starts, 0, len(samples) - _SPECTRUM)
    frames = samples[starts[:, None] + np.arange(_SPECTRUM)] * np.hanning(_SPECTRUM)
    power = np.mean(np.abs(np.fft.rfft(frames)) ** 2, axis=0)
    decibels: Values = 10 * np.log10(power + 1e-12)
    return decibels

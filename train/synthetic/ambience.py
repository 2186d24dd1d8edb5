"""One second of ambient sound for a crowd scene: voices whose number follows the people, over wind, hum and traffic.

A voice is a harmonic source under three formants that change with each syllable, three to six syllables a second. It
is speech in pitch, spectrum and rhythm only: nobody says anything.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from train.settings import SAMPLE_RATE_HZ, SOUND_SAMPLES

Wave = NDArray[np.float32]
Rng = np.random.Generator

_BANK_SEED, _BANK_VOICES, _BANK_SECONDS = 1, 64, 4
_TALKING_SHARE = 0.2  # of the people are heard in one second
_MOST_VOICES = 60  # beyond that voices only add level
_VOICE_RMS = 0.006  # of one voice at the reference distance; sixty make about 0.05


def _syllable_edges(rng: Rng, samples: int) -> list[int]:
    edges = [0]
    while edges[-1] < samples:
        edges.append(edges[-1] + int(SAMPLE_RATE_HZ / rng.uniform(3.0, 6.0)))
    return edges


def synthetic_voice(rng: Rng, samples: int) -> Wave:
    """One speech-like voice, float32 (samples,) with RMS 1: f0 85-260 Hz, formants of a new vowel in each syllable."""
    time_s = np.arange(samples) / SAMPLE_RATE_HZ
    base_hz = rng.uniform(85, 260)
    pitch_hz = base_hz * (1 + 0.12 * np.sin(2 * np.pi * rng.uniform(0.3, 1.5) * time_s + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    voice = np.zeros(samples)
    harmonics = np.arange(1, int(5000 // base_hz))
    for start, stop in zip(edges := _syllable_edges(rng, samples), edges[1:], strict=False):
        part = slice(start, min(stop, samples))
        amplitudes = _vowel_spectrum(rng, harmonics * base_hz)
        tone = (amplitudes[:, None] * np.sin(harmonics[:, None] * phase[None, part])).sum(axis=0)
        if rng.random() < 0.85:  # the rest are pauses
            voice[part] = tone * np.hanning(tone.size) * rng.uniform(0.3, 1.0)
    level = np.sqrt(np.mean(voice**2))
    return (voice / max(level, 1e-6)).astype(np.float32)


def _vowel_spectrum(rng: Rng, frequencies_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    formants_hz = (rng.uniform(280, 850), rng.uniform(850, 2300), rng.uniform(2300, 3300))
    widths_hz = (90, 130, 200)
    peaks = [1 / (1 + ((frequencies_hz - f) / w) ** 2) for f, w in zip(formants_hz, widths_hz, strict=True)]
    spectrum: NDArray[np.float64] = peaks[0] + 0.5 * peaks[1] + 0.25 * peaks[2]
    return spectrum


@lru_cache(maxsize=1)
def _voice_bank() -> NDArray[np.float32]:
    """All voices there are, (voices, samples): mixing crops of them is far quicker than making each anew."""
    rng = np.random.default_rng(_BANK_SEED)
    return np.stack([synthetic_voice(rng, _BANK_SECONDS * SAMPLE_RATE_HZ) for _ in range(_BANK_VOICES)])


def babble(rng: Rng, people: int) -> Wave:
    """The voices of so many people, float32 (16000,): a binomial share of them talk, each at its own distance."""
    talking = int(rng.binomial(people, _TALKING_SHARE))
    heard = min(talking, _MOST_VOICES)
    mixture = np.zeros(SOUND_SAMPLES, np.float32)
    bank = _voice_bank()
    for _ in range(heard):
        start = rng.integers(bank.shape[1] - SOUND_SAMPLES)
        distance_gain = np.float32(np.exp(rng.normal(0.0, 0.4)))
        mixture += distance_gain * bank[rng.integers(len(bank)), start : start + SOUND_SAMPLES]
    return mixture * np.float32(_VOICE_RMS * np.sqrt(max(talking, 1) / max(heard, 1)))


def coloured_noise(rng: Rng, exponent: float, lowest_hz: float, samples: int = SOUND_SAMPLES) -> Wave:
    """Noise whose power falls as 1 / f**exponent above lowest_hz, float32 (samples,), RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies_hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    spectrum *= np.maximum(frequencies_hz, lowest_hz) ** (-exponent / 2)
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _hum(rng: Rng) -> Wave:
    time_s = np.arange(SOUND_SAMPLES) / SAMPLE_RATE_HZ
    mains_hz = rng.choice([50.0, 60.0])
    tones = [np.sin(2 * np.pi * mains_hz * k * time_s + rng.uniform(0, 6)) / k for k in (1, 2, 3, 5)]
    return np.sum(tones, axis=0).astype(np.float32)


def surroundings(rng: Rng) -> Wave:
    """Wind, traffic and hum, each at a random level and independent of the crowd, float32 (16000,)."""
    swell = 1 + 0.5 * np.sin(
        2 * np.pi * (rng.uniform(0.3, 1.5) * np.arange(SOUND_SAMPLES) / SAMPLE_RATE_HZ + rng.random())
    )
    wind = coloured_noise(rng, 2.0, 30.0) * swell.astype(np.float32)
    traffic = coloured_noise(rng, 1.0, 80.0)
    levels = 10 ** (rng.uniform([-60, -60, -65], [-32, -38, -40]) / 20)
    mixture: Wave = (levels[0] * wind + levels[1] * traffic + levels[2] * _hum(rng)).astype(np.float32)
    return mixture


def ambient_sound(rng: Rng, people: int) -> Wave:
    """One second at 16 kHz for a scene with so many people, float32 (16000,), inside [-1, 1].

    More people give more and louder voices, on average; the microphone's gain and the surroundings vary.
    """
    microphone_gain = np.float32(10 ** (rng.normal(0.0, 2.0) / 20))
    return np.clip(microphone_gain * (babble(rng, people) + surroundings(rng)), -1.0, 1.0)

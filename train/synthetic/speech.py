"""Voices without recordings: espeak-ng's C API, with pitch, vocal tract, speed, tilt and breath of our choosing.

The vocal tract is changed as nature changes it, by scaling every formant: the sentence is spoken lower and slower than
wanted by the formant ratio, and then read faster by it.

    wanted:  f0, formants * k, rate        spoken: f0 / k, formants, rate / k        resampled: time axis * 1/k
"""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import espeakng_loader
import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from train.errors import TrainError
from train.settings import SAMPLE_RATE_HZ

Waveform = NDArray[np.float32]

# speak_lib.h of espeak-ng 1.52
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_PARAMETER_RATE = 1
_ESPEAK_PATH_LIMIT = 160  # its buffer for the data path, in bytes

# espeak's intonation lies mostly above the middle of a voice's pitch span: measured median of speech
_MEDIAN_OVER_MIDDLE = 0.36  # of the half span

ACCENTS = ("en-us", "en-029", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc")

_SUBJECTS = (
    "the quiet teacher", "my older neighbour", "a young engineer", "the village doctor", "every second visitor",
    "our new captain", "the woman with the umbrella", "that famous painter", "a very tired farmer",
    "the man from the harbour", "her little cousin", "the whole orchestra", "someone in the kitchen",
    "the last passenger", "an honest judge", "your favourite singer",
)  # fmt: skip
_VERBS = (
    "has painted", "will remember", "is looking for", "never mentioned", "quickly repaired", "wants to borrow",
    "used to sell", "should have measured", "was dreaming about", "carried away", "is going to photograph",
    "could not find", "has finally opened",
)  # fmt: skip
_OBJECTS = (
    "nine silver boats", "the broken telescope", "a basket of green apples", "several old newspapers",
    "the yellow bicycle", "an enormous pumpkin", "the secret passage", "two cups of coffee", "the story of the fox",
    "a wooden bridge", "some paper flowers", "the keys of the museum", "five heavy suitcases",
    "a photograph of the moon", "the recipe for onion soup", "a rather strange map",
)  # fmt: skip
_PLACES = (
    "near the river", "before breakfast", "in the middle of the night", "on a rainy Thursday",
    "behind the railway station", "without asking anybody", "during the long winter", "at half past seven",
    "for more than twenty years", "under the chestnut trees", "because the weather was fine", "and nobody knew why",
    "while the children were asleep", "as usual", "in spite of the noise",
)  # fmt: skip


@dataclass(frozen=True)
class Voice:
    """What makes one talker's voice, every utterance alike."""

    f0_hz: float  # median fundamental frequency
    formant_ratio: float  # formants relative to espeak's default (male) voice; above one: a shorter vocal tract
    rate_wpm: float  # words per minute
    intonation: float  # half span of the pitch, as a share of it
    tilt_db_per_octave: float  # spectral tilt added; negative sounds softer
    breath: float  # aspiration noise relative to the speech's envelope
    accent: str  # one of `ACCENTS`


def sentence(rng: np.random.Generator) -> str:
    """Make a random English sentence of about three to four seconds."""
    words = " ".join(str(rng.choice(part)) for part in (_SUBJECTS, _VERBS, _OBJECTS, _PLACES))
    return words[0].upper() + words[1:] + "."


class Synthesizer:
    """One private espeak-ng, as a context; `say` gives the same samples for the same calls in the same order.

    The library keeps state from one utterance to the next, therefore each context loads it afresh.

    Raises:
        TrainError: espeak-ng cannot be loaded, finds no voices, or refuses one.
    """

    def __enter__(self) -> Synthesizer:
        """Load the library and give it a data folder in which voices can be described."""
        folder, self._voices = _private_data_folder(os.getpid())
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        rate_hz = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, folder.name.encode(), _INITIALIZE_DONT_EXIT
        )
        if rate_hz <= 0:
            self.__exit__(None, None, None)
            raise TrainError(
                f"espeak-ng did not start (code {rate_hz}) with its data at {folder.name}; synthetic talkers "
                "need it. Reinstall espeakng-loader, or set TMPDIR to a short writable folder."
            )
        self._rate_hz = int(rate_hz)
        self._chunks: list[NDArray[np.int16]] = []
        self._callback = _callback_type(self._keep)
        self._library.espeak_SetSynthCallback(self._callback)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unload the library, and leave the folder as it was found."""
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)
        (self._voices / "talker").unlink(missing_ok=True)

    def say(self, text: str, voice: Voice) -> Waveform:
        """Speak a text.

        Returns:
            waveform at 16 kHz, mono, within [-1, 1], without tilt and breath (see `colour`).
        """
        middle_hz = voice.f0_hz / voice.formant_ratio / (1 + _MEDIAN_OVER_MIDDLE * voice.intonation)
        low_hz, high_hz = (round(middle_hz * (1 + side * voice.intonation)) for side in (-1, 1))
        (self._voices / "talker").write_text(f"language variant\nname talker\npitch {low_hz} {high_hz}\nflutter 2\n")
        if self._library.espeak_SetVoiceByName(f"{voice.accent}+talker".encode()) != 0:
            raise TrainError(f"espeak-ng has no voice {voice.accent!r}; wanted one of {', '.join(ACCENTS)}.")
        self._library.espeak_SetParameter(_PARAMETER_RATE, round(voice.rate_wpm / voice.formant_ratio), 0)
        self._chunks.clear()
        spoken = text.encode()
        self._library.espeak_Synth(spoken, ctypes.c_size_t(len(spoken) + 1), 0, 0, 0, _CHARS_UTF8, None, None)
        samples = np.concatenate(self._chunks).astype(np.float32) / 32768
        return scale_formants(samples, self._rate_hz, voice.formant_ratio)

    def _keep(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # go on


_callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@functools.cache
def _private_data_folder(process: int) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """Link espeak's data, all but the voice variants; returns its folder and that of our own variants.

    One for each process, removed at its end: making and removing the links takes as long as speaking.
    """
    folder = tempfile.TemporaryDirectory(prefix="avedge-voices-")
    root = Path(folder.name)
    if len(bytes(root)) >= _ESPEAK_PATH_LIMIT - len("/espeak-ng-data"):
        raise TrainError(
            f"The temporary folder {root} has too long a name for espeak-ng (160 bytes); set TMPDIR to a shorter one."
        )
    data = root / "espeak-ng-data"
    data.mkdir()
    for entry in Path(espeakng_loader.get_data_path()).iterdir():
        if entry.name != "voices":
            (data / entry.name).symlink_to(entry)
    variants = data / "voices" / "!v"
    variants.mkdir(parents=True)
    return folder, variants


def scale_formants(waveform: Waveform, sample_rate_hz: int, ratio: float) -> Waveform:
    """Multiply all frequencies by `ratio` (and divide the duration by it), giving 16 kHz."""
    scaled: Waveform = np.clip(soxr.resample(waveform, sample_rate_hz * ratio, SAMPLE_RATE_HZ), -1, 1).astype(
        np.float32
    )
    return scaled


def colour(waveform: Waveform, voice: Voice, rng: np.random.Generator, *, level: float = 0.06) -> Waveform:
    """Add tilt and breath, trim the silent ends, and bring the whole to an RMS of `level`.

    Breath is white noise above about 1 kHz that follows the speech's envelope.
    """
    envelope = np.sqrt(np.maximum(uniform_filter1d(waveform**2, 320), 0))
    noise = rng.standard_normal(len(waveform))
    noise = np.diff(noise, prepend=0.0)  # 6 dB per octave up: hiss, not rumble
    tilted = _tilt(waveform, voice.tilt_db_per_octave) + voice.breath * envelope * noise
    spoken = np.flatnonzero(envelope > 0.02 * envelope.max())
    trimmed = tilted[spoken[0] : spoken[-1] + 1]
    trimmed = trimmed * (level / np.sqrt(np.mean(trimmed**2)))
    return np.clip(trimmed, -0.99, 0.99).astype(np.float32)


def _tilt(waveform: Waveform, db_per_octave: float) -> NDArray[np.float64]:
    """Weight the spectrum by so many dB per octave around 1 kHz, levelling off below 200 Hz."""
    spectrum = np.fft.rfft(waveform)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE_HZ), 200) / 1000)
    tilted: NDArray[np.float64] = np.fft.irfft(spectrum * 10 ** (db_per_octave * octaves / 20), len(waveform))
    return tilted

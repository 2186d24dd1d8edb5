"""Numbers that both papers and every stage share; torch-free, so that the contract can read them.

Audio follows FaceFilter section 5.1 (25 ms windows every 10 ms at 16 kHz, 257 bins) and VGGish for crowd sounds;
pictures follow Sajid et al. 2021 section 4 (1024x576, 8x8 patches, one density cell per 8x8 pixels).
"""

from __future__ import annotations

from typing import NamedTuple


def exact_div(numerator: int, denominator: int) -> int:
    """Divide where a remainder would be a mistake in these settings."""
    quotient, remainder = divmod(numerator, denominator)
    if remainder:
        raise ValueError(f"{numerator} is not a multiple of {denominator}")
    return quotient


# Sound
SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 400  # 25 ms, periodic Hann
HOP_SAMPLES = 160  # 10 ms
FFT_SIZE = 512
FREQUENCY_BINS = FFT_SIZE // 2 + 1  # 257
TRAINING_SAMPLES = 31_840  # exactly 200 centred frames: the papers' two seconds
MIXTURE_RMS = 0.1  # level that every mixture is brought to before the STFT (VisualVoice's choice)


def frames_of(samples: int) -> int:
    """Frames that a centred STFT gives for a waveform of so many samples (a multiple of the hop)."""
    return exact_div(samples, HOP_SAMPLES) + 1


# Faces and identities
FACE_SIZE = 224  # pixels, square, RGB
IDENTITY_SIZE = 1024  # values of one identity, unit length

# FaceFilter's receptive field: 20 convolutions of kernel 5 see 40 frames to either side
HALO_FRAMES = 40
# From the mixture's phase; more cost SDR with masks as good as ours (perf/results/facefilter_librispeech/table.md)
GRIFFIN_LIM_ITERATIONS = 2

# Crowds
PICTURE_HEIGHT, PICTURE_WIDTH = 576, 1024  # pixels, RGB
CELL_PIXELS = 8  # one density cell covers 8x8 pixels
DENSITY_HEIGHT = exact_div(PICTURE_HEIGHT, CELL_PIXELS)  # 72
DENSITY_WIDTH = exact_div(PICTURE_WIDTH, CELL_PIXELS)  # 128
PATCH_GRID = 8  # patches per side, row-major
PATCHES = PATCH_GRID * PATCH_GRID  # 64
PATCH_CELLS_HIGH = exact_div(DENSITY_HEIGHT, PATCH_GRID)  # 9
PATCH_CELLS_WIDE = exact_div(DENSITY_WIDTH, PATCH_GRID)  # 16
PATCH_EMBEDDING = PATCH_CELLS_HIGH * PATCH_CELLS_WIDE  # 144, the paper's Z

# Crowd sound: VGGish's log-mel of one second
SOUND_SAMPLES = SAMPLE_RATE_HZ
LOG_MEL_FRAMES, LOG_MEL_BANDS = 96, 64


class CountInterval(NamedTuple):
    """The truth of a share of validation pictures lies within `absolute + relative * count` people of the count."""

    weights_sha256: str  # first 16 digits, of the weights that were calibrated; others must be calibrated anew
    share: float
    relative: float
    absolute: float


# Of the committed weights; None while they are not calibrated, and clients then give no interval.
CROWD_AV_INTERVAL: CountInterval | None = None
CROWD_V_INTERVAL: CountInterval | None = None

"""The contract between the stages: every served model, its tensors, units, ranges and facts, said once.

From it the Triton configs are generated, the exported graphs are named and shaped, and the engines get their
profiles. Clients never import it: they read it from the server, as metadata and as `parameters` of the served config.

    mixture ──> facefilter_stft ──magnitude──> facefilter_separator ──separated_magnitude──> facefilter_griffin_lim
                      │                            ^ identity                                     ^       │
    face ─────────────┼──> facefilter_identity ────┘                                              │       └──> speech
                      └────────────────────────────────spectrum───────────────────────────────────┘

    sound ────> crowd_log_mel ──log_mel──> crowd_av ──density──> crowd_density_sum ──> count, patch_counts
    picture ───────────────────────────────────^
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Literal

from train import settings

CONTRACT_VERSION = 1  # raised when a client of the old contract could not talk to a server of the new one

# Only equal lengths batch, so clients pad to one of these: 200, 400 and 800 frames.
PADDED_SAMPLES = (31_840, 63_840, 127_840)
MAX_BATCH_SIZE = 8

Datatype = Literal["FP32", "UINT8"]
Axis = int | str  # a word is a length that changes from request to request
Target = Literal["tensorrt", "onnxruntime", "torchscript"]
TARGETS: tuple[Target, ...] = ("tensorrt", "onnxruntime", "torchscript")


@dataclass(frozen=True)
class Tensor:
    """One tensor that crosses a stage; the shape is that of one item, without the batch."""

    name: str
    datatype: Datatype
    shape: tuple[Axis, ...]
    unit: str
    low: float  # smallest and largest value to expect
    high: float

    def named(self, name: str) -> Tensor:
        """The same tensor under another name."""
        return Tensor(name, self.datatype, self.shape, self.unit, self.low, self.high)


@dataclass(frozen=True)
class Model:
    """One exported graph."""

    name: str
    summary: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    cached: bool = False  # the server may answer a repeated input from its response cache
    # Sums and phases that lose digits in reduced precision: TF32 is off when an engine is built.
    exact: bool = False


@dataclass(frozen=True)
class Step:
    """One model inside an ensemble; both maps go from the model's tensor to the ensemble's."""

    model: str
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Ensemble:
    """What a client calls: models wired by the server."""

    name: str
    summary: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    facts: dict[str, str] = field(default_factory=dict)  # what a client needs beyond names and shapes


def size_of(axis: Axis, samples: int) -> int:
    """Length of an axis when the waveform has so many samples."""
    if isinstance(axis, int):
        return axis
    return {"samples": samples, "frames": settings.frames_of(samples)}[axis]


def is_dynamic(tensors: tuple[Tensor, ...]) -> bool:
    """Whether any of the tensors changes its length from request to request."""
    return any(isinstance(axis, str) for tensor in tensors for axis in tensor.shape)


_F, _T, _N = settings.FREQUENCY_BINS, "frames", "samples"
_PATCHES = settings.PATCHES

WAVEFORM = Tensor("waveform", "FP32", (_N,), "amplitude at RMS 0.1, 16 kHz", -10, 10)
FACE = Tensor("face", "UINT8", (settings.FACE_SIZE, settings.FACE_SIZE, 3), "RGB of a cropped face", 0, 255)
MAGNITUDE = Tensor("magnitude", "FP32", (_F, _T), "STFT magnitude", 0, 2000)
SPECTRUM = Tensor("spectrum", "FP32", (2, _F, _T), "STFT, real then imaginary", -2000, 2000)
IDENTITY = Tensor("identity", "FP32", (settings.IDENTITY_SIZE,), "unit vector", -1, 1)
SEPARATED = MAGNITUDE.named("separated_magnitude")
ATTENTION = Tensor("attention", "FP32", (_T,), "weight of the face in each frame", 0, 1)
SPEECH = WAVEFORM.named("speech")
PICTURE = Tensor("picture", "UINT8", (settings.PICTURE_HEIGHT, settings.PICTURE_WIDTH, 3), "RGB, letterboxed", 0, 255)
SOUND = Tensor("sound", "FP32", (settings.SOUND_SAMPLES,), "amplitude, one second at 16 kHz", -1, 1)
LOG_MEL = Tensor("log_mel", "FP32", (1, settings.LOG_MEL_FRAMES, settings.LOG_MEL_BANDS), "ln(mel + 0.01)", -4.7, 8)
DENSITY = Tensor(
    "density", "FP32", (settings.DENSITY_HEIGHT, settings.DENSITY_WIDTH), "people in the 8x8-pixel cell", 0, 100
)
PATCH_IMPORTANCE = Tensor("patch_importance", "FP32", (_PATCHES,), "PIR: share of the people in the patch", 0, 1)
PATCH_ESTIMATES = Tensor("patch_estimates", "FP32", (_PATCHES,), "PCE: people in the patch, regressed", -100, 10_000)
COUNT = Tensor("count", "FP32", (1,), "people", 0, 100_000)
PATCH_COUNTS = Tensor("patch_counts", "FP32", (_PATCHES,), "people in the patch, summed from the density", 0, 10_000)

_CROWD_OUTPUTS = (DENSITY, PATCH_IMPORTANCE, PATCH_ESTIMATES)

MODELS: tuple[Model, ...] = (
    Model("facefilter_stft", "waveform to magnitude and spectrum", (WAVEFORM,), (MAGNITUDE, SPECTRUM), exact=True),
    Model("facefilter_identity", "face to the identity shared by face and voice", (FACE,), (IDENTITY,), cached=True),
    Model("facefilter_separator", "mask for one person's voice", (MAGNITUDE, IDENTITY), (SEPARATED, ATTENTION)),
    Model("facefilter_griffin_lim", "phase and waveform", (SEPARATED, SPECTRUM), (SPEECH,), exact=True),
    Model("crowd_log_mel", "one second of sound to log-mel", (SOUND,), (LOG_MEL,), exact=True),
    Model("crowd_av", "CC-AV: density from picture and sound", (PICTURE, LOG_MEL), _CROWD_OUTPUTS),
    Model("crowd_v", "CC-V: density from the picture", (PICTURE,), _CROWD_OUTPUTS),
    Model("crowd_density_sum", "density to counts", (DENSITY,), (COUNT, PATCH_COUNTS), exact=True),
)


def _same(*names: str) -> dict[str, str]:
    """A map that keeps the names."""
    return {name: name for name in names}


_STFT = Step("facefilter_stft", {"waveform": "mixture"}, _same("magnitude", "spectrum"))
_IDENTIFY = Step("facefilter_identity", _same("face"), _same("identity"))
_SEPARATE = Step("facefilter_separator", _same("magnitude", "identity"), _same("separated_magnitude", "attention"))
_REBUILD = Step("facefilter_griffin_lim", _same("separated_magnitude", "spectrum"), _same("speech"))
_HEAR = Step("crowd_log_mel", _same("sound"), _same("log_mel"))
_SUM = Step("crowd_density_sum", _same("density"), _same("count", "patch_counts"))

_SOUND_FACTS = {"contract_version": str(CONTRACT_VERSION), "sample_rate_hz": str(settings.SAMPLE_RATE_HZ)}
FACEFILTER_FACTS = _SOUND_FACTS | {
    "hop_samples": str(settings.HOP_SAMPLES),
    "window_samples": str(settings.WINDOW_SAMPLES),
    "padded_samples": ",".join(map(str, PADDED_SAMPLES)),
    "halo_frames": str(settings.HALO_FRAMES),
    "mixture_rms": str(settings.MIXTURE_RMS),
    "face_size": str(settings.FACE_SIZE),
    "griffin_lim_iterations": str(settings.GRIFFIN_LIM_ITERATIONS),
}
CROWD_FACTS = _SOUND_FACTS | {
    "sound_samples": str(settings.SOUND_SAMPLES),
    "picture_height": str(settings.PICTURE_HEIGHT),
    "picture_width": str(settings.PICTURE_WIDTH),
    "patch_grid": str(settings.PATCH_GRID),
}


def interval_facts(interval: settings.CountInterval | None) -> dict[str, str]:
    """What clients read of a calibration; nothing where there is none."""
    if interval is None:
        return {}
    return {
        "count_interval_share": str(interval.share),
        "count_interval_relative": str(interval.relative),
        "count_interval_absolute": str(interval.absolute),
    }


ENSEMBLES: tuple[Ensemble, ...] = (
    Ensemble(
        "facefilter",
        "a mixture and a face in, that person's voice out",
        (WAVEFORM.named("mixture"), FACE),
        (SPEECH, ATTENTION),
        (_STFT, _IDENTIFY, _SEPARATE, _REBUILD),
        FACEFILTER_FACTS,
    ),
    Ensemble(
        "facefilter_enrolled",
        "the same for a face seen before, by its identity",
        (WAVEFORM.named("mixture"), IDENTITY),
        (SPEECH, ATTENTION),
        (_STFT, _SEPARATE, _REBUILD),
        FACEFILTER_FACTS,
    ),
    Ensemble(
        "crowd_counting",
        "a picture and one second of its sound in; count, patch counts and density out",
        (PICTURE, SOUND),
        (COUNT, PATCH_COUNTS, *_CROWD_OUTPUTS),
        (_HEAR, Step("crowd_av", _same("picture", "log_mel"), _same(*(t.name for t in _CROWD_OUTPUTS))), _SUM),
        CROWD_FACTS | interval_facts(settings.CROWD_AV_INTERVAL),
    ),
    Ensemble(
        "crowd_counting_vision",
        "the same from the picture alone",
        (PICTURE,),
        (COUNT, PATCH_COUNTS, *_CROWD_OUTPUTS),
        (Step("crowd_v", _same("picture"), _same(*(t.name for t in _CROWD_OUTPUTS))), _SUM),
        CROWD_FACTS | interval_facts(settings.CROWD_V_INTERVAL),
    ),
)


def model_named(name: str) -> Model:
    """The model of that name; KeyError lists the names there are."""
    found = {model.name: model for model in MODELS}
    if name not in found:
        raise KeyError(f"no model {name!r}; there are {', '.join(found)}")
    return found[name]


def contract_digest() -> str:
    """Fingerprint of the whole contract; artefacts and configs carry it, and the server refuses a mixture of two."""
    content = repr([asdict(model) for model in MODELS] + [asdict(ensemble) for ensemble in ENSEMBLES])
    return hashlib.sha256(content.encode()).hexdigest()[:16]

"""Golden answers: what torch says to inputs that are drawn by formula, held against a server by `avedge doctor`.

Every release has its own, in the manifest of each ensemble's last network. Those of the demonstration's weights are in
`golden.json` too, for a server whose repository is elsewhere; after training them anew: python -m export.golden

Nothing but NumPy is loaded until torch is asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from export.contract import ENSEMBLES, PADDED_SAMPLES, Ensemble, model_named
from train import settings

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[Any]
Figures = dict[str, list[float]]

SHIPPED = Path(__file__).with_name("golden.json")
KEY = "golden"  # in a manifest
# Whose manifest holds an ensemble's answer: its last network's.
HOLDERS = {
    "facefilter": "facefilter_separator",
    "crowd_counting": "crowd_av",
    "crowd_counting_vision": "crowd_v",
}
# Largest difference of a figure, as a share of the largest of its kind. A rebuilt graph moves them by a millionth,
# TF32 and fp16 by some thousandths, int8 by some hundredths; another network, face or channel order by a half and more.
TOLERANCES = {"fp32": 0.01, "fp16": 0.03, "int8": 0.15}
_DIGITS = 5
_BANDS_HZ = (0, 200, 400, 700, 1_100, 1_700, 2_600, 4_000, 8_000)
_QUARTERS, _EIGHTHS, _BLOCKS = 4, 8, 4


@dataclass(frozen=True)
class Golden:
    """One ensemble's golden answer."""

    weights: dict[str, str]  # network to digest
    figures: Figures


@dataclass(frozen=True)
class Comparison:
    """The figure that differs most."""

    share: float  # of the largest of its kind
    sentence: str

    def holds(self, precision: str) -> bool:
        """Whether it is as near as the precision lets it be."""
        return self.share <= TOLERANCES[precision]


def inputs_of(ensemble: str) -> dict[str, Array]:
    """An ensemble's golden input: the same numbers everywhere, from formulas.

    Returns:
        each tensor by name, without the batch axis.
    """
    made = {"mixture": _mixture, "face": _face, "picture": _picture, "sound": _sound}
    return {tensor.name: made[tensor.name]() for tensor in _ensemble(ensemble).inputs}


def figures_of(ensemble: str, answer: Mapping[str, Array]) -> Figures:
    """What is held of an answer: few numbers, to which every sample and every pixel adds."""
    if ensemble == "facefilter":
        quarters = np.array_split(np.asarray(answer["speech"], np.float64), _QUARTERS)
        speech = np.concatenate([_band_levels(quarter) for quarter in quarters])
        attention = np.array([part.mean() for part in np.array_split(answer["attention"], _EIGHTHS)])
        return {"speech": _rounded(speech), "attention": _rounded(attention)}
    side = settings.PATCH_GRID // _BLOCKS
    patches = np.asarray(answer["patch_counts"], np.float64).reshape(_BLOCKS, side, _BLOCKS, side)
    return {"count": _rounded(answer["count"]), "patch_counts": _rounded(patches.sum(axis=(1, 3)).ravel())}


def compare(found: Figures, wanted: Figures) -> Comparison:
    """The figure that differs most; an absent one, or one that is no number, differs without bound."""
    worst = Comparison(0.0, "equal")
    for name, numbers in wanted.items():
        seen = found.get(name, [])
        if len(seen) != len(numbers) or not np.isfinite(seen).all():
            return Comparison(float("inf"), f"{name} is {seen}, wanted are {len(numbers)} numbers")
        shares = np.abs(np.subtract(seen, numbers)) / max(float(np.abs(numbers).max()), 1e-9)
        index = int(shares.argmax())
        if shares[index] > worst.share:
            sentence = f"{name}[{index}] is {seen[index]:.5g}, torch says {numbers[index]:.5g}"
            worst = Comparison(float(shares[index]), f"{sentence}: {shares[index]:.2g} of the largest")
    return worst


def answers(weights: Path) -> dict[str, Golden]:
    """What torch answers with the weights of a folder, for each ensemble that has a golden input.

    Raises:
        TrainError: weights cannot be read.
    """
    from export.modules import is_network, served_module, weights_digest

    names = dict.fromkeys(step.model for name in HOLDERS for step in _ensemble(name).steps)
    modules = {name: served_module(model_named(name), weights) for name in names}
    digests = {name: weights_digest(model_named(name), weights) for name in names if is_network(model_named(name))}
    found = {}
    for name in HOLDERS:
        ensemble = _ensemble(name)
        own = {step.model: digests[step.model] for step in ensemble.steps if step.model in digests}
        found[name] = Golden(own, figures_of(name, _answer(ensemble, modules)))
    return found


def manifest_facts(model: str, found: Mapping[str, Golden]) -> dict[str, Any]:
    """What a model's manifest says of golden answers."""
    held = {name: asdict(found[name]) for name, holder in HOLDERS.items() if holder == model and name in found}
    return {KEY: held} if held else {}


def of_manifest(manifest: Mapping[str, Any], ensemble: str) -> Golden | None:
    """The golden answer that a manifest holds."""
    held = manifest.get(KEY, {}).get(ensemble)
    return Golden(**held) if held else None


def shipped(ensemble: str) -> Golden:
    """That of the demonstration's weights."""
    golden = of_manifest({KEY: json.loads(SHIPPED.read_text())}, ensemble)
    assert golden is not None, ensemble
    return golden


def write_shipped(path: Path = SHIPPED) -> None:
    """Ask torch with the demonstration's weights, and keep what it says."""
    from export.recipe import WEIGHTS
    from train.files import write_atomically

    found = {name: asdict(golden) for name, golden in answers(WEIGHTS).items()}
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())


def _ensemble(name: str) -> Ensemble:
    return next(ensemble for ensemble in ENSEMBLES if ensemble.name == name)


def _answer(ensemble: Ensemble, modules: Mapping[str, nn.Module]) -> dict[str, Array]:
    """Run an ensemble's steps in torch."""
    from export.parity import module_runner

    tensors = {name: value[np.newaxis] for name, value in inputs_of(ensemble.name).items()}  # (...) -> (1, ...)
    for step in ensemble.steps:
        run = module_runner(modules[step.model], model_named(step.model))
        made = run({inner: tensors[outer] for inner, outer in step.inputs.items()})
        tensors |= {outer: made[inner] for inner, outer in step.outputs.items()}
    return {tensor.name: tensors[tensor.name][0] for tensor in ensemble.outputs}


def _band_levels(samples: Array) -> Array:
    """RMS in each band."""
    power = np.square(np.abs(np.fft.rfft(samples))) * 2 / len(samples) ** 2
    frequencies_hz = np.fft.rfftfreq(len(samples), 1 / settings.SAMPLE_RATE_HZ)
    band = np.digitize(frequencies_hz, _BANDS_HZ[1:-1])
    return np.asarray(np.sqrt(np.bincount(band, power, len(_BANDS_HZ) - 1)))


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in np.asarray(values, np.float64)]


def _mixture() -> Array:
    """Two talkers of a kind: harmonics of gliding pitch under two envelopes, with a little hiss between."""
    samples = PADDED_SAMPLES[0]
    seconds = np.arange(samples) / settings.SAMPLE_RATE_HZ
    low = _voice(seconds, pitch_hz=118, glide_hz=14, syllables_hz=3.1)
    high = _voice(seconds, pitch_hz=207, glide_hz=31, syllables_hz=4.3)
    hiss = 0.02 * (np.square(np.arange(samples)) * 31 % 1009 / 504 - 1)
    mixed = low + 0.8 * high + hiss
    return np.asarray(mixed * settings.MIXTURE_RMS / np.sqrt(np.mean(np.square(mixed))), np.float32)


def _voice(seconds: Array, *, pitch_hz: float, glide_hz: float, syllables_hz: float) -> Array:
    phase = 2 * np.pi * pitch_hz * seconds + glide_hz * np.sin(2 * np.pi * 0.7 * seconds) / 0.7
    tones = sum(np.sin(k * phase) / k for k in range(1, 20))
    return np.asarray(tones * np.square(np.sin(np.pi * syllables_hz * seconds)))


def _sound() -> Array:
    """One second of many soft tones, as a crowd's murmur has them."""
    seconds = np.arange(settings.SOUND_SAMPLES) / settings.SAMPLE_RATE_HZ
    tones = [np.sin(2 * np.pi * (90 + 61 * k) * seconds + k * k) / (1 + 0.2 * k) for k in range(40)]
    murmur = sum(tones) * (0.6 + 0.4 * np.sin(2 * np.pi * 5 * seconds))
    return np.asarray(0.05 * murmur / np.sqrt(np.mean(np.square(murmur))), np.float32)


def _face() -> Array:
    """A drawn face from the front (224, 224, 3)."""
    size = settings.FACE_SIZE
    face = np.full((size, size, 3), (176, 188, 196), np.uint8)
    for x, y, wide, high, colour in (
        (112, 104, 84, 100, (62, 44, 36)),  # hair
        (112, 120, 66, 86, (214, 168, 142)),
        (86, 104, 14, 8, (244, 244, 240)),  # eyes
        (138, 104, 14, 8, (244, 244, 240)),
        (86, 104, 6, 6, (48, 60, 84)),
        (138, 104, 6, 6, (48, 60, 84)),
        (112, 132, 8, 14, (190, 138, 116)),  # nose
        (112, 166, 26, 8, (168, 74, 78)),  # mouth
    ):
        _paint_ellipse(face, x, y, wide, high, colour)
    return face


def _picture() -> Array:
    """A drawn square with rows of heads that become larger towards the front (576, 1024, 3)."""
    height, width = settings.PICTURE_HEIGHT, settings.PICTURE_WIDTH
    rows = np.arange(height)[:, np.newaxis]
    columns = np.arange(width)[np.newaxis]
    ground = 150 + rows * 60 // height + (rows * 7 + columns * 13) % 11
    picture = np.stack([ground, ground - 6, ground - 14], axis=2).astype(np.uint8)
    y, radius = 150, 5
    while y < height - 2 * radius:
        step = 5 * radius
        for number, x in enumerate(range(step, width - step, step)):
            x, top = x + (number * 29 + y) % (2 * radius), y + (number * 17) % (2 * radius)
            clothes = (40 + number * 37 % 150, 50 + number * 61 % 120, 60 + number * 23 % 140)
            _paint_ellipse(picture, x, top + 3 * radius, 2 * radius, 2 * radius, clothes)
            _paint_ellipse(picture, x, top, radius, radius + radius // 3, (70 + number * 31 % 90, 52, 40))
        y, radius = y + 4 * radius, radius + 2
    return np.asarray(picture)


def _paint_ellipse(picture: Array, x: int, y: int, wide: int, high: int, colour: tuple[int, int, int]) -> None:
    """Fill an ellipse in whole numbers, so that every machine draws the same pixels."""
    top, left = max(y - high, 0), max(x - wide, 0)
    box = picture[top : y + high + 1, left : x + wide + 1]
    rows, columns = np.ogrid[top : top + box.shape[0], left : left + box.shape[1]]
    box[(columns - x) ** 2 * high**2 + (rows - y) ** 2 * wide**2 <= (wide * high) ** 2] = colour


if __name__ == "__main__":
    write_shipped()
    sys.stdout.write(f"{SHIPPED}\n")

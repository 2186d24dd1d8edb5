"""The benchmark's degradations of a photograph before it is resized: light, then noise, then a black box.

As AudioCSRNet's loaders define them for DISCO (github.com/qingzwang/AudioVisualCrowdCounting, f801b1a) and Table 1 and
Figure 6 of Sajid et al. 2021 use them: values times R, Gaussian noise of B grey levels, a black box over the share
OR. Where light and noise are random, a picture has brightness U(0, R) and noise B * sqrt(U(0, 1)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, sqrt
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from train.crowd.geometry import Resolution
from train.crowd.scene import Picture
from train.errors import TrainError

Rng = np.random.Generator

_QUANTILES = 1 << 16  # of the normal distribution: no integer's probability is off by more than 1 / 65536
_OCCLUSION = "occlusion_"


@dataclass(frozen=True)
class Degradation:
    """What is done to every picture of a set.

    Raises:
        TrainError: brightness below 0, noise below 0 or an occlusion outside [0, 1].
    """

    brightness: float = 1.0  # R, a factor; with `drawn`, the largest
    noise: float = 0.0  # B: standard deviation in grey levels of 255; with `drawn`, the largest
    occlusion: float = 0.0  # OR, share of the picture's area that is black
    drawn: bool = False  # light and noise are drawn for each picture
    resolution: Resolution = "regular"  # of the network that sees the picture; `degraded` leaves the size alone

    def __post_init__(self) -> None:
        for name, largest in (("brightness", float("inf")), ("noise", float("inf")), ("occlusion", 1.0)):
            value = getattr(self, name)
            if not (isfinite(value) and 0 <= value <= largest):
                raise TrainError(f"The degradation's {name} is {value}; wanted a number from 0 to {largest}.")


# The rows of Table 1
SETTINGS: dict[str, Degradation] = {
    "regular": Degradation(),
    "low_resolution": Degradation(resolution="low"),
    "noise_25": Degradation(noise=25),
    "noise_50": Degradation(noise=50),
    "dark_25": Degradation(brightness=0.2, noise=25, drawn=True),
    "dark_50": Degradation(brightness=0.2, noise=50, drawn=True),
}
SETTINGS_HELP = f"{', '.join(SETTINGS)}, or {_OCCLUSION}R with a share R from 0 to 1, as {_OCCLUSION}0.5"


def parse_setting(text: str) -> Degradation:
    """The degradation of a name on the command line: a key of `SETTINGS`, or `occlusion_0.5`.

    Raises:
        TrainError: no such setting.
    """
    if text in SETTINGS:
        return SETTINGS[text]
    rate = text.removeprefix(_OCCLUSION)
    try:
        if rate != text:
            return Degradation(occlusion=float(rate))
    except (ValueError, TrainError):
        pass  # the sentence below says what is wanted
    raise TrainError(f"There is no setting {text!r}; wanted {SETTINGS_HELP}.")


def picture_rng(seed: int, name: str) -> Rng:
    """The generator of one picture: the same on every machine, whichever pictures came before."""
    return np.random.default_rng([seed, crc32(name.encode())])


def random_degradation(rng: Rng) -> Degradation:
    """One for training: 40 % of the pictures stay, 20 % each get noise, darkness with noise, or a box of U(0, 1)."""
    kind = rng.choice(["regular", "noise", "dark", "occlusion"], p=[0.4, 0.2, 0.2, 0.2])
    if kind == "noise":
        return Degradation(noise=float(rng.choice([25, 50])))
    if kind == "dark":
        return SETTINGS[str(rng.choice(["dark_25", "dark_50"]))]
    return Degradation(occlusion=float(rng.random())) if kind == "occlusion" else SETTINGS["regular"]


def degraded(picture: Picture, degradation: Degradation, rng: Rng) -> Picture:
    """The picture in other light, with noise and a black box; its size stays, and the given array is not touched.

    Args:
        picture: UINT8 (H, W, 3).
        degradation: what is done.
        rng: of this picture (`picture_rng`); the same state degrades in the same way.
    """
    brightness, noise = degradation.brightness, degradation.noise
    if degradation.drawn:
        brightness, noise = brightness * rng.random(), noise * sqrt(rng.random())
    return _occluded(_noisy(_lit(picture, brightness), noise, rng), degradation.occlusion, rng)


def _lit(picture: Picture, factor: float) -> Picture:
    """Every value times the factor, cut to an integer: what PIL's ImageEnhance.Brightness gives."""
    if factor == 1:
        return picture
    levels = np.arange(256, dtype=np.float32) * np.float32(factor)  # PIL blends with black in single precision
    return cv2.LUT(picture, np.minimum(levels, 255).astype(np.uint8)).astype(np.uint8, copy=False)


@lru_cache(maxsize=1)
def _normal_quantiles() -> NDArray[np.float64]:
    from scipy.special import ndtri

    quantiles: NDArray[np.float64] = ndtri((np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    return quantiles


def _noisy(picture: Picture, sigma: float, rng: Rng) -> Picture:
    """Independent Gaussian noise on every value, rounded to integers and clipped.

    A table of rounded quantiles is 3.5 times as fast as drawing normal numbers (7, not 25 ms for 1024x768 on one core).
    """
    if sigma == 0:
        return picture
    rounded = np.rint(_normal_quantiles() * sigma).clip(-255, 255).astype(np.int16)
    noise = rounded[rng.integers(0, _QUANTILES, picture.shape, np.uint16)]
    return cv2.add(picture, noise, dtype=cv2.CV_8U).astype(np.uint8, copy=False)


def _occluded(picture: Picture, rate: float, rng: Rng) -> Picture:
    """A black rectangle of the picture's shape, at a uniform place; its sides are sqrt(rate) of the picture's."""
    high, wide = (round(sqrt(rate) * side) for side in picture.shape[:2])
    if not high or not wide:
        return picture
    # The benchmark's range: the last place on either side is never taken
    top, left = (int(rng.integers(max(side - box, 1))) for side, box in zip(picture.shape, (high, wide), strict=False))
    hidden = picture.copy()
    hidden[top : top + high, left : left + wide] = 0
    return hidden

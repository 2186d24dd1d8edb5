"""The parts of a drawn head: each is a few soft-edged polygons laid over a canvas, placed by a pose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float32]  # (480, 480, 3) RGB, 0 to 255
Points = NDArray[np.float64]  # (n, 2), x and y in canvas pixels
Colour = tuple[float, float, float]

PORTRAIT_SIZE = 480  # pixels


@dataclass(frozen=True)
class Look:
    """A person's constant appearance; the shape numbers are z-scores, about -2 to 2."""

    sex: Literal["F", "M"]
    fullness: float  # of face and eyes; follows the pitch within the sex
    length: float  # of face and neck; follows the vocal tract within the sex
    softness: float  # of the lips; follows the voice's tilt
    skin: Colour
    hair: Colour
    iris: Colour
    long_hair: bool
    beard: float  # 0 none, 1 full
    bald: bool


@dataclass(frozen=True)
class Frame:
    """Where the face is on the canvas, in canvas pixels."""

    x: float
    y: float  # of the middle between forehead top and chin
    half_width: float
    half_height: float
    yaw: float  # -1 to 1: features shift sideways inside the outline
    pitch: float  # -1 to 1: features shift up and down
    jaw: float  # exponent of the lower outline: 2 is round, 3 is square

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Canvas point of a point on the face; u, v in about -1 to 1, seen under the pose."""
        bulge = max(0.0, 1 - 0.7 * u * u)
        return self.x + self.half_width * (u * (1 - 0.12 * abs(self.yaw)) + 0.22 * self.yaw * bulge), (
            self.y + self.half_height * (v + 0.06 * self.pitch)
        )


def clipped_colour(values: NDArray[np.float64]) -> Colour:
    """Make a colour of three numbers, cut to 0 to 255."""
    red, green, blue = np.clip(values, 0, 255).tolist()
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    return clipped_colour(np.array(colour) * factor)


def _ellipse(x: float, y: float, across: float, down: float, tilt: float = 0.0) -> Points:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    u, v = across * np.cos(angle), down * np.sin(angle)
    return np.stack([x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt)], axis=1)


def rectangle(x: float, y: float, wide: float, high: float) -> Points:
    """Give the corners of an upright rectangle."""
    return np.array([(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)])


def _outline(frame: Frame, grow: float = 1.0, lift: float = 0.0) -> Points:
    """Face outline: an upper and a lower superellipse, the lower one squarer with a stronger jaw."""
    v = np.concatenate([np.linspace(-1, 1, 40), np.linspace(1, -1, 40)])
    side = np.repeat([1.0, -1.0], 40)
    exponent = np.where(v < 0, 2.2, frame.jaw)
    wide = (1 - np.abs(v) ** exponent) ** (1 / exponent)
    wide *= np.where(v > 0, 1 - 0.16 * v, 1.0)  # the chin is narrower than the cheeks
    return np.stack(
        [frame.x + side * wide * frame.half_width * grow, frame.y + (v * grow - lift) * frame.half_height], axis=1
    )


def paint(canvas: Canvas, shape: Points, colour: Colour, *, opacity: float = 1.0, blur: float = 0.0) -> None:
    """Lay a polygon over the canvas, its edge softened by a Gaussian of `blur` pixels."""
    margin = 3 * blur + 2
    low = np.clip(np.floor(shape.min(axis=0) - margin), 0, PORTRAIT_SIZE).astype(int)
    high = np.clip(np.ceil(shape.max(axis=0) + margin), 0, PORTRAIT_SIZE).astype(int)
    if (high <= low).any():  # all of it is outside
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(mask, [np.round((shape - low) * 16).astype(np.int32)], (255,), lineType=cv2.LINE_AA, shift=4)
    alpha: Any = mask.astype(np.float32) * (opacity / 255)
    if blur > 0:
        alpha = cv2.GaussianBlur(alpha, (0, 0), blur)
    patch = canvas[low[1] : high[1], low[0] : high[0]]
    patch += alpha[..., None] * (np.array(colour, np.float32) - patch)


def draw_hair_behind(canvas: Canvas, look: Look, frame: Frame) -> None:
    """Draw the hair that the head hides: a cap, and long locks beside the neck."""
    if look.bald:
        return
    paint(canvas, _outline(frame, 1.13, 0.10), look.hair, blur=2)
    if look.long_hair:
        bottom = frame.y + frame.half_height * (1.45 - 0.1 * look.length)
        for side in (-1, 1):
            x = frame.x + side * frame.half_width
            lock = [(frame.x, frame.y - frame.half_height), (x * 1.0 + side * 12, frame.y - frame.half_height * 0.4)]
            lock += [
                (x + side * 22, frame.y + frame.half_height * 0.6),
                (x + side * 16, bottom),
                (x - side * 30, bottom + 6),
            ]
            paint(canvas, np.array(lock), _shade(look.hair, 0.85), blur=4)


def draw_body(canvas: Canvas, look: Look, frame: Frame, rng: np.random.Generator) -> None:
    """Draw shoulders, clothes, neck and the shadow under the chin."""
    chin = frame.y + frame.half_height
    neck = frame.half_width * (0.50 if look.sex == "F" else 0.68)
    shoulder = chin + frame.half_height * (0.38 + 0.12 * look.length)
    wide = frame.half_width * (1.9 if look.sex == "F" else 2.4)
    cloth = clipped_colour(rng.uniform(15, 235, 3))
    edge = PORTRAIT_SIZE + 40.0
    torso = [
        (frame.x - neck, shoulder - 12),
        (frame.x + neck, shoulder - 12),
        (frame.x + wide, shoulder + 45),
        (frame.x + wide + 25, edge),
    ]
    torso += [(frame.x - wide - 25, edge), (frame.x - wide, shoulder + 45)]
    paint(canvas, np.array(torso), cloth, blur=2)
    throat = rectangle(
        frame.x - neck, frame.y + frame.half_height * 0.5, 2 * neck, shoulder - frame.y - frame.half_height * 0.5
    )
    paint(canvas, throat, _shade(look.skin, 0.82), blur=2)
    paint(canvas, _ellipse(frame.x, shoulder, neck, 16), _shade(look.skin, 0.82), blur=2)
    paint(canvas, _ellipse(frame.x, chin + 6, neck * 1.1, 14), _shade(look.skin, 0.58), opacity=0.7, blur=7)


def draw_head(canvas: Canvas, look: Look, frame: Frame) -> None:
    """Draw ears, the shaded face without features, and a beard where there is one."""
    skin = look.skin
    for side in (-1, 1):
        paint(canvas, _ellipse(frame.x + side * frame.half_width, frame.y + 4, 11, 22), _shade(skin, 0.85), blur=1.5)
    paint(canvas, _outline(frame), _shade(skin, 0.80), blur=1.2)
    paint(canvas, _outline(frame, 0.84), skin, blur=11)  # the middle is nearer to the light than the edge
    paint(
        canvas,
        _ellipse(*frame.at(0, -0.62), frame.half_width * 0.5, frame.half_height * 0.15),
        _shade(skin, 1.12),
        opacity=0.8,
        blur=9,
    )
    for side in (-1, 1):
        cheek = _ellipse(*frame.at(0.5 * side, 0.28), frame.half_width * 0.24, frame.half_height * 0.15)
        paint(canvas, cheek, _shade(skin, 1.12), opacity=0.8, blur=8)
    if look.beard > 0:
        _draw_beard(canvas, look, frame)


def _draw_beard(canvas: Canvas, look: Look, frame: Frame) -> None:
    outer = _outline(frame, 1.01)
    lower = outer[outer[:, 1] > frame.y + 0.22 * frame.half_height]
    inner = [frame.at(u, 0.46 + 0.14 * abs(u)) for u in (-0.62, -0.3, 0.3, 0.62)]
    order = np.argsort(np.arctan2(lower[:, 1] - frame.y, lower[:, 0] - frame.x))
    paint(canvas, np.concatenate([lower[order], np.array(inner)]), look.hair, opacity=0.35 + 0.5 * look.beard, blur=4)


def draw_features(canvas: Canvas, look: Look, frame: Frame, rng: np.random.Generator) -> None:
    """Draw eyes, brows, nose and mouth with a passing expression."""
    openness = float(rng.uniform(0.75, 1.15))
    gaze = float(rng.normal(0, 0.15))
    for side in (-1, 1):
        _draw_eye(canvas, look, frame, side, openness, gaze)
        _draw_brow(canvas, look, frame, side, float(rng.normal(0, 0.02)))
    _draw_nose(canvas, look, frame)
    _draw_mouth(canvas, look, frame, smile=float(rng.normal(0.2, 0.5)), opening=max(0.0, float(rng.normal(0.1, 0.5))))


def _draw_eye(canvas: Canvas, look: Look, frame: Frame, side: int, openness: float, gaze: float) -> None:
    x, y = frame.at(0.42 * side, -0.13)
    size = frame.half_width * 0.20 * (1 + 0.10 * look.fullness) * (1.08 if look.sex == "F" else 0.95)
    down = size * 0.52 * openness
    paint(
        canvas, _ellipse(x, y - 3, size * 1.45, size * 1.05), _shade(look.skin, 0.5), opacity=0.85, blur=7
    )  # the socket
    white = clipped_colour(0.35 * np.array((238, 234, 230)) + 0.55 * np.array(look.skin))  # in the shadow of the brow
    paint(canvas, _ellipse(x, y, size, down), white, blur=0.8)
    pupil = x + gaze * size + 0.12 * frame.yaw * size
    paint(canvas, _ellipse(pupil, y, down * 0.95, down * 0.95), look.iris, blur=0.6)
    paint(canvas, _ellipse(pupil, y, down * 0.48, down * 0.48), (12, 10, 10), blur=0.5)
    paint(canvas, _ellipse(pupil - 2, y - 2.5, 1.6, 1.6), (250, 250, 250))
    lash = 3.2 if look.sex == "F" else 2.0
    angle = np.linspace(np.pi, 2 * np.pi, 14)
    upper = np.stack([x + size * 1.08 * np.cos(angle), y + down * np.sin(angle)], axis=1)
    lid = np.concatenate([upper, (upper - (0, lash))[::-1]])
    paint(canvas, lid, (36, 24, 20), blur=0.8)


def _draw_brow(canvas: Canvas, look: Look, frame: Frame, side: int, raised: float) -> None:
    thick = (0.016 if look.sex == "F" else 0.034) * frame.half_height * (1 - 0.1 * look.fullness)
    lift = (-0.34 if look.sex == "F" else -0.30) - raised
    arch = 0.055 if look.sex == "F" else 0.02
    us = np.linspace(0.2, 0.68, 8)
    top = np.array([frame.at(side * u, lift - arch * np.sin(np.pi * (u - 0.2) / 0.6)) for u in us])
    tone = clipped_colour(np.minimum(np.array(look.hair) * 0.7, np.array(look.skin) * 0.55))
    paint(canvas, np.concatenate([top - (0, thick), (top + (0, thick))[::-1]]), tone, opacity=0.9, blur=1.4)


def _draw_nose(canvas: Canvas, look: Look, frame: Frame) -> None:
    tip_v = 0.26 + 0.02 * look.length
    wide = frame.half_width * (0.15 if look.sex == "F" else 0.19)
    shadow = 0.09 + 0.10 * abs(frame.yaw)
    turned = -1 if frame.yaw > 0 else 1
    ridge = [
        frame.at(turned * 0.10, -0.12),
        frame.at(turned * (0.10 + shadow), 0.1),
        frame.at(turned * 0.16, tip_v),
        frame.at(0.0, tip_v),
    ]
    paint(canvas, np.array(ridge), _shade(look.skin, 0.68), opacity=0.5, blur=5)
    paint(
        canvas,
        _ellipse(*frame.at(0, 0.08), wide * 0.35, frame.half_height * 0.17),
        _shade(look.skin, 1.1),
        opacity=0.7,
        blur=4,
    )
    x, y = frame.at(0, tip_v)
    paint(canvas, _ellipse(x, y + 4, wide, 6), _shade(look.skin, 0.6), opacity=0.7, blur=3.5)
    for side in (-1, 1):
        paint(canvas, _ellipse(x + side * wide * 0.55, y + 3, 4.2, 2.6), (50, 26, 22), opacity=0.85, blur=1.2)


def _draw_mouth(canvas: Canvas, look: Look, frame: Frame, *, smile: float, opening: float) -> None:
    x, y = frame.at(0, 0.55)
    across = frame.half_width * (0.36 - 0.03 * look.softness) * (1 + 0.12 * max(smile, 0))
    full = frame.half_height * (0.045 if look.sex == "F" else 0.030) * (1 + 0.25 * look.softness)
    u = np.linspace(-1, 1, 21)
    curve = y - 6 * smile * (u * u - 0.4)
    bow = 1 - u * u
    red = np.array(look.skin) * (0.72, 0.50, 0.50) if look.sex == "F" else np.array(look.skin) * (0.76, 0.62, 0.60)
    gap = 7 * opening * bow
    upper = np.stack([x + across * u, curve - full * bow * (1 - 0.25 * np.exp(-((u / 0.18) ** 2)))], axis=1)
    middle = np.stack([x + across * u, curve], axis=1)
    lower = np.stack([x + across * u, curve + gap + 1.5 * full * bow], axis=1)
    paint(
        canvas,
        _ellipse(x, y + gap.max() + 2.6 * full + 4, across * 0.6, 5),
        _shade(look.skin, 0.62),
        opacity=0.55,
        blur=4,
    )
    paint(canvas, np.concatenate([upper, lower[::-1]]), clipped_colour(red), blur=1.2)
    paint(
        canvas,
        np.concatenate([middle - (0, 1.2), (middle + np.stack([0 * u, gap + 1.2], axis=1))[::-1]]),
        (58, 22, 24),
        blur=1.0,
    )
    if opening > 0.5:
        teeth = np.concatenate([middle[4:-4], (middle + np.stack([0 * u, 0.45 * gap], axis=1))[4:-4][::-1]])
        paint(canvas, teeth, (238, 234, 226), blur=0.8)


def draw_hair_front(canvas: Canvas, look: Look, frame: Frame, rng: np.random.Generator) -> None:
    """Draw the hairline over the forehead, and strands beside the cheeks."""
    if look.bald:
        return
    line = -0.74 if look.long_hair else -0.70
    parting = float(rng.normal(0.2, 0.1)) if look.long_hair else 0.0
    outline = _outline(frame, 1.10, 0.10)
    upper = outline[outline[:, 1] < frame.y - 0.55 * frame.half_height]
    order = np.argsort(upper[:, 0])
    fringe = [frame.at(u, line - 0.10 * np.exp(-(((u - parting) / 0.25) ** 2))) for u in np.linspace(0.82, -0.82, 17)]
    shape = np.concatenate([upper[order], np.array(fringe)])
    paint(canvas, shape, look.hair, blur=2.5)
    shine = _ellipse(frame.x - 14, frame.y - frame.half_height * 1.0, frame.half_width * 0.4, 7, -0.1)
    paint(canvas, shine, _shade(look.hair, 1.35), opacity=0.5, blur=6)
    if look.long_hair:
        for side in (-1, 1):
            strand = [frame.at(0.84 * side, -0.78), frame.at(0.86 * side, -0.1), frame.at(0.95 * side, 0.5)]
            strand += [(x + side * 24, y) for x, y in strand[::-1]]
            paint(canvas, np.array(strand), look.hair, blur=3)


def draw_glasses(canvas: Canvas, frame: Frame, rng: np.random.Generator) -> None:
    """Draw two rims and a bridge."""
    tone = clipped_colour(rng.uniform(10, 90, 3))
    wide = frame.half_width * 0.33
    for side in (-1, 1):
        x, y = frame.at(0.42 * side, -0.11)
        outer, inner = _ellipse(x, y, wide, wide * 0.8), _ellipse(x, y, wide - 3.5, wide * 0.8 - 3.5)
        paint(canvas, np.concatenate([outer, outer[:1], inner[:1], inner[::-1]]), tone, blur=0.7)
    left, right = frame.at(-0.12, -0.14), frame.at(0.12, -0.14)
    paint(canvas, np.array([left, right, (right[0], right[1] + 3.5), (left[0], left[1] + 3.5)]), tone, blur=0.7)

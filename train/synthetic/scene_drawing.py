"""The drawn parts of a crowd scene: backgrounds, people, and round things that are not people.

Everything is drawn with OpenCV on a canvas UINT8 (576, 1024, 3), RGB. `Rng` is numpy's generator: the same state
draws the same picture. Coordinates are pixels, x to the right and y down; a person's size is the radius of the head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.settings import PICTURE_HEIGHT, PICTURE_WIDTH

Canvas = NDArray[np.uint8]
Colour = tuple[int, int, int]
Rng = np.random.Generator

_SUBPIXEL_BITS = 3  # OpenCV's fixed point: eighths of a pixel, so that small heads are not all alike


@dataclass(frozen=True)
class Perspective:
    """Where the ground begins and how large heads are along it."""

    horizon: float  # y of the farthest people's heads
    far_radius: float  # head radius there, pixels
    near_radius: float  # head radius at the lower edge, pixels

    def radius_at(self, y: float) -> float:
        """Head radius in pixels for a head at height y: linear below the horizon, as on level ground."""
        nearness = (y - self.horizon) / (PICTURE_HEIGHT - self.horizon)
        return self.far_radius + (self.near_radius - self.far_radius) * max(nearness, 0.0)


def random_perspective(rng: Rng) -> Perspective:
    """A camera: from a stand far away (small heads everywhere) to a street at eye level (a wide range)."""
    far = rng.uniform(2.8, 6.0)
    return Perspective(
        horizon=float(rng.uniform(0.15, 0.5) * PICTURE_HEIGHT),
        far_radius=float(far),
        near_radius=float(far * rng.uniform(1.6, 4.0)),
    )


def random_colour(rng: Rng, low: int = 0, high: int = 255) -> Colour:
    """Any colour whose channels lie in [low, high]."""
    red, green, blue = rng.integers(low, high + 1, 3)
    return int(red), int(green), int(blue)


def _shaded(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in colour)
    return red, green, blue


def _ellipse(canvas: Canvas, x: float, y: float, half_width: float, half_height: float, colour: Colour) -> None:
    one = 1 << _SUBPIXEL_BITS
    centre = (round(x * one), round(y * one))
    axes = (max(1, round(half_width * one)), max(1, round(half_height * one)))
    cv2.ellipse(canvas, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


# ---- people ----

_SKINS: tuple[Colour, ...] = ((241, 204, 177), (224, 172, 138), (198, 134, 94), (141, 85, 52), (92, 56, 36))
_HAIRS: tuple[Colour, ...] = ((25, 20, 18), (60, 40, 25), (110, 75, 40), (180, 145, 85), (150, 150, 150), (140, 60, 30))


def draw_person(canvas: Canvas, rng: Rng, x: float, y: float, radius: float) -> None:
    """Draw one person whose head's centre is (x, y): body first, then neck, head, and hair or a hat."""
    skin = _shaded(_SKINS[rng.integers(len(_SKINS))], rng.uniform(0.8, 1.1))
    clothes = random_colour(rng, 15, 245)
    _draw_body(canvas, rng, x, y, radius, clothes)
    _ellipse(canvas, x, y + 0.9 * radius, 0.45 * radius, 0.5 * radius, _shaded(skin, 0.75))
    _draw_head(canvas, rng, x, y, radius, skin)


def _draw_body(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, clothes: Colour) -> None:
    shoulder = radius * rng.uniform(1.7, 2.3)
    shoulder_y = y + 2.0 * radius
    hips_y = y + radius * rng.uniform(5.5, 7.0)
    legs = _shaded(random_colour(rng, 15, 160), 0.8)
    hip = 0.75 * shoulder
    cv2.rectangle(canvas, _at(x - 0.8 * hip, hips_y - radius), _at(x + 0.8 * hip, hips_y + 5 * radius), legs, -1)
    outline = [(x - shoulder, shoulder_y), (x + shoulder, shoulder_y), (x + hip, hips_y), (x - hip, hips_y)]
    cv2.fillConvexPoly(canvas, np.array(outline, np.int32), clothes, cv2.LINE_AA)
    _ellipse(canvas, x, shoulder_y, shoulder, 0.9 * radius, clothes)


def _draw_head(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, skin: Colour) -> None:
    width, height = 0.82 * radius, radius
    _ellipse(canvas, x, y, width, height, skin)
    hair = _shaded(_HAIRS[rng.integers(len(_HAIRS))], rng.uniform(0.8, 1.2))
    look = rng.random()
    if look < 0.3:  # seen from behind: hair all over
        _ellipse(canvas, x, y - 0.05 * radius, width * 1.05, 0.95 * height, hair)
    elif look < 0.85:  # hair on top, turned a little to one side
        turn = rng.uniform(-0.25, 0.25) * radius
        _ellipse(canvas, x + turn, y - 0.55 * radius, width, 0.55 * height, hair)
    elif look < 0.95:  # a hat with a brim
        hat = random_colour(rng, 10, 250)
        _ellipse(canvas, x, y - 0.7 * radius, 0.9 * radius, 0.5 * radius, hat)
        _ellipse(canvas, x, y - 0.4 * radius, 1.25 * radius, 0.18 * radius, _shaded(hat, 0.8))


def _at(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)


# ---- backgrounds ----


def _gradient(canvas: Canvas, top: int, bottom: int, first: Colour, last: Colour) -> None:
    top, bottom = max(0, top), min(PICTURE_HEIGHT, bottom)
    ramp = np.linspace(0.0, 1.0, max(bottom - top, 1))[:, None]
    rows = (1 - ramp) * np.array(first) + ramp * np.array(last)  # (rows, 3)
    canvas[top:bottom] = rows[: bottom - top, None].astype(np.uint8)


def _draw_street(canvas: Canvas, rng: Rng, horizon: int) -> None:
    _gradient(canvas, 0, horizon, random_colour(rng, 120, 230), random_colour(rng, 170, 250))
    grey = int(rng.integers(60, 170))
    _gradient(canvas, horizon, PICTURE_HEIGHT, (grey, grey, grey), _shaded((grey, grey, grey), rng.uniform(0.7, 1.3)))
    left = 0
    while left < PICTURE_WIDTH:
        width = int(rng.integers(70, 220))
        _draw_building(canvas, rng, left, horizon, width)
        left += width + int(rng.integers(0, 40))


def _draw_building(canvas: Canvas, rng: Rng, left: int, ground: int, width: int) -> None:
    roof = int(ground * rng.uniform(0.0, 0.7))
    wall = random_colour(rng, 60, 210)
    cv2.rectangle(canvas, (left, roof), (left + width, ground), wall, -1)
    step, pane = int(rng.integers(14, 34)), _shaded(wall, rng.uniform(0.4, 1.6))
    round_windows = rng.random() < 0.2
    for y in range(roof + 8, ground - step // 2, step):
        for x in range(left + 6, left + width - step // 2, step):
            if round_windows:
                _ellipse(canvas, x + step / 4, y + step / 4, step / 4, step / 4, pane)
            else:
                cv2.rectangle(canvas, (x, y), (x + step // 2, y + step // 2), pane, -1)


def _draw_stand(canvas: Canvas, rng: Rng, horizon: int) -> None:
    wall = random_colour(rng, 80, 200)
    _gradient(canvas, 0, PICTURE_HEIGHT, wall, _shaded(wall, rng.uniform(0.6, 1.2)))
    seat = random_colour(rng, 30, 230)
    y, height = float(horizon), rng.uniform(9, 14)
    while y < PICTURE_HEIGHT:  # rows of round-topped seats, larger towards the camera
        cv2.line(canvas, _at(0, y), _at(PICTURE_WIDTH, y), _shaded(wall, 0.6), max(1, round(height / 5)))
        for x in np.arange(rng.uniform(0, height), PICTURE_WIDTH, 1.6 * height):
            _ellipse(canvas, x, y + 0.7 * height, 0.6 * height, 0.6 * height, _shaded(seat, rng.uniform(0.85, 1.15)))
        y, height = y + 1.8 * height, height * 1.07


def _draw_field(canvas: Canvas, rng: Rng, horizon: int) -> None:
    _gradient(canvas, 0, horizon, (90, 140, 210), random_colour(rng, 170, 240))
    green = (int(rng.integers(40, 120)), int(rng.integers(90, 170)), int(rng.integers(20, 80)))
    _gradient(canvas, horizon, PICTURE_HEIGHT, green, _shaded(green, rng.uniform(0.7, 1.4)))
    for _ in range(rng.integers(3, 12)):
        draw_tree(canvas, rng, rng.uniform(0, PICTURE_WIDTH), horizon + rng.uniform(0, 30), rng.uniform(20, 60))


def _draw_hall(canvas: Canvas, rng: Rng, horizon: int) -> None:
    wall, floor = random_colour(rng, 70, 240), random_colour(rng, 60, 200)
    _gradient(canvas, 0, horizon, _shaded(wall, rng.uniform(0.6, 1.0)), wall)
    _gradient(canvas, horizon, PICTURE_HEIGHT, floor, _shaded(floor, rng.uniform(0.6, 1.3)))
    tile = _shaded(floor, 0.85)
    centre = PICTURE_WIDTH / 2
    for x in np.linspace(-PICTURE_WIDTH, 2 * PICTURE_WIDTH, 22):
        cv2.line(canvas, _at(centre + (x - centre) * 0.3, horizon), _at(x, PICTURE_HEIGHT), tile, 1, cv2.LINE_AA)


_BACKGROUNDS: tuple[Callable[[Canvas, Rng, int], None], ...] = (_draw_street, _draw_stand, _draw_field, _draw_hall)


def draw_background(rng: Rng, perspective: Perspective) -> Canvas:
    """A street, a stand, a field or a hall, UINT8 (576, 1024, 3) RGB, with its ground beginning near the horizon."""
    canvas: Canvas = np.zeros((PICTURE_HEIGHT, PICTURE_WIDTH, 3), np.uint8)
    _BACKGROUNDS[rng.integers(len(_BACKGROUNDS))](canvas, rng, round(perspective.horizon))
    return canvas


# ---- things that are not people ----


def draw_tree(canvas: Canvas, rng: Rng, x: float, foot_y: float, size: float) -> None:
    """A trunk under a cluster of round leaves."""
    trunk = (int(rng.integers(60, 110)), int(rng.integers(40, 70)), int(rng.integers(20, 50)))
    cv2.rectangle(canvas, _at(x - size / 10, foot_y - size), _at(x + size / 10, foot_y), trunk, -1)
    green = (int(rng.integers(20, 90)), int(rng.integers(70, 150)), int(rng.integers(10, 60)))
    for _ in range(7):
        leaf_x, leaf_y = x + rng.uniform(-0.5, 0.5) * size, foot_y - size * rng.uniform(0.9, 1.7)
        _ellipse(canvas, leaf_x, leaf_y, 0.35 * size, 0.3 * size, _shaded(green, rng.uniform(0.7, 1.3)))


def _draw_lamp(canvas: Canvas, rng: Rng, x: float, y: float, radius: float) -> None:
    pole = _shaded(random_colour(rng, 30, 120), 1.0)
    cv2.line(canvas, _at(x, y), _at(x, y + 14 * radius), pole, max(1, round(radius / 3)), cv2.LINE_AA)
    _ellipse(canvas, x, y, radius, radius, random_colour(rng, 200, 255))


def _draw_ball(canvas: Canvas, rng: Rng, x: float, y: float, radius: float) -> None:
    colour = random_colour(rng, 30, 250)
    _ellipse(canvas, x, y, radius, radius, colour)
    _ellipse(canvas, x - 0.3 * radius, y - 0.3 * radius, 0.3 * radius, 0.3 * radius, _shaded(colour, 1.4))


def _draw_balloon(canvas: Canvas, rng: Rng, x: float, y: float, radius: float) -> None:
    _ellipse(canvas, x, y, radius, 1.2 * radius, random_colour(rng, 60, 255))
    cv2.line(canvas, _at(x, y + 1.2 * radius), _at(x + radius / 2, y + 5 * radius), (70, 70, 70), 1, cv2.LINE_AA)


def _draw_sign(canvas: Canvas, rng: Rng, x: float, y: float, radius: float) -> None:
    cv2.line(canvas, _at(x, y), _at(x, y + 10 * radius), (110, 110, 115), max(1, round(radius / 4)))
    _ellipse(canvas, x, y, 1.3 * radius, 1.3 * radius, random_colour(rng, 120, 255))
    _ellipse(canvas, x, y, 0.95 * radius, 0.95 * radius, random_colour(rng, 20, 255))


def _draw_bin(canvas: Canvas, rng: Rng, x: float, y: float, radius: float) -> None:
    colour = random_colour(rng, 20, 200)
    cv2.rectangle(canvas, _at(x - 1.2 * radius, y), _at(x + 1.2 * radius, y + 4 * radius), colour, -1)
    _ellipse(canvas, x, y, 1.2 * radius, 0.6 * radius, _shaded(colour, 1.3))


_DISTRACTORS: tuple[Callable[[Canvas, Rng, float, float, float], None], ...] = (
    _draw_lamp,
    _draw_ball,
    _draw_balloon,
    _draw_sign,
    _draw_bin,
)


def draw_distractor(canvas: Canvas, rng: Rng, x: float, y: float, radius: float) -> None:
    """Draw a lamp, ball, balloon, sign or bin about as large as a head of that radius."""
    _DISTRACTORS[rng.integers(len(_DISTRACTORS))](canvas, rng, x, y, radius * float(rng.uniform(0.7, 1.6)))


# ---- light and camera ----


def photograph(canvas: Canvas, rng: Rng, horizon: float) -> Canvas:
    """Apply what air and camera do: haze that thickens with distance, light, tint, blur and sensor noise."""
    picture: NDArray[Any] = canvas.astype(np.float32)
    if rng.random() < 0.4:
        picture = _hazy(picture, rng, horizon)
    gain, contrast = rng.uniform(0.4, 1.15), rng.uniform(0.7, 1.1)
    tint = rng.uniform(0.9, 1.1, 3).astype(np.float32)
    picture = (contrast * (picture - 128) + 128) * np.float32(gain) * tint
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.0)))
    noise = rng.standard_normal(picture.shape, np.float32)
    picture = picture + noise * np.float32(rng.uniform(0, 14))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _hazy(picture: NDArray[np.floating], rng: Rng, horizon: float) -> NDArray[np.floating]:
    y = np.arange(PICTURE_HEIGHT, dtype=np.float32)
    distance = np.clip(1 - (y - horizon) / (PICTURE_HEIGHT - horizon), 0, 1)
    veil = np.float32(rng.uniform(0.1, 0.6)) * distance[:, None, None]
    white = np.float32(rng.uniform(170, 240))
    return (1 - veil) * picture + veil * white

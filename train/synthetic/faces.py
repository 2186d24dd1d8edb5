"""Drawn head-and-shoulders portraits whose look follows a hidden identity, shaded enough for a real face detector.

What a voice has, the face shows: sex (hair, jaw, brows, beard, neck), pitch within the sex (fullness of the face, size
of the eyes), vocal tract within the sex (length of face and neck), softness (lips). Skin, hair colour and eyes are a
person's own but tell nothing of the voice. Pose, light, background, clothes, expression, glasses, blur and noise change
from picture to picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from train.settings import FACE_SIZE
from train.synthetic.face_parts import (
    PORTRAIT_SIZE,
    Canvas,
    Colour,
    Frame,
    Look,
    clipped_colour,
    draw_body,
    draw_features,
    draw_glasses,
    draw_hair_behind,
    draw_hair_front,
    draw_head,
    paint,
    rectangle,
)

Picture = NDArray[np.uint8]

CROP_SCALE = 0.40  # how far the crop reaches beyond the face box (joonson/syncnet_python)
CROP_GREY = 110  # where the crop leaves the picture
_SKINS: tuple[Colour, ...] = (
    (247, 216, 193),
    (240, 200, 168),
    (226, 180, 142),
    (205, 152, 112),
    (170, 118, 84),
    (128, 86, 60),
)
_HAIRS: tuple[Colour, ...] = (
    (28, 22, 20),
    (60, 40, 28),
    (98, 64, 38),
    (150, 104, 60),
    (206, 170, 110),
    (150, 70, 38),
    (170, 168, 165),
)
_DARK_HAIRS = (*_HAIRS[:3], _HAIRS[-1])  # with the darker half of the skins
_IRISES: tuple[Colour, ...] = ((66, 44, 30), (92, 66, 40), (70, 104, 130), (84, 112, 84), (60, 60, 66))


@dataclass(frozen=True)
class Box:
    """A face in a picture, pixels."""

    left: float
    top: float
    width: float
    height: float

    def jittered(self, rng: np.random.Generator) -> Box:
        """Move and stretch the box as one detector differs from another: about 4 % of the side, 7 % in size."""
        side = max(self.width, self.height)
        grow = float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.2))
        x, y = (self.left + self.width / 2, self.top + self.height / 2) + rng.normal(0, 0.04, 2) * side
        return Box(
            float(x - grow * self.width / 2), float(y - grow * self.height / 2), grow * self.width, grow * self.height
        )


@dataclass(frozen=True)
class Portrait:
    """A picture with the face that was drawn into it."""

    picture: Picture  # (size, size, 3) RGB
    face: Box


def draw_look(
    sex: Literal["F", "M"], fullness: float, length: float, softness: float, rng: np.random.Generator
) -> Look:
    """Draw a person's constant appearance around what the voice determines."""
    tone = int(rng.integers(len(_SKINS)))
    skin = np.array(_SKINS[tone]) * rng.uniform(0.94, 1.03)
    hairs = _HAIRS if tone < 3 else _DARK_HAIRS
    hair = np.array(hairs[rng.integers(len(hairs))]) * rng.uniform(0.85, 1.15)
    iris = _IRISES[rng.integers(len(_IRISES))]
    long_hair = rng.random() < (0.85 if sex == "F" else 0.07)
    beard = rng.uniform(0.3, 1.0) if sex == "M" and rng.random() < 0.5 else 0.0
    bald = bool(sex == "M" and not long_hair and rng.random() < 0.12)
    return Look(
        sex,
        fullness,
        length,
        softness,
        clipped_colour(skin),
        clipped_colour(hair),
        iris,
        bool(long_hair),
        float(beard),
        bald,
    )


def draw_portrait(
    look: Look, rng: np.random.Generator, size: int = PORTRAIT_SIZE, *, scene: np.random.Generator | None = None
) -> Portrait:
    """Draw one picture of a person.

    Args:
        look: the person.
        rng: decides on everything that changes between pictures.
        size: of the picture, pixels.
        scene: decides on background and clothes in its place; two pictures with generators of one seed share them.

    Returns:
        the picture, uint8 RGB (size, size, 3), and the face's box from the middle of the forehead to the chin.
    """
    canvas = _background(scene or rng)
    frame = _pose(look, rng)
    draw_hair_behind(canvas, look, frame)
    draw_body(canvas, look, frame, scene or rng)
    draw_head(canvas, look, frame)
    draw_features(canvas, look, frame, rng)
    draw_hair_front(canvas, look, frame, rng)
    if rng.random() < 0.15:
        draw_glasses(canvas, frame, rng)
    return _photograph(canvas, frame, rng, size)


def crop_face(picture: Picture, face: Box, size: int = FACE_SIZE) -> Picture:
    """Cut the square that the networks want around a face box.

    With s half the longer side and (x, y) the box's middle, the square goes from y - s to y + 1.8 s and from x - 1.4 s
    to x + 1.4 s; outside the picture it is grey 110 (the crop rule of joonson/syncnet_python, `run_pipeline.py`).
    """
    half = max(face.width, face.height) / 2
    middle_x, middle_y = face.left + face.width / 2, face.top + face.height / 2
    left, top, side = middle_x - half * (1 + CROP_SCALE), middle_y - half, 2 * half * (1 + CROP_SCALE)
    # pixel centres are at half: target (u + 0.5) / size * side + left - 0.5
    scale = side / size
    matrix = np.array([[scale, 0, left + scale / 2 - 0.5], [0, scale, top + scale / 2 - 0.5]])
    smoothed = cv2.GaussianBlur(picture, (0, 0), 0.5 * scale) if scale > 1.2 else picture
    cropped = cv2.warpAffine(
        smoothed,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(CROP_GREY,) * 3,
    )
    return np.asarray(cropped, dtype=np.uint8)


def _pose(look: Look, rng: np.random.Generator) -> Frame:
    scale = rng.uniform(0.88, 1.12)
    half_width = 78 * scale * (1 + 0.07 * look.fullness) * (0.97 if look.sex == "F" else 1.04)
    half_height = 104 * scale * (1 + 0.06 * look.length) * (0.97 if look.sex == "F" else 1.03)
    jaw = float(np.clip((2.1 if look.sex == "F" else 2.7) - 0.2 * look.fullness + rng.normal(0, 0.05), 1.8, 3.3))
    return Frame(
        x=PORTRAIT_SIZE * (0.5 + rng.normal(0, 0.02)),
        y=PORTRAIT_SIZE * (0.47 + rng.normal(0, 0.015)),
        half_width=half_width,
        half_height=half_height,
        yaw=float(np.clip(rng.normal(0, 0.35), -0.8, 0.8)),
        pitch=float(np.clip(rng.normal(0, 0.4), -1, 1)),
        jaw=jaw,
    )


def _background(rng: np.random.Generator) -> Canvas:
    corners = rng.uniform(30, 225, (2, 2, 1)) + rng.uniform(-35, 35, (2, 2, 3))
    canvas: Canvas = np.asarray(
        cv2.resize(corners.astype(np.float32), (PORTRAIT_SIZE, PORTRAIT_SIZE), interpolation=cv2.INTER_LINEAR),
        dtype=np.float32,
    )
    for _ in range(int(rng.integers(0, 5))):
        x, y, wide, high = rng.uniform(0, PORTRAIT_SIZE, 4)
        tone = clipped_colour(rng.uniform(20, 235, 3))
        paint(canvas, rectangle(x, y, wide / 2, high / 2), tone, opacity=0.6, blur=float(rng.uniform(1, 9)))
    return np.clip(canvas, 0, 255)


def _photograph(canvas: Canvas, frame: Frame, rng: np.random.Generator, size: int) -> Portrait:
    """Light from a side, tilt of the head, lens blur, exposure, tint and sensor noise."""
    ramp = np.linspace(-1, 1, PORTRAIT_SIZE, dtype=np.float32)
    side, height = rng.normal(0, 0.14), rng.normal(-0.04, 0.06)
    lit = canvas * (1 + np.float32(side) * ramp[None, :, None] + np.float32(height) * ramp[:, None, None])
    centre = (PORTRAIT_SIZE / 2, PORTRAIT_SIZE / 2)
    degrees = float(np.clip(rng.normal(0, 3.5), -7, 7))
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    turned = cv2.warpAffine(
        lit, matrix, (PORTRAIT_SIZE, PORTRAIT_SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    turned = cv2.GaussianBlur(turned, (0, 0), float(rng.uniform(0.3, 1.1)))
    turned = turned * rng.uniform(0.78, 1.15) * (1 + rng.normal(0, 0.03, 3)) + rng.normal(
        0, rng.uniform(1, 6), turned.shape
    )
    if size != PORTRAIT_SIZE:
        turned = cv2.resize(turned, (size, size), interpolation=cv2.INTER_AREA)
    scale = size / PORTRAIT_SIZE
    x, y = matrix @ (frame.x, frame.y + 0.12 * frame.half_height, 1.0)  # the box starts at the middle of the forehead
    wide, high = 1.92 * frame.half_width, 1.74 * frame.half_height
    box = Box(scale * (x - wide / 2), scale * (y - high / 2), scale * wide, scale * high)
    return Portrait(np.clip(turned, 0, 255).astype(np.uint8), box)

"""The rows of a list of mixtures made into sound and faces, or into the reason why a row cannot be judged.

A row without a face gets one drawn from what is heard in the speaker's other recordings that the list names, else in
the rest of the same recording, else one of the middle of the sex: nothing is taken from the two seconds that are mixed.
What is made with such a face is semi-synthetic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from train.corpus.layout import Picture, Sex, Waveform
from train.corpus.mixtures import PAIRS, Mixture, mix
from train.corpus.recordings import read_recording
from train.errors import TrainError
from train.settings import FACE_SIZE, SAMPLE_RATE_HZ, TRAINING_SAMPLES

DRAWN_FROM_S = 20.0  # the most of a voice that a face is drawn from


@dataclass(frozen=True)
class Voice:
    """One of a row's two voices, and where its owner's face can come from."""

    file: str
    start: float  # seconds
    sex: Sex
    stills: tuple[tuple[str, int], ...]  # files with the number of the still in them, the best first
    others: tuple[str, ...]  # other recordings of the speaker, to draw one from where no still is known


@dataclass(frozen=True)
class Request:
    """A row with all that is needed to load it; small, to be sent to another process."""

    root: Path
    row: Mixture
    target: Voice
    interferer: Voice
    photos: int = 1  # stills of each face
    both: bool = False  # whether the interferer's face is wanted as well


@dataclass(frozen=True)
class Loaded:
    """A row to judge. Waveforms are (31840,), the mixture at RMS 0.1; faces (K, 224, 224, 3) RGB."""

    row: Mixture
    mixture: Waveform
    target: Waveform  # as it is in the mixture
    interferer: Waveform
    face: NDArray[np.uint8]
    other_face: NDArray[np.uint8]  # of the interferer; the target's where it is not wanted
    drawn: int  # faces that had to be drawn,
    blindly: int  # and those of them for which nothing else of the voice was there


class Face(NamedTuple):
    """Somebody's stills (K, 224, 224, 3), how many were drawn, and how many of those without having heard anything."""

    stills: NDArray[np.uint8]
    drawn: int = 0
    blindly: int = 0


@dataclass(frozen=True)
class Skipped:
    """A row that cannot be judged."""

    id: str
    reason: str


def requests_for(root: Path, rows: Sequence[Mixture], *, photos: int = 1, both: bool = False) -> list[Request]:
    """Prepare rows for `load`, each with what the list knows of its speakers.

    Args:
        root: what the list's paths are relative to.
        rows: the whole list; speakers' other recordings and faces are looked for in it.
        photos: stills of each speaker, where there are so many.
        both: load the interferer's face as well.
    """
    recordings: dict[str, dict[str, None]] = {}  # per speaker, in the list's order
    pictures: dict[str, dict[tuple[str, int], None]] = {}
    for row in rows:
        for side in _sides(row):
            speaker, file, _, face, index = side
            recordings.setdefault(speaker, {})[file] = None
            if face:
                pictures.setdefault(speaker, {})[face, index] = None

    def voice(side: tuple[str, str, float, str, int], sex: str) -> Voice:
        speaker, file, start, face, index = side
        own = ((face, index),) if face else ()
        clip = file.rpartition(".")[0]
        more = (still for still in pictures.get(speaker, {}) if still not in own and not still[0].startswith(clip))
        stills = (*own, *more)[:photos]
        others = () if stills else tuple(other for other in recordings[speaker] if other != file)
        return Voice(file, start, "F" if sex == "F" else "M", stills, others)

    def request(row: Mixture) -> Request:
        target, interferer = (voice(side, sex) for side, sex in zip(_sides(row), _sexes(row), strict=True))
        return Request(root, row, target, interferer, photos, both)

    return [request(row) for row in rows]


def load(request: Request) -> Loaded | Skipped:
    """Read, cut and mix a row, and find or draw its faces; never raises for what the data has wrong."""
    row = request.row
    if row.pair not in PAIRS:
        return Skipped(row.id, f"pair is {row.pair!r}; wanted one of {', '.join(PAIRS)}")
    numbers = (row.target_start, row.interferer_start, row.sir_db)
    if not all(map(math.isfinite, numbers)):
        return Skipped(row.id, f"starts and sir_db are {numbers}; wanted numbers")
    try:
        pieces = [_piece(request.root, voice) for voice in (request.target, request.interferer)]
        mixture, target, interferer = mix(pieces[0], pieces[1], sir_db=row.sir_db)
        shown = [request.target, request.interferer] if request.both else [request.target]
        faces = [_face(request.root, voice, request.photos) for voice in shown]
    except (TrainError, ValueError) as error:
        return Skipped(row.id, str(error))
    drawn, blindly = sum(face.drawn for face in faces), sum(face.blindly for face in faces)
    return Loaded(row, mixture, target, interferer, faces[0].stills, faces[-1].stills, drawn, blindly)


def evenly(rows: Sequence[Mixture], limit: int) -> list[Mixture]:
    """The first rows of every subset and pair in turn, `limit` in all, in the list's order."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault((row.subset, row.pair), []).append(number)
    ranked = sorted((rank, number) for numbers in groups.values() for rank, number in enumerate(numbers))
    return [rows[number] for number in sorted(number for _, number in ranked[:limit])]


def read_face(path: Path, index: int) -> Picture:
    """Read a still, (224, 224, 3) RGB: one of several side by side, or a picture of a face, cut square and resized.

    Raises:
        TrainError: missing, damaged, or with fewer stills than asked for.
    """
    strip = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if strip is None:
        raise TrainError(f"{path} is missing or no picture that can be read; wanted a face")
    high, wide, _ = strip.shape
    if index and (wide % high or index >= wide // high):
        raise TrainError(f"{path} is {wide}x{high} pixels; wanted still {index} of several squares side by side")
    side = min(high, wide)
    left = index * high if wide % high == 0 else (wide - side) // 2
    square = strip[(high - side) // 2 :, left:][:side, :side, ::-1]
    if side != FACE_SIZE:
        how = cv2.INTER_AREA if side > FACE_SIZE else cv2.INTER_CUBIC
        square = cv2.resize(square, (FACE_SIZE, FACE_SIZE), interpolation=how)
    return np.ascontiguousarray(square)


def _sides(row: Mixture) -> tuple[tuple[str, str, float, str, int], ...]:
    """Speaker, file, start, face and its index of the target and of the interferer."""
    return (
        (row.target_speaker, row.target_file, row.target_start, row.target_face, row.target_face_index),
        (
            row.interferer_speaker,
            row.interferer_file,
            row.interferer_start,
            row.interferer_face,
            row.interferer_face_index,
        ),
    )


def _sexes(row: Mixture) -> str:
    return row.pair if row.pair in PAIRS else "MM"  # such a row is skipped when it is loaded


@functools.lru_cache(maxsize=64)
def _recording(path: Path) -> Waveform:
    return read_recording(path)


def _piece(root: Path, voice: Voice) -> Waveform:
    recording = _recording(root / voice.file)
    first = round(voice.start * SAMPLE_RATE_HZ)
    piece = recording[first : first + TRAINING_SAMPLES]
    if first < 0 or len(piece) < TRAINING_SAMPLES:
        held = len(recording) / SAMPLE_RATE_HZ
        raise TrainError(f"{voice.file} is too short: it holds {held:.2f} s, wanted 1.99 s from {voice.start:.2f} s on")
    return piece


def _face(root: Path, voice: Voice, photos: int) -> Face:
    if voice.stills:
        return Face(np.stack([read_face(root / file, index) for file, index in voice.stills]))
    drawn = [_drawn_face(root, voice, number) for number in range(photos)]
    return Face(np.stack([face for face, _ in drawn]), photos, sum(not heard for _, heard in drawn))


@functools.lru_cache(maxsize=256)
def _drawn_face(root: Path, voice: Voice, number: int) -> tuple[Picture, bool]:
    """A face, and whether it was drawn from anything that was heard."""
    from train.corpus import drawn_faces, measure  # bring what measures voices, which few lists need

    seed = drawn_faces.seed_of(f"{voice.file} {number}")
    for sound in _other_sounds(root, voice):
        with suppress(TrainError):  # too little of it is voiced
            return drawn_faces.face_for_voice(sound, voice.sex, seed=seed), True
    norm = measure.NORMS[voice.sex]
    middle = measure.VoiceMeasure(2 ** norm.pitch[0], math.exp(norm.tract[0]), norm.tilt[0])
    return drawn_faces.draw_stills(middle, voice.sex, seed, np.random.default_rng([seed, 1]), 1)[0], False


def _other_sounds(root: Path, voice: Voice) -> Iterator[Waveform]:
    """What else there is of a speaker: other recordings, then the rest of the same one; at most 20 s of each."""
    most = round(DRAWN_FROM_S * SAMPLE_RATE_HZ)
    found: list[Waveform] = []
    for other in voice.others:
        with suppress(TrainError):  # it is not the one to be judged; another may do
            found.append(_recording(root / other))
        if sum(map(len, found)) >= most:
            break
    if found:
        yield np.concatenate(found)[:most]
    own, first = _recording(root / voice.file), round(voice.start * SAMPLE_RATE_HZ)
    yield np.concatenate([own[:first], own[first + TRAINING_SAMPLES :]])[:most]

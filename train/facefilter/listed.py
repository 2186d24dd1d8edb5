"""The rows of a list of mixtures made into sound and faces, or into the reason why a row cannot be judged.

A row without a face gets one drawn from what is heard in the speaker's other recordings that the list names, else in
the rest of the same recording: never in the two seconds that are mixed. What is made with such a face is
semi-synthetic.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from train.corpus.layout import Picture, Sex, Waveform
from train.corpus.mixtures import PAIRS, Mixture, mix
from train.corpus.recordings import read_recording
from train.errors import TrainError
from train.settings import FACE_SIZE, SAMPLE_RATE_HZ, TRAINING_SAMPLES

DRAWN_FROM_S = (1.0, 20.0)  # least and most of a voice that a face is drawn from


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
    drawn: int  # faces that had to be drawn


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

    return [
        Request(
            root, row, *(voice(side, sex) for side, sex in zip(_sides(row), _sexes(row), strict=True)), photos, both
        )
        for row in rows
    ]


def load(request: Request) -> Loaded | Skipped:
    """Read, cut and mix a row, and find or draw its faces; never raises for what the data has wrong."""
    row = request.row
    if row.pair not in PAIRS:
        return Skipped(row.id, f"pair is {row.pair!r}; wanted one of {', '.join(PAIRS)}")
    try:
        pieces = [_piece(request.root, voice) for voice in (request.target, request.interferer)]
        mixture, target, interferer = mix(pieces[0], pieces[1], sir_db=row.sir_db)
        face, drawn = _faces(request.root, request.target, request.photos)
        other, others_drawn = _faces(request.root, request.interferer, request.photos) if request.both else (face, 0)
    except (TrainError, ValueError) as error:
        return Skipped(row.id, str(error))
    return Loaded(row, mixture, target, interferer, face, other, drawn + others_drawn)


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


def _faces(root: Path, voice: Voice, photos: int) -> tuple[NDArray[np.uint8], int]:
    """Stills (K, 224, 224, 3), and how many of them were drawn."""
    if voice.stills:
        return np.stack([read_face(root / file, index) for file, index in voice.stills]), 0
    return np.stack([_drawn_face(root, voice, number) for number in range(photos)]), photos


@functools.lru_cache(maxsize=256)
def _drawn_face(root: Path, voice: Voice, number: int) -> Picture:
    from train.corpus.drawn_faces import face_for_voice  # brings what measures voices, which few lists need

    seed = zlib.crc32(f"{voice.file} {number}".encode())
    return face_for_voice(_other_sound(root, voice), voice.sex, seed=seed)


def _other_sound(root: Path, voice: Voice) -> Waveform:
    """What else there is of a speaker: other recordings, else the rest of the same one."""
    least, most = (round(seconds * SAMPLE_RATE_HZ) for seconds in DRAWN_FROM_S)
    found: list[Waveform] = []
    for other in voice.others:
        try:
            found.append(_recording(root / other))
        except TrainError:
            continue  # it is not the one to be judged; another may do
        if sum(map(len, found)) >= most:
            break
    if sum(map(len, found)) < least:
        own, first = _recording(root / voice.file), round(voice.start * SAMPLE_RATE_HZ)
        found = [own[:first], own[first + TRAINING_SAMPLES :]]
    sound = np.concatenate(found)[:most]
    if len(sound) < least:
        raise TrainError(
            f"no face is named for {voice.file}, and there is no second of the speaker outside the mixture to draw "
            "one from"
        )
    return sound

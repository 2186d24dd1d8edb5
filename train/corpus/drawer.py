"""Draw mixtures from a corpus, one row at a time.

A row depends on the corpus's index, the split, the seed and its own number only: a longer list begins with the shorter
one. The pairs of sexes take turns, every speaker of a sex is as likely as another, and so is every clip of a speaker.

The face is a still of another video of the target in the same split, where there is one; else of another clip; else of
the clip itself. How often it was not another video is counted and said.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from train.corpus.layout import SPLITS, Clip, Speaker, Waveform, read_piece, read_speakers
from train.corpus.mixtures import PAIRS, Mixture
from train.errors import TrainError
from train.settings import HOP_SAMPLES, SAMPLE_RATE_HZ, TRAINING_SAMPLES

log = logging.getLogger(__name__)
T = TypeVar("T")

_NUMBERS = 13  # uniform ones that a row consumes
_ATTEMPTS = 50  # of finding two pieces with speech in them
_SILENCE_RMS = 1e-3  # 60 dB below full scale: the noise of a quiet room
_PAUSE = 0.25  # of the clip's level


class _Piece(NamedTuple):
    """Two seconds of a clip."""

    speaker: Speaker
    clip: Clip
    start: int  # sample, on a grid of 10 ms

    @classmethod
    def of(cls, speaker: Speaker, which: float, where: float) -> _Piece:
        """Cut a speaker's piece as two uniform numbers say."""
        clip = _pick(speaker.clips, which)
        places = max(0, clip.samples - TRAINING_SAMPLES) // HOP_SAMPLES + 1
        return cls(speaker, clip, int(where * places) * HOP_SAMPLES)


class _Draw(NamedTuple):
    """Two pieces, and the uniform numbers left over for faces and level."""

    target: _Piece
    interferer: _Piece
    pair: str
    rest: list[float]


@dataclass
class Drawer:
    """Draws the rows of one list.

    Args:
        root: the corpus.
        split: whose clips.
        seed: same seed, same rows.
        subset: as which the rows are marked.
        sir_range_db: levels of target over interferer are drawn from plus and minus so much.
        check: draw again where a piece cannot be read or holds a pause; takes some milliseconds a row.

    Raises:
        TrainError: there is no corpus, or no two speakers for any pair of sexes.
    """

    root: Path
    split: str
    seed: int
    subset: str = ""
    sir_range_db: float = 0.0
    check: bool = False
    tally: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Sort the split's speakers into those who can be targets and those who can interfere."""
        speakers = read_speakers(self.root, self.split)
        self._corpus = self.root.resolve().name
        self._shown = {one.name: _faces_by_video(one) for one in speakers}
        self._voices = {sex: [one for one in speakers if one.sex == sex] for sex in "MF"}
        self._faces = {sex: [one for one in speakers if one.sex == sex and self._shown[one.name]] for sex in "MF"}
        self._levels: dict[Path, float] = {}
        faceless = [one.name for one in speakers if not self._shown[one.name]]
        if faceless:
            log.warning(
                "%s: %d of %d speakers have no still and are never the target: %s",
                self.split, len(faceless), len(speakers), some(faceless),
            )  # fmt: skip
        self.pairs = [pair for pair in PAIRS if self._possible(pair)]
        if not self.pairs:
            raise TrainError(
                f"{self.root}, split {self.split}: {len(self._voices['M'])} men and {len(self._voices['F'])} women, "
                f"{len(faceless)} of them without a face; a mixture needs a target with a face and another speaker. "
                "Bring in more clips."
            )
        if len(self.pairs) < len(PAIRS):
            missing = ", ".join(pair for pair in PAIRS if pair not in self.pairs)
            log.warning("%s: too few speakers for the pairs %s; the list goes without", self.split, missing)

    def rows(self, count: int) -> Iterator[Mixture]:
        """Draw so many rows; the pairs of sexes take turns."""
        return map(self.row, range(count))

    def row(self, number: int) -> Mixture:
        """Draw one row.

        Raises:
            TrainError: no two pieces with speech were found.
        """
        for attempt in range(_ATTEMPTS):
            drawn = self._draw(number, attempt)
            if not self.check or (self._speaks(drawn.target) and self._speaks(drawn.interferer)):
                return self._describe(number, drawn)
            self.tally["drawn again for a pause or a damaged file"] += 1
        raise TrainError(
            f"{self.root}, split {self.split}: no speech in {_ATTEMPTS} draws of mixture {number}; wanted pieces above "
            f"{_SILENCE_RMS:g} RMS. Listen to the clips; prepare the corpus again."
        )

    def _possible(self, pair: str) -> bool:
        targets, interferers = self._faces[pair[0]], self._voices[pair[1]]
        return bool(targets) and len(interferers) > (pair[0] == pair[1])

    def _draw(self, number: int, attempt: int) -> _Draw:
        key = (self.seed, SPLITS.index(self.split), number, attempt)
        uniform = np.random.default_rng(key).random(_NUMBERS).tolist()
        pair = self.pairs[number % len(self.pairs)]
        target = _pick(self._faces[pair[0]], uniform[0])
        others = self._voices[pair[1]]
        if pair[0] == pair[1]:  # everybody but the target: the last one stands in for it
            other = _pick(others, uniform[1] * (1 - 1 / len(others)))
            interferer = others[-1] if other is target else other
        else:
            interferer = _pick(others, uniform[1])
        return _Draw(_Piece.of(target, *uniform[2:4]), _Piece.of(interferer, *uniform[4:6]), pair, uniform[6:])

    def _speaks(self, piece: _Piece) -> bool:
        path = piece.clip.voice(self.root)
        try:
            if path not in self._levels:
                self._levels[path] = _rms(read_piece(path, 0, piece.clip.samples))
            wanted = max(_SILENCE_RMS, _PAUSE * self._levels[path])
            return _rms(read_piece(path, piece.start)) >= wanted
        except TrainError as error:
            if path not in self._levels:
                log.warning("%s", error)
            self._levels[path] = np.inf  # whatever is read of it later, it does not speak
            return False

    def _describe(self, number: int, drawn: _Draw) -> Mixture:
        target_face = self._face(drawn.target, *drawn.rest[0:3])
        interferer_face = self._face(drawn.interferer, *drawn.rest[3:6])
        return Mixture(
            id=f"{self.subset or self.split}-{number:07d}",
            corpus=self._corpus,
            pair=drawn.pair,
            target_file=drawn.target.clip.voice_file,
            target_start=drawn.target.start / SAMPLE_RATE_HZ,
            target_speaker=drawn.target.speaker.name,
            target_gender=drawn.target.speaker.sex,
            interferer_file=drawn.interferer.clip.voice_file,
            interferer_start=drawn.interferer.start / SAMPLE_RATE_HZ,
            interferer_speaker=drawn.interferer.speaker.name,
            interferer_gender=drawn.interferer.speaker.sex,
            sir_db=round((2 * drawn.rest[6] - 1) * self.sir_range_db, 2) + 0.0,
            target_face=target_face[0],
            subset=self.subset,
            target_face_index=target_face[1],
            interferer_face=interferer_face[0],
            interferer_face_index=interferer_face[1],
        )

    def _face(self, piece: _Piece, video: float, which: float, index: float) -> tuple[str, int]:
        """Choose a still, (file, place in it); of another video than the piece, if there is one."""
        shown = self._shown[piece.speaker.name]
        elsewhere = [clips for name, clips in shown.items() if name != piece.clip.video]
        if elsewhere:
            clip = _pick(_pick(elsewhere, video), which)
        elif shown:
            here = shown[piece.clip.video]
            clip = _pick([one for one in here if one is not piece.clip] or here, which)
            self.tally[f"face of the same {'clip' if clip is piece.clip else 'video'}"] += 1
        else:
            return "", 0
        return clip.stills_file, int(index * clip.faces)


def _rms(piece: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(piece, dtype=np.float64))))


def _pick(choices: Sequence[T], uniform: float) -> T:
    return choices[int(uniform * len(choices))]


def _faces_by_video(speaker: Speaker) -> dict[str, list[Clip]]:
    grouped: dict[str, list[Clip]] = {}
    for clip in speaker.clips:
        if clip.faces:
            grouped.setdefault(clip.video, []).append(clip)
    return grouped


def some(names: Sequence[str], most: int = 5) -> str:
    """A few of many names, for a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

"""Training batches of FaceFilter: faces with voices, and mixtures, drawn on the fly from one or several corpora.

Every batch is a function of the seed and the step's number alone, and a process of several takes its share of it: a
resumed run, another number of processes or of loader workers sees the very same mixtures.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.batches import share
from train.corpus.layout import Picture, Speaker, Waveform, read_piece, read_speakers, read_stills
from train.corpus.mixtures import mix
from train.errors import TrainError
from train.facefilter.identity import FaceIdentity
from train.settings import MIXTURE_RMS, TRAINING_SAMPLES

log = logging.getLogger(__name__)

VOICE_RMS = MIXTURE_RMS / np.sqrt(2)  # what each of two voices has in a mixture at 0 dB
_LARGEST_SHIFT = 10  # pixels that an augmented face moves
_QUIET = 0.25  # a piece below this share of its clip's level is a pause, and is drawn again
_SILENCE = 1e-4  # RMS
_ATTEMPTS = 8


@dataclass(frozen=True)
class Source:
    """A corpus to train on."""

    root: Path
    share: float = 1.0  # of the mixtures, against the other sources'

    def __post_init__(self) -> None:
        """Refuse a share that draws nothing."""
        if self.share <= 0:
            raise ValueError(f"the share of {self.root} is {self.share}; wanted above 0. Leave the source out instead.")


class Bank:
    """The speakers of one split of a corpus with their voices, in memory where they fit.

    Args:
        root: the corpus.
        split: whose speakers.
        memory_gib: voices of up to this size are kept in memory as 16 bit; longer ones are read piece by piece.

    Raises:
        TrainError: the corpus or a voice file is missing or damaged.
    """

    def __init__(self, root: Path, split: str, *, memory_gib: float = 2.0) -> None:
        self.root = root
        self.speakers = read_speakers(root, split)
        self.by_sex = {
            sex: [index for index, speaker in enumerate(self.speakers) if speaker.sex == sex] for sex in ("F", "M")
        }
        self.voices: dict[Path, NDArray[np.int16]] | None = None
        self.levels: dict[Path, float] = {}
        clips = [clip for speaker in self.speakers for clip in speaker.clips]
        if sum(clip.samples for clip in clips) * 2 <= memory_gib * 2**30:
            self.voices = {
                clip.voice(root): _as_int16(read_piece(clip.voice(root), 0, max(clip.samples, TRAINING_SAMPLES)))
                for clip in clips
            }
            self.levels = {path: _rms(voice) for path, voice in self.voices.items()}

    def piece(self, speaker: Speaker, clip: int, rng: np.random.Generator) -> Waveform:
        """Cut two seconds with speech in them from a clip, (31840,)."""
        chosen = speaker.clips[clip]
        path, spare = chosen.voice(self.root), max(0, chosen.samples - TRAINING_SAMPLES)
        wanted = max(_QUIET * self.levels.get(path, 0.0), _SILENCE)
        for _ in range(_ATTEMPTS):
            piece = self._read(path, int(rng.integers(spare + 1)))
            if _rms(piece) >= wanted:
                return piece
        if _rms(piece) < _SILENCE:
            raise TrainError(f"{path} is silent wherever it was tried; take it out of clips.csv.")
        return piece

    def still(self, speaker: Speaker, clip: int, rng: np.random.Generator) -> Picture:
        """One of a clip's stills, (224, 224, 3)."""
        stills = read_stills(speaker.clips[clip].stills(self.root))
        return np.asarray(stills[rng.integers(len(stills))])

    def _read(self, path: Path, start: int) -> Waveform:
        if self.voices is None:
            return read_piece(path, start)
        samples: Waveform = self.voices[path][start : start + TRAINING_SAMPLES].astype(np.float32) / 32767
        return samples


class Identities:
    """Identities of all stills of a bank and of augmented copies, made once by the frozen face network.

    Args:
        network: the face identity network.
        bank: whose stills.
        variants: copies of each still; the first is unchanged.
        seed: of the augmentation.
    """

    def __init__(self, network: FaceIdentity, bank: Bank, *, variants: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        network.eval()
        self.table = [
            [_identify(network, read_stills(clip.stills(bank.root)), variants, rng) for clip in speaker.clips]
            for speaker in bank.speakers
        ]

    def draw(self, speaker: int, clip: int, rng: np.random.Generator) -> Tensor:
        """One identity of a clip's stills, (1024,)."""
        rows = self.table[speaker][clip]
        return rows[int(rng.integers(len(rows)))]


class MixtureBatch(NamedTuple):
    """M mixtures of two speakers, either of whom is wanted in turn."""

    mixture: Tensor  # (M, 31840) at RMS 0.1
    voices: Tensor  # (M, 2, 31840), as they are in it
    faces: Tensor  # (M, 2, 1024) identities, (M, 2, 224, 224, 3) uint8 stills of which to make them, or (M, 0)


@dataclass(frozen=True)
class MixtureBatches:
    """Mixtures drawn on the fly.

    Args:
        banks: where the speakers come from; both of a mixture come from one bank.
        identities: of each bank, or None to hand out stills.
        with_faces: or neither of them.
        shares: of the banks.
        mixtures: M, of all processes together.
        seed: same seed, same batches.
        sir_range_db: the first voice is louder by a level drawn from plus or minus this.
        same_sex: share of mixtures of one sex.
        same_clip: the face is of the clip that is heard (the paper), else of any clip of that speaker.
    """

    banks: list[Bank]
    identities: list[Identities] | None
    shares: list[float]
    mixtures: int
    seed: int
    sir_range_db: float = 0.0
    same_sex: float = 0.5
    same_clip: bool = True
    with_faces: bool = True

    def __post_init__(self) -> None:
        """Refuse banks in which no pair of one sex can be found."""
        for bank in self.banks:
            women, men = (len(bank.by_sex[sex]) for sex in ("F", "M"))
            if min(women, men) < 2:
                raise TrainError(
                    f"{women} women and {men} men among the speakers of {bank.root}; mixtures need two of each. "
                    "Bring more speakers."
                )

    def batch(self, step: int, part: int = 0, parts: int = 1) -> MixtureBatch:
        """One process's share of a step's batch."""
        own = share(self.mixtures, part, parts)
        rows = [self._mixture(np.random.default_rng([self.seed, step, number])) for number in own]
        mixtures, voices, faces = zip(*rows, strict=True)
        return MixtureBatch(
            torch.from_numpy(np.stack(mixtures)), torch.from_numpy(np.stack(voices)), torch.stack(faces)
        )

    def _mixture(self, rng: np.random.Generator) -> tuple[Waveform, Waveform, Tensor]:
        shares = np.array(self.shares)
        source = int(rng.choice(len(self.banks), p=shares / shares.sum()))
        bank = self.banks[source]
        pieces, faces = [], []
        for index in self._draw_pair(bank, rng):
            speaker = bank.speakers[index]
            clip = int(rng.integers(len(speaker.clips)))
            pieces.append(bank.piece(speaker, clip, rng))
            shown = clip if self.same_clip else int(rng.integers(len(speaker.clips)))
            if self.with_faces:
                faces.append(self._face(source, index, shown, rng))
        sir_db = float(rng.uniform(-self.sir_range_db, self.sir_range_db))
        mixture, *voices = mix(pieces[0], pieces[1], sir_db=sir_db)
        return mixture, np.stack(voices), torch.stack(faces) if faces else torch.empty(0)

    def _face(self, source: int, speaker: int, clip: int, rng: np.random.Generator) -> Tensor:
        if self.identities is not None:
            return self.identities[source].draw(speaker, clip, rng)
        bank = self.banks[source]
        return torch.from_numpy(augment_face(bank.still(bank.speakers[speaker], clip, rng), rng))

    def _draw_pair(self, bank: Bank, rng: np.random.Generator) -> tuple[int, int]:
        sex, other = ("F", "M") if rng.random() < 0.5 else ("M", "F")
        if rng.random() < self.same_sex:
            first, second = rng.choice(bank.by_sex[sex], 2, replace=False)
        else:
            first, second = rng.choice(bank.by_sex[sex]), rng.choice(bank.by_sex[other])
        return int(first), int(second)


@dataclass(frozen=True)
class MatchingBatches:
    """Batches of (faces (N, 224, 224, 3) uint8, waveforms (N, 31840)) of N different speakers of all banks.

    Args:
        banks: where the speakers come from.
        speakers: N of N-way matching, of all processes together; no more than there are.
        seed: same seed, same batches.
        augment: mirror, move and recolour the faces.
    """

    banks: list[Bank]
    speakers: int
    seed: int
    augment: bool = True

    def batch(self, step: int, part: int = 0, parts: int = 1) -> tuple[Tensor, Tensor]:
        """One process's share of a step's batch."""
        everyone = [(bank, speaker) for bank in self.banks for speaker in bank.speakers]
        size = min(self.speakers, len(everyone))
        chosen = np.random.default_rng([self.seed, step]).choice(len(everyone), size, replace=False).tolist()
        pairs = []
        for place in share(size, part, parts):
            index = chosen[place]
            bank, speaker = everyone[index]
            pairs.append(self._pair(bank, speaker, np.random.default_rng([self.seed, step, index])))
        faces, voices = zip(*pairs, strict=True)
        return torch.from_numpy(np.stack(faces)), torch.from_numpy(np.stack(voices))

    def _pair(self, bank: Bank, speaker: Speaker, rng: np.random.Generator) -> tuple[Picture, Waveform]:
        clip = int(rng.integers(len(speaker.clips)))
        face = bank.still(speaker, clip, rng)
        return augment_face(face, rng) if self.augment else face, at_voice_level(bank.piece(speaker, clip, rng))


def augment_face(face: Picture, rng: np.random.Generator) -> Picture:
    """Mirror, move, and recolour a face crop (224, 224, 3), as another photo and another detector would."""
    if rng.random() < 0.5:
        face = face[:, ::-1]
    down, across = rng.integers(0, 2 * _LARGEST_SHIFT + 1, 2)
    padded = np.pad(face, ((_LARGEST_SHIFT,) * 2, (_LARGEST_SHIFT,) * 2, (0, 0)), mode="edge")
    moved = padded[down : down + face.shape[0], across : across + face.shape[1]]
    gain = (rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    lifted = moved * gain + np.float32(rng.uniform(-12, 12))
    return np.clip(lifted, 0, 255).astype(np.uint8)


def at_voice_level(waveform: Waveform) -> Waveform:
    """A voice (N,) at the level that it has in a mixture of two equal ones."""
    scaled: Waveform = (waveform * (VOICE_RMS / max(_rms(waveform), 1e-6))).astype(np.float32)
    return scaled


@torch.no_grad()
def _identify(network: FaceIdentity, stills: NDArray[np.uint8], variants: int, rng: np.random.Generator) -> Tensor:
    copies = [still if copy == 0 else augment_face(still, rng) for copy in range(variants) for still in stills]
    rows: Tensor = network(torch.from_numpy(np.stack(copies)))
    return rows


def _rms(samples: NDArray[np.int16] | Waveform) -> float:
    full_scale = 32767.0 if samples.dtype == np.int16 else 1.0
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) / full_scale


def _as_int16(waveform: Waveform) -> NDArray[np.int16]:
    return np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)

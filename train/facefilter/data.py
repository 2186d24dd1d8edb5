"""Batches from synthetic talkers, drawn on the fly; the whole data set lies in memory (about 0.7 MB a talker)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from train.errors import TrainError
from train.facefilter.identity import FaceIdentity
from train.settings import MIXTURE_RMS, TRAINING_SAMPLES
from train.synthetic.faces import Picture
from train.synthetic.speech import Waveform
from train.synthetic.talkers import Talker, mix, read_face, read_talkers, read_voice

VOICE_RMS = MIXTURE_RMS / np.sqrt(2)  # what each of two voices has in a mixture at 0 dB
_LARGEST_SHIFT = 10  # pixels that an augmented face moves


@dataclass(frozen=True)
class TalkerBank:
    """The talkers of a split with their voices and faces in memory."""

    talkers: list[Talker]
    voices: list[list[NDArray[np.int16]]]  # per talker, per utterance
    faces: NDArray[np.uint8]  # (talkers, pictures, 224, 224, 3)

    def crop(self, talker: int, utterance: int, rng: np.random.Generator) -> Waveform:
        """Cut a random two-second piece of an utterance, (31840,)."""
        samples = self.voices[talker][utterance]
        start = int(rng.integers(len(samples) - TRAINING_SAMPLES + 1))
        return samples[start : start + TRAINING_SAMPLES].astype(np.float32) / 32767

    def random_crop(self, talker: int, rng: np.random.Generator) -> Waveform:
        """Cut a random piece of a random utterance."""
        return self.crop(talker, int(rng.integers(len(self.voices[talker]))), rng)


def read_bank(root: Path, split: str) -> TalkerBank:
    """Read a split into memory.

    Raises:
        TrainError: data missing or unreadable.
    """
    talkers = read_talkers(root, split)
    voices = [
        [np.round(read_voice(path) * 32767).astype(np.int16) for path in talker.voices(root)] for talker in talkers
    ]
    faces = np.stack([np.stack([read_face(path) for path in talker.faces(root)]) for talker in talkers])
    return TalkerBank(talkers, voices, faces)


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


class MatchingBatches(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches of (faces (N, 224, 224, 3) uint8, waveforms (N, 31840)) of N different talkers."""

    def __init__(self, bank: TalkerBank, talkers_per_batch: int, seed: int, *, augment: bool = True) -> None:
        self.bank = bank
        self.size = min(talkers_per_batch, len(bank.talkers))
        self.seed = seed
        self.augment = augment

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw batches for ever."""
        rng = np.random.default_rng(self.seed)
        bank = self.bank
        while True:
            chosen = rng.choice(len(bank.talkers), self.size, replace=False)
            pictures = [bank.faces[talker, rng.integers(bank.faces.shape[1])] for talker in chosen]
            if self.augment:
                pictures = [augment_face(picture, rng) for picture in pictures]
            voices = np.stack([at_voice_level(bank.random_crop(int(talker), rng)) for talker in chosen])
            yield torch.from_numpy(np.stack(pictures)), torch.from_numpy(voices)


class MixtureBatches(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Endless batches of (mixture (2 M, 31840), target (2 M, 31840), identity (2 M, 1024)).

    M mixtures, each of its two talkers being the target in turn.

    Args:
        bank: the talkers.
        identities: of every talker's (perhaps augmented) pictures, (talkers, pictures, 1024).
        mixtures: M.
        seed: same seed, same batches.
        sir_range_db: the target is louder by a level drawn from plus or minus this.
        same_sex: share of mixtures of one sex; half, if drawn blindly.
    """

    def __init__(
        self,
        bank: TalkerBank,
        identities: Tensor,
        mixtures: int,
        seed: int,
        *,
        sir_range_db: float = 2.5,
        same_sex: float = 0.5,
    ) -> None:
        self.bank = bank
        self.identities = identities
        self.mixtures = mixtures
        self.seed = seed
        self.sir_range_db = sir_range_db
        self.same_sex = same_sex
        sexes = np.array([talker.sex for talker in bank.talkers])
        self.by_sex = [np.flatnonzero(sexes == "F"), np.flatnonzero(sexes == "M")]
        if min(map(len, self.by_sex)) < 2:
            raise TrainError(
                f"{len(self.by_sex[0])} women and {len(self.by_sex[1])} men among the talkers; mixtures need two "
                "of each. Make more with `avedge synthesize talkers`."
            )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Draw batches for ever."""
        rng = np.random.default_rng(self.seed)
        while True:
            rows = [row for _ in range(self.mixtures) for row in self._both_ways(rng)]
            mixtures, targets, identities = zip(*rows, strict=True)
            yield torch.from_numpy(np.stack(mixtures)), torch.from_numpy(np.stack(targets)), torch.stack(identities)

    def _both_ways(self, rng: np.random.Generator) -> list[tuple[Waveform, Waveform, Tensor]]:
        talkers = self._draw_pair(rng)
        pieces = [self.bank.random_crop(talker, rng) for talker in talkers]
        sir_db = float(rng.uniform(-self.sir_range_db, self.sir_range_db))
        mixture, *voices = mix(pieces[0], pieces[1], sir_db=sir_db)
        faces = [self.identities[talker, int(rng.integers(self.identities.shape[1]))] for talker in talkers]
        return [(mixture, voice, face) for voice, face in zip(voices, faces, strict=True)]

    def _draw_pair(self, rng: np.random.Generator) -> tuple[int, int]:
        sex = int(rng.integers(2))
        if rng.random() < self.same_sex:
            first, second = rng.choice(self.by_sex[sex], 2, replace=False)
        else:
            first, second = rng.choice(self.by_sex[sex]), rng.choice(self.by_sex[1 - sex])
        return int(first), int(second)


@torch.no_grad()
def identify_bank(network: FaceIdentity, bank: TalkerBank, *, variants: int, seed: int) -> Tensor:
    """Identities of all pictures and augmented copies, (talkers, pictures * variants, 1024); variant 0 is unchanged."""
    rng = np.random.default_rng(seed)
    network.eval()
    rows = []
    for pictures in bank.faces:
        copies = [
            picture if variant == 0 else augment_face(picture, rng)
            for picture in pictures
            for variant in range(variants)
        ]
        rows.append(network(torch.from_numpy(np.stack(copies))))
    return torch.stack(rows)


def at_voice_level(waveform: Waveform) -> Waveform:
    """A voice (N,) at the level that it has in a mixture of two equal ones."""
    level = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
    scaled: Waveform = (waveform * (VOICE_RMS / max(level, 1e-6))).astype(np.float32)
    return scaled

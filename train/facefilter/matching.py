"""How often a face finds its speaker's voice among the voices of others: the cross-modal biometrics of section 3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from train.corpus.layout import Speaker
from train.dsp import IdentityLogMel, Stft
from train.facefilter.data import Bank, at_voice_level
from train.facefilter.identity import FaceIdentity, SpeechIdentity
from train.facefilter.metrics import bootstrap_interval, chance_of_winning

WAYS = (2, 10, 200)  # section 3 trains with 200
BATCH = 32
PIECES = 10  # faces and pieces of voice of each speaker


def evaluate_matching(
    face: FaceIdentity, voice: SpeechIdentity, bank: Bank, *, pieces: int = PIECES, seed: int = 0
) -> dict[str, Any]:
    """Match stills of speakers with two-second pieces of their voices.

    The still is of another video than the piece where the speaker has several. Every face has one voice of its owner
    and all pieces of everybody else to choose from; how often it would win among so many drawn of them is counted
    exactly. A tie is lost. The intervals redraw speakers, whose pieces are not independent.

    Args:
        face: trained face network.
        voice: trained speech network.
        bank: speakers, none of whom was trained on.
        pieces: of each speaker.
        seed: of the choice of pieces and stills.

    Returns:
        `speakers`, `pieces`; `2_way`, `10_way`, `200_way`: `accuracy`, `interval`, `chance` (None where there are too
        few voices); `2_way_pairs`: the same by sex of the face's owner and of the other voice.
    """
    similarity, owners = _similarities(face, voice, bank, pieces, seed)
    sexes = np.array([speaker.sex for speaker in bank.speakers])[owners]

    def among(ways: int, faces: NDArray[np.bool_], voices: NDArray[np.bool_]) -> dict[str, Any] | None:
        return _accuracy(similarity, owners, ways, faces, voices)

    everybody = np.ones(len(owners), bool)
    return {
        "speakers": len(bank.speakers),
        "pieces": len(owners),
        **{f"{ways}_way": among(ways, everybody, everybody) for ways in WAYS},
        "2_way_pairs": {
            own + other: among(2, sexes == own, sexes == other) for own in ("M", "F") for other in ("M", "F")
        },
    }


def _accuracy(
    similarity: NDArray[np.float32],
    owners: NDArray[np.int64],
    ways: int,
    faces: NDArray[np.bool_],
    voices: NDArray[np.bool_],
) -> dict[str, Any] | None:
    """Mean over speakers of how often chosen faces win against chosen voices; None where those are too few."""
    wins: dict[int, list[float]] = {}
    for number in np.flatnonzero(faces):
        others = similarity[number, voices & (owners != owners[number])]
        if len(others) < ways - 1:
            return None
        above = int((others >= similarity[number, number]).sum())
        wins.setdefault(int(owners[number]), []).append(chance_of_winning(above, len(others), ways))
    if not wins:
        return None
    each = np.array([np.mean(values) for values in wins.values()])
    return {"accuracy": float(each.mean()), "interval": list(bootstrap_interval(each)), "chance": 1 / ways}


@torch.no_grad()
def _similarities(
    face: FaceIdentity, voice: SpeechIdentity, bank: Bank, pieces: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosines of every face with every voice (P, P), the diagonal the right ones, and whose they are (P,)."""
    stft, log_mel = Stft(), IdentityLogMel()
    faces, voices, owners = [], [], []
    for owner, speaker in enumerate(bank.speakers):
        drawn = [_draw(bank, speaker, np.random.default_rng([seed, owner, piece])) for piece in range(pieces)]
        stills, waveforms = (torch.from_numpy(np.stack(parts)) for parts in zip(*drawn, strict=True))
        faces.append(_in_batches(face, stills))
        voices.append(_in_batches(lambda part: voice(log_mel(stft(part)[0])), waveforms))
        owners += [owner] * pieces
    similarity: NDArray[np.float32] = (torch.cat(faces) @ torch.cat(voices).T).numpy()
    return similarity, np.array(owners)


def _draw(bank: Bank, speaker: Speaker, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A still and a piece of voice of a speaker, of two videos where there are two."""
    heard = int(rng.integers(len(speaker.clips)))
    elsewhere = [
        number for number, clip in enumerate(speaker.clips) if clip.faces and clip.video != speaker.clips[heard].video
    ]
    seen = int(rng.choice(elsewhere)) if elsewhere else heard
    return bank.still(speaker, seen, rng), at_voice_level(bank.piece(speaker, heard, rng))


def _in_batches(network: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    return torch.cat([network(part) for part in inputs.split(BATCH)])


def evaluate_identity(
    data: Path, face: FaceIdentity, voice: SpeechIdentity, *, split: str, pieces: int, seed: int
) -> dict[str, Any]:
    """Match the speakers of a corpus' split.

    Raises:
        TrainError: there is no such corpus or split, or a file of it is damaged.
    """
    return {"split": split, "seed": seed} | evaluate_matching(face, voice, Bank(data, split), pieces=pieces, seed=seed)

"""Step one of FaceFilter: faces and voices are matched, and nobody says who is who (section 3)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from train.checkpoint import save_weights
from train.dsp import IdentityLogMel, fast_spectrum
from train.facefilter.data import Bank, MatchingBatches, Source
from train.facefilter.identity import (
    FACE_IDENTITY,
    FACE_PRESETS,
    SPEECH_IDENTITY,
    SPEECH_PRESETS,
    MatchingLoss,
    build_face_identity,
    build_speech_identity,
)
from train.facefilter.metrics import matching_accuracy
from train.fit import FitSettings, Learner, Prepared, fit

log = logging.getLogger(__name__)
VALIDATION_BATCHES = 4
VALIDATION_SEED = 1


@dataclass(frozen=True)
class IdentityTraining:
    """What `avedge train identity` reads from its config."""

    sources: list[Source]  # corpora in the common layout; their shares say nothing here: every speaker counts once
    run_folder: Path  # log and checkpoints
    face_weights: Path  # written at the end
    voice_weights: Path  # written at the end
    fit: FitSettings
    preset: Literal["paper", "compact"] = "compact"
    speakers_per_batch: int = 200  # N of N-way matching, of all processes together
    similarity: Literal["cosine", "inverse_euclidean"] = "cosine"
    memory_gib: float = 2.0  # voices of a source up to this size are kept in memory

    def __post_init__(self) -> None:
        """Refuse a batch in which there is nothing to match."""
        if self.speakers_per_batch < 2:
            raise ValueError(f"speakers_per_batch is {self.speakers_per_batch}; matching needs at least 2")


class IdentityLearner(Learner):
    """Both identity networks under the multi-way matching loss."""

    def __init__(self, settings: IdentityTraining) -> None:
        super().__init__(settings.fit)
        self.log_mel = IdentityLogMel()
        # channels last: a quarter faster on a CPU; torch's types know it for tensors only
        self.face = build_face_identity(settings.preset).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.voice = build_speech_identity(settings.preset).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.matching = MatchingLoss(settings.similarity)

    def identities(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Identities of faces (N, 224, 224, 3) and waveforms (N, 31840), each (N, 1024) in fp32."""
        faces, waveforms = batch
        with torch.autocast(waveforms.device.type, enabled=False):  # a spectrum does not survive bf16
            log_mel = self.log_mel(fast_spectrum(waveforms).abs())
        return self.face(faces).float(), self.voice(log_mel).float()

    def losses(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Matching loss of a batch, over all processes."""
        faces, voices = (self.of_all_processes(rows) for rows in self.identities(batch))
        return {"total": self.matching(faces, voices)}

    def scores(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Matching loss and accuracy."""
        faces, voices = self.identities(batch)
        two_way = matching_accuracy(faces @ voices.T, 2)
        return {"total": self.matching(faces, voices), "two_way": torch.tensor(two_way)}


def prepare_identity(settings: IdentityTraining) -> Prepared[IdentityLearner]:
    """Read the corpora and build both networks.

    Raises:
        TrainError: data missing or unreadable.
    """
    torch.manual_seed(settings.fit.seed)
    learner = IdentityLearner(settings)
    banks, unseen = (
        [Bank(source.root, split, memory_gib=settings.memory_gib) for source in settings.sources]
        for split in ("train", "val")
    )
    batches = MatchingBatches(banks, settings.speakers_per_batch, settings.fit.seed)
    held_out = MatchingBatches(unseen, settings.speakers_per_batch, VALIDATION_SEED, augment=False)
    validation = [held_out.batch(step) for step in range(VALIDATION_BATCHES)]
    return Prepared(settings, learner, batches, validation, settings.run_folder)


def train_identity(settings: IdentityTraining, *, resume: bool = False) -> IdentityLearner:
    """Train both networks and write their weights.

    Raises:
        TrainError: as `prepare_identity` and `fit`.
    """
    prepared = prepare_identity(settings)
    learner = prepared.learner
    fit(prepared, resume=resume)
    save_weights(settings.face_weights, learner.face, model=FACE_IDENTITY, options=FACE_PRESETS[settings.preset])
    save_weights(settings.voice_weights, learner.voice, model=SPEECH_IDENTITY, options=SPEECH_PRESETS[settings.preset])
    log.info("wrote %s and %s", settings.face_weights, settings.voice_weights)
    return learner

"""Step two of FaceFilter: the separator learns with the face identity network frozen (section 4, Eq. 1)."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from train.checkpoint import save_weights
from train.dsp import GriffinLim, Stft
from train.facefilter.data import MixtureBatches, identify_bank, read_bank
from train.facefilter.identity import load_face_identity, load_speech_identity
from train.facefilter.losses import SpeakerRepresentationLoss, separation_loss
from train.facefilter.metrics import si_sdr_db
from train.facefilter.separator import PRESETS, SEPARATOR, build_separator
from train.fit import FitSettings, Learner, fit

log = logging.getLogger(__name__)
VALIDATION_BATCHES = 6
VALIDATION_MIXTURES = 8  # per batch


@dataclass(frozen=True)
class SeparatorTraining:
    """What `avedge train facefilter` reads from its config."""

    data: Path  # made by `avedge synthesize talkers`
    run_folder: Path  # log and checkpoints
    face_weights: Path  # of the frozen face identity network
    weights: Path  # written at the end
    fit: FitSettings
    preset: Literal["paper", "compact"] = "compact"
    options: dict[str, Any] = field(default_factory=dict)  # of `Separator`, over the preset's
    mixtures_per_batch: int = 5  # each gives two items, one per talker
    sir_range_db: float = 2.5
    same_sex: float = 0.5  # share of mixtures
    face_variants: int = 4  # augmented copies of each picture
    epsilon: float = 1.0  # of L_SS; see `losses.separation_loss`
    identity_weight: float = 0.0  # of L_SRL; the paper's is 1
    voice_weights: Path | None = None  # of the frozen speech identity network, for L_SRL

    def __post_init__(self) -> None:
        """Refuse L_SRL without its network."""
        if self.identity_weight > 0 and self.voice_weights is None:
            raise ValueError(f"identity_weight is {self.identity_weight}; it needs voice_weights")


class SeparatorLearner(Learner):
    """The separator under L_SS and, if wanted, L_SRL."""

    def __init__(self, settings: SeparatorTraining) -> None:
        super().__init__(settings.fit)
        self.training_settings = settings
        self.options = {**PRESETS[settings.preset], **settings.options}
        self.stft = Stft()
        self.reconstruct = GriffinLim(iterations=0)
        self.separator = build_separator(settings.preset, **settings.options)
        self.identity_loss: SpeakerRepresentationLoss | None = None
        if settings.identity_weight > 0 and settings.voice_weights is not None:
            self.identity_loss = SpeakerRepresentationLoss(load_speech_identity(settings.voice_weights))

    def separate(self, mixture: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
        """Separated magnitude and the mixture's spectrum, fp32, of waveforms (B, N)."""
        with torch.autocast(mixture.device.type, enabled=False):  # a spectrum does not survive bf16
            magnitude, spectrum = self.stft(mixture)
        return self.separator(magnitude, identity)[0].float(), spectrum

    def compare(self, target: Tensor, separated: Tensor) -> dict[str, Tensor]:
        """Eq. 1 for a target waveform and a separated magnitude."""
        chosen = self.training_settings
        with torch.autocast(target.device.type, enabled=False):
            wanted = self.stft(target)[0]
            losses = {"separation": separation_loss(wanted, separated, epsilon=chosen.epsilon)}
            if self.identity_loss is not None:
                losses["identity"] = self.identity_loss(wanted, separated)
        total = losses["separation"] + chosen.identity_weight * losses.get("identity", torch.zeros(()))
        return {"total": total, **losses}

    def losses(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """L_TOT of (mixture, target, identity)."""
        mixture, target, identity = batch
        return self.compare(target, self.separate(mixture, identity)[0])

    def scores(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """Loss, SI-SDR improvement under the mixture's phase, and how often the target wins."""
        mixture, target, identity = batch
        separated, spectrum = self.separate(mixture, identity)
        with torch.autocast(mixture.device.type, enabled=False):
            voice = self.reconstruct(separated, spectrum)
        won = si_sdr_db(voice, target)
        return {
            **self.compare(target, separated),
            "si_sdri_db": (won - si_sdr_db(mixture, target)).mean(),
            "accuracy": (won > si_sdr_db(voice, mixture - target)).float().mean(),
        }


def train_separator(settings: SeparatorTraining, *, resume: bool = False) -> SeparatorLearner:
    """Train the separator and write its weights.

    Raises:
        TrainError: data or the identity networks' weights missing or unreadable.
    """
    torch.manual_seed(settings.fit.seed)
    torch.set_num_threads(settings.fit.threads)
    learner = SeparatorLearner(settings)
    face = load_face_identity(settings.face_weights)
    seen, unseen = read_bank(settings.data, "train"), read_bank(settings.data, "val")
    batches = MixtureBatches(
        seen,
        identify_bank(face, seen, variants=settings.face_variants, seed=settings.fit.seed),
        settings.mixtures_per_batch,
        settings.fit.seed,
        sir_range_db=settings.sir_range_db,
        same_sex=settings.same_sex,
    )
    held_out = MixtureBatches(
        unseen, identify_bank(face, unseen, variants=1, seed=0), VALIDATION_MIXTURES, seed=1, sir_range_db=0.0
    )
    fit(learner, batches, list(itertools.islice(held_out, VALIDATION_BATCHES)), settings.run_folder, resume=resume)
    save_weights(settings.weights, learner.separator, model=SEPARATOR, options=learner.options)
    log.info("wrote %s", settings.weights)
    return learner

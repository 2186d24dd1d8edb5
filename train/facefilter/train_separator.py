"""Step two of FaceFilter: the separator learns with the face identity network frozen (section 4, Eq. 1)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from train.checkpoint import save_weights
from train.dsp import fast_spectrum, fast_waveform
from train.facefilter.data import Bank, Identities, MixtureBatch, MixtureBatches, Source
from train.facefilter.identity import FACE_IDENTITY, FaceIdentity, load_face_identity, load_speech_identity
from train.facefilter.losses import (
    SpeakerRepresentationLoss,
    permutation_invariant,
    phase_sensitive_target,
    separation_costs,
    waveform_loss,
)
from train.facefilter.metrics import si_sdr_db
from train.facefilter.samples_log import shown_separation
from train.facefilter.separator import (
    AUDIO_ONLY,
    PRESETS,
    SEPARATOR,
    AudioOnlySeparator,
    Separator,
    build_audio_only,
    build_separator,
)
from train.files import write_atomically
from train.fit import FitSettings, Learner, Prepared, Shown, fit
from train.statistics import settle_statistics

log = logging.getLogger(__name__)
VALIDATION_BATCHES = 6  # of each source
VALIDATION_MIXTURES = 8  # per batch
VALIDATION_SEED = 1


@dataclass(frozen=True)
class SeparationLoss:
    """Weights of Eq. 1 and of what goes beyond the paper."""

    epsilon: float = 5.0  # of L_SS; see `losses.separation_costs`
    target: Literal["magnitude", "phase_sensitive"] = "magnitude"  # of L_SS; the paper's is the magnitude
    identity_weight: float = 0.0  # of L_SRL; the paper's is 1
    waveform_weight: float = 0.0  # of minus the SI-SDR in dB, under the mixture's phase; not in the paper


@dataclass(frozen=True)
class SeparatorTraining:
    """What `avedge train facefilter` reads from its config."""

    sources: list[Source]  # corpora in the common layout
    run_folder: Path  # log and checkpoints
    weights: Path  # written at the end
    fit: FitSettings
    system: Literal["face", "audio_only"] = "face"
    face_weights: Path | None = None  # of the frozen face identity network
    voice_weights: Path | None = None  # of the frozen speech identity network, for L_SRL
    preset: Literal["paper", "compact"] = "compact"
    options: dict[str, Any] = field(default_factory=dict)  # of the network, over the preset's
    loss: SeparationLoss = field(default_factory=SeparationLoss)
    mixtures_per_batch: int = 5  # of all processes together; each gives two items, one per speaker
    sir_range_db: float = 0.0  # the paper names no levels
    same_sex: float = 0.5  # share of mixtures
    same_clip: bool = True  # the face is of the clip that is heard, as in the paper; else of any clip of the speaker
    store_identities: bool = True  # make them once, before the training; else from stills at every step
    face_variants: int = 2  # augmented copies of each still where identities are stored
    memory_gib: float = 2.0  # voices of a source up to this size are kept in memory

    def __post_init__(self) -> None:
        """Refuse what lacks a network."""
        if not self.sources:
            raise ValueError("sources is empty; wanted at least one corpus to train on")
        if self.loss.identity_weight > 0 and self.voice_weights is None:
            raise ValueError(f"loss.identity_weight is {self.loss.identity_weight}; it needs voice_weights")
        if self.system == "face" and self.face_weights is None:
            raise ValueError("system is face; it needs face_weights")


class SeparatorLearner(Learner):
    """A separator under Eq. 1; one without a face under the better of two orders (utterance-level PIT)."""

    def __init__(self, settings: SeparatorTraining) -> None:
        super().__init__(settings.fit)
        self.weights_of_loss = settings.loss
        self.options = {**PRESETS[settings.preset], **settings.options}
        self.separator: Separator | AudioOnlySeparator
        self.face: FaceIdentity | None = None
        if settings.system == "face" and settings.face_weights is not None:
            self.separator = build_separator(settings.preset, **settings.options)
            self.face = load_face_identity(settings.face_weights).requires_grad_(False)
        else:
            self.separator = build_audio_only(settings.preset, **settings.options)
        self.identity_loss: SpeakerRepresentationLoss | None = None
        if settings.loss.identity_weight > 0 and settings.voice_weights is not None:
            self.identity_loss = SpeakerRepresentationLoss(load_speech_identity(settings.voice_weights))

    def train(self, mode: bool = True) -> SeparatorLearner:
        """Keep the frozen face network in evaluation mode."""
        super().train(mode)
        if self.face is not None:
            self.face.eval()
        return self

    def separate(self, batch: MixtureBatch, voices: Tensor) -> Tensor:
        """Masks (M, 2, 257, T) in fp32 for voices' spectra (M, 2, 257, T), whose sum is the mixture."""
        magnitude = voices.sum(dim=1).abs()  # (M, 257, T)
        if isinstance(self.separator, Separator):
            masks = self.separator.masks(magnitude, self.identities(batch.faces)).float()
        else:
            masks = self._in_better_order(self.separator.masks(magnitude).float(), magnitude, voices.abs())
        return masks

    def identities(self, faces: Tensor) -> Tensor:
        """Identities (M, 2, 1024) of faces that are identities already, or stills (M, 2, 224, 224, 3)."""
        if faces.dtype != torch.uint8 or self.face is None:
            return faces
        with torch.no_grad():
            return self.face(faces.flatten(0, 1)).unflatten(0, faces.shape[:2]).float()

    def _in_better_order(self, masks: Tensor, magnitude: Tensor, wanted: Tensor) -> Tensor:
        separated = (masks * magnitude.unsqueeze(1)).unsqueeze(2)  # (M, 2, 1, 257, T) against (M, 1, 2, 257, T)
        costs = separation_costs(wanted.unsqueeze(1), separated, epsilon=self.weights_of_loss.epsilon)
        swapped = permutation_invariant(costs)[1]
        return torch.where(swapped[:, None, None, None], masks.flip(1), masks)

    def losses(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """L_TOT of a batch and its parts."""
        with torch.autocast(batch.voices.device.type, enabled=False):  # a spectrum does not survive bf16
            voices = fast_spectrum(batch.voices)
        masks = self.separate(batch, voices)
        with torch.autocast(batch.voices.device.type, enabled=False):
            return self.compare(masks, voices, batch.voices)

    def compare(self, masks: Tensor, voices: Tensor, waveforms: Tensor) -> dict[str, Tensor]:
        """Eq. 1 and what goes beyond it, for masks and spectra (M, 2, 257, T) and waveforms (M, 2, N)."""
        chosen = self.weights_of_loss
        mixture = voices.sum(dim=1, keepdim=True)
        separated, wanted = masks * mixture.abs(), voices.abs()
        aim = phase_sensitive_target(voices, mixture) if chosen.target == "phase_sensitive" else wanted
        losses = {"separation": separation_costs(aim, separated, epsilon=chosen.epsilon).mean()}
        total = losses["separation"]
        if self.identity_loss is not None:
            losses["identity"] = self.identity_loss(wanted.flatten(0, 1), separated.flatten(0, 1))
            total = total + chosen.identity_weight * losses["identity"]
        if chosen.waveform_weight > 0:
            losses["waveform"] = waveform_loss(fast_waveform(masks * mixture, waveforms.shape[-1]), waveforms)
            total = total + chosen.waveform_weight * losses["waveform"]
        return {"total": total, **losses}

    def scores(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss, SI-SDR improvement under the mixture's phase, how often the target wins; PIT in better order."""
        with torch.autocast(batch.voices.device.type, enabled=False):
            voices = fast_spectrum(batch.voices)
        masks = self.separate(batch, voices)
        with torch.autocast(batch.voices.device.type, enabled=False):
            estimate = fast_waveform(masks * voices.sum(dim=1, keepdim=True), batch.voices.shape[-1])
            won = si_sdr_db(estimate, batch.voices)
            return {
                **self.compare(masks, voices, batch.voices),
                "si_sdri_db": (
                    won - si_sdr_db(batch.mixture.unsqueeze(1).expand_as(batch.voices), batch.voices)
                ).mean(),
                "accuracy": (won > si_sdr_db(estimate, batch.voices.flip(1))).float().mean(),
            }

    def show(self, batch: MixtureBatch) -> Shown:
        """The first mixture with its first speaker: wanted, and as it comes out under the mixture's phase."""
        voices = fast_spectrum(batch.voices[:1])  # (1, 2, 257, T)
        mixture = voices.sum(dim=1)
        first = MixtureBatch(batch.mixture[:1], batch.voices[:1], batch.faces[:1])
        separated = self.separate(first, voices)[:, 0] * mixture
        spectra = torch.cat([mixture, voices[:, 0], separated]).abs()  # (3, 257, T)
        estimate = fast_waveform(separated, batch.voices.shape[-1])[0]
        return shown_separation(batch.mixture[0], batch.voices[0, 0], estimate, spectra)


def mixture_batches(settings: SeparatorTraining, split: str, face: FaceIdentity | None) -> MixtureBatches:
    """Batches of a split of all sources; validation is at 0 dB and of another seed."""
    training = split == "train"
    seed = settings.fit.seed if training else VALIDATION_SEED
    banks = [Bank(source.root, split, memory_gib=settings.memory_gib) for source in settings.sources]
    identities = None
    if face is not None and settings.store_identities:
        variants = settings.face_variants if training else 1
        identities = [Identities(face, bank, variants=variants, seed=seed) for bank in banks]
    return MixtureBatches(
        banks,
        identities,
        [source.share for source in settings.sources],
        settings.mixtures_per_batch if training else VALIDATION_MIXTURES,
        seed,
        sir_range_db=settings.sir_range_db if training else 0.0,
        same_sex=settings.same_sex,
        same_clip=settings.same_clip,
        with_faces=face is not None,
    )


def prepare_separator(settings: SeparatorTraining) -> Prepared[SeparatorLearner]:
    """Read the corpora and build the network.

    Raises:
        TrainError: data or the identity networks' weights missing or unreadable.
    """
    torch.manual_seed(settings.fit.seed)
    torch.set_num_threads(settings.fit.threads)
    learner = SeparatorLearner(settings)
    batches = mixture_batches(settings, "train", learner.face)
    held_out = mixture_batches(settings, "val", learner.face)
    validation = [held_out.batch(step) for step in range(VALIDATION_BATCHES * len(settings.sources))]
    return Prepared(settings, learner, batches, validation, settings.run_folder)


def train_separator(settings: SeparatorTraining, *, resume: bool = False) -> SeparatorLearner:
    """Train a separator and write its weights.

    Raises:
        TrainError: as `prepare_separator` and `fit`.
    """
    prepared = prepare_separator(settings)
    learner = prepared.learner
    fit(prepared, resume=resume)
    settle_statistics(learner, prepared.train_batches)
    model = SEPARATOR if settings.system == "face" else AUDIO_ONLY
    save_weights(settings.weights, learner.separator, model=model, options=learner.options)
    log.info("wrote %s", settings.weights)
    _put_beside(settings)
    return learner


def _put_beside(settings: SeparatorTraining) -> None:
    """Copy the face network beside the separator: the two belong together, and a folder of both can be judged."""
    if settings.system == "audio_only" or settings.face_weights is None:
        return
    beside = settings.weights.parent / f"{FACE_IDENTITY}.safetensors"
    if beside.resolve() != settings.face_weights.resolve():
        write_atomically(beside, settings.face_weights.read_bytes())

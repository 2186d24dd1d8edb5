"""FaceFilter judged as it is served: mixture and face in, waveform out through Griffin-Lim from the mixture's phase."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.dsp import GriffinLim, IdentityLogMel, Stft
from train.errors import TrainError
from train.facefilter.data import TalkerBank, at_voice_level, read_bank
from train.facefilter.identity import FaceIdentity, SpeechIdentity, load_face_identity, load_speech_identity
from train.facefilter.metrics import matching_accuracy, mean_finite, sdr_db, share_true, si_sdr_db, wilson_interval
from train.facefilter.separator import Separator, load_separator
from train.settings import GRIFFIN_LIM_ITERATIONS
from train.synthetic.talkers import PAIRS, MixtureItem, list_mixtures, load_mixture, read_face

BATCH = 16
MATCHING_ROUNDS = 4  # of one face and one voice per talker


@dataclass
class Pipeline:
    """What the ensemble does, in torch: waveforms (B, N) at RMS 0.1, faces (B, 224, 224, 3) -> voices (B, N)."""

    face: FaceIdentity
    separator: Separator
    iterations: int = GRIFFIN_LIM_ITERATIONS

    def __post_init__(self) -> None:
        """Make the two ends of the pipeline."""
        self.stft = Stft()
        self.reconstruct = GriffinLim(self.iterations)

    @torch.no_grad()
    def __call__(self, mixture: Tensor, face: Tensor) -> Tensor:
        """Separate."""
        magnitude, spectrum = self.stft(mixture)
        separated, _ = self.separator(magnitude, self.face(face))
        voice: Tensor = self.reconstruct(separated, spectrum)
        return voice


def load_pipeline(weights: Path) -> Pipeline:
    """Read the pipeline from a folder of weights such as `train/weights`.

    Raises:
        TrainError: a file is missing, damaged or of another model.
    """
    face = load_face_identity(weights / "facefilter_identity.safetensors")
    return Pipeline(face, load_separator(weights / "facefilter_separator.safetensors"))


def evaluate_talkers(
    data: Path, weights: Path, *, split: str = "test", per_pair: int = 50, seed: int = 0
) -> dict[str, Any]:
    """Judge trained weights on a fixed list of mixtures at 0 dB of a split's talkers.

    Args:
        data: made by `avedge synthesize talkers`.
        weights: folder of the weights.
        split: whose talkers.
        per_pair: mixtures of each sex pair.
        seed: of the list.

    Returns:
        `mixtures`; for each sex pair (target first), `different_sex`, `same_sex` and `overall` what `summarise` gives;
        `matching`: how often a face finds its voice, if the folder has the speech identity network.

    Raises:
        TrainError: data or weights missing or unreadable, or no mixtures asked for.
    """
    if per_pair < 1:
        raise TrainError(f"--per-pair is {per_pair}; wanted at least 1 mixture of each pair of sexes to judge by.")
    pipeline = load_pipeline(weights)
    items = list_mixtures(data, split, per_pair, seed)
    rows = [judge(pipeline, data, items[start : start + BATCH]) for start in range(0, len(items), BATCH)]
    scores = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    pairs = np.array([item.pair for item in items])
    groups = {pair: pairs == pair for pair in PAIRS}
    groups["different_sex"] = (pairs == "MF") | (pairs == "FM")
    groups["same_sex"] = ~groups["different_sex"]
    groups["overall"] = np.ones(len(pairs), bool)
    report: dict[str, Any] = {"mixtures": len(items), "split": split, "seed": seed}
    report |= {
        name: summarise({key: value[torch.from_numpy(chosen)] for key, value in scores.items()})
        for name, chosen in groups.items()
    }
    voice_weights = weights / "facefilter_voice_identity.safetensors"
    if voice_weights.is_file():
        report["matching"] = evaluate_matching(
            pipeline.face, load_speech_identity(voice_weights), read_bank(data, split), seed
        )
    return report


def judge(pipeline: Pipeline, data: Path, items: list[MixtureItem]) -> dict[str, Tensor]:
    """Score a few mixtures, one value each: with the target's face, and what the interferer's face does instead."""
    loaded = [load_mixture(data, item) for item in items]
    mixture, target, interferer = (torch.from_numpy(np.stack(waves)) for waves in zip(*loaded, strict=True))
    face = _faces([read_face(item.target.faces(data)[item.target_face]) for item in items])
    other = _faces([read_face(item.interferer.faces(data)[item.interferer_face]) for item in items])
    voice, swapped = pipeline(mixture, face), pipeline(mixture, other)
    sdr = sdr_db(voice, target)
    return {
        "sdri_db": sdr - sdr_db(mixture, target),
        "si_sdri_db": si_sdr_db(voice, target) - si_sdr_db(mixture, target),
        "margin_db": sdr - sdr_db(voice, interferer),
        "swapped_margin_db": sdr_db(swapped, target) - sdr_db(swapped, interferer),
    }


def summarise(scores: dict[str, Tensor]) -> dict[str, float | int | list[float]]:
    """Means over a group of mixtures.

    Returns:
        `sdri_db`, `si_sdri_db`: mean improvements; `accuracy`: share in which the output has a better SDR against
        the target than against the interferer (with its Wilson interval `accuracy_95`); `accuracy_interferer_face`: the
        same share when the interferer's face is given, to be low; `undefined`: mixtures left out, having no finite SDR.
    """
    defined = torch.stack(list(scores.values())).isfinite().all(dim=0)
    kept = {name: value[defined] for name, value in scores.items()}
    right = kept["margin_db"] > 0
    return {
        "count": int(defined.sum()),
        "undefined": int((~defined).sum()),
        "sdri_db": mean_finite(kept["sdri_db"]),
        "si_sdri_db": mean_finite(kept["si_sdri_db"]),
        "accuracy": share_true(right),
        "accuracy_95": list(wilson_interval(int(right.sum()), len(right))) if len(right) else [math.nan, math.nan],
        "accuracy_interferer_face": share_true(kept["swapped_margin_db"] > 0),
    }


@torch.no_grad()
def evaluate_matching(face: FaceIdentity, voice: SpeechIdentity, bank: TalkerBank, seed: int) -> dict[str, float]:
    """How often a face finds its talker's voice among 2 and among 10 of a split, and among 2 of the same sex."""
    rng = np.random.default_rng(seed)
    stft, log_mel = Stft(), IdentityLogMel()
    groups = {"all": list(range(len(bank.talkers)))}
    groups |= {sex: [index for index, talker in enumerate(bank.talkers) if talker.sex == sex] for sex in "FM"}
    found: dict[str, list[float]] = {"two_way": [], "ten_way": [], "two_way_same_sex": []}
    for _ in range(MATCHING_ROUNDS):
        faces = torch.cat([face(_faces([pictures[rng.integers(len(pictures))]])) for pictures in bank.faces])
        waves = np.stack([at_voice_level(bank.random_crop(index, rng)) for index in groups["all"]])
        similarity = faces @ voice(log_mel(stft(torch.from_numpy(waves))[0])).T
        found["two_way"].append(matching_accuracy(similarity, 2))
        found["ten_way"].append(matching_accuracy(similarity, min(10, len(similarity))))
        found["two_way_same_sex"] += [matching_accuracy(similarity[groups[sex]][:, groups[sex]], 2) for sex in "FM"]
    return {name: float(np.mean(values)) for name, values in found.items()}


def _faces(pictures: list[Any]) -> Tensor:
    return torch.from_numpy(np.stack(pictures))

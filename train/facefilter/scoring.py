"""One mixture's outputs judged, and many mixtures' figures summed up."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.facefilter.metrics import sdr_db, si_sdr_db, snr_db, wilson_interval
from train.facefilter.voiceprint import Voiceprint

ACCEPTED_DB = 1.0  # of SI-SDR improvement, for definition C
_SILENT = 1e-7  # RMS of an output in which nothing is left to judge, at a mixture's 0.1
Figures = dict[str, float]  # of one output in one mixture; NaN where undefined
Summary = dict[str, Any]


def score(mixture: Tensor, target: Tensor, interferer: Tensor, voice: Tensor) -> Figures:
    """Judge one voice that was taken out of one mixture; all (N,).

    Returns:
        `sdri_db`, `si_sdri_db`, `snri_db`: improvements over the mixture as it stands; `margin_db`: SDR against the
        target minus SDR against the interferer; `margin_b`: the same with the cosine of `Voiceprint`.
    """
    if float(voice.square().mean().sqrt()) < _SILENT:
        return dict.fromkeys(("sdri_db", "si_sdri_db", "snri_db", "margin_db", "margin_b"), math.nan)
    before_after, twice = torch.stack([mixture, voice]), target.expand(2, -1)
    sdr = sdr_db(before_after, twice)
    si_sdr, snr = si_sdr_db(before_after, twice), snr_db(before_after, twice)
    prints = _voiceprint()(torch.stack([voice, target, interferer]))
    return {
        "sdri_db": float(sdr[1] - sdr[0]),
        "si_sdri_db": float(si_sdr[1] - si_sdr[0]),
        "snri_db": float(snr[1] - snr[0]),
        "margin_db": float(sdr[1] - sdr_db(voice, interferer)),
        "margin_b": float(prints[0] @ prints[1] - prints[0] @ prints[2]),
    }


def score_outputs(
    mixture: NDArray[np.float32],
    target: NDArray[np.float32],
    interferer: NDArray[np.float32],
    outputs: Mapping[str, NDArray[np.float32]],
) -> dict[str, Figures]:
    """Judge all that was made of one mixture; voices (N,).

    Args:
        mixture: as it was heard.
        target: as it is in the mixture.
        interferer: as it is in the mixture.
        outputs: `given`: (V, N), what the system gave; with two voices and no face, the first is judged, and the better
            order as `best_permutation`. `swapped`: (1, N), with the interferer's face. `oracle`: (1, N).

    Returns:
        figures of each; those of `swapped` are of the interferer's voice, which is wanted there.
    """
    heard, wanted, other = (torch.from_numpy(voice) for voice in (mixture, target, interferer))
    given = torch.from_numpy(outputs["given"])
    figures = {"given": score(heard, wanted, other, given[0])}
    if len(given) == 2:
        better = _target_in_better_order(given, wanted, other)
        figures["best_permutation"] = figures["given"] if better == 0 else score(heard, wanted, other, given[1])
    if "swapped" in outputs:
        swapped = torch.from_numpy(outputs["swapped"][0])
        figures["swapped"] = score(heard, other, wanted, swapped)
        gap = si_sdr_db(given[0], wanted) - si_sdr_db(swapped, wanted)
        figures["swapped"]["si_sdr_gap_db"] = float(gap) if swapped.any() else math.nan
    if "oracle" in outputs:
        figures["oracle"] = score(heard, wanted, other, torch.from_numpy(outputs["oracle"][0]))
    return figures


def summarise(scores: Sequence[dict[str, Figures]]) -> Summary:
    """Sum up the figures of a group of mixtures.

    Returns:
        `n`, `undefined` (mixtures with a measure that has no value, as of a silent output: out of that measure's mean,
        wrong in the accuracies) and of the system's output `sdri_db`, `si_sdri_db`, `snri_db`, means; `accuracy`: share
        whose SDR against the target is above that against the interferer (definition A), with its 95 % Wilson interval;
        `accuracy_b`: the same by `Voiceprint`; `accuracy_c`: share with more than 1 dB of SI-SDR improvement. The same
        of each other output under its name. None where there is nothing to sum up.
    """
    summary = _summarise([row["given"] for row in scores])
    others = dict.fromkeys(name for row in scores for name in row if name != "given")
    return summary | {name: _summarise([row[name] for row in scores]) for name in others}


def _summarise(rows: list[Figures]) -> Summary:
    undefined = sum(not all(map(math.isfinite, row.values())) for row in rows)
    summary: Summary = {"n": len(rows), "undefined": undefined}
    names = ("sdri_db", "si_sdri_db", "snri_db", *(["si_sdr_gap_db"] if rows and "si_sdr_gap_db" in rows[0] else []))
    summary |= {name: _mean([row[name] for row in rows]) for name in names}
    verdicts = {
        "accuracy": [row["margin_db"] > 0 for row in rows],
        "accuracy_b": [row["margin_b"] > 0 for row in rows],
        "accuracy_c": [row["si_sdri_db"] > ACCEPTED_DB for row in rows],
    }
    for name, right in verdicts.items():  # NaN is above nothing
        summary[name] = sum(right) / len(right) if right else None
        summary[f"{name}_interval"] = list(wilson_interval(sum(right), len(right))) if right else None
    return summary


def _mean(values: list[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _target_in_better_order(given: Tensor, target: Tensor, interferer: Tensor) -> int:
    """Which of two voices (2, N) is the target's in the order with the better mean SI-SDR, as uPIT chooses."""
    as_given = si_sdr_db(given, torch.stack([target, interferer])).mean()
    turned = si_sdr_db(given, torch.stack([interferer, target])).mean()
    return int(turned > as_given)


@functools.cache
def _voiceprint() -> Voiceprint:
    return Voiceprint()

"""Every counting network by its name: built anew, stored, and rebuilt from its weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from train.checkpoint import load_weights, read_facts, read_model, read_options, save_weights
from train.crowd.baselines import build_baseline
from train.crowd.interface import Counter, require_model
from train.crowd.network import CrowdCounter
from train.crowd.options import options_of

_TRAINING_MEAN_PEOPLE = "training_mean_people"


def build_counter(model: str, preset: str, **options: Any) -> Counter:
    """Build an untrained network.

    Args:
        model: the name of its weights, one of `MODELS`' values.
        preset: `paper` or `compact`.
        options: changes to the preset, fields of `CrowdOptions` or `BaselineOptions`.

    Raises:
        TrainError: no such model, preset or option, or options that contradict each other.
    """
    require_model(model)
    if model in ("crowd_av", "crowd_v"):
        return CrowdCounter(options_of(preset, **options), audio=model == "crowd_av")
    return build_baseline(model, preset, **options)


def save_counter(path: Path, counter: Counter, *, mean_people: float | None = None) -> None:
    """Store a network with all that `load_counter` needs.

    Args:
        path: `….safetensors`.
        counter: the network.
        mean_people: in a picture of its training set, for `training_mean_people`.
    """
    facts = None if mean_people is None else {_TRAINING_MEAN_PEOPLE: round(mean_people, 3)}
    save_weights(path, counter, model=counter.model, options=asdict(counter.options), facts=facts)


def load_counter(path: Path, model: str | None = None) -> Counter:
    """Rebuild a trained network from its weights, in evaluation mode.

    Args:
        path: written by `save_counter`.
        model: the only one that will do; by default any, and the file says which one it is.

    Raises:
        TrainError: no such file, a damaged one, one of another model, or of something that does not count people.
    """
    model = model or read_model(path)
    require_model(model)
    counter = build_counter(model, "paper", **read_options(path, model=model))
    load_weights(path, counter, model=model)
    return counter.eval()


def training_mean_people(path: Path) -> float | None:
    """People in a picture of the training set, on average: what an answer without looking would be.

    Returns:
        None where the weights do not say.

    Raises:
        TrainError: no such file, or a damaged one.
    """
    mean = read_facts(path).get(_TRAINING_MEAN_PEOPLE)
    return None if mean is None else float(mean)

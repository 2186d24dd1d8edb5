"""Every counting network by its name: built anew, or from stored weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.checkpoint import load_weights, read_model, read_options
from train.crowd.baselines import build_baseline
from train.crowd.interface import Counter, require_model
from train.crowd.network import build_crowd_counter, model_name


def build_counter(model: str, preset: str, *, mean_people: float | None = None, **options: Any) -> Counter:
    """Build an untrained network.

    Args:
        model: the name of its weights, one of `MODELS`' values.
        preset: `paper` or `compact`.
        mean_people: what the untrained network shall answer, usually the training pictures' mean; it yields to a
            `density_scale` among the options.
        options: changes to the preset, fields of `CrowdOptions` or `BaselineOptions`.

    Raises:
        TrainError: no such model, preset or option, or options that contradict each other.
    """
    require_model(model)
    if model in (model_name(audio=True), model_name(audio=False)):
        counter: Counter = build_crowd_counter(preset, model == model_name(audio=True), **options)
    else:
        counter = build_baseline(model, preset, **options)
    if mean_people is not None and "density_scale" not in options:
        counter.scale_to(mean_people)
    return counter


def load_counter(path: Path) -> Counter:
    """Rebuild a trained network from its weights, in evaluation mode; the file says which one it is.

    Raises:
        TrainError: no such file, a damaged one, or one of something that does not count people.
    """
    model = read_model(path)
    require_model(model)
    counter = build_counter(model, "paper", **read_options(path, model=model))
    load_weights(path, counter, model=model)
    return counter.eval()

"""Weights on disk: safetensors with their options in the header, written whole or not at all, read without pickle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from train.errors import TrainError
from train.files import write_atomically
from train.processes import is_first_process

Network = TypeVar("Network", bound=nn.Module)


def save_weights(
    path: Path, module: nn.Module, *, model: str, options: dict[str, Any], facts: dict[str, Any] | None = None
) -> None:
    """Store a module's parameters and buffers as fp32 safetensors; of several processes the first one does.

    Args:
        path: where to, `….safetensors`.
        module: whose state is stored.
        model: the model's name; `load_weights` refuses a file of another one.
        options: what the model's builder needs to rebuild the module; must be JSON.
        facts: what else is worth knowing of the training, for `read_facts`; must be JSON.
    """
    if not is_first_process():
        return
    state = {
        name: (tensor.detach().float() if tensor.is_floating_point() else tensor.detach()).cpu().contiguous()
        for name, tensor in module.state_dict().items()
    }
    header = {"format": "pt", "model": model, "options": json.dumps(options, sort_keys=True)}
    if facts:
        header["facts"] = json.dumps(facts, sort_keys=True)
    write_atomically(path, save(state, metadata=header))


def read_options(path: Path, *, model: str) -> dict[str, Any]:
    """Read the builder options that were stored with the weights.

    Raises:
        TrainError: the file is missing, damaged, or holds another model.
    """
    header = _header(path, f"those of {model}")
    if header.get("model") != model:
        raise TrainError(
            f"{path} holds {header.get('model', 'no named model')!r}, wanted {model!r}; name the right file."
        )
    options: dict[str, Any] = json.loads(header["options"])
    return options


def read_model(path: Path) -> str:
    """The name of the model that a file holds; empty where it has none.

    Raises:
        TrainError: the file is missing or damaged.
    """
    return _header(path, "a model's").get("model", "")


def read_facts(path: Path) -> dict[str, Any]:
    """What was stored beside the weights about their training; empty where nothing was.

    Raises:
        TrainError: the file is missing or damaged.
    """
    facts: dict[str, Any] = json.loads(_header(path, "a model's").get("facts", "{}"))
    return facts


def _header(path: Path, wanted: str) -> dict[str, str]:
    if not path.is_file():
        raise TrainError(f"No weights at {path}; wanted {wanted}. Train them (`avedge train`) or name another file.")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise TrainError(f"{path} is not a whole safetensors file ({error}); fetch or train it again.") from error


def load_weights(path: Path, module: nn.Module, *, model: str) -> None:
    """Fill a module from a file written by `save_weights`; every name and shape must match exactly.

    Raises:
        TrainError: missing or damaged file, another model, other names or shapes, NaN or infinity inside.
    """
    read_options(path, model=model)
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a safe_open is no dict
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise TrainError(
            f"{path} has NaN or infinity in {', '.join(bad[:3])}; such weights answer nonsense: train again."
        )
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise TrainError(f"{path} does not fit the network its header asks for: {error}") from error


def load_network(build: Callable[..., Network], path: Path, *, model: str) -> Network:
    """Rebuild a network from a file written by `save_weights`, in evaluation mode.

    Args:
        build: the network's class, or whatever makes it of the stored options.
        path: the file.
        model: the model that it must hold.

    Raises:
        TrainError: the file is missing, damaged or of another model.
    """
    network = build(**read_options(path, model=model))
    load_weights(path, network, model=model)
    return network.eval()

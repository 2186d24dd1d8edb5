"""One process or many: who is the first, and how Lightning is told how many there are."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch

from train.errors import TrainError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def is_first_process() -> bool:
    """Whether this process writes files and logs: the only one, or the first of those that train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    if "RANK" in os.environ:  # torchrun
        return os.environ["RANK"] == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def trainer_layout(devices: int | Literal["auto"]) -> dict[str, Any]:
    """Lightning's arguments for so many processes; under `torchrun` its numbers count.

    Batch normalisation is synchronised between GPUs, which wait for one another anyway; on CPU, where torch has no
    such layer, each process normalises its own share as accumulation does its micro-batches.

    Raises:
        TrainError: more GPUs wanted than there are.
    """
    gpus = torch.cuda.device_count()
    local, nodes = max(1, gpus) if devices == "auto" else devices, 1
    if under_torchrun():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
    if 0 < gpus < local:
        raise TrainError(
            f"Saw {gpus} GPUs; wanted {local} (fit.devices or torchrun's --nproc-per-node). Each process trains on one "
            "of its own. Ask for fewer, or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on CPU."
        )
    many = local * nodes > 1
    return {
        "accelerator": "auto",
        "devices": local,
        "num_nodes": nodes,
        "strategy": "ddp" if many else "auto",
        "sync_batchnorm": many and gpus > 0,
    }


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"} <= os.environ.keys()


def check_precision(precision: Precision) -> None:
    """Refuse a precision that this machine has no arithmetic for.

    Raises:
        TrainError: with the ones that it has.
    """
    gpu = torch.cuda.is_available()
    lacking = {"16-mixed"} if not gpu else (set() if torch.cuda.is_bf16_supported() else {"bf16-mixed"})
    if precision in lacking:
        other = sorted({"32-true", "bf16-mixed", "16-mixed"} - lacking)
        raise TrainError(
            f"Saw fit.precision {precision} on {'this GPU' if gpu else 'a CPU'}; wanted one of {', '.join(other)}, "
            "because this device has no such arithmetic. Set --fit.precision to one of these."
        )

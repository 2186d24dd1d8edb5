"""Both chains of models in torch eager, as every peer runs them: the modules and weights that the exports come from."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from perf.peers.setting import Assignment
from perf.peers.wire import WORKLOADS
from train.crowd.models import load_counter
from train.crowd.network import CrowdDensitySum
from train.dsp import CrowdLogMel, GriffinLim, Stft
from train.facefilter.identity import load_face_identity
from train.facefilter.separator import load_separator

Array = NDArray[Any]


class FaceFilterChain(nn.Module):
    """Mixture and face to attention and speech, what the ensemble `facefilter` wires."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.stft, self.griffin_lim = Stft(), GriffinLim()
        self.identity = load_face_identity(weights / "facefilter_identity.safetensors")
        self.separator = load_separator(weights / "facefilter_separator.safetensors")

    def forward(self, face: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """Map faces (B, 224, 224, 3) and mixtures (B, N) to attention (B, T) and speech (B, N)."""
        magnitude, spectrum = self.stft(mixture)
        separated, attention = self.separator(magnitude, self.identity(face))
        return attention, self.griffin_lim(separated, spectrum)


class CrowdChain(nn.Module):
    """Picture and sound to count and density, what the ensemble `crowd_counting` wires."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.log_mel, self.density_sum = CrowdLogMel(), CrowdDensitySum()
        self.counter = load_counter(weights / "crowd_av.safetensors", model="crowd_av")

    def forward(self, picture: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Map pictures (B, 576, 1024, 3) and sounds (B, 16000) to counts (B, 1) and densities (B, 72, 128)."""
        density, _, _ = self.counter(picture, self.log_mel(sound))
        count, _ = self.density_sum(density)
        return count, density


_CHAINS: dict[str, Callable[[Path], nn.Module]] = {"facefilter": FaceFilterChain, "crowd_counting": CrowdChain}


class Chain:
    """One chain, ready to answer batches of arrays; torch's threads are those of the whole process.

    Raises:
        TrainError: weights are missing, damaged, or another model's.
    """

    def __init__(self, workload: str, weights: Path, *, channels_last: bool = False) -> None:
        self.workload = WORKLOADS[workload]
        self._module = _CHAINS[workload](weights).eval().requires_grad_(False)
        if channels_last:
            self._module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stub

    @classmethod
    def assigned(cls) -> Chain:
        """The chain that this process is to serve, with its threads set."""
        assignment = Assignment.from_environment()
        torch.set_num_threads(assignment.setting.threads)
        return cls(assignment.workload, Path(assignment.weights), channels_last=assignment.setting.channels_last)

    @torch.inference_mode()
    def batch(self, **inputs: Array) -> dict[str, Array]:
        """Answer stacked requests: inputs by name, each with its batch axis, to outputs by name."""
        tensors = [torch.from_numpy(inputs[name]) for name, _, _ in self.workload.inputs]
        answers = self._module(*tensors)
        return {name: answer.numpy() for name, answer in zip(self.workload.outputs, answers, strict=True)}

    def answer(self, requests: Sequence[dict[str, Array]]) -> list[dict[str, Array]]:
        """Answer single requests of equal shapes as one batch."""
        stacked = {name: np.stack([request[name] for request in requests]) for name in requests[0]}
        outputs = self.batch(**stacked)
        return [{name: output[index] for name, output in outputs.items()} for index in range(len(requests))]

    @torch.inference_mode()
    def stages(self, request: dict[str, Array], repeats: int = 7) -> dict[str, float]:
        """Median milliseconds of each module of the chain on one request, on one thread of this process."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        began: dict[str, float] = {}
        spent: dict[str, list[float]] = {name: [] for name, _ in self._module.named_children()}
        hooks = []
        for name, module in self._module.named_children():
            hooks.append(module.register_forward_pre_hook(partial(_begin, began, name)))
            hooks.append(module.register_forward_hook(partial(_end, began, spent, name)))
        try:
            for _ in range(repeats):
                self.answer([request])
        finally:
            torch.set_num_threads(threads)
            for hook in hooks:
                hook.remove()
        return {name: 1000 * statistics.median(times) for name, times in spent.items()}


def _begin(began: dict[str, float], name: str, *_: object) -> None:
    began[name] = time.perf_counter()


def _end(began: dict[str, float], spent: dict[str, list[float]], name: str, *_: object) -> None:
    spent[name].append(time.perf_counter() - began[name])

"""What can be judged: a trained system as it is served, mixture and faces in, waveforms out.

Legend: B mixtures, N samples, K stills of a face, V voices that a system gives (one; two without a face, in an order
that nothing fixes).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from train.dsp import GriffinLim, Stft
from train.errors import TrainError
from train.facefilter.identity import FACE_IDENTITY, FaceIdentity, load_face_identity
from train.facefilter.separator import (
    AUDIO_ONLY,
    SEPARATOR,
    AudioOnlySeparator,
    Separator,
    load_audio_only,
    load_separator,
)
from train.settings import GRIFFIN_LIM_ITERATIONS

Waveforms = NDArray[np.float32]
Faces = list[NDArray[np.uint8]]  # B of (K, 224, 224, 3) RGB


class System(Protocol):
    """What `evaluation.evaluate` judges."""

    blind: bool  # whether it has no face and so no order of its voices

    def separate(self, mixture: Waveforms, faces: Faces, other_faces: Faces) -> Waveforms:
        """Separate mixtures (B, N) at RMS 0.1 into (B, V, N), the wanted voice first unless `blind`."""

    def describe(self) -> dict[str, Any]:
        """What was judged, for the report: JSON."""


class Decoder:
    """Waveforms of separated magnitudes under the mixture's phase, improved by Griffin-Lim.

    Args:
        iterations: of Griffin-Lim; 0 keeps the mixture's phase.
        device: where it and the networks that it serves run.
    """

    def __init__(self, iterations: int = GRIFFIN_LIM_ITERATIONS, device: str = "cpu") -> None:
        self.name = f"griffin-lim:{iterations}" if iterations else "mixture-phase"
        self.device = torch.device(device)
        self.stft = Stft().to(self.device)
        self.griffin_lim = GriffinLim(iterations).to(self.device)

    def put(self, array: NDArray[Any]) -> Tensor:
        """An array as a tensor where the networks are."""
        return torch.from_numpy(array).to(self.device)

    @torch.no_grad()
    def __call__(self, separated: Tensor, spectrum: Tensor) -> Tensor:
        """Decode magnitudes (B, V, 257, T) of mixtures with a spectrum (B, 2, 257, T) into (B, V, N)."""
        voices = separated.shape[1]
        waveforms: Tensor = self.griffin_lim(separated.flatten(0, 1), spectrum.repeat_interleave(voices, dim=0))
        return waveforms.unflatten(0, (-1, voices))

    @torch.no_grad()
    def oracle(self, mixture: Waveforms, target: Waveforms, interferer: Waveforms) -> Waveforms:
        """What a perfect ratio mask |target| / (|target| + |interferer|) gives: the ceiling; all (B, N)."""
        magnitude, spectrum = self.stft(self.put(mixture))
        wanted, other = (self.stft(self.put(voice))[0] for voice in (target, interferer))
        separated = wanted / (wanted + other).clamp(min=1e-9) * magnitude
        return np.asarray(self(separated.unsqueeze(1), spectrum)[:, 0].cpu().numpy())


class FaceSystem:
    """The ensemble in torch: the face's identity steers the mask.

    Args:
        face: identity network.
        separator: of one voice.
        decoder: of its magnitudes.
        both_faces: give both faces and let the two masks add up to one.
        files: the weights, for the report.
    """

    blind = False

    def __init__(
        self,
        face: FaceIdentity,
        separator: Separator,
        decoder: Decoder,
        *,
        both_faces: bool = False,
        files: tuple[Path, ...] = (),
    ) -> None:
        self.face, self.separator = face.to(decoder.device), separator.to(decoder.device)
        self.decoder = decoder
        self.both_faces, self.files = both_faces, files

    @torch.no_grad()
    def identities(self, faces: Faces) -> Tensor:
        """The identity of each face (B, 1024); of several stills the mean, brought to unit length again."""
        counts = [len(stills) for stills in faces]
        each = self.face(self.decoder.put(np.concatenate(faces))).split(counts)
        return functional.normalize(torch.stack([stills.mean(dim=0) for stills in each]), dim=1)

    @torch.no_grad()
    def separate(self, mixture: Waveforms, faces: Faces, other_faces: Faces) -> Waveforms:
        """Separate (B, N) into (B, 1, N)."""
        magnitude, spectrum = self.decoder.stft(self.decoder.put(mixture))
        identities = self.identities(faces)
        if self.both_faces:
            masks = self.separator.masks(magnitude, torch.stack([identities, self.identities(other_faces)], dim=1))
            separated = masks[:, 0] / masks.sum(dim=1).clamp(min=1e-6) * magnitude
        else:
            separated, _ = self.separator(magnitude, identities)
        return np.asarray(self.decoder(separated.unsqueeze(1), spectrum).cpu().numpy())

    def describe(self) -> dict[str, Any]:
        """Kind, decoder and weights."""
        kind = "audio_visual" if self.separator.attention is None else "attention"
        return _description(kind, self.decoder, self.files) | {"both_faces": self.both_faces}


class AudioOnlySystem:
    """The baseline without a face: two voices, in an order that nothing fixes."""

    blind = True

    def __init__(self, separator: AudioOnlySeparator, decoder: Decoder, *, files: tuple[Path, ...] = ()) -> None:
        self.separator, self.decoder, self.files = separator.to(decoder.device), decoder, files

    @torch.no_grad()
    def separate(self, mixture: Waveforms, faces: Faces, other_faces: Faces) -> Waveforms:
        """Separate (B, N) into (B, 2, N)."""
        magnitude, spectrum = self.decoder.stft(self.decoder.put(mixture))
        return np.asarray(self.decoder(self.separator(magnitude), spectrum).cpu().numpy())

    def describe(self) -> dict[str, Any]:
        """Kind, decoder and weights."""
        return _description("audio_only", self.decoder, self.files)


@dataclass(frozen=True)
class Files:
    """Where a system's weights lie; `identity` is None for one without a face."""

    separator: Path
    identity: Path | None


def find_weights(weights: Path, face_weights: Path | None = None) -> Files:
    """Find the files of a system.

    Args:
        weights: a folder such as `train/weights`, or the separator's file.
        face_weights: the face identity network's file; by default the one beside the separator.

    Raises:
        TrainError: there are no weights of a separator.
    """
    if weights.is_dir():
        names = (SEPARATOR, AUDIO_ONLY)
        found = [path for name in names if (path := weights / f"{name}.safetensors").is_file()]
        if not found:
            raise TrainError(f"No {' and no '.join(names)}.safetensors in {weights}; train one, or name its file.")
        weights = found[0]
    if _model_of(weights) == AUDIO_ONLY:
        return Files(weights, None)
    return Files(weights, face_weights or weights.with_name(f"{FACE_IDENTITY}.safetensors"))


def load_system(files: Files, decoder: Decoder, *, both_faces: bool = False) -> FaceSystem | AudioOnlySystem:
    """Read a system's weights.

    Raises:
        TrainError: a file is missing, damaged or of another model.
    """
    if files.identity is None:
        return AudioOnlySystem(load_audio_only(files.separator), decoder, files=(files.separator,))
    return FaceSystem(
        load_face_identity(files.identity),
        load_separator(files.separator),
        decoder,
        both_faces=both_faces,
        files=(files.identity, files.separator),
    )


def _model_of(path: Path) -> str:
    """The model that a file of weights names in its header; empty where it has none."""
    if not path.is_file():
        raise TrainError(f"No weights at {path}; wanted a folder of weights or a separator's file. Train them first.")
    try:
        with safe_open(path, framework="pt") as file:
            return str((file.metadata() or {}).get("model", ""))
    except SafetensorError as error:
        raise TrainError(f"{path} is not a whole safetensors file ({error}); fetch or train it again.") from error


def _description(kind: str, decoder: Decoder, files: tuple[Path, ...]) -> dict[str, Any]:
    return {
        "kind": kind,
        "decoder": decoder.name,
        "weights_sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }

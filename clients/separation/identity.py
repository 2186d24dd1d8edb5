"""A face as the network knows it: 1024 numbers that choose a voice without the photo.

It is made and stored on request only. The file holds the numbers, which network made them and when, and no picture;
only its owner may read it. It is still biometric data: whoever has the file can pick that person's voice out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clients.contract import ServedModel
from clients.errors import BadInput, ContractMismatch, printable
from clients.media import limits
from clients.media.picture import Picture
from clients.outputs import write_whole
from clients.separation.served import FACE_NETWORK

ENDING = ".identity"
_FORMAT = "avedge identity 1"
_LARGEST_BYTES = 1_000_000
_WORDS = ("format", "contract_digest", "model_version", "created")
_SAME_NETWORK = 0.99  # cosine; in int8 the demonstration weights have 0.9997 with their own fp32, in fp16 1.0000


@dataclass(frozen=True, eq=False)
class FaceIdentity:
    """One person's face, as the served face network describes it."""

    values: NDArray[np.float32] = field(repr=False)  # (identity_size,), of length 1; in no log by an accident
    # What the same network made of a picture that never changes. Weights can change where the contract does not;
    # numbers of other weights would choose a voice at random, without a word.
    probe: NDArray[np.float32] = field(repr=False)  # (identity_size,)
    contract_digest: str
    model_version: str  # of `facefilter_identity`
    created: str  # ISO 8601, UTC

    @classmethod
    def of(
        cls, values: NDArray[np.float32], probe: NDArray[np.float32], served: ServedModel, model_version: str
    ) -> FaceIdentity:
        """A new identity out of the network's answers for the face and for the unchanging picture."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(values, probe, served.digest, model_version, now)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold and anybody may see: where the identity comes from, and none of its numbers."""
        return {
            "values": len(self.values),
            "contract_digest": self.contract_digest,
            "model": FACE_NETWORK,
            "model_version": self.model_version,
            "created": self.created,
        }

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all, with the rights of a private key (0600).

        Raises:
            OutputFailed: it cannot be written.
        """
        write_whole(Path(path), self.write)

    def write(self, path: Path) -> None:
        """Write a file that must not be there yet.

        Raises:
            OSError: it is there, or cannot be written.
        """
        words = dict(zip(_WORDS, (_FORMAT, self.contract_digest, self.model_version, self.created), strict=True))
        content = save({"identity": self.values, "probe": self.probe}, metadata=words)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)

    @classmethod
    def load(cls, path: str | Path) -> FaceIdentity:
        """Read a file that `save` wrote; nothing in it can be run.

        Raises:
            BadInput: another kind of file, or damaged.
        """
        path = Path(path)
        limits.require_file(path, f"a face's identity ({ENDING}) made by `avedge enroll`")
        if path.stat().st_size > _LARGEST_BYTES:
            raise _unusable(path, f"it has {path.stat().st_size:,} bytes, where no identity has {_LARGEST_BYTES:,}")
        try:
            with safe_open(path, framework="np") as file:
                words = file.metadata() or {}
                if words.get("format") != _FORMAT or not all(word in words for word in _WORDS):
                    raise _unusable(path, f"its format is {words.get('format')!r}, not {_FORMAT!r}")
                values, probe = (_vector(path, file, name) for name in ("identity", "probe"))
        except SafetensorError as error:
            raise _unusable(path, printable(str(error))) from None
        if len(values) != len(probe):
            raise _unusable(path, f"its vectors have {len(values)} and {len(probe)} values")
        return cls(values, probe, words["contract_digest"], words["model_version"], words["created"])

    def require_contract(self, served: ServedModel, identity_size: int) -> None:
        """Refuse a server of another contract.

        Raises:
            ContractMismatch: another digest, or vectors of another size.
        """
        if self.contract_digest != served.digest or len(self.values) != identity_size:
            raise _changed(
                f"The identity was made under contract {printable(self.contract_digest) or 'unknown'} with "
                f"{len(self.values)} values, and the server has {served.digest or 'unknown'} with {identity_size}"
            )

    def require_network(self, probe: NDArray[np.float32]) -> None:
        """Refuse a server whose face network has other weights.

        Args:
            probe: what it makes of `probe_picture`.

        Raises:
            ContractMismatch: the network knows that picture as something else than when the identity was made.
        """
        likeness = float(np.dot(self.probe, probe) / (np.linalg.norm(self.probe) * np.linalg.norm(probe)))
        if not likeness >= _SAME_NETWORK:
            raise _changed(
                f"The face network has changed since the identity was made ({printable(self.created)}, version "
                f"{printable(self.model_version)}): a picture that never changes now has a likeness of {likeness:.3f}"
            )


@lru_cache(maxsize=1)
def probe_picture(size: int) -> Picture:
    """The picture that never changes: coloured waves, (size, size, 3)."""
    rows, columns = np.indices((size, size)) / size
    waves = [np.sin(2 * np.pi * (a * rows + b * columns)) for a, b in ((2, 3), (5, -1), (1, 7))]
    return np.asarray(np.round(127.5 + 127.5 * np.stack(waves, axis=-1)), np.uint8)


def _vector(path: Path, file: Any, name: str) -> NDArray[np.float32]:
    """A vector of length 1, checked."""
    kind = file.get_slice(name).get_dtype()
    if kind != "F32":  # NumPy has no word for some of the others
        raise _unusable(path, f"{name} has the type {kind}, not F32")
    values = file.get_tensor(name)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise _unusable(path, f"{name} has shape {values.shape}, or is not finite")
    length = float(np.linalg.norm(values))
    if not 0.99 < length < 1.01:
        raise _unusable(path, f"{name} has a length of {length:.3f} instead of 1")
    return np.asarray(values, np.float32)


def _unusable(path: Path, reason: str) -> BadInput:
    return BadInput(
        f"{printable(path)} is not a face's identity: {reason}",
        f"a file ({ENDING}) made by `avedge enroll`",
        "the voice is chosen by it",
        "enroll the photo again, or give the photo itself with --face",
    )


def _changed(seen: str) -> ContractMismatch:
    return ContractMismatch(
        seen,
        f"an identity made by the served {FACE_NETWORK}",
        "numbers of another network choose a voice at random",
        "enroll the photo again with `avedge enroll`, or give it with --face",
    )

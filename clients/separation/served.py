"""What separation needs of the served models, read once and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from clients.contract import ANY_LENGTH, ServedModel, TensorSpec
from clients.errors import ContractMismatch
from clients.media import windows

BY_FACE, BY_IDENTITY = "facefilter", "facefilter_enrolled"
FACE_NETWORK = "facefilter_identity"
OUTPUTS = ("speech", "attention")


@dataclass(frozen=True)
class SeparationModel:
    """A served ensemble of separation."""

    served: ServedModel
    rate_hz: int  # of what it hears
    mixture_rms: float  # level that it knows mixtures at
    face_size: int  # pixels, of a square crop
    identity_size: int  # values; 0 where it is asked by a face
    layout: windows.Layout  # how recordings are cut for it

    @property
    def name(self) -> str:
        """What requests call it."""
        return self.served.name

    @property
    def frame_s(self) -> float:
        """Seconds from one value of the attention to the next."""
        return self.layout.hop / self.rate_hz

    def require_lengths(self, answer: dict[str, NDArray[Any]], samples: int) -> None:
        """Refuse an answer of another length: joined to the others it would be in the wrong place.

        Raises:
            ContractMismatch: says which lengths came for so many samples.
        """
        seen = answer["speech"].shape, answer["attention"].shape
        if seen != ((samples,), (samples // self.layout.hop + 1,)):
            raise _unfit(
                self.served, f"speech and attention have the shapes {seen[0]} and {seen[1]} for {samples} samples"
            )


def separation_model(served: ServedModel, *, live: bool = False) -> SeparationModel:
    """Check that a served ensemble is what these clients talk to.

    Args:
        served: `facefilter` or `facefilter_enrolled`, as the server describes it.
        live: cut recordings into the shortest windows that are served, to wait less for each.

    Raises:
        ContractMismatch: other tensors, or lengths that no recording can be cut into.
    """
    size = served.integer("face_size")
    waveform = (ANY_LENGTH,)
    values = next((spec.shape[0] for spec in served.inputs if spec.name == "identity" and len(spec.shape) == 1), 0)
    chosen_by = {
        BY_FACE: TensorSpec("face", "UINT8", (size, size, 3)),
        BY_IDENTITY: TensorSpec("identity", "FP32", (max(1, values),)),
    }[served.name]
    served.require_tensors(
        (TensorSpec("mixture", "FP32", waveform), chosen_by),
        tuple(TensorSpec(name, "FP32", waveform) for name in OUTPUTS),
    )
    lengths, halo_frames = sorted(served.integers("padded_samples")), served.integer("halo_frames")
    try:
        layout = windows.layout_of(
            lengths[:1] if live else lengths, hop=served.integer("hop_samples"), halo_frames=halo_frames
        )
    except ValueError as error:
        raise _unfit(served, str(error)) from error
    return SeparationModel(
        served, served.integer("sample_rate_hz"), served.number("mixture_rms"), size, max(0, values), layout
    )


def _unfit(served: ServedModel, seen: str) -> ContractMismatch:
    return ContractMismatch(
        f"The server's model {served.name} does not fit these clients: {seen}",
        "the contract's lengths",
        "windows of a recording could not be joined",
        "export and serve the models again",
    )

"""How many people a photo shows, and where: client of the ensembles `crowd_counting` and `crowd_counting_vision`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.client import ServedClient
from clients.contract import ServedModel, TensorSpec
from clients.errors import BadInput, ContractMismatch
from clients.letterbox import Letterbox
from clients.outputs import write_whole
from clients.picture import Picture, load_picture
from clients.sound import Samples, Sound, fitted, load_sound, resample

MODEL, MODEL_VISION = "crowd_counting", "crowd_counting_vision"
_PADDING_SHARE = 0.01  # of the count, in the frame beyond the photo, from which on a warning is due


@dataclass(frozen=True)
class CrowdCount:
    """How many people, and where. P: patches per side of the network's frame."""

    count: float  # people in the photo: the sum of its density
    density: NDArray[np.float32]  # (rows, columns), people per cell; cells of the photo, from its top left corner
    cell_size: tuple[float, float]  # height and width of a cell, pixels of the photo
    patch_counts: NDArray[np.float32]  # (P, P), people in each patch of the frame, summed from the density
    patch_importance: NDArray[np.float32]  # (P, P), PIR: share of the people in the patch
    patch_estimates: NDArray[np.float32]  # (P, P), PCE: people in the patch, regressed
    people_in_padding: float  # left out: counted in the frame beyond the photo, where nobody can be
    letterbox: Letterbox
    picture: Picture = field(repr=False)
    model: ServedModel = field(repr=False)
    why_model: str
    timings_s: dict[str, float]
    warnings: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Write the density as a NumPy file (rows, columns), people per cell.

        Raises:
            OutputFailed: it cannot be written.
        """
        write_whole(Path(path), self.write_density)

    def write_density(self, path: Path) -> None:
        """Write the density at this very place."""
        with path.open("wb") as file:  # given a name, NumPy would add an ending
            np.save(file, self.density, allow_pickle=False)

    def plot(self, path: str | Path) -> None:
        """Draw the density over the photo, with a colour bar and the count, as a PNG.

        Raises:
            OutputFailed: it cannot be written.
        """
        from clients.plots import draw_density  # matplotlib takes a second to load

        write_whole(Path(path), lambda aside: draw_density(aside, self))

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; the density goes into its own file."""
        height, width = self.picture.shape[:2]
        return {
            "count": round(self.count, 3),
            "picture": {"width": width, "height": height},
            "density": {
                "rows": self.density.shape[0],
                "columns": self.density.shape[1],
                "cell_height_pixels": round(self.cell_size[0], 4),
                "cell_width_pixels": round(self.cell_size[1], 4),
                "people_in_padding": round(self.people_in_padding, 3),
            },
            "patch_counts": _rounded(self.patch_counts),
            "patch_importance": _rounded(self.patch_importance),
            "patch_estimates": _rounded(self.patch_estimates),
            "model": self.model.name,
            "why_model": self.why_model,
            "model_versions": list(self.model.versions),
            "contract_digest": self.model.digest,
        }


class CrowdCounter(ServedClient):
    """Client of the served crowd counters.

        with CrowdCounter() as counter:
            print(counter.count("square.jpg", "square.wav").count)

    Args:
        url: host and port of the server's gRPC front end.
        timeout_s: the most that one picture may take.
    """

    def check(self, *, with_sound: bool = True) -> ServedModel:
        """See that the server answers, is ready, and serves what this client needs.

        Raises:
            ServerUnavailable, ContractMismatch, Timeout: it does not.
        """
        served = self._connection.served(MODEL if with_sound else MODEL_VISION)
        height, width = served.integer("picture_height"), served.integer("picture_width")
        inputs = [TensorSpec("picture", "UINT8", (height, width, 3))]
        if with_sound:
            inputs.append(TensorSpec("sound", "FP32", (served.integer("sound_samples"),)))
        rows, columns = _cells_of(served, height, width)
        patches = (served.integer("patch_grid") ** 2,)
        served.require_tensors(
            tuple(inputs),
            (
                TensorSpec("count", "FP32", (1,)),
                TensorSpec("density", "FP32", (rows, columns)),
                *(TensorSpec(name, "FP32", patches) for name in _PATCH_OUTPUTS),
            ),
        )
        return served

    def count(
        self,
        picture: str | Path | NDArray[Any],
        sound: str | Path | NDArray[Any] | None = None,
        *,
        sample_rate_hz: int | None = None,
        sound_start_s: float = 0.0,
    ) -> CrowdCount:
        """Count the people of a photo.

        Args:
            picture: JPEG or PNG, or RGB array (H, W, 3).
            sound: recording or video of the place, or an array with its `sample_rate_hz`; one second of it is heard.
            sample_rate_hz: of an array.
            sound_start_s: where that second begins, seconds.

        Raises:
            BadInput: a picture or recording that nothing can be done with.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
        """
        began = time.monotonic()
        photo = load_picture(picture)
        ambience = None if sound is None else _from(load_sound(sound, sample_rate_hz), sound_start_s)
        read = time.monotonic()
        served = self.check(with_sound=ambience is not None)
        box = Letterbox.fit(
            photo, frame_width=served.integer("picture_width"), frame_height=served.integer("picture_height")
        )
        inputs: dict[str, NDArray[Any]] = {"picture": box.place(photo)}
        warnings: list[str] = []
        if ambience is not None:
            inputs["sound"] = _one_second(ambience, served, warnings)
        sent = time.monotonic()
        answer = self._connection.infer(served.name, inputs, ("count", "density", *_PATCH_OUTPUTS))
        ended = time.monotonic()
        timings_s = {"read": read - began, "server": ended - sent, "total": ended - began}
        return _result(photo, box, served, answer, timings_s, warnings)


_PATCH_OUTPUTS = ("patch_counts", "patch_importance", "patch_estimates")


def _cells_of(served: ServedModel, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the served density, once its cells are seen to be square and to fill the frame."""
    density = next((spec for spec in served.outputs if spec.name == "density"), None)
    if density is None or len(density.shape) != 2 or min(density.shape) <= 0:
        raise _unfit(served, f"its density is {density}")
    rows, columns = density.shape
    if height % rows or width % columns or height // rows != width // columns:
        raise _unfit(served, f"its density of {rows}x{columns} cells does not fit a frame of {height}x{width} pixels")
    return rows, columns


def _unfit(served: ServedModel, seen: str) -> ContractMismatch:
    return ContractMismatch(
        f"The server's model {served.name} does not fit these clients: {seen}",
        "a density whose square cells fill the frame",
        "people would be shown in the wrong place",
        "export and serve the models again",
    )


def _from(sound: Sound, start_s: float) -> Sound:
    """The recording from a moment on."""
    start = round(start_s * sound.sample_rate_hz)
    if not 0 <= start < len(sound.samples):
        raise BadInput(
            f"The sound was to begin at {start_s:g} s, but {sound.name} is {sound.seconds:.2f} s long",
            "a start inside the recording",
            "there is nothing to hear elsewhere",
            "give another --sound-start",
        )
    return Sound(sound.samples[start:], sound.sample_rate_hz, sound.name)


def _one_second(sound: Sound, served: ServedModel, warnings: list[str]) -> Samples:
    """The samples that the network hears, with zeros behind a shorter recording and a warning."""
    rate_hz, wanted = served.integer("sample_rate_hz"), served.integer("sound_samples")
    # A little more than is heard goes through the filter, so that its end lies outside.
    enough = sound.samples[: int((wanted / rate_hz + 0.1) * sound.sample_rate_hz)]
    heard = resample(enough, sound.sample_rate_hz, rate_hz)
    if len(heard) < wanted:
        warnings.append(
            f"{sound.name} gives {len(heard) / rate_hz:.2f} s of the {wanted / rate_hz:g} s heard; silence follows"
        )
    return np.clip(fitted(heard, wanted), -1, 1)


def _result(
    photo: Picture,
    box: Letterbox,
    served: ServedModel,
    answer: dict[str, NDArray[Any]],
    timings_s: dict[str, float],
    warnings: list[str],
) -> CrowdCount:
    """The served answer in the photo's own terms."""
    grid = served.integer("patch_grid")
    cell_pixels = box.frame_height // answer["density"].shape[0]
    density = box.remove(answer["density"], cell_pixels)
    count = float(density.sum(dtype=np.float64))
    outside = float(answer["count"][0]) - count
    if outside > max(0.5, _PADDING_SHARE * count):
        warnings.append(f"{outside:.1f} more people were counted in the frame beyond the photo, and are left out")
    patches = {name: answer[name].reshape(grid, grid) for name in _PATCH_OUTPUTS}  # (P * P,) -> (P, P), row-major
    heard = served.name == MODEL
    return CrowdCount(
        count=count,
        density=density,
        cell_size=box.cell_size(cell_pixels),
        **patches,
        people_in_padding=outside,
        letterbox=box,
        picture=photo,
        model=served,
        why_model="a sound was given with the picture" if heard else "no sound was given with the picture",
        timings_s=timings_s,
        warnings=tuple(warnings),
    )


def _rounded(values: NDArray[np.float32]) -> list[list[float]]:
    return [[round(float(value), 4) for value in row] for row in values]

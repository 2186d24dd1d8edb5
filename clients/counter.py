"""How many people a photo shows, and where: client of the ensembles `crowd_counting` and `crowd_counting_vision`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.client import ServedClient
from clients.contract import ServedModel, TensorSpec
from clients.crowd_count import CrowdCount
from clients.errors import BadInput, ContractMismatch
from clients.media.picture import Picture, load_picture
from clients.media.sound import Samples, Sound, fitted, load_sound, resample
from clients.media.tiles import Density, Frame, PhotoDensity, Tiles, count_in_tiles
from clients.transport.connection import Tensors

MODEL, MODEL_VISION = "crowd_counting", "crowd_counting_vision"
_PADDING_SHARE = 0.01  # of the count, in the frame beyond the photo, from which on a warning is due


class CrowdCounter(ServedClient):
    """Client of the served crowd counters.

        with CrowdCounter() as counter:
            print(counter.count("square.jpg", "square.wav").count)

    Args:
        url: host and port of the server's gRPC front end.
        timeout_s: the most that one request (a picture, or one tile of it) may take.
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
        tiles: Tiles | None = None,
        flip: bool = False,
    ) -> CrowdCount:
        """Count the people of a photo.

        Args:
            picture: JPEG or PNG, or RGB array (H, W, 3).
            sound: recording or video of the place, or an array with its `sample_rate_hz`; one second of it is heard,
                with every tile the same.
            sample_rate_hz: of an array.
            sound_start_s: where that second begins, seconds.
            tiles: cut the photo into at most n x n tiles (1 to 8), which show it at about n times the resolution of
                one frame; "auto" for its own resolution. Some tiles are on the way at once.
            flip: take the mean over the photo and its mirror image, which asks twice as much.

        Raises:
            BadInput: a picture or recording that nothing can be done with, or tiles outside 1 to 8.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
        """
        began = time.monotonic()
        photo = load_picture(picture)
        ambience = None if sound is None else _from(load_sound(sound, sample_rate_hz), sound_start_s)
        read = time.monotonic()
        served = self.check(with_sound=ambience is not None)
        frame = _frame_of(served)
        warnings: list[str] = []
        heard = {} if ambience is None else {"sound": _one_second(ambience, served, warnings)}
        answers: list[dict[str, NDArray[Any]]] = []

        def answer(frames: list[Picture]) -> list[Density]:
            requests: list[Tensors] = [{"picture": seen, **heard} for seen in frames]
            answers.extend(self._connection.infer_all(served.name, requests, _OUTPUTS))
            return [found["density"] for found in answers]

        sent = time.monotonic()
        found = count_in_tiles(photo, answer, frame=frame, tiles=tiles or 1, flip=flip)
        ended = time.monotonic()
        timings_s = {"read": read - began, "server": ended - sent, "total": ended - began}
        warnings += _warnings(found, tiles)
        plain = not flip and len(found.plan.tiles) == 1
        return CrowdCount(
            count=found.count,
            interval=_interval(served, found.count) if plain else None,
            density=found.density,
            cell_size=found.cell_size,
            **_patches(served, answers[0] if plain else None, found, photo),
            people_in_padding=found.people_beyond,
            letterbox=found.plan.letterbox,
            tiles=None if tiles is None else found.plan,
            flip=flip,
            picture=photo,
            model=served,
            why_model=f"{'a' if heard else 'no'} sound was given with the picture",
            timings_s=timings_s,
            warnings=tuple(warnings),
        )


_PATCH_OUTPUTS = ("patch_counts", "patch_importance", "patch_estimates")
# All of them, always: asked for its density alone, an ensemble never answers (Triton 2.51: "unexpected deadlock").
_OUTPUTS = ("count", "density", *_PATCH_OUTPUTS)


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


def _frame_of(served: ServedModel) -> Frame:
    """What the served network sees at once."""
    height, width = served.integer("picture_height"), served.integer("picture_width")
    return Frame(width, height, height // _cells_of(served, height, width)[0])


def _interval(served: ServedModel, count: float) -> tuple[float, float] | None:
    """Where the true count lies, as often as the served weights' calibration says; None for weights without one."""
    names = ("count_interval_share", "count_interval_relative", "count_interval_absolute")
    numbers = served.numbers_if_any(*names)
    if numbers is None:
        return None
    share, relative, absolute = numbers
    if not 0 < share < 1:
        raise _unfit(served, f"its count_interval_share is {share:g}, and no interval can hold that share")
    half = absolute + relative * max(count, 0.0)
    return max(0.0, count - half), count + half


def _patches(
    served: ServedModel, answer: dict[str, NDArray[Any]] | None, found: PhotoDensity, photo: Picture
) -> dict[str, Any]:
    """The patches' fields: of the one plain answer, or the sums over the photo's own patches."""
    grid = served.integer("patch_grid")
    if answer is not None:
        return {name: answer[name].reshape(grid, grid) for name in _PATCH_OUTPUTS}  # (P * P,) -> (P, P), row-major
    counts = patch_sums(found, photo.shape[0], photo.shape[1], grid)
    return {"patch_counts": counts, "patch_importance": None, "patch_estimates": None}


def patch_sums(found: PhotoDensity, height: int, width: int, grid: int) -> NDArray[np.float32]:
    """People in each of the photo's patches, (grid, grid); a cell belongs to the patch that its middle lies in."""
    sums = np.zeros((grid, grid), np.float64)
    rows, columns = (
        np.minimum(((np.arange(cells) + 0.5) * size * grid / side).astype(int), grid - 1)
        for cells, size, side in zip(found.density.shape, found.cell_size, (height, width), strict=True)
    )
    np.add.at(sums, np.ix_(rows, columns), found.density)
    return sums.astype(np.float32)


def _warnings(found: PhotoDensity, tiles: Tiles | None) -> list[str]:
    """What the reader should know of this density."""
    warnings = []
    if found.people_beyond > max(0.5, _PADDING_SHARE * found.count):
        warnings.append(
            f"{found.people_beyond:.1f} more people were counted in the frame beyond the photo, and are left out"
        )
    scale = found.plan.scale
    if tiles == "auto" and scale < 1:
        warnings.append(f"{len(found.plan.tiles)} tiles show the photo at {scale:.2f} of its resolution")
    elif tiles not in (None, 1, "auto") and scale > 1:
        warnings.append(f"the tiles magnify the photo {scale:.1f} times, which shows no more than it holds")
    return warnings

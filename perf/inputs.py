"""Real requests for each ensemble: recordings, faces and scenes, brought to the form that the served config states.

An ensemble is fed by the names of its inputs, which are words: `mixture`, `face`, `identity`, `picture`, `sound`.
Several inputs are combined in turn, so that caches and batches meet different content.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.contract import ANY_LENGTH, ServedModel
from perf import media
from perf.errors import PerfError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.transport.connection import Connection

    Array = NDArray[Any]
    Request = dict[str, Array]  # one item per input, without the batch

MOST_REQUESTS = 16  # distinct ones; perf_analyzer takes them in turn
_DTYPES = {"FP32": "<f4", "UINT8": "u1"}  # perf_analyzer reads little-endian, row-major
_SOUNDED = ("mixture", "sound")
_IDENTITY_MODEL = "facefilter_identity"


def requests_for(
    connection: Connection, ensemble: ServedModel, samples: Path, clip_samples: int | None
) -> list[Request]:
    """Distinct requests for one ensemble, from a folder of samples.

    Args:
        connection: Asked for the identities that `facefilter_enrolled` wants.
        ensemble: States names, shapes and facts.
        samples: Folder with `mixture_*.wav`, `face_*.png`, `scene_*.jpg`, `scene_*.wav`.
        clip_samples: Length of a mixture; None takes the shortest that the server states.

    Raises:
        PerfError: A kind of sample is missing or unreadable (4); an input is of no known kind, or the samples do not
            come out in the served shape (6).
    """
    if not samples.is_dir():
        raise PerfError(
            f"No folder {samples.name!r} with samples. A sweep needs real recordings and pictures, because caches and "
            "batching see what is in them: run `avedge demo`, which makes some, or give a folder with --samples.",
            exit_code=4,
        )
    sources: dict[str, Callable[[], list[Array]]] = {
        "mixture": lambda: _mixtures(ensemble, samples, clip_samples),
        "face": lambda: _faces(ensemble, samples),
        "identity": lambda: _identities(connection, ensemble, samples),
        "picture": lambda: _pictures(ensemble, samples),
        "sound": lambda: _sounds(ensemble, samples),
    }
    unknown = [tensor.name for tensor in ensemble.inputs if tensor.name not in sources]
    if unknown:
        raise PerfError(
            f"{ensemble.name} wants {', '.join(unknown)}; a sweep can make {', '.join(sources)}. "
            "Measure other ensembles with --ensembles.",
            exit_code=6,
        )
    arrays = {tensor.name: sources[tensor.name]() for tensor in ensemble.inputs}
    requests = _combine(arrays)
    _check_shapes(ensemble, requests)
    return requests


def _combine(arrays: dict[str, list[Array]]) -> list[Request]:
    """Pair the inputs, first index with first index, then shifted by one, and so on: no pair comes twice."""
    lengths = [len(column) for column in arrays.values()]
    count = min(MOST_REQUESTS, lengths[0] * max([1, *lengths[1:]]))
    requests = []
    for index in range(count):
        shift, position = divmod(index, lengths[0])
        picks = [position, *(position + shift for _ in lengths[1:])]
        requests.append(
            {name: column[pick % len(column)] for (name, column), pick in zip(arrays.items(), picks, strict=True)}
        )
    return requests


def _mixtures(ensemble: ServedModel, samples: Path, clip_samples: int | None) -> list[Array]:
    rate_hz, rms = ensemble.integer("sample_rate_hz"), ensemble.number("mixture_rms")
    lengths = ensemble.integers("padded_samples")
    length = clip_samples or min(lengths)
    if length not in lengths:
        raise PerfError(
            f"--clip-samples is {length}; {ensemble.name} is served for {', '.join(map(str, lengths))} samples, and "
            "clients pad to these. Choose one of them.",
            exit_code=2,
        )
    clips = [
        media.at_level(clip, rms)
        for path in _files(samples, "mixture_*.wav")
        for clip in media.cut(media.read_sound(path, rate_hz), length)
    ]
    return clips[:MOST_REQUESTS]


def _sounds(ensemble: ServedModel, samples: Path) -> list[Array]:
    rate_hz, length = ensemble.integer("sample_rate_hz"), ensemble.integer("sound_samples")
    return [media.cut(media.read_sound(path, rate_hz), length)[0] for path in _files(samples, "scene_*.wav")]


def _faces(ensemble: ServedModel, samples: Path) -> list[Array]:
    size = ensemble.integer("face_size")
    return [media.read_face(path, size) for path in _files(samples, "face_*.png")]


def _pictures(ensemble: ServedModel, samples: Path) -> list[Array]:
    height, width = ensemble.integer("picture_height"), ensemble.integer("picture_width")
    return [media.read_picture(path, height=height, width=width) for path in _files(samples, "scene_*.jpg")]


def _identities(connection: Connection, ensemble: ServedModel, samples: Path) -> list[Array]:
    """What the served identity model makes of each face, as a client would keep it."""
    faces: list[Request] = [{"face": face} for face in _faces(ensemble, samples)]
    return [answer["identity"] for answer in connection.infer_all(_IDENTITY_MODEL, faces, ["identity"])]


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise PerfError(
            f"No {pattern} in {folder.name!r}, which has {len(list(folder.iterdir()))} files. A sweep feeds every "
            "input with real samples: run `avedge demo`, which makes them, or add one.",
            exit_code=4,
        )
    return found


def _check_shapes(ensemble: ServedModel, requests: Sequence[Request]) -> None:
    import numpy as np

    for tensor in ensemble.inputs:
        for request in requests:
            array = request[tensor.name]
            fits = len(array.shape) == len(tensor.shape) and all(
                wanted in (ANY_LENGTH, size) for wanted, size in zip(tensor.shape, array.shape, strict=True)
            )
            if not fits or array.dtype != np.dtype(_DTYPES[tensor.datatype]):
                raise PerfError(
                    f"The samples give {tensor.name} as {array.dtype} {array.shape}; {ensemble.name} is served with "
                    f"{tensor.datatype} {tensor.shape}. The served facts and shapes disagree: export again.",
                    exit_code=6,
                )


def clip_seconds(ensemble: ServedModel, request: Request) -> float | None:
    """Sound in one request; None for an ensemble without sound."""
    for name in _SOUNDED:
        if name in request:
            return len(request[name]) / ensemble.integer("sample_rate_hz")
    return None


def write_input_data(path: Path, requests: Sequence[Request]) -> None:
    """Write requests as perf_analyzer's JSON: raw bytes in base64, with the shape of one item."""
    import numpy as np

    data = [
        {
            name: {
                "content": {"b64": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()},
                "shape": list(array.shape),
            }
            for name, array in request.items()
        }
        for request in requests
    ]
    path.write_text(json.dumps({"data": data}))

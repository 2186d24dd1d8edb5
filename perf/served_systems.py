"""Both tasks as a running server answers them, in the form that `train`'s evaluations judge.

What is asked through the clients is asked as users ask it; only `facefilter_enrolled`, which no client wraps, is asked
through their connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from train.settings import PICTURE_HEIGHT, PICTURE_WIDTH, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.contract import ServedModel
    from train.crowd.scene import Picture
    from train.crowd.systems import Answer, Counted, Observed, Values, View
    from train.facefilter.systems import Faces, Waveforms

_IDENTITY_MODEL, _ENROLLED_MODEL = "facefilter_identity", "facefilter_enrolled"


class ServedSystem:
    """FaceFilter as a running server answers, through the very client that users have.

    Args:
        url: host and port of the server's gRPC front end.

    Raises:
        ClientError: no server answers, or it serves something else.
    """

    blind = False

    def __init__(self, url: str) -> None:
        from clients.separator import SpeechSeparator

        self._client = SpeechSeparator(url)
        self.served = self._client.check()

    def separate(self, mixture: Waveforms, faces: Faces, other_faces: Faces) -> Waveforms:
        """Separate (B, N) into (B, 1, N)."""
        answers = [
            self._client.separate(heard, stills[0], sample_rate_hz=SAMPLE_RATE_HZ, face_crop=True).speech
            for heard, stills in zip(mixture, faces, strict=True)
        ]
        return np.stack(answers)[:, np.newaxis]

    def describe(self) -> dict[str, Any]:
        """What is served, for the report."""
        return _described(self.served) | {"decoder": "as served"}


class EnrolledSystem:
    """FaceFilter for faces seen before: each face's identity is asked for first, then only the identity is sent.

    Args:
        url: host and port of the server's gRPC front end.

    Raises:
        ClientError: no server answers, or it serves something else.
    """

    blind = False

    def __init__(self, url: str) -> None:
        from clients.transport.connection import Connection

        self._connection = Connection(url)
        self.served = self._connection.served(_ENROLLED_MODEL)

    def separate(self, mixture: Waveforms, faces: Faces, other_faces: Faces) -> Waveforms:
        """Separate (B, N), N one of the served lengths, into (B, 1, N)."""
        from clients.media.sound import gain_to

        known = self._connection.infer_all(_IDENTITY_MODEL, [{"face": stills[0]} for stills in faces], ["identity"])
        gains = np.array([gain_to(heard, self.served.number("mixture_rms")) for heard in mixture], np.float32)
        requests = [
            {"mixture": heard * gain, "identity": face["identity"]}
            for heard, gain, face in zip(mixture, gains, known, strict=True)
        ]
        answers = self._connection.infer_all(_ENROLLED_MODEL, requests, ["speech", "attention"])
        voices = np.stack([answer["speech"] for answer in answers])  # (B, N)
        return np.asarray((voices / gains[:, np.newaxis])[:, np.newaxis], np.float32)

    def describe(self) -> dict[str, Any]:
        """What is served, for the report."""
        return _described(self.served) | {"decoder": "as served"}


class ServedCounter:
    """CC-AV or CC-V as a running server answers, through the very client that users have.

    Args:
        url: host and port of the server's gRPC front end.
        hears: CC-AV.
        view: how photos are looked at.

    Raises:
        ClientError: no server answers, or it serves something else.
    """

    def __init__(self, url: str, hears: bool, view: View) -> None:
        from clients.counter import CrowdCounter
        from train.crowd.geometry import GEOMETRIES

        self._client = CrowdCounter(url)
        self.served = self._client.check(with_sound=hears)
        self.model = "cc-av" if hears else "cc-v"
        self.geometry, self.hears, self.view = GEOMETRIES["regular"], hears, view

    def count(self, observed: Sequence[Observed]) -> list[Counted]:
        """Count a few photos, one after the other."""
        return [self._count(one) for one in observed]

    def describe(self) -> dict[str, Any]:
        """What is served, for the report."""
        return _described(self.served)

    def _count(self, one: Observed) -> Counted:
        from train.crowd.systems import Counted

        heard: dict[str, Any] = {"sound": one.sound, "sample_rate_hz": SAMPLE_RATE_HZ} if self.hears else {}
        tiles = None if self.view.tiles == 1 else self.view.tiles
        answer = self._client.count(one.photo, **heard, tiles=tiles, flip=self.view.flip)
        if self.hears and answer.fallback is not None:
            raise ValueError(f"CC-AV was to be judged, and CC-V was asked: {answer.why_model}")
        (high, wide), (rows, columns) = one.photo.shape[:2], answer.density.shape
        covered = min(columns, wide / answer.cell_size[1]), min(rows, high / answer.cell_size[0])
        heads = (answer.patch_importance, answer.patch_estimates)
        return Counted(answer.density, covered, *(None if head is None else head.reshape(-1) for head in heads))


def spread(photo: Picture, answer: Answer, cell_pixels: int, view: View) -> tuple[Values, tuple[float, float]]:
    """Look at a photo in tiles, or at its mirror image as well; see `train.crowd.systems.Spread`."""
    from clients.media.tiles import Frame, count_in_tiles

    frame = Frame(PICTURE_WIDTH, PICTURE_HEIGHT, cell_pixels)
    found = count_in_tiles(photo, answer, frame=frame, tiles=view.tiles, flip=view.flip)
    box = found.plan.letterbox
    return found.density, (box.width / cell_pixels, box.height / cell_pixels)


def _described(served: ServedModel) -> dict[str, Any]:
    return {"kind": "served", "model_versions": list(served.versions), "contract_digest": served.digest}

"""Judge trained weights: separation, matching of faces and voices, counting; in torch or through a running server.

avedge evaluate facefilter --data data/talkers
avedge evaluate facefilter --mixtures list.csv --root recordings --through-server --json
avedge evaluate identity --data data/talkers
avedge evaluate crowd --data data/ShanghaiTech/part_A --json
avedge evaluate crowd --model cc-av --setting regular --setting occlusion_0.5
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from train.crowd import commands as crowd
from train.facefilter import commands as facefilter
from train.settings import PICTURE_HEIGHT, PICTURE_WIDTH, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Sequence

    from train.crowd.scene import Picture
    from train.crowd.systems import Answer, Counted, Observed, Values, View
    from train.facefilter.systems import Faces, Waveforms

KINDS = {
    "facefilter": ("separation on a list of two-speaker mixtures", facefilter.add_evaluate_arguments),
    "identity": ("faces matched with voices", facefilter.add_identity_arguments),
    "crowd": ("counting in photographs or synthetic scenes", crowd.add_evaluate_arguments),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge evaluate`."""
    kinds = parser.add_subparsers(dest="kind", metavar="model", required=True)
    for name, (summary, add) in KINDS.items():
        add(kinds.add_parser(name, help=summary, description=summary))


def run(args: argparse.Namespace) -> int:
    """Carry out `avedge evaluate`."""
    if args.kind == "facefilter":
        return facefilter.run_evaluate(args, ServedSystem)
    if args.kind == "identity":
        return facefilter.run_identity(args)
    return crowd.run_evaluate(args, crowd.Clients(ServedCounter, spread))


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
        self._served = self._client.check()

    def separate(self, mixture: Waveforms, faces: Faces, other_faces: Faces) -> Waveforms:
        """Separate (B, N) into (B, 1, N)."""
        answers = [
            self._client.separate(heard, stills[0], sample_rate_hz=SAMPLE_RATE_HZ, face_crop=True).speech
            for heard, stills in zip(mixture, faces, strict=True)
        ]
        return np.stack(answers)[:, np.newaxis]

    def describe(self) -> dict[str, Any]:
        """What is served, for the report."""
        versions, digest = list(self._served.versions), self._served.digest
        return {"kind": "served", "decoder": "as served", "model_versions": versions, "contract_digest": digest}


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
        self._served = self._client.check(with_sound=hears)
        self.model = "cc-av" if hears else "cc-v"
        self.geometry, self.hears, self.view = GEOMETRIES["regular"], hears, view

    def count(self, observed: Sequence[Observed]) -> list[Counted]:
        """Count a few photos, one after the other."""
        return [self._count(one) for one in observed]

    def describe(self) -> dict[str, Any]:
        """What is served, for the report."""
        versions, digest = list(self._served.versions), self._served.digest
        return {"kind": "served", "model_versions": versions, "contract_digest": digest}

    def _count(self, one: Observed) -> Counted:
        from train.crowd.systems import Counted

        heard: dict[str, Any] = {"sound": one.sound, "sample_rate_hz": SAMPLE_RATE_HZ} if self.hears else {}
        tiles = None if self.view.tiles == 1 else self.view.tiles
        answer = self._client.count(one.photo, **heard, tiles=tiles, flip=self.view.flip)
        (high, wide), (rows, columns) = one.photo.shape[:2], answer.density.shape
        covered = min(columns, wide / answer.cell_size[1]), min(rows, high / answer.cell_size[0])
        heads = (answer.patch_importance, answer.patch_estimates)
        return Counted(answer.density, covered, *(None if head is None else head.reshape(-1) for head in heads))


def spread(photo: Picture, answer: Answer, cell_pixels: int, view: View) -> tuple[Values, tuple[float, float]]:
    """Look at a photo in tiles, or at its mirror image as well; see `train.crowd.systems.Spread`."""
    from clients.tiles import Frame, count_in_tiles

    frame = Frame(PICTURE_WIDTH, PICTURE_HEIGHT, cell_pixels)
    found = count_in_tiles(photo, answer, frame=frame, tiles=view.tiles, flip=view.flip)
    box = found.plan.letterbox
    return found.density, (box.width / cell_pixels, box.height / cell_pixels)

"""Judge trained weights: separation, matching of faces and voices, counting; in torch or through a running server.

avedge evaluate facefilter --data data/talkers
avedge evaluate facefilter --mixtures list.csv --root recordings --through-server --json
avedge evaluate identity --data data/talkers
avedge evaluate crowd --data data/scenes
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from train.crowd import commands as crowd
from train.facefilter import commands as facefilter
from train.settings import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from train.facefilter.systems import Faces, Waveforms

KINDS = {
    "facefilter": ("separation on a list of two-speaker mixtures", facefilter.add_evaluate_arguments),
    "identity": ("faces matched with voices", facefilter.add_identity_arguments),
    "crowd": ("counting in synthetic scenes", crowd.add_evaluate_arguments),
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
    return facefilter.run_identity(args) if args.kind == "identity" else crowd.run_evaluate(args)


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

"""Store a face's identity, so that its voice can be separated later without the photo.

  avedge enroll anna.jpg                                     people/anna.identity
  avedge separate meeting.wav --identity people/anna.identity

The file holds 1024 numbers, which network made them and when; no photo and no name but the file's own. Only its owner
may read it. It is biometric data all the same: whoever has it can pick that person's voice out of a recording. Enroll
people who agreed, and delete the file when it is no longer needed. When the face network changes, enroll again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clients.commands.batch import Report, add_batch_arguments, batch_of
from clients.commands.inputs import PHOTOS, VIDEOS
from clients.commands.options import named, server_of, settings_of
from clients.commands.progress import greet

if TYPE_CHECKING:
    from clients.separator import SpeechSeparator

IDENTITY = ".identity"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge enroll`."""
    parser.add_argument("inputs", nargs="+", type=named, metavar="PHOTO", help="photo or video with the face in it")
    which = parser.add_argument_group("face").add_mutually_exclusive_group()
    which.add_argument(
        "--face-index", type=int, metavar="N", help="which face, where there are several: from left to right, from 0"
    )
    which.add_argument("--face-crop", action="store_true", help="the photo is cut to the face already; look for none")
    add_batch_arguments(parser, "people")


def run(args: argparse.Namespace) -> int:
    """Enroll every photo; see `clients.commands.batch.Batch.run` for the exit code."""
    greet(args, "enroll")
    from clients.separator import SpeechSeparator

    with SpeechSeparator(**server_of(args)) as separator:
        return batch_of(args, "enroll", (IDENTITY,), PHOTOS | VIDEOS).run(
            args.inputs,
            lambda path, staging: _enroll(separator, path, args),
            lambda: settings_of(args, separator, separator.check()),
        )


def _enroll(separator: SpeechSeparator, path: Path, args: argparse.Namespace) -> Report:
    from clients.separation.speaker import find_portrait

    began = time.monotonic()
    portrait = find_portrait(None, path, args.face_index, args.face_crop)
    identity = separator.enroll(portrait)
    where = f"the face {portrait}" if portrait.place else "the whole picture"
    return Report(
        line=f"enrolled {where}, {identity.values.size} numbers, network version {identity.model_version}",
        result={**identity.to_dict(), "face_box": portrait.place.to_dict() if portrait.place else None},
        timings_s={"total": time.monotonic() - began},
        warnings=portrait.warnings(),
        writers={IDENTITY: identity.write},
    )

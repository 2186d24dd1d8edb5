"""One person's voice out of a recording, by a photo of the face.

  avedge separate meeting.wav --face anna.jpg    out/meeting.voice.wav and out/meeting.spectrogram.png
  avedge separate interview.mp4 --json           sound and face both from the video

Recordings: WAV, FLAC, or the sound of MP4, MKV, MPEG, M4A, MP3, OGG ...; 0.1 s to 30 min, any rate from 4 to 192 kHz.
The voice comes back mono, at the recording's rate and length. Photos: JPEG or PNG with a face that looks at the camera.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clients.commands.batch import Report, add_batch_arguments, batch_of

if TYPE_CHECKING:
    from clients.separator import SpeechSeparator

VOICE, SPECTROGRAM = ".voice.wav", ".spectrogram.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge separate`."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="recording or video")
    group = parser.add_argument_group("face")
    group.add_argument(
        "--face", type=Path, metavar="PHOTO", help="photo or video of the person to hear; a video input has its own"
    )
    group.add_argument(
        "--face-index", type=int, metavar="N", help="which face, where there are several: from left to right, from 0"
    )
    group.add_argument("--face-crop", action="store_true", help="the photo is cut to the face already; look for none")
    add_batch_arguments(parser, "out")


def run(args: argparse.Namespace) -> int:
    """Separate every input; see `clients.commands.batch.Batch.run` for the exit code."""
    from clients.separator import SpeechSeparator

    with SpeechSeparator(args.url, timeout_s=args.timeout) as separator:
        return batch_of(args, "separate", (VOICE, SPECTROGRAM)).run(
            args.inputs, lambda path, staging: _separate(separator, path, args)
        )


def _separate(separator: SpeechSeparator, path: Path, args: argparse.Namespace) -> Report:
    from clients.media.sound import write_wav

    result = separator.separate(path, args.face, face_index=args.face_index, face_crop=args.face_crop)
    length_s = len(result.speech) / result.sample_rate_hz
    change_db = result.to_dict()["level_change_db"]
    level = "silent" if change_db is None else f"{change_db:+.1f} dB against the recording"
    return Report(
        line=f"{length_s:.2f} s of voice in {result.timings_s['total']:.2f} s, {level}",
        result=result.to_dict(),
        timings_s=result.timings_s,
        warnings=result.warnings,
        writers={
            VOICE: lambda aside: write_wav(aside, result.speech, result.sample_rate_hz),
            SPECTROGRAM: result.write_plot,
        },
    )

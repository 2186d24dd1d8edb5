"""One person's voice out of recordings and videos, chosen by the face.

  avedge separate meeting.wav --face anna.jpg       out/meeting.voice.wav and out/meeting.spectrogram.png
  avedge separate interview.mp4 --video             sound and face from the video; a video with only that voice too
  avedge separate debate.mp4 --every-face           a voice, and the crop of the face, for everybody who is seen
  avedge separate talks/ --identity people/anna.identity --json
  cat meeting.wav | avedge separate - --face anna.jpg

Recordings: WAV, FLAC, or the sound of MP4, MKV, MPEG, M4A, MP3, OGG ...; from 0.1 s to 24 hours in the same memory, at
any rate from 4 to 192 kHz. The voice comes back mono, at the recording's rate and length; what it holds above 8 kHz is
lost. Photos: JPEG or PNG with a face that looks at the camera. Faces of a video are found over its whole length and
counted from left to right. Nothing but the results is kept: no sound, no picture, no face.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.commands.batch import Report, add_batch_arguments, batch_of
from clients.commands.inputs import RECORDINGS, VIDEOS
from clients.commands.memory import return_large_arrays
from clients.commands.options import named, server_of, settings_of
from clients.commands.progress import greet, tell_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clients.separation.identity import FaceIdentity
    from clients.separation.job import Speaker
    from clients.separation.result import SeparatedFile
    from clients.separator import SpeechSeparator, Wanted

VOICE, SPECTROGRAM, CROP = ".voice.wav", ".spectrogram.png", ".png"
_VIDEOS = (".voice.mp4", ".voice.mkv")
_MOST_FACES = 16  # voices of one input
_USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge separate`."""
    parser.add_argument(
        "inputs", nargs="+", type=named, metavar="INPUT", help="recording or video; a folder, a pattern, or - for stdin"
    )
    group = parser.add_argument_group("whose voice")
    who = group.add_mutually_exclusive_group()
    who.add_argument(
        "--face", type=Path, metavar="PHOTO", help="photo or video of the person to hear; a video input has its own"
    )
    who.add_argument("--identity", type=Path, metavar="FILE", help="a face that `avedge enroll` stored")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--face-index", type=int, metavar="N", help="which face, where there are several: from left to right, from 0"
    )
    which.add_argument("--every-face", action="store_true", help="a voice for each face of the video, or of --face")
    which.add_argument("--face-crop", action="store_true", help="the photo is cut to the face already; look for none")
    group = parser.add_argument_group("what comes out")
    group.add_argument("--float32", action="store_true", help="voices as 32-bit floats, which no peak makes quieter")
    group.add_argument("--video", action="store_true", help="the video too, its pictures as they are, with the voice")
    group.add_argument("--no-plot", action="store_true", help="no spectrograms")
    add_batch_arguments(parser, "out")


def run(args: argparse.Namespace) -> int:
    """Separate every input; see `clients.commands.batch.Batch.run` for the exit code."""
    if args.identity and (args.face_index is not None or args.every_face or args.face_crop):
        sys.stderr.write(
            "avedge separate: error: --identity is one face already; leave the other options of a face out\n"
        )
        raise SystemExit(_USAGE)
    greet(args, "separate")
    return_large_arrays()
    from clients.separator import FaceIdentity, SpeechSeparator

    identity = FaceIdentity.load(args.identity) if args.identity else None
    with SpeechSeparator(**server_of(args)) as separator:
        task = _Task(separator, args, identity)
        return batch_of(args, "separate", task.endings, RECORDINGS | VIDEOS).run(
            args.inputs, task.separate, lambda: settings_of(args, separator, separator.check(identity))
        )


class _Task:
    """What is done with each input."""

    def __init__(self, separator: SpeechSeparator, args: argparse.Namespace, identity: FaceIdentity | None) -> None:
        self._separator, self._args, self._identity = separator, args, identity
        self._of_photo = lru_cache(maxsize=1)(self._find)  # one photo for all inputs is looked at once

    @property
    def endings(self) -> tuple[str, ...]:
        """Of the files that an input may give."""
        own = (VOICE, SPECTROGRAM, *_VIDEOS)
        if not self._args.every_face:
            return own
        return tuple(f"{_mark(number)}{ending}" for number in range(_MOST_FACES) for ending in (*own, CROP))

    def separate(self, path: Path, staging: Path) -> Report:
        """The voices of one input, as files in its staging folder."""
        began = time.monotonic()
        speakers = self._speakers(path)
        found = time.monotonic()
        wanted = self._wanted(path)
        voices = []
        for number, speaker in enumerate(speakers):
            folder = staging / f"voice{number}"
            folder.mkdir()
            tell = partial(_tell_share, number, len(speakers))
            voices.append(self._separator.separate_into(folder, path, speaker, wanted, tell))
        staged: dict[str, Path] = {}
        for number, voice in enumerate(voices):
            mark = _mark(number) if self._args.every_face else ""
            staged |= {f"{mark}{_ending(kind, file)}": file for kind, file in voice.files.items()}
        parts_s = {name: sum(voice.timings_s[name] for voice in voices) for name in ("read", "server")}
        total_s = time.monotonic() - began
        return Report(
            line=_line(voices, total_s),
            result=self._result(voices),
            timings_s={"faces": found - began, **parts_s, "total": total_s},
            warnings=tuple(self._warnings(voices, wanted)),
            staged=staged,
        )

    def _speakers(self, path: Path) -> tuple[Speaker, ...]:
        if self._identity is not None:
            return (self._identity,)
        return self._find(path) if self._args.face is None else self._of_photo(self._args.face)

    def _find(self, source: Path) -> tuple[Speaker, ...]:
        """The faces that are asked for, in a photo or in the input itself."""
        from clients.separation.speaker import find_faces, find_portrait

        if self._args.every_face:
            return find_faces(source, most=_MOST_FACES)
        return (find_portrait(None, source, self._args.face_index, self._args.face_crop),)

    def _wanted(self, path: Path) -> Wanted:
        """Which files this input gives; of a recording among videos no video is made."""
        from clients.separator import Wanted

        video = self._args.video
        if video:
            from clients.media.video import has_pictures

            video = has_pictures(path)
        return Wanted(float32=self._args.float32, plot=not self._args.no_plot, video=video, face=self._args.every_face)

    def _result(self, voices: list[SeparatedFile]) -> dict[str, Any]:
        if not self._args.every_face:
            return voices[0].to_dict()
        return {"voices": [{"face": number, **voice.to_dict()} for number, voice in enumerate(voices)]}

    def _warnings(self, voices: list[SeparatedFile], wanted: Wanted) -> Iterator[str]:
        """What holds for all voices, then what holds for some."""
        if self._args.video and not wanted.video:
            yield "it has no pictures, so there is no video of it with the voice"
        of_all = [warning for warning in voices[0].warnings if all(warning in voice.warnings for voice in voices)]
        yield from of_all
        for number, voice in enumerate(voices):
            yield from (f"face {number}: {warning}" for warning in voice.warnings if warning not in of_all)


def _tell_share(number: int, voices: int, done: float, total: float) -> None:
    """How much of an input is done, when so much of one of its voices is."""
    tell_part(number * total + done, voices * total)


def _mark(number: int) -> str:
    return f".face{number}"


def _ending(kind: str, file: Path) -> str:
    return {"voice": VOICE, "plot": SPECTROGRAM, "video": f".voice{file.suffix}", "face": CROP}[kind]


def _line(voices: list[SeparatedFile], total_s: float) -> str:
    """For people: how long, how fast, how loud."""
    levels = [
        "silent" if voice.level_change_db is None else f"{voice.level_change_db:+.1f} dB against the recording"
        for voice in voices
    ]
    what = "voice" if len(voices) == 1 else f"{len(voices)} voices"
    return f"{voices[0].seconds:.2f} s of {what} in {total_s:.2f} s, {', '.join(levels)}"

"""Bring VoxCeleb2 into the layout of every corpus, on several processes; go on where an earlier run was stopped.

Each clip's voice and stills are written whole, and the index after all of them. What cannot be used is named, counted
and left out: VoxCeleb2 as downloaded has broken files.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from train.corpus.drawer import some
from train.corpus.layout import (
    INDEX,
    Clip,
    Picture,
    Waveform,
    count_splits,
    read_stills,
    write_clips,
    write_stills,
    write_voice,
)
from train.corpus.movies import read_film
from train.corpus.recordings import read_recording
from train.corpus.voxceleb2 import Inventory, Recording, assign_splits, take_inventory
from train.corpus.workers import work_through
from train.errors import OutputError, TrainError
from train.files import remove_leftovers, write_atomically
from train.settings import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

REPORT, CORPUS = "report.json", "VoxCeleb2"
SILENCE_RMS = 1e-4
_PROGRESS_S = 10.0
_EXAMPLES = 20  # names of each trouble in the report


@dataclass(frozen=True)
class Options:
    """How clips are brought in."""

    stills: int = 10  # per clip, as in FaceFilter section 5.1
    min_seconds: float = 2.0
    clips_per_video: int = 0  # 0: all
    val_speakers: int | None = None
    seed: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for flag, value, least in (("--stills", self.stills, 1), ("--jobs", self.jobs, 1)):
            if value < least:
                raise TrainError(f"{flag} is {value}; wanted at least {least}. Ask for more.")


@dataclass(frozen=True)
class Refusal:
    """A clip that cannot be used."""

    trouble: str
    clip: str
    message: str


def prepare_voxceleb2(root: Path, out: Path, options: Options, meta: Path | None = None) -> dict[str, Any]:
    """Decode every usable clip below `root` into `out`.

    Args:
        root: VoxCeleb2 as it unpacks (`train.corpus.voxceleb2`).
        out: the corpus; clips that it has already are kept.
        options: how.
        meta: the table of speakers; by default `vox2_meta.csv` in the root.

    Returns:
        what was made and what is missing or was left out; also written to `<out>/report.json`.

    Raises:
        TrainError: no such layout at the root, no usable clip in it, or another corpus at `out`.
        OutputError: the disk is full or cannot be written; run again to go on.
    """
    _refuse_another_corpus(out)
    inventory = take_inventory(root, meta, clips_per_video=options.clips_per_video)
    for trouble, names in inventory.missing.items():
        log.warning("%d %s: %s", len(names), trouble, some(names))
    bring = functools.partial(bring_clip, root=root, out=out, stills=options.stills, min_seconds=options.min_seconds)
    clips = []
    for done in _told(work_through(bring, inventory.recordings, options.jobs, at_once=16), len(inventory.recordings)):
        if isinstance(done, Clip):
            clips.append(done)
        else:
            log.warning("left out: %s: %s", done.clip, done.message)
            inventory.miss(done.trouble, done.clip)
    # Only now: a video of which nothing is usable must not be one of those withheld.
    clips = assign_splits(clips, val_speakers=options.val_speakers, seed=options.seed)
    report = _report(clips, inventory)
    if not clips:
        troubles = "; ".join(f"{len(names)} {trouble}" for trouble, names in inventory.missing.items())
        raise TrainError(
            f"None of the {len(inventory.recordings)} clips with sound and film in {root} could be used; wanted clips "
            f"of at least {options.min_seconds:g} s with a face. There were: {troubles or 'no files'}. Check --root."
        )
    with _writing(out):
        write_clips(out, clips)
        write_atomically(out / REPORT, json.dumps(report, indent=2).encode())
    return report


def _refuse_another_corpus(out: Path) -> None:
    """Clips are added to what an earlier run has left, but never to somebody else's index."""
    report = out / REPORT
    ours = report.is_file() and json.loads(report.read_bytes()).get("corpus") == CORPUS
    if (out / INDEX).is_file() and not ours:
        raise TrainError(
            f"{out} holds another corpus already; wanted a new folder, or one that `avedge prepare voxceleb2` made. "
            "Name another with --out."
        )


def bring_clip(recording: Recording, *, root: Path, out: Path, stills: int, min_seconds: float) -> Clip | Refusal:
    """Bring one clip in, or take it as it is if that has been done; its split is the part, `dev` or `test`.

    Raises:
        OutputError: the disk is full or cannot be written.
    """
    clip = Clip(*recording[:5], samples=0, faces=stills)
    samples = _finished(clip, out)
    if samples < min_seconds * SAMPLE_RATE_HZ:
        made = _decode(recording, root, stills, min_seconds)
        if isinstance(made, Refusal):
            return made
        voice, pictures = made
        samples = len(voice)
        with _writing(out):
            for path in (clip.voice(out), clip.stills(out)):
                remove_leftovers(path)
            write_voice(clip.voice(out), voice)
            write_stills(clip.stills(out), pictures)
    return replace(clip, samples=samples)


def _decode(
    recording: Recording, root: Path, stills: int, min_seconds: float
) -> tuple[Waveform, list[Picture]] | Refusal:
    clip = "/".join((recording.part, recording.speaker, recording.video, recording.name))
    try:
        voice = read_recording(recording.sound(root))
    except TrainError as error:
        return Refusal("damaged sound", clip, str(error))
    seconds = len(voice) / SAMPLE_RATE_HZ
    if seconds < min_seconds:
        return Refusal("too short", clip, f"lasts {seconds:.2f} s; wanted at least {min_seconds:g} s")
    if float(np.sqrt(np.mean(np.square(voice)))) < SILENCE_RMS:
        return Refusal("silent", clip, "wanted a voice, and it is silent")
    try:
        return voice, read_film(recording.film(root), stills)
    except TrainError as error:
        return Refusal("damaged film", clip, str(error))


def _finished(clip: Clip, out: Path) -> int:
    """Samples of a clip that an earlier run has brought in with as many stills; 0 if none has."""
    try:
        if len(read_stills(clip.stills(out))) == clip.faces:
            return int(soundfile.info(clip.voice(out)).frames)
    except (TrainError, soundfile.LibsndfileError):
        pass
    return 0


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Could not write below {out} ({error}); the clips so far are whole. Make room and run the same command "
            "again: it goes on from there."
        ) from error


def _told(done: Iterable[Clip | Refusal], total: int) -> Iterator[Clip | Refusal]:
    started_s = told_s = time.monotonic()
    for number, one in enumerate(done, start=1):
        yield one
        now_s = time.monotonic()
        if now_s - told_s > _PROGRESS_S:
            told_s = now_s
            rate = number / (now_s - started_s)
            log.info(
                "%d of %d clips, %.0f a second, %.1f minutes left", number, total, rate, (total - number) / rate / 60
            )


def _report(clips: list[Clip], inventory: Inventory) -> dict[str, Any]:
    usable = {clip.speaker for clip in clips}
    for speaker in dict.fromkeys(one.speaker for one in inventory.recordings):
        if speaker not in usable:
            inventory.miss("speakers without a usable clip", speaker)
    left_out = {
        trouble: {"count": len(names), "examples": names[:_EXAMPLES]} for trouble, names in inventory.missing.items()
    }
    return {"corpus": CORPUS, "splits": count_splits(clips), "left_out": left_out}

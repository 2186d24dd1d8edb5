"""LibriSpeech in the common layout, with drawn faces that show what is measured in each voice (semi-synthetic).

Speakers are split by a seeded draw, as many women as men in `test` and in `val`. A recording is a video.

- Training speakers: the end of each recording is withheld as a clip of `seen`, the rest is a clip of `train`. Each
  also comes as perturbed speakers, whose pitch, formants and tilt are changed (`train.corpus.perturb`); their faces are
  drawn from what such a voice measures.
- Others: a speaker with one recording has it cut into two clips of different videos, the first half and the second.
  A clip's stills are drawn from its own voice, so that a list, which takes the face of another video, shows what was
  measured in the half that is not mixed. Nothing of the mixture reaches the face.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.corpus.drawn_faces import draw_stills, seed_of
from train.corpus.layout import Clip, Waveform, count_splits, write_clips, write_stills, write_voice
from train.corpus.librispeech_files import Recording, list_recordings
from train.corpus.measure import VoiceMeasure, analyse_voice, measure_voice
from train.corpus.perturb import Variant, draw_variants, perturb
from train.corpus.recordings import read_recording
from train.corpus.workers import work_through
from train.errors import OutputError, TrainError
from train.settings import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

SEEN_SAMPLES, SHORTEST = int(3.5 * SAMPLE_RATE_HZ), int(2.2 * SAMPLE_RATE_HZ)  # of a clip


@dataclass(frozen=True)
class SpeakerJob:
    """One speaker's recordings, and what becomes of them; a pure function of it makes the files."""

    out: Path
    split: str
    recordings: tuple[Recording, ...]
    variants: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What one speaker gave."""

    clips: list[Clip]
    left_out: list[tuple[str, str]]  # trouble, and which file and why


@dataclass(frozen=True)
class Options:
    """How the corpus is made."""

    held_out: int = 36  # speakers of `test`, half of them women
    validation: int = 8  # speakers of `val`, half of them women
    variants: int = 8  # perturbed speakers that each training speaker gives on top
    recordings: int = 20  # of each speaker, at most
    jobs: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        limits = (("--variants", self.variants, 0), ("--recordings", self.recordings, 1), ("--jobs", self.jobs, 1))
        for flag, value, least in limits:
            if value < least:
                raise TrainError(f"{flag} is {value}; wanted at least {least}. Ask for more.")
        if min(self.held_out, self.validation) < 0 or self.held_out % 2 or self.validation % 2:
            raise TrainError(
                f"--held-out is {self.held_out} and --validation {self.validation}; wanted even numbers, half for "
                "each sex."
            )


def prepare_librispeech(root: Path, out: Path, options: Options) -> dict[str, Any]:
    """Make the corpus; whole or not at all, and the same for any number of processes.

    Args:
        root: folder with `speech.csv`, or with `SPEAKERS.TXT` and the corpus's folders.
        out: new folder.
        options: how.

    Returns:
        counts of speakers, clips and hours by split, and the recordings that were left out, by trouble. A speaker
        without a usable recording is missing from the split.

    Raises:
        TrainError: `out` exists, no corpus at `root`, too few speakers, or no recording could be used.
        OutputError: the disk is full or cannot be written.
    """
    if out.exists():
        raise TrainError(
            f"{out} exists already; a corpus is made whole or not at all. Remove it or name another folder."
        )
    recordings = list_recordings(root)
    splits = draw_splits(recordings, options)
    grouped: dict[str, list[Recording]] = {}
    for recording in recordings:
        grouped.setdefault(recording.speaker, []).append(recording)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    work = [
        SpeakerJob(unfinished, splits[name], _evenly(own, options.recordings), options.variants, options.seed)
        for name, own in sorted(grouped.items())
    ]
    try:
        unfinished.mkdir(parents=True)
        outcomes = list(_told(work_through(make_speaker, work, options.jobs), len(work)))
        clips = sorted((clip for done in outcomes for clip in done.clips), key=lambda c: (c.split, c.speaker, c.video))
        report = _report(clips, outcomes)
        if not any(clip.split == "train" for clip in clips):
            raise TrainError(
                f"No recording below {root} could be used for training; left out: {report['left_out']}. Wanted speech "
                "of at least 2.2 s in each file."
            )
        write_clips(unfinished, clips)
        os.replace(unfinished, out)
    except OSError as error:
        raise OutputError(f"Could not write {out} ({error}); nothing was kept. Make room and run again.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return report


def _evenly(recordings: list[Recording], most: int) -> tuple[Recording, ...]:
    """Choose so many, spread evenly over a speaker's chapters."""
    places = np.linspace(0, len(recordings) - 1, min(most, len(recordings))).astype(int)
    return tuple(recordings[place] for place in places)


def draw_splits(recordings: list[Recording], options: Options) -> dict[str, str]:
    """Say for each speaker `train`, `val` or `test`; the last two have as many women as men.

    Raises:
        TrainError: no speaker of a sex would be left for training.
    """
    splits = {}
    in_test, in_val = options.held_out // 2, options.validation // 2  # of each sex
    for sex in ("F", "M"):
        names = sorted({recording.speaker for recording in recordings if recording.sex == sex})
        if len(names) <= in_test + in_val:
            raise TrainError(
                f"{len(names)} speakers of sex {sex}, and {in_test + in_val} of them would be held out; none is left "
                "for training. Lower --held-out or --validation, or bring more speakers."
            )
        order = np.random.default_rng([options.seed, ord(sex)]).permutation(len(names))
        for place, index in enumerate(order):
            splits[names[index]] = "test" if place < in_test else "val" if place < in_test + in_val else "train"
    return splits


def make_speaker(job: SpeakerJob) -> Outcome:
    """Make one speaker's files, and those of the perturbed copies."""
    outcome = Outcome([], [])
    rng = np.random.default_rng([job.seed, seed_of(job.recordings[0].speaker)])
    variants = draw_variants(job.variants if job.split == "train" else 0, rng)
    for recording in job.recordings:
        trouble = "damaged"
        try:
            waveform = read_recording(recording.path)
            trouble = "too short" if len(waveform) < SHORTEST else "too little voice"
            if len(waveform) < SHORTEST:
                raise ValueError(f"only {len(waveform) / SAMPLE_RATE_HZ:.2f} s; a clip takes 2.2 s")
            outcome.clips.extend(_make_recording(job, recording, waveform, variants))
        except (ValueError, TrainError) as error:
            outcome.left_out.append((trouble, f"{recording.path.name}: {error}"))
    return outcome


def _make_recording(job: SpeakerJob, recording: Recording, waveform: Waveform, variants: list[Variant]) -> list[Clip]:
    """Cut one recording into clips and write them; nothing is written of one that cannot be measured."""
    if job.split == "train":
        return _make_training(job, recording, waveform, variants)
    video = recording.path.stem
    pieces = [(video, waveform)]
    if len(job.recordings) == 1 and len(waveform) >= 2 * SHORTEST:
        half = len(waveform) // 2
        pieces = [(f"{video}-a", waveform[:half]), (f"{video}-b", waveform[half:])]
    measures = [measure_voice(piece) for _, piece in pieces]
    return [
        _write_clip(
            job, Clip(job.split, recording.speaker, recording.sex, name, "voice", len(piece), 3), piece, measure
        )
        for (name, piece), measure in zip(pieces, measures, strict=True)
    ]


def _make_training(job: SpeakerJob, recording: Recording, waveform: Waveform, variants: list[Variant]) -> list[Clip]:
    speaker, sex, video = recording.speaker, recording.sex, recording.path.stem
    withheld = min(SEEN_SAMPLES, len(waveform) - SHORTEST)
    kept, end = np.split(waveform, [len(waveform) - withheld if withheld >= SHORTEST else len(waveform)])
    analysis = analyse_voice(kept)
    voices = [(speaker, kept, analysis.measure())]
    for variant in variants:
        measure = analysis.measure(
            pitch=variant.pitch, formants=variant.formants, tilt_db_per_octave=variant.tilt_db_per_octave
        )
        voices.append((f"{speaker}@{variant.name}", perturb(kept, variant), measure))
    clips = [
        _write_clip(job, Clip("train", name, sex, video, "voice", len(voice), 4), voice, measure)
        for name, voice, measure in voices
    ]
    if len(end):  # its face is drawn from the part that is trained on, too: nothing of the mixture reaches it
        withheld_clip = Clip("seen", speaker, sex, f"{video}-end", "voice", len(end), 3)
        clips.append(_write_clip(job, withheld_clip, end, analysis.measure()))
    return clips


def _write_clip(job: SpeakerJob, clip: Clip, waveform: Waveform, measure: VoiceMeasure) -> Clip:
    clip.voice(job.out).parent.mkdir(parents=True, exist_ok=True)
    write_voice(clip.voice(job.out), waveform)
    rng = np.random.default_rng([job.seed, seed_of(f"{clip.speaker}/{clip.video}")])
    write_stills(clip.stills(job.out), draw_stills(measure, clip.sex, seed_of(clip.speaker), rng, clip.faces))
    return clip


def _told(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    for number, outcome in enumerate(outcomes, start=1):
        for trouble, reason in outcome.left_out:
            log.warning("left out, %s: %s", trouble, reason)
        if number % 20 == 0 or number == total:
            log.info("%d of %d speakers", number, total)
        yield outcome


def _report(clips: list[Clip], outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "splits": count_splits(clips),
        "left_out": Counter(trouble for done in outcomes for trouble, _ in done.left_out),
    }

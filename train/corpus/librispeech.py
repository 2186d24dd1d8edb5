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

import argparse
import csv
import json
import logging
import multiprocessing
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from train.corpus.drawn_faces import draw_stills, seed_of
from train.corpus.layout import Clip, Sex, Waveform, write_clips, write_stills
from train.corpus.measure import VoiceAnalysis, VoiceMeasure, analyse_voice
from train.corpus.perturb import Variant, draw_variants, perturb
from train.corpus.recordings import read_recording
from train.errors import TrainError
from train.settings import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

SEEN_SAMPLES, SHORTEST = int(3.5 * SAMPLE_RATE_HZ), int(2.2 * SAMPLE_RATE_HZ)  # of a clip
_STILLS = {"train": 4, "seen": 3, "val": 3, "test": 3}
_QUIETEST = 1e-4  # RMS


@dataclass(frozen=True)
class Recording:
    """One file of the corpus."""

    path: Path
    speaker: str
    sex: Sex


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
    left_out: list[str]  # a reason for each


def add_librispeech_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `avedge prepare librispeech`."""
    parser.description = (
        "Bring LibriSpeech into the common layout with faces drawn from what is measured in each voice (semi-synthetic)"
        ". Wants speech.csv (file, speaker, gender), or SPEAKERS.TXT and the folders of the corpus."
    )
    parser.add_argument("--root", type=Path, required=True, help="folder with speech.csv, or LibriSpeech itself")
    parser.add_argument("--out", type=Path, default=Path("data/librispeech"), help="new folder (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=36, help="speakers of test (default: %(default)s)")
    parser.add_argument("--validation", type=int, default=8, help="speakers of val (default: %(default)s)")
    parser.add_argument(
        "--variants", type=int, default=8, help="perturbed voices of a training speaker (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same corpus (default: %(default)s)")


def run_librispeech(args: argparse.Namespace) -> int:
    """Prepare the corpus; print a JSON object with what it holds. Returns 3 when recordings were left out."""
    report = prepare_librispeech(
        args.root,
        args.out,
        held_out=args.held_out,
        validation=args.validation,
        variants=args.variants,
        jobs=args.jobs,
        seed=args.seed,
    )
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 3 if report["left_out"] else 0


def prepare_librispeech(
    root: Path, out: Path, *, held_out: int = 36, validation: int = 8, variants: int = 8, jobs: int = 1, seed: int = 0
) -> dict[str, object]:
    """Make the corpus; whole or not at all, and the same for any number of processes.

    Args:
        root: folder with `speech.csv`, or with `SPEAKERS.TXT` and the corpus's folders.
        out: new folder.
        held_out: speakers of `test`, half of them women.
        validation: speakers of `val`, half of them women.
        variants: perturbed speakers that each training speaker gives on top.
        jobs: processes.
        seed: of splits, perturbations and pictures.

    Returns:
        counts of speakers, clips and hours by split, and the recordings that were left out with the reason.

    Raises:
        TrainError: `out` exists, no corpus at `root`, too few speakers, or no recording could be used.
    """
    if out.exists():
        raise TrainError(
            f"{out} exists already; a corpus is made whole or not at all. Remove it or name another folder."
        )
    if variants < 0 or jobs < 1:
        raise TrainError(f"--variants is {variants} and --jobs is {jobs}; wanted at least 0 and 1.")
    recordings = list_recordings(root)
    splits = draw_splits(recordings, held_out=held_out, validation=validation, seed=seed)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    grouped: dict[str, list[Recording]] = {}
    for recording in recordings:
        grouped.setdefault(recording.speaker, []).append(recording)
    work = [SpeakerJob(unfinished, splits[name], tuple(own), variants, seed) for name, own in sorted(grouped.items())]
    try:
        unfinished.mkdir(parents=True)
        outcomes = list(_told(_work_through(work, jobs), len(work)))
        clips = sorted(
            (clip for outcome in outcomes for clip in outcome.clips),
            key=lambda clip: (clip.split, clip.speaker, clip.video),
        )
        left_out = [reason for outcome in outcomes for reason in outcome.left_out]
        if not any(clip.split == "train" for clip in clips):
            raise TrainError(f"No recording below {root} could be used for training; the first: {left_out[:1]}.")
        write_clips(unfinished, clips)
        os.replace(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return _report(clips, left_out)


def list_recordings(root: Path) -> list[Recording]:
    """Find the recordings and the sex of who reads them.

    Raises:
        TrainError: neither `speech.csv` nor `SPEAKERS.TXT`, a column or a sex missing, or nothing listed.
    """
    table, speakers = root / "speech.csv", root / "SPEAKERS.TXT"
    if table.is_file():
        found = _list_table(root, table)
    elif speakers.is_file():
        found = _list_tree(root, speakers)
    else:
        raise TrainError(
            f"Neither speech.csv nor SPEAKERS.TXT in {root}; one of them says who reads and of which sex. "
            "Name the folder that holds it with --root."
        )
    if not found:
        raise TrainError(f"No recording is listed below {root}; wanted FLAC files. Is the corpus unpacked?")
    return found


def _list_table(root: Path, table: Path) -> list[Recording]:
    found = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            sex = row.get("gender")
            if not row.get("file") or not row.get("speaker") or sex not in ("F", "M"):
                raise TrainError(f"{table}, line {number}: wanted file, speaker and gender F or M, found {row}.")
            found.append(Recording(root / row["file"], row["speaker"], "F" if sex == "F" else "M"))
    return found


def _list_tree(root: Path, speakers: Path) -> list[Recording]:
    """The official layout: `ID | SEX | SUBSET | ...` in SPEAKERS.TXT, <subset>/<id>/<chapter>/*.flac."""
    sexes: dict[str, Sex] = {}
    for line in speakers.read_text(encoding="utf-8").splitlines():
        fields = [field.strip() for field in line.split("|")]
        if not line.startswith(";") and len(fields) >= 3 and fields[1] in ("F", "M"):
            sexes[fields[0]] = "F" if fields[1] == "F" else "M"
    paths = sorted(root.glob("*/*/*/*.flac"))
    unknown = {path.parts[-3] for path in paths} - sexes.keys()
    if unknown:
        raise TrainError(f"{speakers} does not say the sex of {sorted(unknown)[:5]}, {len(unknown)} in all.")
    return [Recording(path, f"libri-{path.parts[-3]}", sexes[path.parts[-3]]) for path in paths]


def draw_splits(recordings: list[Recording], *, held_out: int, validation: int, seed: int) -> dict[str, str]:
    """Say for each speaker `train`, `val` or `test`; the last two have as many women as men.

    Raises:
        TrainError: an odd number was asked for, or no speaker of a sex would be left for training.
    """
    if min(held_out, validation) < 0 or held_out % 2 or validation % 2:
        raise TrainError(
            f"--held-out is {held_out} and --validation {validation}; wanted even numbers, half for each sex."
        )
    splits = {}
    for sex in ("F", "M"):
        names = sorted({recording.speaker for recording in recordings if recording.sex == sex})
        if len(names) <= (held_out + validation) // 2:
            raise TrainError(
                f"{len(names)} speakers of sex {sex}, and {(held_out + validation) // 2} of them would be held out; "
                "none is left for training. Lower --held-out or --validation, or bring more speakers."
            )
        order = np.random.default_rng([seed, ord(sex)]).permutation(len(names))
        for place, index in enumerate(order):
            test, val = place < held_out // 2, place < (held_out + validation) // 2
            splits[names[index]] = "test" if test else "val" if val else "train"
    return splits


def make_speaker(job: SpeakerJob) -> Outcome:
    """Make one speaker's files, and those of the perturbed copies."""
    outcome = Outcome([], [])
    rng = np.random.default_rng([job.seed, seed_of(job.recordings[0].speaker)])
    variants = draw_variants(job.variants if job.split == "train" else 0, rng)
    for recording in job.recordings:
        try:
            waveform = read_recording(recording.path)
            if len(waveform) < SHORTEST:
                raise ValueError(f"only {len(waveform) / SAMPLE_RATE_HZ:.2f} s; a clip takes 2.2 s")
            if float(np.sqrt(np.mean(waveform**2))) < _QUIETEST:
                raise ValueError("silence")
            _make_recording(job, recording, waveform, variants, outcome)
        except (ValueError, TrainError) as error:
            outcome.left_out.append(f"{recording.path}: {error}")
    return outcome


def _make_recording(
    job: SpeakerJob, recording: Recording, waveform: Waveform, variants: list[Variant], outcome: Outcome
) -> None:
    """Cut one recording into clips and write them; nothing is written of one that cannot be measured."""
    video = recording.path.stem
    if job.split != "train":
        pieces = [(video, waveform)]
        if len(job.recordings) == 1 and len(waveform) >= 2 * SHORTEST:
            half = len(waveform) // 2
            pieces = [(f"{video}-a", waveform[:half]), (f"{video}-b", waveform[half:])]
        measures = [analyse_voice(piece).measure() for _, piece in pieces]
        for (name, piece), measure in zip(pieces, measures, strict=True):
            outcome.clips.append(_write_clip(job, job.split, recording, name, piece, measure, recording.speaker))
        return
    withheld = min(SEEN_SAMPLES, len(waveform) - SHORTEST)
    kept = waveform[: len(waveform) - withheld] if withheld >= SHORTEST else waveform
    analysis = analyse_voice(kept)
    outcome.clips.append(_write_clip(job, "train", recording, video, kept, analysis.measure(), recording.speaker))
    if len(kept) < len(waveform):
        rest = waveform[len(kept) :]
        outcome.clips.append(
            _write_clip(job, "seen", recording, f"{video}-end", rest, analysis.measure(), recording.speaker)
        )
    outcome.clips.extend(_make_variants(job, recording, kept, analysis, variants))


def _make_variants(
    job: SpeakerJob, recording: Recording, waveform: Waveform, analysis: VoiceAnalysis, variants: list[Variant]
) -> Iterator[Clip]:
    for variant in variants:
        measure = analysis.measure(
            pitch=variant.pitch, formants=variant.formants, tilt_db_per_octave=variant.tilt_db_per_octave
        )
        speaker = f"{recording.speaker}@{variant.name}"
        voice = perturb(waveform, variant)
        yield _write_clip(job, "train", recording, recording.path.stem, voice, measure, speaker)


def _write_clip(
    job: SpeakerJob,
    split: str,
    recording: Recording,
    video: str,
    waveform: Waveform,
    measure: VoiceMeasure,
    speaker: str,
) -> Clip:
    clip = Clip(split, speaker, recording.sex, video, "voice", len(waveform), _STILLS[split])
    path = clip.voice(job.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, SAMPLE_RATE_HZ)
    rng = np.random.default_rng([job.seed, seed_of(f"{speaker}/{video}")])
    write_stills(clip.stills(job.out), draw_stills(measure, recording.sex, seed_of(speaker), rng, clip.faces))
    return clip


def _work_through(work: list[SpeakerJob], jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(make_speaker, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_one_thread) as pool:
        yield from pool.imap(make_speaker, work, chunksize=1)


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def _told(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    for number, outcome in enumerate(outcomes, start=1):
        for reason in outcome.left_out:
            log.warning("left out: %s", reason)
        if number % 20 == 0 or number == total:
            log.info("%d of %d speakers", number, total)
        yield outcome


def _report(clips: list[Clip], left_out: list[str]) -> dict[str, object]:
    samples: Counter[str] = Counter()
    for clip in clips:
        samples[clip.split] += clip.samples
    return {
        "speakers": {split: len({clip.speaker for clip in clips if clip.split == split}) for split in samples},
        "clips": dict(Counter(clip.split for clip in clips)),
        "hours": {split: round(count / SAMPLE_RATE_HZ / 3600, 3) for split, count in samples.items()},
        "left_out": left_out,
    }

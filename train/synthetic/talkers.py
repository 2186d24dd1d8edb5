"""Synthetic talkers: a voice, and a drawn face that shows what the voice has.

    <out>/clips.csv, <out>/<talker>/...   in the layout of every corpus (`train.corpus.layout`)
    <out>/talkers.csv                     every talker with the hidden numbers

Each sentence is a video of its own: another mood, room tone, background and clothes. No talker is in two splits, and
two videos of each talker of `train` are withheld as `seen`. A talker's files depend only on the seed, the split and the
talker's number.
"""

from __future__ import annotations

import csv
import functools
import logging
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from train.corpus.layout import Clip, Picture, Sex, Waveform, write_clips, write_stills, write_voice
from train.corpus.workers import work_through
from train.errors import TrainError
from train.synthetic.faces import Look, crop_face, draw_look, draw_portrait
from train.synthetic.speech import ACCENTS, Synthesizer, Voice, colour, sentence

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
VIDEOS = 6  # per talker, one sentence of about four seconds each
SEEN_VIDEOS = 2  # of them withheld, for talkers of `train`
STILLS = 2  # per video


@dataclass(frozen=True)
class Person:
    """The hidden identity that voice and face share; z-scores are within the sex."""

    sex: Sex
    pitch_z: float
    tract_z: float  # above zero: higher formants, a shorter vocal tract
    softness_z: float
    voice: Voice


@dataclass(frozen=True)
class Talker:
    """One row of `talkers.csv`."""

    split: str
    name: str
    sex: Sex
    f0_hz: float
    formant_ratio: float
    rate_wpm: float
    tilt_db_per_octave: float
    breath: float
    accent: str


def draw_person(sex: Sex, rng: np.random.Generator) -> Person:
    """Draw a hidden identity. Pitches of the sexes overlap: 95 % of men lie in 83-180 Hz, of women in 147-271 Hz."""
    pitch_z, tract_z, softness_z = (float(np.clip(z, -2, 2)) for z in rng.standard_normal(3))
    middle_hz, octaves, ratio = (200.0, 0.22, 1.15) if sex == "F" else (122.0, 0.28, 1.0)
    voice = Voice(
        f0_hz=middle_hz * 2 ** (octaves * pitch_z),
        formant_ratio=ratio * float(np.exp(0.045 * tract_z)),
        rate_wpm=float(np.clip(rng.normal(168, 18), 130, 215)),
        intonation=float(rng.uniform(0.16, 0.30)),
        tilt_db_per_octave=-1.0 - 1.2 * softness_z,
        breath=float(rng.uniform(0.0, 0.05)) + (0.02 if sex == "F" else 0.0),
        accent=str(rng.choice(ACCENTS)),
    )
    return Person(sex, pitch_z, tract_z, softness_z, voice)


def look_of(person: Person, rng: np.random.Generator) -> Look:
    """The face that goes with a voice. It does not tell everything: the z-scores are seen through a constant error."""
    fullness, length, softness = np.array([person.pitch_z, -person.tract_z, person.softness_z]) + rng.normal(0, 0.25, 3)
    return draw_look(person.sex, float(fullness), float(length), float(softness), rng)


def speak(person: Person, synthesizer: Synthesizer, rng: np.random.Generator) -> Waveform:
    """Speak one random sentence, in a mood (pitch within 4 %) and a room tone of its own."""
    mood = float(np.clip(rng.normal(1, 0.02), 0.96, 1.04))
    voice = Voice(**{**asdict(person.voice), "f0_hz": person.voice.f0_hz * mood})
    spoken = colour(synthesizer.say(sentence(rng), voice), voice, rng)
    hiss = rng.standard_normal(len(spoken)) * 10 ** rng.uniform(-4.2, -3.2)  # 40 to 60 dB below the speech
    return (spoken + hiss).astype(np.float32)


def synthesize_talkers(
    out: Path,
    talkers: int,
    seed: int,
    *,
    val_talkers: int | None = None,
    test_talkers: int | None = None,
    jobs: int = 1,
) -> None:
    """Make a corpus of talkers, half of each sex.

    Args:
        out: new folder.
        talkers: of the split `train`.
        seed: same seed, same files.
        val_talkers: by default a fourteenth of `talkers`, at least 4.
        test_talkers: by default a seventh of `talkers`, at least 4.
        jobs: processes; the files do not depend on it.

    Raises:
        TrainError: `out` exists already, or too few talkers are asked for.
    """
    counts = {
        "train": talkers,
        "val": max(4, talkers // 14) if val_talkers is None else val_talkers,
        "test": max(4, talkers // 7) if test_talkers is None else test_talkers,
    }
    if out.exists():
        raise TrainError(
            f"{out} exists already; synthetic talkers are made whole or not at all. Remove it or name another folder."
        )
    if min(counts.values()) < 2:
        raise TrainError(f"{counts} talkers were asked for; wanted at least 2 in each, one of each sex. Ask for more.")
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        rows, clips = [], []
        make = functools.partial(_make_numbered, root=unfinished, seed=seed)
        places = [(split, number) for split, count in counts.items() for number in range(count)]
        for talker, recorded in work_through(make, places, jobs, at_once=4):
            rows.append(talker)
            clips.extend(recorded)
            if len(rows) % 50 == 0:
                log.info("%d of %d talkers", len(rows), sum(counts.values()))
        _write_talkers(unfinished / "talkers.csv", rows)
        write_clips(unfinished, clips)
        os.replace(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def make_talker(root: Path, split: str, number: int, seed: int) -> tuple[Talker, list[Clip]]:
    """Make one talker's files below `root`; they depend on these arguments alone."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), number]))
    sex: Sex = "FM"[number % 2]  # type: ignore[assignment]
    person = draw_person(sex, rng)
    name = f"{split}-{number:04d}"
    look = look_of(person, rng)
    clips = []
    with Synthesizer() as synthesizer:
        for video in range(VIDEOS):
            spoken = speak(person, synthesizer, rng)
            withheld = split == "train" and video >= VIDEOS - SEEN_VIDEOS
            clip = Clip("seen" if withheld else split, name, sex, f"video-{video}", "00001", len(spoken), STILLS)
            write_voice(clip.voice(root), spoken)
            write_stills(clip.stills(root), _draw_stills(look, rng))
            clips.append(clip)
    heard: dict[str, Any] = {
        key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(person.voice).items()
    }
    heard.pop("intonation")
    return Talker(split, name, sex, **heard), clips


def _make_numbered(place: tuple[str, int], root: Path, seed: int) -> tuple[Talker, list[Clip]]:
    return make_talker(root, *place, seed)


def _draw_stills(look: Look, rng: np.random.Generator) -> list[Picture]:
    """Crops of a face before one background and in the same clothes, as a detector would cut them."""
    scene = int(rng.integers(2**32))
    stills = []
    for _ in range(STILLS):
        portrait = draw_portrait(look, rng, scene=np.random.default_rng(scene))
        stills.append(crop_face(portrait.picture, portrait.face.jittered(rng)))
    return stills


def _write_talkers(path: Path, rows: list[Talker]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Talker)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)

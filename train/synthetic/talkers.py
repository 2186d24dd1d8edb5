"""Synthetic talkers: a voice, and a drawn face that shows what the voice has; and mixtures of two of them.

    <out>/talkers.csv                                      every talker with the hidden numbers
    <out>/{train,val,test}/<talker>/voice_<n>.flac         16 kHz mono, one sentence each
    <out>/{train,val,test}/<talker>/face_<n>.jpg           224x224 crops by the field's crop rule
    <out>/{train,val,test}/<talker>/portrait.jpg           480x480, head and shoulders, another picture than the crops

No talker is in two splits. A talker's files depend only on the seed, the split and the talker's number.
"""

from __future__ import annotations

import csv
import logging
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from train.corpus.mixtures import mix
from train.errors import TrainError
from train.settings import SAMPLE_RATE_HZ, TRAINING_SAMPLES
from train.synthetic.faces import Look, Picture, crop_face, draw_look, draw_portrait
from train.synthetic.speech import ACCENTS, Synthesizer, Voice, Waveform, colour, sentence

log = logging.getLogger(__name__)

Sex = Literal["F", "M"]
SPLITS = ("train", "val", "test")
UTTERANCES = 5  # per talker, about four seconds each
FACES = 4  # crops per talker
PAIRS = ("MM", "MF", "FM", "FF")  # sex of the target, then of the interferer


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
    seconds: float  # of all voice files together

    def voices(self, root: Path) -> list[Path]:
        """Voice files, in order."""
        return sorted((root / self.split / self.name).glob("voice_*.flac"))

    def faces(self, root: Path) -> list[Path]:
        """Face crops, in order."""
        return sorted((root / self.split / self.name).glob("face_*.jpg"))


@dataclass(frozen=True)
class MixtureItem:
    """One mixture of a fixed list."""

    pair: str  # one of `PAIRS`
    target: Talker
    target_voice: int  # index among the talker's voice files
    target_start: int  # sample
    target_face: int  # index among the talker's face crops
    interferer: Talker
    interferer_voice: int
    interferer_start: int
    interferer_face: int


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


def synthesize_talkers(out: Path, talkers: int, seed: int) -> None:
    """Make the data set; a fourteenth of `talkers` comes on top for validation and a seventh for test, at least 4 each.

    Raises:
        TrainError: `out` exists already, or too few talkers are asked for.
    """
    if out.exists():
        raise TrainError(
            f"{out} exists already; synthetic talkers are made whole or not at all. Remove it or name another folder."
        )
    if talkers < 2:
        raise TrainError(f"--talkers is {talkers}; wanted at least 2, one of each sex. Ask for more.")
    counts = {"train": talkers, "val": max(4, talkers // 14), "test": max(4, talkers // 7)}
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        rows = []
        for split, count in counts.items():
            for number in range(count):
                rows.append(make_talker(unfinished, split, number, seed))
                if len(rows) % 50 == 0:
                    log.info("%d of %d talkers", len(rows), sum(counts.values()))
        _write_talkers(unfinished / "talkers.csv", rows)
        os.replace(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def make_talker(root: Path, split: str, number: int, seed: int) -> Talker:
    """Make one talker's files below `root`; they depend on these arguments alone."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), number]))
    sex: Sex = "FM"[number % 2]  # type: ignore[assignment]
    person = draw_person(sex, rng)
    folder = root / split / f"{split}-{number:04d}"
    folder.mkdir(parents=True)
    seconds = 0.0
    with Synthesizer() as synthesizer:
        for index in range(UTTERANCES):
            spoken = speak(person, synthesizer, rng)
            seconds += len(spoken) / SAMPLE_RATE_HZ
            soundfile.write(folder / f"voice_{index}.flac", spoken, SAMPLE_RATE_HZ)
    _draw_pictures(folder, person, rng)
    heard: dict[str, Any] = {
        name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(person.voice).items()
    }
    heard.pop("intonation")
    return Talker(split, folder.name, sex, seconds=round(seconds, 2), **heard)


def read_talkers(root: Path, split: str) -> list[Talker]:
    """Read the talkers of a split.

    Raises:
        TrainError: there is no data set at `root`, or none of this split in it.
    """
    table = root / "talkers.csv"
    if not table.is_file():
        raise TrainError(f"No talkers.csv in {root}; make the data with `avedge synthesize talkers --out {root}`.")
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    if not rows:
        raise TrainError(f"{table} lists no talker of split {split!r}; wanted one of {', '.join(SPLITS)}.")
    texts = {"split", "name", "sex", "accent"}
    typed: list[dict[str, Any]] = [
        {name: value if name in texts else float(value) for name, value in row.items()} for row in rows
    ]
    return [Talker(**row) for row in typed]


def list_mixtures(root: Path, split: str, per_pair: int, seed: int) -> list[MixtureItem]:
    """Make the fixed list of `per_pair` mixtures for each of the four sex pairs; the same seed gives the same list."""
    talkers = read_talkers(root, split)
    rng = np.random.default_rng(seed)
    by_sex = {sex: [talker for talker in talkers if talker.sex == sex] for sex in ("M", "F")}
    return [_draw_mixture(root, pair, by_sex[pair[0]], by_sex[pair[1]], rng) for pair in PAIRS for _ in range(per_pair)]


def load_mixture(root: Path, item: MixtureItem) -> tuple[Waveform, Waveform, Waveform]:
    """Read and mix an item of the list: mixture, target, interferer, each (31840,)."""
    target = read_voice(item.target.voices(root)[item.target_voice])[item.target_start :][:TRAINING_SAMPLES]
    interferer = read_voice(item.interferer.voices(root)[item.interferer_voice])[item.interferer_start :][
        :TRAINING_SAMPLES
    ]
    return mix(target, interferer)


def read_voice(path: Path) -> Waveform:
    """Read a voice file, (N,) at 16 kHz; one shorter than a training crop is repeated up to it."""
    waveform, rate_hz = soundfile.read(path, dtype="float32")
    if rate_hz != SAMPLE_RATE_HZ or waveform.ndim != 1:
        raise TrainError(
            f"{path} has {rate_hz} Hz and shape {waveform.shape}; wanted mono at 16000 Hz. Make the data again."
        )
    repeats = -(-TRAINING_SAMPLES // len(waveform))
    repeated: Waveform = np.tile(waveform, repeats)
    return repeated


def read_face(path: Path) -> Picture:
    """Read a picture as RGB uint8 (height, width, 3)."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise TrainError(f"{path} is not a picture that can be read; make the data again.")
    return np.asarray(picture[..., ::-1], dtype=np.uint8).copy()


def _draw_mixture(
    root: Path, pair: str, targets: list[Talker], interferers: list[Talker], rng: np.random.Generator
) -> MixtureItem:
    target = targets[rng.integers(len(targets))]
    others = [talker for talker in interferers if talker.name != target.name]
    if not others:
        raise TrainError(f"No second talker for the pair {pair} in {root}; make the data with more talkers.")
    interferer = others[rng.integers(len(others))]
    drawn = []
    for talker in (target, interferer):
        voices = talker.voices(root)
        voice = int(rng.integers(len(voices)))
        spare = max(0, soundfile.info(voices[voice]).frames - TRAINING_SAMPLES)
        drawn.append((talker, voice, int(rng.integers(spare + 1)), int(rng.integers(len(talker.faces(root))))))
    return MixtureItem(pair, *drawn[0], *drawn[1])


def _draw_pictures(folder: Path, person: Person, rng: np.random.Generator) -> None:
    look = look_of(person, rng)
    for index in range(FACES):
        portrait = draw_portrait(look, rng)
        box = portrait.face.jittered(rng)
        _write_picture(folder / f"face_{index}.jpg", crop_face(portrait.picture, box))
    _write_picture(folder / "portrait.jpg", draw_portrait(look, rng).picture)


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90]):
        raise TrainError(f"Could not write {path}; is the disk full?")


def _write_talkers(path: Path, rows: list[Talker]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Talker)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)

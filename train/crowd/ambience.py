"""Semi-synthetic sound for photographs of crowds: real voices and places, mixed so that they follow the crowd's size.

    <out>/index.csv                     split, image, points, sound, people; the images stay where they are
    <out>/<split>/sounds/00000.flac     16 kHz mono: 4 s for training, 1 s for validation and test
    <out>/<split>/points/00000.csv      x,y of every head, pixels of the photograph

No photograph was taken with its sound. What the sound tells of the crowd is put there: people are sources independent
of each other, so ten times as many are 10 dB louder; up to 40 are heard one by one, and the more there are, the more of
the sound is a recorded crowd. How lively people are, the microphone's gain and the street vary, whoever is there.
Figures with such sounds show that a network can use sound, not what real sound is worth; call them semi-synthetic.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from train.crowd.ambience_sources import Part, Sources, Wave, read_sources
from train.crowd.degrade import picture_rng
from train.crowd.layouts import Split, read_scenes
from train.crowd.scene import Scene
from train.errors import TrainError
from train.files import write_atomically
from train.settings import SAMPLE_RATE_HZ
from train.synthetic.ambience import coloured_noise

log = logging.getLogger(__name__)
Rng = np.random.Generator

INDEX_FIELDS = ("split", "image", "points", "sound", "people")
SECONDS: dict[Split, int] = {"train": 4, "val": 1, "test": 1}

_ONE_PERSON_DBFS = -56.0  # 1000 people are at -26
_LIVELINESS_DB = 1.0  # standard deviation: some crowds cheer, others listen
_MICROPHONE_DB = 2.0  # standard deviation of the gain
_STREET_DBFS = (-64.0, -46.0)  # lowest and highest level of what is there without people
_WIND_DBFS = (-65.0, -48.0)
_MOST_HEARD = 40  # voices one by one
_MANY = 100  # people from which the recorded crowd is more than half


def crowd_sound(rng: Rng, people: float, sources: Sources, samples: int) -> Wave:
    """The sound of so many people, float32 (samples,) at 16 kHz inside [-1, 1].

    Args:
        rng: the source of everything random.
        people: 0 or more; of nobody only the surroundings are heard.
        sources: what it is mixed of.
        samples: its length.
    """
    gain_db = rng.normal(0.0, _MICROPHONE_DB)
    mixture = _surroundings(rng, sources, samples)
    if people > 0:
        level_dbfs = _ONE_PERSON_DBFS + 10 * np.log10(max(people, 1.0)) + rng.normal(0.0, _LIVELINESS_DB)
        mixture += _at(level_dbfs, _crowd(rng, people, sources, samples))
    return np.clip(_factor(gain_db) * mixture, -1.0, 1.0)


def _crowd(rng: Rng, people: float, sources: Sources, samples: int) -> Wave:
    """Voices and recorded people, whose shares follow the number; RMS about 1."""
    many = people / (people + _MANY)
    recorded = np.zeros(samples, np.float32)
    for waves, share in ((sources.people, many), (sources.sparse, 1 - many)):
        for wave in waves:
            recorded += np.float32(share * rng.exponential()) * _excerpt(rng, wave, samples)
    near = rng.uniform(0.3, 1.0) * (1 - many)  # share of the power
    voices = _voices(rng, people, sources, samples)
    return _unit(np.float32(np.sqrt(near)) * voices + np.float32(np.sqrt(1 - near)) * _unit(recorded))


def _voices(rng: Rng, people: float, sources: Sources, samples: int) -> Wave:
    """Some of the people one by one, each at a distance of its own; RMS 1."""
    heard = int(np.clip(rng.poisson(np.sqrt(people)), 1, min(_MOST_HEARD, max(people, 1))))
    mixture = np.zeros(samples, np.float32)
    for _ in range(heard):
        voice = sources.voices[rng.integers(len(sources.voices))]
        mixture += np.float32(np.exp(rng.normal(0.0, 0.5))) * _excerpt(rng, voice, samples)
    return _unit(mixture)


def _surroundings(rng: Rng, sources: Sources, samples: int) -> Wave:
    """A street, where there is a recording of one, and wind; at levels that know nothing of the crowd."""
    mixture = _at(rng.uniform(*_WIND_DBFS), coloured_noise(rng, 2.0, 30.0, samples))
    if sources.street:
        street = _excerpt(rng, sources.street[rng.integers(len(sources.street))], samples)
        mixture += _at(rng.uniform(*_STREET_DBFS), street)
    return mixture


def _excerpt(rng: Rng, wave: Wave, samples: int) -> Wave:
    """So many samples from a random place; a shorter recording begins anew where it ends."""
    start = int(rng.integers(max(len(wave) - samples, 0) + 1))
    excerpt = wave[start : start + samples]
    return excerpt if len(excerpt) == samples else np.resize(excerpt, samples)


def _unit(wave: Wave) -> Wave:
    return wave / max(np.sqrt(np.mean(wave**2)), np.float32(1e-6))


def _factor(level_db: float) -> np.float32:
    return np.float32(10 ** (level_db / 20))


def _at(level_dbfs: float, wave: Wave) -> Wave:
    return _factor(level_dbfs) * wave


# ---- files ----


def write_sounds(pictures: Path, ambient: Path, speech: Path, out: Path, seed: int) -> dict[str, object]:
    """Give every photograph of a data set a sound and list them in `<out>/index.csv`.

    A photograph's sound depends on the seed, the recordings, its name, split and people alone. The index is written
    last, so a folder with an index is complete.

    Args:
        pictures: data set in any layout with points that `read_scenes` knows.
        ambient: recordings of places (`ambience_sources`).
        speech: recordings of single speakers.
        out: folder to fill.
        seed: of the whole set.

    Returns:
        A summary: photographs per split, and the folder.

    Raises:
        TrainError: the folder has an index already, the pictures have no points, or recordings that do not do.
    """
    index = out / "index.csv"
    if index.exists():
        raise TrainError(
            f"{index} exists; wanted a folder without sounds, because two sets in one folder would mix their splits. "
            "Name another folder with --out or remove this one."
        )
    splits = _scenes_by_split(pictures)
    parts: dict[Part, Sources] = {}
    rows: list[dict[str, str | int]] = []
    for split, scenes in splits.items():
        part: Part = "training" if split == "train" else "held out"
        if part not in parts:
            parts[part] = read_sources(ambient, speech, part)
        rows += _write_split(out, split, scenes, parts[part], seed)
        log.info("%s: %d sounds", split, len(scenes))
    write_atomically(index, _table(rows))
    return {"out": str(out), "semi_synthetic": True, "photographs": {split: len(s) for split, s in splits.items()}}


def _scenes_by_split(pictures: Path) -> dict[Split, list[Scene]]:
    """The splits that a data set has; pictures that are of two splits (a folder without any) stay in the first."""
    everything = read_scenes(pictures, "all")
    without = next((scene.name for scene in everything if scene.points is None), None)
    if without is not None:
        raise TrainError(
            f"{without} in {pictures} has a density map and no points; wanted points, which the index of the sounds "
            "lists. Name a data set with points."
        )
    splits: dict[Split, list[Scene]] = {}
    names: set[str] = set()
    for split in SECONDS:
        try:
            scenes = [scene for scene in read_scenes(pictures, split) if scene.name not in names]
        except TrainError:
            continue  # all files have been read above: there is no such split
        names.update(scene.name for scene in scenes)
        if scenes:
            splits[split] = scenes
    return splits


def _write_split(
    out: Path, split: Split, scenes: list[Scene], sources: Sources, seed: int
) -> Iterator[dict[str, str | int]]:
    for number, scene in enumerate(scenes):
        assert scene.points is not None  # checked when the splits were read
        sound_file, points_file = f"{split}/sounds/{number:05d}.flac", f"{split}/points/{number:05d}.csv"
        samples = SECONDS[split] * SAMPLE_RATE_HZ
        sound = crowd_sound(picture_rng(seed, scene.name), scene.people, sources, samples)
        flac = io.BytesIO()
        soundfile.write(flac, sound, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        points = "".join(["x,y\n", *(f"{x:.3f},{y:.3f}\n" for x, y in scene.points)])
        for name, content in ((sound_file, flac.getvalue()), (points_file, points.encode())):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
        # up from where the folder really is, since ".." behind a link would lead elsewhere
        image = os.path.relpath(os.path.abspath(scene.picture), out.resolve())
        yield dict(zip(INDEX_FIELDS, (split, image, points_file, sound_file, len(scene.points)), strict=True))


def _table(rows: list[dict[str, str | int]]) -> bytes:
    table = io.StringIO()
    writer = csv.DictWriter(table, INDEX_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue().encode()

"""A handful of samples with known truth, for the demonstration and for load tests.

    <out>/mixture_<n>.wav  target_<n>.wav    two talkers at once, and the one whose face is given, as mixed
    <out>/portrait_<n>.png  face_<n>.png     that talker's picture, and the 224x224 crop of its face
    <out>/scene_<n>.jpg  scene_<n>.wav       a crowd and one second of its sound
    <out>/samples.json                       pairs of sexes, and how many people there are

The talkers and scenes are of another seed than those that the demo weights were trained on.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile

from train.corpus.mixtures import PAIRS, mix
from train.files import write_atomically
from train.settings import HOP_SAMPLES, SAMPLE_RATE_HZ
from train.synthetic.faces import Picture, crop_face, draw_portrait
from train.synthetic.scenes import draw_scene
from train.synthetic.speech import Synthesizer
from train.synthetic.talkers import Person, draw_person, look_of, speak

SEED = 20_260
PEOPLE = (9, 40, 120, 240)  # in the scenes
INDEX = "samples.json"


def make_samples(out: Path, seed: int = SEED) -> dict[str, Any]:
    """Make the samples anew and return their index.

    Args:
        out: folder to fill; what was in it is removed.
        seed: same seed, same samples.

    Returns:
        `mixtures`: name of each file with the sexes of target and interferer; `scenes`: with the number of people.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    with Synthesizer() as synthesizer:
        mixtures = [_make_mixture(out, number, pair, synthesizer, rng) for number, pair in enumerate(PAIRS, start=1)]
    scenes = [_make_scene(out, number, people, rng) for number, people in enumerate(PEOPLE, start=1)]
    index = {"seed": seed, "mixtures": mixtures, "scenes": scenes}
    write_atomically(out / INDEX, json.dumps(index, indent=2).encode())
    return index


def _make_mixture(
    out: Path, number: int, pair: str, synthesizer: Synthesizer, rng: np.random.Generator
) -> dict[str, str | int]:
    people = [draw_person("F" if sex == "F" else "M", rng) for sex in pair]
    voices = [speak(person, synthesizer, rng) for person in people]
    length = min(map(len, voices)) // HOP_SAMPLES * HOP_SAMPLES
    mixture, target, _ = mix(voices[0][:length], voices[1][:length])
    for name, waveform in (("mixture", mixture), ("target", target)):
        soundfile.write(out / f"{name}_{number}.wav", waveform, SAMPLE_RATE_HZ, subtype="FLOAT")
    _draw_pictures(out, number, people[0], rng)
    return {"number": number, "target": pair[0], "interferer": pair[1]}


def _draw_pictures(out: Path, number: int, person: Person, rng: np.random.Generator) -> None:
    portrait = draw_portrait(look_of(person, rng), rng)
    _write_picture(out / f"portrait_{number}.png", portrait.picture)
    _write_picture(out / f"face_{number}.png", crop_face(portrait.picture, portrait.face))


def _make_scene(out: Path, number: int, people: int, rng: np.random.Generator) -> dict[str, int]:
    scene = draw_scene(rng, people)
    _write_picture(out / f"scene_{number}.jpg", scene.picture)
    soundfile.write(out / f"scene_{number}.wav", scene.sound, SAMPLE_RATE_HZ, subtype="FLOAT")
    return {"number": number, "people": len(scene.points)}


def _write_picture(path: Path, picture: Picture) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

"""Faces for voices that have none: drawn from what is measured in the voice. Semi-synthetic, and to be called so.

Sex, pitch, vocal tract and softness shape the face as they do for synthetic talkers (`train.synthetic.faces`), so that
one face network reads both; skin, hair and eyes tell nothing of the voice.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from train.corpus.layout import Picture, Sex, Waveform
from train.corpus.measure import VoiceMeasure, measure_voice
from train.errors import TrainError
from train.synthetic.faces import crop_face, draw_look, draw_portrait


def draw_stills(
    measure: VoiceMeasure, sex: Sex, appearance_seed: int, rng: np.random.Generator, count: int
) -> list[Picture]:
    """Draw different pictures of one person.

    Args:
        measure: what the voice has.
        sex: of the speaker, by the corpus.
        appearance_seed: decides on skin, hair and eyes; the speaker's, so that all pictures of somebody agree.
        rng: decides on pose, light, clothes and expression of each picture.
        count: pictures.

    Returns:
        crops, (224, 224, 3) RGB each.
    """
    pitch_z, tract_z, softness_z = measure.scores(sex)
    look = draw_look(sex, pitch_z, -tract_z, softness_z, np.random.default_rng(appearance_seed))
    portraits = [draw_portrait(look, rng) for _ in range(count)]
    return [crop_face(portrait.picture, portrait.face.jittered(rng)) for portrait in portraits]


def face_for_voice(waveform: Waveform | Sequence[Waveform], sex: Sex, *, seed: int) -> Picture:
    """Draw the face of a voice that has none, for evaluation; give it other recordings than the one to be separated.

    Args:
        waveform: one (N,) at 16 kHz, or several, of the same speaker.
        sex: of the speaker, by the corpus.
        seed: same seed, same picture; `seed_of` makes one from the speaker's name.

    Returns:
        a crop, (224, 224, 3) RGB.

    Raises:
        TrainError: too little voiced sound to measure a voice.
    """
    whole = waveform if isinstance(waveform, np.ndarray) else np.concatenate(list(waveform))
    try:
        measure = measure_voice(whole)
    except ValueError as error:
        raise TrainError(
            f"No face can be drawn from {len(whole) / 16000:.1f} s of sound: {error}. A drawn face shows what the "
            "voice has; give more of the speaker's recordings, or a photo."
        ) from error
    return draw_stills(measure, sex, seed, np.random.default_rng([seed, 1]), 1)[0]


def seed_of(name: str) -> int:
    """Make a seed from a name: the same everywhere and always."""
    return zlib.crc32(name.encode())

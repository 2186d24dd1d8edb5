"""A tiny LibriSpeech in the corpus's own tree, of synthetic voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from train.synthetic.speech import Synthesizer
from train.synthetic.talkers import draw_person, speak

SPEAKERS = 12  # half of each sex: two for test, two for validation, two for training


def write_tiny_librispeech(root: Path, seed: int = 0) -> None:
    """Write `SPEAKERS.TXT` and one recording of about eight seconds for each speaker."""
    rng = np.random.default_rng(seed)
    lines = ["; a comment, as the corpus has them"]
    for number in range(SPEAKERS):
        sex = "F" if number % 2 else "M"
        lines.append(f"{number:<5}| {sex} | train-clean-100 | 0.13 | Nobody")
        chapter = root / "train-clean-100" / str(number) / "1"
        chapter.mkdir(parents=True)
        person = draw_person(sex, rng)
        with Synthesizer() as synthesizer:
            spoken = np.concatenate([speak(person, synthesizer, rng) for _ in range(2)])
        soundfile.write(chapter / f"{number}-1-0000.flac", spoken, 16_000)
    (root / "SPEAKERS.TXT").write_text("\n".join(lines) + "\n")

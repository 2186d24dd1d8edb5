"""A tiny VoxCeleb2 in its own layout: real AAC and MP4 files of synthetic voices and faces, with what is wrong in it.

Twelve speakers (eight of dev with five videos, four of test with two), and beside them: a speaker of the table who is
not on disk, one on disk who is not in the table, damaged sound, a damaged film, a clip of a second, and sound without
film.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from train.corpus.layout import Picture, Sex, Waveform
from train.synthetic.faces import crop_face, draw_portrait
from train.synthetic.speech import Synthesizer
from train.synthetic.talkers import draw_person, look_of, speak

RATE_HZ, FRAMES_PER_S = 16_000, 25
BAR_PIXELS = 16  # high, at the lower edge of every picture: how much of the film has passed
PEOPLE: dict[str, tuple[str, Sex]] = {
    **{f"id{number:05d}": ("dev", "FM"[number % 2]) for number in range(10, 18)},  # type: ignore[dict-item]
    **{f"id{number:05d}": ("test", "FM"[number % 2]) for number in range(20, 24)},  # type: ignore[dict-item]
}
VIDEOS = {"dev": 5, "test": 2}
ABSENT, UNLISTED = "id00099", "id00098"
DAMAGED_SOUND, SHORT, WITHOUT_FILM, DAMAGED_FILM = (f"dev/id00010/trouble/{name:05d}" for name in range(1, 5))


@dataclass
class Original:
    """What was encoded into one clip."""

    voice: Waveform
    face: Picture  # (224, 224, 3), without the bar


def write_tiny_voxceleb2(root: Path, seed: int = 0) -> dict[str, Original]:
    """Write the tree; returns what each good clip holds, by `part/speaker/video/name`."""
    rng = np.random.default_rng(seed)
    originals: dict[str, Original] = {}
    for speaker, (part, sex) in PEOPLE.items():
        person = draw_person(sex, rng)
        look = look_of(person, rng)
        with Synthesizer() as synthesizer:
            for video in range(VIDEOS[part]):
                voice = speak(person, synthesizer, rng)
                portrait = draw_portrait(look, rng)
                clip = f"{part}/{speaker}/video{video}/00001"
                originals[clip] = Original(voice, crop_face(portrait.picture, portrait.face))
                write_clip(root, clip, originals[clip])
    _write_troubles(root, originals["dev/id00010/video0/00001"])
    _write_meta(root / "vox2_meta.csv")
    return originals


def sound_of(root: Path, clip: str) -> Path:
    """Where VoxCeleb2 has a clip's sound."""
    part, rest = clip.split("/", 1)
    return root / part / "aac" / f"{rest}.m4a"


def film_of(root: Path, clip: str) -> Path:
    """Where VoxCeleb2 has a clip's film."""
    part, rest = clip.split("/", 1)
    return root / part / "mp4" / f"{rest}.mp4"


def write_clip(root: Path, clip: str, original: Original) -> None:
    """Encode one clip."""
    _write_sound(sound_of(root, clip), original.voice)
    _write_film(film_of(root, clip), original.face, len(original.voice) * FRAMES_PER_S // RATE_HZ)


def _write_troubles(root: Path, good: Original) -> None:
    for clip in (DAMAGED_SOUND, SHORT, WITHOUT_FILM, DAMAGED_FILM, f"dev/{UNLISTED}/video0/00001"):
        write_clip(root, clip, good)
    sound_of(root, DAMAGED_SOUND).write_bytes(np.random.default_rng(0).bytes(5000))
    _write_sound(sound_of(root, SHORT), good.voice[:RATE_HZ])
    film_of(root, WITHOUT_FILM).unlink()
    film = film_of(root, DAMAGED_FILM).read_bytes()
    film_of(root, DAMAGED_FILM).write_bytes(film[: len(film) // 2])
    shutil.copytree(root / "dev" / "aac" / "id00010" / "video0", root / "dev" / "txt" / "id00010" / "video0")


def _write_meta(path: Path) -> None:
    rows = ["VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set "]
    rows += [
        f"{name} ,n0000{number} ,{sex.lower()} ,{part} " for number, (name, (part, sex)) in enumerate(PEOPLE.items())
    ]
    rows.append(f"{ABSENT} ,n00099 ,m ,dev ")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")


def _write_sound(path: Path, voice: Waveform) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream(
            "aac", rate=RATE_HZ, layout="mono", bit_rate=64_000, options={"aac_coder": "fast"}
        )
        frame = av.AudioFrame.from_ndarray(voice[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, 0  # with a time the delay of the encoder is noted, and skipped
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_film(path: Path, face: NDArray[np.uint8], frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_S, width=224, height=224, pix_fmt="yuv420p")
        stream.options = {"preset": "ultrafast", "crf": "18", "threads": "1"}
        for number in range(frames):
            picture = face.copy()
            passed = round(224 * (number + 0.5) / frames)
            picture[-BAR_PIXELS:, :passed], picture[-BAR_PIXELS:, passed:] = 255, 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))

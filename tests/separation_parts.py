"""What tests of separation share: sounds, faces, videos, and stand-ins for the served networks."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
from fake_triton import FakeTriton, same_voice
from matplotlib import cbook
from scipy.signal import fftconvolve

HOP, HALO_FRAMES, PADDED = 160, 40, (31_840, 63_840, 127_840)
FACE = np.full((224, 224, 3), 127, np.uint8)
PORTRAIT = Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def portrait() -> np.ndarray:
    """A photograph with one face, (H, W, 3) RGB."""
    return cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2RGB)


def noise(samples: int, level: float = 0.05, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, samples).astype(np.float32)


def agreement_db(got: np.ndarray, wanted: np.ndarray) -> float:
    """Energy of what was wanted over that of the difference."""
    return float(10 * np.log10(np.sum(np.square(wanted)) / max(np.sum(np.square(got - wanted)), 1e-30)))


# A voice that depends on a whole halo to either side, no more, and on the level: a linear filter, then a bend.
REACH = HALO_FRAMES * HOP
FILTER = np.random.default_rng(5).normal(0, 1, 2 * REACH + 1) * np.hanning(2 * REACH + 1) / 40


def wide_filter(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A stand-in for the network: what it computes is known, and as local as the network is."""
    speech = np.tanh(3 * fftconvolve(inputs["mixture"], FILTER, mode="same"))
    energy = fftconvolve(np.square(np.pad(inputs["mixture"], 80)), np.ones(160), mode="valid")[::HOP]
    return {"speech": speech, "attention": np.tanh(energy)}


def identity_of(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A stand-in for the face network: another vector for every picture."""
    seed = int(inputs["face"].astype(np.int64).sum())
    values = np.random.default_rng(seed).normal(0, 1, 1024).astype(np.float32)
    return {"identity": values / np.linalg.norm(values)}


def fake_separation(**answers: object) -> FakeTriton:
    """All models that separation asks; what is not said changes nothing."""
    usual = {"facefilter": same_voice, "facefilter_enrolled": same_voice, "facefilter_identity": identity_of}
    return FakeTriton({**usual, **answers})  # type: ignore[arg-type]


def make_video(path: Path, frames: list[np.ndarray], sound: np.ndarray, frame_rate: int = 5) -> Path:
    """A video of whole pictures, with mono sound at 44.1 kHz."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=frame_rate, options={"g": "1"})
        pictures.height, pictures.width = frames[0].shape[:2]
        pictures.pix_fmt, pictures.bit_rate = "yuv420p", 4_000_000
        voice = container.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=44_100, layout="mono")
        for frame in frames:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(pictures.encode(None))
        for start in range(0, len(sound), 4_410):
            part = (sound[None, start : start + 4_410] * 32_767).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            samples.sample_rate, samples.pts = 44_100, start
            container.mux(voice.encode(samples))
        container.mux(voice.encode(None))
    return path


def two_people(path: Path, sound: np.ndarray, seconds: float = 2.0) -> Path:
    """A video at 10 pictures per second of a woman on the left and a man on the right, drawn, with mono sound."""
    from train.synthetic.faces import draw_portrait
    from train.synthetic.talkers import draw_person, look_of

    rng = np.random.default_rng(1)
    pair = [draw_portrait(look_of(draw_person(sex, rng), rng), rng).picture for sex in ("F", "M")]
    picture = np.hstack(pair)
    return make_video(path, [picture] * round(10 * seconds), sound, frame_rate=10)

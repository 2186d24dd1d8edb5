"""Separation on the real server: seams, live input, enrolled faces, and two people in one video."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from separation_parts import agreement_db, make_video

import avedge
from clients.separator import FaceIdentity, SpeechSeparator, find_faces
from clients.transport.connection import Connection
from serve.launcher import EmbeddedTriton
from train.synthetic.faces import draw_portrait
from train.synthetic.speech import Synthesizer
from train.synthetic.talkers import draw_person, look_of, speak

RATE_HZ = 16_000


class Pair:
    """A woman and a man who talk at once, with their portraits."""

    def __init__(self, seconds: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        people = [draw_person("F", rng), draw_person("M", rng)]
        with Synthesizer() as synthesizer:
            voices = []
            for person in people:
                parts = [np.zeros(0)]
                while sum(map(len, parts)) < seconds * RATE_HZ:
                    parts.append(speak(person, synthesizer, rng))
                voices.append(np.concatenate(parts)[: seconds * RATE_HZ])
        self.voices = [np.asarray(0.05 * voice / np.std(voice), np.float32) for voice in voices]
        self.mixture = self.voices[0] + self.voices[1]
        self.portraits = [draw_portrait(look_of(person, rng), rng).picture for person in people]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair(seconds=25, seed=7)


def voice_of(stream: object) -> np.ndarray:
    return np.concatenate([block.speech for block in stream])  # type: ignore[attr-defined]


def test_seams_cannot_be_heard(server: EmbeddedTriton, pair: Pair, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", pair.mixture, RATE_HZ, subtype="FLOAT")
    (portrait,) = find_faces(pair.portraits[0])
    with Connection(server.grpc_url) as connection, SpeechSeparator(server.grpc_url) as separator:
        gain = np.float32(0.1 / np.sqrt(np.mean(np.square(pair.mixture, dtype=np.float64))))
        whole = connection.infer(
            "facefilter", {"mixture": pair.mixture * gain, "face": portrait.crop(224)}, ("speech", "attention")
        )
        in_memory = separator.separate(tmp_path / "talk.wav", portrait)
        of_file = voice_of(separator.separate_stream(tmp_path / "talk.wav", portrait))
        blocks = [pair.mixture[start : start + 1_600] for start in range(0, len(pair.mixture), 1_600)]
        live = voice_of(separator.separate_stream(blocks, portrait, sample_rate_hz=RATE_HZ, live=True))
    uncut = whole["speech"] / gain
    assert in_memory.windows == 4
    assert agreement_db(in_memory.speech, uncut) > 40
    assert agreement_db(of_file, in_memory.speech) > 100
    assert agreement_db(live, uncut) > 40, "23 seams, and a level that is only known from what was heard"
    # At its very end a recording is followed by silence in a window, and by nothing where it is not cut.
    np.testing.assert_allclose(in_memory.attention[:-40], whole["attention"][:-40], atol=1e-3)


def test_an_enrolled_face_is_as_good_as_the_photo(server: EmbeddedTriton, pair: Pair, tmp_path: Path) -> None:
    with SpeechSeparator(server.grpc_url) as separator:
        separator.enroll(pair.portraits[1]).save(tmp_path / "man.identity")
        identity = FaceIdentity.load(tmp_path / "man.identity")
        by_photo = separator.separate(pair.mixture, pair.portraits[1], sample_rate_hz=RATE_HZ)
        by_identity = separator.separate(pair.mixture, identity=identity, sample_rate_hz=RATE_HZ)
        assert float(np.linalg.norm(identity.values)) == pytest.approx(1, abs=1e-3)
        assert float(identity.values @ identity.probe) < 0.99, "the probe would tell nothing"
    assert agreement_db(by_identity.speech, by_photo.speech) > 80


def test_two_people_in_a_video_give_their_own_voices(
    server: EmbeddedTriton, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = np.interp(np.arange(25 * 44_100) / 44_100, np.arange(25 * RATE_HZ) / RATE_HZ, pair.mixture)
    video = make_video(tmp_path / "debate.mkv", [np.hstack(pair.portraits)] * 25, sound, frame_rate=1)
    words = ["separate", video, "--every-face", "--no-plot", "--url", server.grpc_url, "-o", tmp_path / "out", "--json"]
    assert avedge.main([str(word) for word in words]) == 0
    assert len(json.loads(capsys.readouterr().out)["result"]["voices"]) == 2
    for number in (0, 1):
        voice = soundfile.read(tmp_path / "out" / f"debate.face{number}.voice.wav", dtype="float32")[0]
        at_16_khz = np.interp(np.arange(25 * RATE_HZ) / RATE_HZ, np.arange(len(voice)) / 44_100, voice)
        likeness = [float(np.corrcoef(at_16_khz, one)[0, 1]) for one in pair.voices]
        assert likeness[number] > likeness[1 - number] + 0.2, f"face {number} has another person's voice: {likeness}"
        assert cv2.imread(str(tmp_path / "out" / f"debate.face{number}.png")).shape == (224, 224, 3)

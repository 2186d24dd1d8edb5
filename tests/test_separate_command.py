"""`avedge separate`: whom it hears, and which files come out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import soundfile
from fake_triton import FakeTriton, same_voice, serving
from separation_parts import PORTRAIT, fake_separation, noise, two_people

from clients.commands import separate


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    separate.add_arguments(parser)
    return separate.run(parser.parse_args([str(word) for word in words]))


def louder_with_light(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A separator whose voice tells which face it was given."""
    return same_voice(inputs) | {"speech": inputs["mixture"] * inputs["face"].mean() / 255}


@pytest.fixture(scope="module")
def fake() -> FakeTriton:
    return fake_separation(facefilter=louder_with_light)


@pytest.fixture(scope="module")
def url(fake: FakeTriton) -> Iterator[str]:
    with serving(fake) as address:
        yield address


@pytest.fixture(scope="module")
def debate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_people(tmp_path_factory.mktemp("video") / "debate.mkv", noise(88_200))


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", noise(44_100), 44_100)
    return tmp_path / "talk.wav"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_every_face_gives_a_voice_a_video_and_the_crop_that_says_whose_it_is(
    debate: Path, tmp_path: Path, url: str, fake: FakeTriton, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.requests.clear()
    assert run(debate, "--every-face", "--video", "--url", url, "-o", tmp_path, "--json") == 0
    endings = ("png", "spectrogram.png", "voice.mkv", "voice.wav")
    assert names(tmp_path) == [f"debate.face{number}.{ending}" for number in (0, 1) for ending in endings]
    said = json.loads(capsys.readouterr().out)
    voices = said["result"]["voices"]
    assert [voice["face"] for voice in voices] == [0, 1]
    assert voices[0]["face_box"]["left"] < 480 < voices[1]["face_box"]["left"], "counted from left to right"
    crops = [cv2.cvtColor(cv2.imread(str(tmp_path / f"debate.face{n}.png")), cv2.COLOR_BGR2RGB) for n in (0, 1)]
    sent = [request["face"] for request in fake.requests]
    np.testing.assert_array_equal(crops[0], sent[0])
    np.testing.assert_array_equal(crops[1], sent[-1])
    sounds = [soundfile.read(tmp_path / f"debate.face{number}.voice.wav")[0] for number in (0, 1)]
    ratio = np.std(sounds[0]) / np.std(sounds[1])
    assert ratio == pytest.approx(crops[0].mean() / crops[1].mean(), rel=0.01), "each voice is that of its own face"
    with av.open(str(tmp_path / "debate.face1.voice.mkv")) as video:
        assert video.streams.video and len(video.streams.audio) == 1
        assert video.duration / av.time_base == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("index", [0, 1])
def test_the_nth_face_of_a_video_is_heard(
    debate: Path, tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str], index: int
) -> None:
    assert run(debate, "--face-index", index, "--no-plot", "--url", url, "-o", tmp_path, "--json") == 0
    box = json.loads(capsys.readouterr().out)["result"]["face_box"]
    assert (box["left"] > 480) == (index == 1) and names(tmp_path) == ["debate.voice.wav"]


def test_of_several_faces_none_is_guessed_and_each_is_listed(
    debate: Path, tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(debate, "--url", url, "-o", tmp_path) == 4
    said = capsys.readouterr().err
    assert "2 faces were found" in said and "--face-index" in said and "--every-face" in said
    assert "0: " in said and "1: " in said and "seen in" in said
    assert run(debate, "--face-index", 2, "--url", url, "-o", tmp_path) == 4
    assert "no face 2" in capsys.readouterr().err and names(tmp_path) == []


def test_a_photo_chooses_the_voice_of_many_recordings_and_is_looked_at_once(
    talk: Path, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    from clients.media import faces

    found = faces.find_faces
    monkeypatch.setattr(faces, "find_faces", lambda picture: looks.append(1) or found(picture))
    other = tmp_path / "speech.wav"
    other.write_bytes(talk.read_bytes())
    assert run(talk, other, "--face", PORTRAIT, "--no-plot", "--url", url, "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["speech.voice.wav", "talk.voice.wav"] and len(looks) == 1


def test_floats_hold_what_integers_cannot(talk: Path, tmp_path: Path, url: str) -> None:
    words = [talk, "--face", PORTRAIT, "--no-plot", "--url", url]
    assert run(*words, "-o", tmp_path / "a") == 0 and run(*words, "-o", tmp_path / "b", "--float32") == 0
    assert [soundfile.info(tmp_path / folder / "talk.voice.wav").subtype for folder in "ab"] == ["PCM_16", "FLOAT"]


def test_standard_input_is_a_recording_too(
    talk: Path, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with talk.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=file.fileno, isatty=lambda: False, buffer=file))
        assert run("-", "--face", PORTRAIT, "--url", url, "-o", tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["input"] == "stdin"
    assert names(tmp_path / "out") == ["stdin.spectrogram.png", "stdin.voice.wav"]


def test_a_folder_is_worked_through_once(
    talk: Path, debate: Path, tmp_path: Path, url: str, fake: FakeTriton, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [tmp_path, "--face", PORTRAIT, "--no-plot", "--url", url, "-o", tmp_path / "out", "--json"]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "debate.mkv").write_bytes(debate.read_bytes())
    assert run(*words) == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == ["done", "done"]
    asked = len(fake.requests)
    assert run(*words) == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == ["skipped", "skipped"]
    assert len(fake.requests) == asked


def test_a_recording_among_videos_gives_its_voice_and_says_that_there_is_no_video(
    talk: Path, tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(talk, "--face", PORTRAIT, "--video", "--no-plot", "--url", url, "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["talk.voice.wav"]
    assert "it has no pictures" in capsys.readouterr().err


def test_a_recording_without_pictures_needs_a_face(
    talk: Path, tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], ["--every-face"], ["--face-index", 0]):
        assert run(talk, *words, "--url", url, "-o", tmp_path / "out") == 4
        assert "without pictures, and no face was given" in capsys.readouterr().err


def test_what_is_said_of_the_recording_is_said_once_for_all_faces(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = np.clip(noise(88_200, level=3.0), -1, 1)
    video = two_people(tmp_path / "loud.mkv", loud)
    assert run(video, "--every-face", "--no-plot", "--url", url, "-o", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.err.count("at full scale, so it was probably clipped") == 1
    assert "of 2 voices in" in said.out


def test_two_ways_to_choose_are_wrong_usage() -> None:
    for words in (["--face", "a.jpg", "--identity", "b.identity"], ["--every-face", "--face-index", "1"]):
        with pytest.raises(SystemExit) as caught:
            run("talk.wav", *words)
        assert caught.value.code == 2

"""From a recording of any rate and length to the voice at the same rate and length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_triton import FakeTriton, same_voice, serving
from separation_parts import FACE, PORTRAIT, agreement_db, make_video, noise, portrait, wide_filter

from clients.errors import BadInput, BadSetting, ContractMismatch, OutputFailed
from clients.media.sound import load_sound
from clients.separator import SpeechSeparator


def test_chunks_agree_with_the_whole_recording() -> None:
    recording = noise(400_000)
    with serving(FakeTriton({"facefilter": wide_filter})) as url, SpeechSeparator(url) as separator:
        result = separator.separate(recording, FACE, sample_rate_hz=16_000, face_crop=True)
    gain = 0.1 / np.sqrt(np.mean(np.square(recording, dtype=np.float64)))
    whole = wide_filter({"mixture": recording * gain})
    assert result.windows == 4
    assert agreement_db(result.speech, whole["speech"] / gain) > 40
    assert result.attention.shape == (2501,)
    np.testing.assert_allclose(result.attention, whole["attention"][:2501], atol=1e-4)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("samples", [1_603 * 10, 65_537])
def test_the_voice_has_the_rate_and_length_of_the_recording(rate_hz: int, samples: int) -> None:
    with serving(FakeTriton({"facefilter": same_voice})) as url, SpeechSeparator(url) as separator:
        result = separator.separate(noise(samples), FACE, sample_rate_hz=rate_hz, face_crop=True)
    assert result.sample_rate_hz == rate_hz and result.speech.shape == (samples,)


def test_a_voice_that_was_not_changed_comes_back_at_its_level_and_place() -> None:
    t = np.arange(44_100) / 44_100
    recording = (0.01 * np.sin(2 * np.pi * 300 * t) * np.hanning(len(t))).astype(np.float32)
    fake = FakeTriton({"facefilter": same_voice})
    with serving(fake) as url, SpeechSeparator(url) as separator:
        result = separator.separate(recording, FACE, sample_rate_hz=44_100, face_crop=True)
    assert agreement_db(result.speech, recording) > 50
    (sent,) = fake.requests
    assert sent["mixture"].shape == (31_840,)
    assert np.sqrt(np.mean(np.square(sent["mixture"][:16_000]))) == pytest.approx(0.1, rel=1e-3)


def test_the_face_that_was_found_is_what_the_server_gets() -> None:
    fake = FakeTriton({"facefilter": same_voice})
    with serving(fake) as url, SpeechSeparator(url) as separator:
        result = separator.separate(noise(16_000), PORTRAIT, sample_rate_hz=16_000)
    np.testing.assert_array_equal(fake.requests[0]["face"], result.face)
    assert result.face_box is not None and 200 < result.face_box.width < 260
    assert result.to_dict()["face_box"] == result.face_box.to_dict()


def test_a_video_gives_both_the_sound_and_the_face(tmp_path: Path) -> None:
    sound = noise(44_100)
    path = make_video(tmp_path / "a.mkv", [portrait()] * 5, sound)
    with serving(FakeTriton({"facefilter": same_voice})) as url, SpeechSeparator(url) as separator:
        result = separator.separate(path)
    assert result.speech.shape == (44_100,) and result.face_box is not None
    np.testing.assert_allclose(result.mixture, sound, atol=1e-4)


def test_a_video_whose_middle_shows_no_face_is_searched_further(tmp_path: Path) -> None:
    photo = portrait()
    blank = np.full_like(photo, 90)
    path = make_video(tmp_path / "a.mkv", [photo, photo, blank, blank, blank], noise(44_100))
    with serving(FakeTriton({"facefilter": same_voice})) as url, SpeechSeparator(url) as separator:
        assert separator.separate(path).face_box is not None


def test_bad_input_is_told_before_any_server_is_asked() -> None:
    with SpeechSeparator("127.0.0.1:1") as separator:
        with pytest.raises(BadInput, match="silent"):
            separator.separate(np.zeros(16_000, np.float32), FACE, sample_rate_hz=16_000, face_crop=True)
        with pytest.raises(BadInput, match="No face was found in the array"):
            separator.separate(noise(16_000), FACE, sample_rate_hz=16_000)
        with pytest.raises(BadInput, match="an array without a face"):
            separator.separate(noise(16_000), sample_rate_hz=16_000)
        with pytest.raises(BadSetting, match="Face 1 is asked for of what is one face already"):
            separator.separate(noise(16_000), FACE, sample_rate_hz=16_000, face_crop=True, face_index=1)


def test_an_answer_of_another_length_is_refused() -> None:
    fake = FakeTriton({"facefilter": lambda inputs: same_voice({"mixture": inputs["mixture"][:-160]})})
    with (
        serving(fake) as url,
        SpeechSeparator(url) as separator,
        pytest.raises(ContractMismatch, match=r"shapes \(31680,\) and \(199,\) for 31840 samples"),
    ):
        separator.separate(noise(16_000), FACE, sample_rate_hz=16_000, face_crop=True)


def test_a_voice_above_full_scale_is_saved_lower_and_said(tmp_path: Path) -> None:
    louder = FakeTriton({"facefilter": lambda inputs: same_voice(inputs) | {"speech": 30 * inputs["mixture"]}})
    with serving(louder) as url, SpeechSeparator(url) as separator:
        result = separator.separate(noise(16_000), FACE, sample_rate_hz=16_000, face_crop=True)
    result.save(tmp_path / "voice.wav")
    saved = load_sound(tmp_path / "voice.wav").samples
    assert any("peaks at" in warning for warning in result.warnings)
    assert np.abs(saved).max() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(saved, result.speech / np.abs(result.speech).max(), atol=1e-4)


def test_a_result_that_cannot_be_saved_leaves_nothing(tmp_path: Path) -> None:
    with serving(FakeTriton({"facefilter": same_voice})) as url, SpeechSeparator(url) as separator:
        result = separator.separate(noise(16_000), FACE, sample_rate_hz=16_000, face_crop=True)
    with pytest.raises(OutputFailed, match="absent: No such file or directory"):
        result.save(tmp_path / "absent" / "voice.wav")
    result.save(tmp_path / "voice.wav")
    result.plot(tmp_path / "voice.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["voice.png", "voice.wav"]
    picture = cv2.imread(str(tmp_path / "voice.png"))
    assert picture.shape == (768, 1200, 3) and picture.std() > 20


def test_the_clients_bring_no_torch() -> None:
    code = (
        "import sys, clients, clients.commands.separate, clients.commands.count\n"
        "assert 'grpc' not in sys.modules and 'cv2' not in sys.modules, 'heavy imports slow --help down'\n"
        "from clients import SpeechSeparator, CrowdCounter\n"
        "import clients.plots\n"
        "assert not {'torch', 'train', 'export', 'serve', 'onnx', 'scipy', 'librosa'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)

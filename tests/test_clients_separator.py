"""From a recording of any rate and length to the voice at the same rate and length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from fake_triton import FakeTriton, same_voice, serving
from matplotlib import cbook
from scipy.signal import fftconvolve

from clients.errors import BadInput, ContractMismatch, OutputFailed
from clients.media import windows
from clients.media.sound import load_sound
from clients.separator import SpeechSeparator

HOP, HALO_FRAMES, PADDED = 160, 40, (31_840, 63_840, 127_840)
LAYOUT = windows.layout_of(PADDED, hop=HOP, halo_frames=HALO_FRAMES)
FACE = np.full((224, 224, 3), 127, np.uint8)
PORTRAIT = Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


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


def cut(recording: np.ndarray, layout: windows.Layout, block: int = 10**9) -> list[windows.Window]:
    """All windows of a recording that comes in blocks."""
    cutter = windows.Cutter(layout)
    found = [w for start in range(0, len(recording), block) for w in cutter.push(recording[start : start + block])]
    return [*found, *cutter.end()]


def join(pieces: list[np.ndarray], cuts: list[windows.Window], hop: int = 1) -> np.ndarray:
    joiner = windows.Joiner(LAYOUT, hop)
    joined = [joiner.push(piece, window.valid) for piece, window in zip(pieces, cuts, strict=True)]
    return np.concatenate([*joined, joiner.end()])


@pytest.mark.parametrize("samples", [1, 31_840, 31_841, 113_440 + 127_840, 127_840, 127_841, 500_000])
def test_windows_have_served_lengths_follow_at_one_step_and_hold_the_whole_recording(samples: int) -> None:
    recording = noise(samples)
    cuts = cut(recording, LAYOUT)
    assert LAYOUT.step % HOP == 0 and LAYOUT.longest - LAYOUT.step == 2 * LAYOUT.halo + LAYOUT.fade
    assert all(len(window.samples) in PADDED for window in cuts)
    assert all(window.valid == LAYOUT.longest for window in cuts[:-1])
    for number, window in enumerate(cuts):
        start = number * LAYOUT.step
        np.testing.assert_array_equal(window.samples[: window.valid], recording[start : start + window.valid])
        assert not window.samples[window.valid :].any()
    assert (len(cuts) - 1) * LAYOUT.step + cuts[-1].valid == samples
    assert len(cuts) == 1 or cuts[-1].valid > LAYOUT.longest - LAYOUT.step, "the last window would hold nothing new"


@pytest.mark.parametrize("block", [1_000, 127_840, 130_000])
def test_a_recording_that_comes_in_blocks_is_cut_at_the_same_places(block: int) -> None:
    recording = noise(400_000)
    for whole, part in zip(cut(recording, LAYOUT), cut(recording, LAYOUT, block), strict=True):
        np.testing.assert_array_equal(whole.samples, part.samples)
        assert whole.valid == part.valid


def test_a_short_recording_takes_the_smallest_length_that_holds_it() -> None:
    lengths = [[len(window.samples) for window in cut(noise(n), LAYOUT)] for n in (31_840, 31_841, 63_841)]
    assert lengths == [[31_840], [63_840], [127_840]]


def test_windows_that_were_only_cut_are_joined_to_the_recording() -> None:
    recording = noise(400_000)
    cuts = cut(recording, LAYOUT)
    joined = join([window.samples for window in cuts], cuts)
    assert len(cuts) == 4
    np.testing.assert_allclose(joined, recording, atol=1e-6)


def test_frames_are_joined_to_one_per_hop_and_one_more() -> None:
    recording = noise(400_000)
    cuts = cut(recording, LAYOUT)
    frames = np.arange(400_000 // HOP + 1, dtype=np.float32)
    starts = [number * LAYOUT.step // HOP for number in range(len(cuts))]
    pieces = [
        np.pad(frames, (0, 800))[start : start + len(window.samples) // HOP + 1]
        for start, window in zip(starts, cuts, strict=True)
    ]
    np.testing.assert_allclose(join(pieces, cuts, HOP), frames, atol=1e-3)


def test_what_lies_within_a_halo_of_a_cut_is_not_used() -> None:
    cuts = cut(noise(300_000), LAYOUT)
    pieces = []
    for number, window in enumerate(cuts):
        piece = np.ones(len(window.samples), np.float32)
        piece[: REACH if number else 0] = 1e6
        piece[len(piece) - REACH if number < len(cuts) - 1 else window.valid :] = 1e6
        pieces.append(piece)
    np.testing.assert_allclose(join(pieces, cuts), 1, atol=1e-6)


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


def make_video(path: Path, frames: list[np.ndarray], sound: np.ndarray) -> Path:
    """One second of pictures at 5 per second, with mono sound at 44.1 kHz."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=5, options={"g": "1"})
        pictures.height, pictures.width = frames[0].shape[:2]
        pictures.pix_fmt, pictures.bit_rate = "yuv420p", 4_000_000
        voice = container.add_stream("pcm_s16le", rate=44_100)
        voice.layout = "mono"
        for frame in frames:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(pictures.encode(None))
        samples = av.AudioFrame.from_ndarray((sound[None] * 32767).astype(np.int16), format="s16", layout="mono")
        samples.sample_rate = 44_100
        container.mux(voice.encode(samples))
        container.mux(voice.encode(None))
    return path


def test_a_video_gives_both_the_sound_and_the_face(tmp_path: Path) -> None:
    portrait = cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2RGB)
    sound = noise(44_100)
    path = make_video(tmp_path / "a.mkv", [portrait] * 5, sound)
    with serving(FakeTriton({"facefilter": same_voice})) as url, SpeechSeparator(url) as separator:
        result = separator.separate(path)
    assert result.speech.shape == (44_100,) and result.face_box is not None
    np.testing.assert_allclose(result.mixture, sound, atol=1e-4)


def test_a_video_whose_middle_shows_no_face_is_searched_further(tmp_path: Path) -> None:
    portrait = cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2RGB)
    blank = np.full_like(portrait, 90)
    path = make_video(tmp_path / "a.mkv", [portrait, portrait, blank, blank, blank], noise(44_100))
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

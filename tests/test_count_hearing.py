"""Which second of a recording goes with a photo, read no further than needed, and when only the photo is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_triton import FakeTriton, crowd_of, serving
from tiny_videos import RATE_HZ, tones, write_video

from clients.counter import CrowdCounter
from clients.counting.hearing import HEARD_S, Fallback, sound_at
from clients.crowd_count import CrowdCount
from clients.errors import BadInput
from clients.media.sound import load_sound

PHOTO = np.zeros((72, 128, 3), np.uint8)


def count(sound: Any, **options: Any) -> tuple[CrowdCount, FakeTriton]:
    answer = crowd_of(np.full((72, 128), 0.01, np.float32))
    fake = FakeTriton({"crowd_counting": answer, "crowd_counting_vision": answer})
    with serving(fake) as url, CrowdCounter(url) as counter:
        return counter.count(PHOTO, sound, **options), fake


def noise(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate_hz)).astype(np.float32)


@pytest.mark.parametrize("start_s", [0.0, 0.75, 2.0, 16.3, 39.5])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mkv"])
def test_a_stretch_of_a_file_is_that_of_the_whole_recording(tmp_path: Path, name: str, start_s: float) -> None:
    sound = noise(40)  # more than one block of the reader
    if name.endswith("mkv"):
        write_video(tmp_path / name, seconds=40, rate=1, sound=sound)
    else:
        soundfile.write(tmp_path / name, sound, RATE_HZ, subtype="PCM_16")
    found, whole = sound_at(tmp_path / name, start_s), load_sound(tmp_path / name)
    start = round(start_s * RATE_HZ)
    expected = whole.samples[start : start + round(HEARD_S * RATE_HZ)]
    assert found.sample_rate_hz == whole.sample_rate_hz
    np.testing.assert_array_equal(found.samples[: len(expected)], expected)
    assert abs(len(found.samples) - len(expected)) <= 1


def test_no_more_of_a_file_is_read_than_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(60), RATE_HZ, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[-len(content) // 4 :] = bytes(len(content) // 4)  # damage far behind what is heard
    path.write_bytes(content)
    result, fake = count(path, sound_start_s=3.0)
    assert result.fallback is None and "sound" in fake.requests[0]
    with pytest.raises(BadInput):
        count(path, sound_start_s=58.0)


@pytest.mark.parametrize("start_s", [0.0, 1.0])
def test_a_silent_second_is_left_out_and_said(tmp_path: Path, start_s: float) -> None:
    sound = np.concatenate([np.zeros(2 * RATE_HZ, np.float32), tones([500.0])])
    soundfile.write(tmp_path / "a.wav", sound, RATE_HZ)
    for given in (sound, tmp_path / "a.wav"):
        rate = {"sample_rate_hz": RATE_HZ} if given is sound else {}
        result, fake = count(given, sound_start_s=start_s, **rate)
        assert result.fallback is Fallback.SILENT_SECOND and set(fake.requests[0]) == {"picture"}
        assert result.to_dict()["fallback_reason"] == "silent_second"
        assert result.to_dict()["why_model"] == "this second of the sound is silent"
        heard, _ = count(given, sound_start_s=2.0, **rate)
        assert heard.fallback is None and heard.to_dict()["fallback_reason"] is None


def test_a_recording_that_is_silent_throughout_is_not_heard_either(tmp_path: Path) -> None:
    dither = np.random.default_rng(0).normal(0, 2e-5, 3 * RATE_HZ)
    soundfile.write(tmp_path / "a.wav", dither, RATE_HZ)
    assert count(tmp_path / "a.wav")[0].fallback is Fallback.SILENT_SECOND


def test_less_than_a_tenth_of_a_second_at_the_end_is_too_short(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2), RATE_HZ)
    assert count(tmp_path / "a.wav", sound_start_s=1.95)[0].fallback is Fallback.TOO_SHORT
    result, _ = count(tmp_path / "a.wav", sound_start_s=1.5)
    assert result.fallback is None and "gives 0.50 s of the 1 s heard" in result.warnings[0]


@pytest.mark.parametrize("start_s", [2.0, 5.0, -1.0, float("nan"), float("inf")])
def test_a_start_outside_the_recording_is_refused(tmp_path: Path, start_s: float) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2), RATE_HZ)
    with pytest.raises(BadInput, match="The sound was to begin at"):
        count(tmp_path / "a.wav", sound_start_s=start_s)
    with pytest.raises(BadInput, match="The sound was to begin at"):
        count(noise(2), sample_rate_hz=RATE_HZ, sound_start_s=start_s)


def test_a_video_without_sound_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no sound track"):
        count(write_video(tmp_path / "a.mkv", seconds=1))

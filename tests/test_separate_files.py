"""From file to file in flat memory: whole files or none, and what is in them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import grpc
import numpy as np
import pytest
import soundfile
from fake_triton import FakeTriton, same_voice, serving
from scipy.signal import correlate
from separation_parts import FACE, PORTRAIT, fake_separation, make_video, noise, portrait, wide_filter

from clients import outputs, separator_aio
from clients.errors import BadInput, BadSetting, ClientError, OutputFailed
from clients.media.sound import load_sound
from clients.media.sound_reader import PlainReader
from clients.separator import SpeechSeparator
from clients.separator_aio import AsyncSpeechSeparator

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", noise(600_000), 44_100, subtype="FLOAT")
    return tmp_path / "talk.wav"


@pytest.fixture(scope="module")
def separator() -> Iterator[SpeechSeparator]:
    with serving(fake_separation(facefilter=wide_filter)) as url, SpeechSeparator(url) as client:
        yield client


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_holds_what_is_given_in_memory(separator: SpeechSeparator, recording: Path, tmp_path: Path) -> None:
    whole = separator.separate(recording, FACE, face_crop=True)
    done = separator.separate_file(recording, tmp_path / "voice.wav", FACE, face_crop=True, float32=True)
    voice, rate_hz = soundfile.read(tmp_path / "voice.wav", dtype="float32")
    np.testing.assert_array_equal(voice, whole.speech)
    assert rate_hz == 44_100 and done.to_dict() == whole.to_dict()
    assert done.files == {"voice": tmp_path / "voice.wav"} and names(tmp_path) == ["talk.wav", "voice.wav"]


def test_integers_are_the_same_as_those_of_a_voice_in_memory(
    separator: SpeechSeparator, recording: Path, tmp_path: Path
) -> None:
    separator.separate(recording, FACE, face_crop=True).save(tmp_path / "a.wav")
    separator.separate_file(recording, tmp_path / "b.wav", FACE, face_crop=True)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_asyncio_writes_the_same_files(recording: Path, tmp_path: Path) -> None:
    async def run(url: str) -> None:
        async with AsyncSpeechSeparator(url) as separator:
            plot = tmp_path / "b.png"
            done = await separator.separate_file(recording, tmp_path / "b.wav", FACE, plot=plot, face_crop=True)
            assert set(done.files) == {"voice", "plot"}

    with serving(fake_separation(facefilter=wide_filter)) as url:
        with SpeechSeparator(url) as separator:
            separator.separate_file(recording, tmp_path / "a.wav", FACE, plot=tmp_path / "a.png", face_crop=True)
        asyncio.run(run(url))
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_peak_above_full_scale_lowers_integers_and_leaves_floats(recording: Path, tmp_path: Path) -> None:
    louder = fake_separation(facefilter=lambda inputs: same_voice(inputs) | {"speech": 30 * inputs["mixture"]})
    with serving(louder) as url, SpeechSeparator(url) as separator:
        lowered = separator.separate_file(recording, tmp_path / "a.wav", FACE, face_crop=True)
        kept = separator.separate_file(recording, tmp_path / "b.wav", FACE, face_crop=True, float32=True)
    integers, floats = (soundfile.read(tmp_path / name, dtype="float32")[0] for name in ("a.wav", "b.wav"))
    peak = np.abs(floats).max()
    assert peak > 3 and any("peaks at" in warning for warning in lowered.warnings) and not kept.warnings
    np.testing.assert_allclose(integers, floats / peak, atol=1e-4)


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_the_video_keeps_its_pictures_and_has_the_voice_alone(tmp_path: Path, ending: str) -> None:
    photo = portrait()
    frames = [np.roll(photo, 20 * number, axis=1) for number in range(10)]
    sound = noise(88_200) * np.repeat([1, 0.1], 44_100).astype(np.float32)
    source = make_video(tmp_path / f"talk{ending}", frames, sound)
    quieter = fake_separation(facefilter=lambda inputs: same_voice(inputs) | {"speech": 0.25 * inputs["mixture"]})
    with serving(quieter) as url, SpeechSeparator(url) as separator:
        separator.separate_file(source, tmp_path / "v.wav", video=tmp_path / f"v{ending}")
    with av.open(str(source)) as before, av.open(str(tmp_path / f"v{ending}")) as after:
        pictures = [[bytes(p) for p in one.demux(video=0) if p.size] for one in (before, after)]
        assert [len(one.streams.audio) for one in (before, after)] == [1, 1]
        assert abs(before.duration - after.duration) / av.time_base < 0.1
    assert pictures[0] == pictures[1] and len(pictures[0]) == 10
    voice, heard = (load_sound(tmp_path / name).samples[:80_000] for name in ("v.wav", f"v{ending}"))
    likeness = correlate(heard, voice[2_000:-2_000], mode="valid") / np.sum(np.square(voice[2_000:-2_000]))
    assert abs(int(np.argmax(likeness)) - 2_000) <= 44, "later or earlier than the pictures by more than a millisecond"
    assert likeness.max() == pytest.approx(1, abs=0.2), "it has the voice's level"


def test_the_spectrograms_show_recording_and_voice(separator: SpeechSeparator, recording: Path, tmp_path: Path) -> None:
    separator.separate_file(recording, tmp_path / "v.wav", FACE, plot=tmp_path / "v.png", face_crop=True)
    separator.separate(recording, FACE, face_crop=True).plot(tmp_path / "w.png")
    pictures = [cv2.imread(str(tmp_path / name)).astype(float) for name in ("v.png", "w.png")]
    assert pictures[0].shape == (768, 1200, 3) and pictures[0].std() > 20
    assert np.abs(pictures[0] - pictures[1]).mean() < 1, "drawn while it came or afterwards, it is the same picture"


def test_a_failure_midway_leaves_what_was_there_and_nothing_else(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "voice.wav").write_text("earlier")
    fake = fake_separation()
    answers = iter(range(100))

    def failing(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if next(answers) == 0:
            fake.failures.append((grpc.StatusCode.INTERNAL, "broken"))
        return same_voice(inputs)

    fake.answers["facefilter"] = failing
    with serving(fake) as url, SpeechSeparator(url, in_flight=1) as separator, pytest.raises(ClientError):
        separator.separate_file(recording, tmp_path / "voice.wav", FACE, face_crop=True)
    assert names(tmp_path) == ["talk.wav", "voice.wav"] and (tmp_path / "voice.wav").read_text() == "earlier"


def test_a_folder_that_is_not_there_is_told(separator: SpeechSeparator, recording: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match="absent"):
        separator.separate_file(recording, tmp_path / "absent" / "voice.wav", FACE, face_crop=True)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_places_that_nothing_can_be_moved_to_are_told_before_any_work(
    recording: Path, tmp_path: Path, asynchronous: bool
) -> None:
    async def awaited(**places: Path) -> None:
        async with AsyncSpeechSeparator("127.0.0.1:1") as separator:
            await separator.separate_file(recording, face=FACE, face_crop=True, **places)

    def waited(**places: Path) -> None:
        with SpeechSeparator("127.0.0.1:1") as separator:  # where no server is
            separator.separate_file(recording, face=FACE, face_crop=True, **places)

    separate = (lambda **places: asyncio.run(awaited(**places))) if asynchronous else waited
    voice, folder = tmp_path / "voice.wav", tmp_path / "folder"
    folder.mkdir()
    for places, said in (
        ({"voice": voice, "plot": tmp_path / "absent" / "p.png"}, "absent: No such file or directory"),
        ({"voice": voice, "video": folder}, "folder: what is there is not a file"),
        ({"voice": voice, "plot": Path("/proc/p.png")}, "/proc/p.png: it is on another file system"),
    ):
        with pytest.raises(OutputFailed, match=said):
            separate(**places)
    assert names(tmp_path) == ["folder", "talk.wav"]


@pytest.mark.parametrize("reads", [1, 4])
def test_a_task_that_is_cancelled_while_a_file_is_read_says_so_and_leaves_nothing(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    """In the first pass, for the level, and in the second, for the voice."""
    pieces, reading = PlainReader.pieces, threading.Semaphore(0)

    def slow(reader: PlainReader) -> Iterator[np.ndarray]:
        for piece in pieces(reader):
            reading.release()
            time.sleep(0.2)
            yield piece

    async def run(url: str) -> None:
        async with AsyncSpeechSeparator(url) as separator:
            task = asyncio.create_task(separator.separate_file(recording, tmp_path / "v.wav", FACE, face_crop=True))
            for _ in range(reads):
                await asyncio.to_thread(reading.acquire)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert names(tmp_path) == ["talk.wav"]

    monkeypatch.setattr(PlainReader, "pieces", slow)
    with serving(fake_separation()) as url:
        asyncio.run(run(url))
    assert names(tmp_path) == ["talk.wav"]


def test_the_loop_goes_on_while_files_are_opened_and_brought_to_the_disk(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_loop: list[str] = []

    def watched(name: str, call: Any) -> Any:
        def watching(*words: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                in_loop.append(name)
            return call(*words)

        return watching

    monkeypatch.setattr(separator_aio, "open_sound", watched("open_sound", separator_aio.open_sound))
    monkeypatch.setattr(outputs, "flush", watched("flush", outputs.flush))

    async def run(url: str) -> None:
        async with AsyncSpeechSeparator(url) as separator:
            await separator.separate_file(recording, tmp_path / "v.wav", FACE, face_crop=True)

    with serving(fake_separation()) as url:
        asyncio.run(run(url))
    assert names(tmp_path) == ["talk.wav", "v.wav"] and not in_loop


def test_nothing_is_read_by_a_client_that_may_send_nothing() -> None:
    for client in (SpeechSeparator, AsyncSpeechSeparator):
        with pytest.raises(BadSetting, match="in_flight is 0"):
            client(in_flight=0)


def test_a_video_of_a_recording_without_pictures_is_refused(
    separator: SpeechSeparator, recording: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="talk.wav has no pictures"):
        separator.separate_file(recording, tmp_path / "v.wav", FACE, video=tmp_path / "v.mp4", face_crop=True)
    assert names(tmp_path) == ["talk.wav"]


def test_what_is_silent_clipped_or_shows_a_small_face_is_said(recording: Path, tmp_path: Path) -> None:
    mute = fake_separation(facefilter=lambda inputs: same_voice(inputs) | {"speech": 1e-4 * inputs["mixture"]})
    loud = np.clip(noise(100_000, level=2.0), -1, 1)
    with serving(mute) as url, SpeechSeparator(url) as separator:
        silent = separator.separate_file(recording, tmp_path / "v.wav", FACE, face_crop=True)
        small = separator.separate(loud, FACE[:48, :48], sample_rate_hz=16_000, face_crop=True)
    assert any("silent (-8" in warning and "another photo" in warning for warning in silent.warnings)
    assert any("face is 48 pixels wide" in warning for warning in small.warnings)
    assert any("at full scale" in warning and "lower level" in warning for warning in small.warnings)


def peak_memory_bytes(url: str, recording: Path, folder: Path) -> int:
    """Of the command in a process of its own."""
    code = (
        "import sys, avedge\n"
        "assert avedge.main(sys.argv[1:]) == 0\n"
        # Not getrusage, which remembers what the process was before it became this program.
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    words = ["separate", recording, "--face", PORTRAIT, "--url", url, "-o", folder, "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return 1024 * int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc, which knows the peak of the memory")
def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    peaks = []
    with serving(FakeTriton({"facefilter": same_voice})) as url:
        for minutes in (1, 10):
            path = tmp_path / f"{minutes}.wav"
            soundfile.write(path, np.tile(noise(16_000), 60 * minutes), 16_000)
            peaks.append(peak_memory_bytes(url, path, tmp_path / "out"))
    assert peaks[1] < 1.1 * peaks[0], f"10 minutes took {peaks[1] / peaks[0]:.2f} times the memory of one"

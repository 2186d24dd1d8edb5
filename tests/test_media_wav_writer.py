"""Writing WAV: what other programs read of it, and that there is a whole file or none."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from media_files import RATE_HZ, noise, tone
from scipy.io import wavfile

from clients.media import wav_writer
from clients.media.sound import WavWriter, finish_wav, load_sound, write_wav


def in_pieces(path: Path, sound: np.ndarray, **options: Any) -> Path:
    with WavWriter(path, RATE_HZ, **options) as file:
        for piece in np.array_split(sound, 7):
            file.write(piece)
    return path


def test_every_sample_of_a_16_bit_recording_comes_out_as_it_was(tmp_path: Path) -> None:
    integers = np.arange(-32768, 32768).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", integers, RATE_HZ)
    in_pieces(tmp_path / "b.wav", load_sound(tmp_path / "a.wav").samples)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav", dtype="int16")[0], integers)


@pytest.mark.parametrize("samples", [None, 16_000])
@pytest.mark.parametrize("float32", [False, True])
def test_other_programs_read_what_was_written(tmp_path: Path, float32: bool, samples: int | None) -> None:
    path = in_pieces(tmp_path / "a.wav", tone(RATE_HZ), float32=float32, samples=samples)
    rate_hz, scipys = wavfile.read(path)
    info = soundfile.info(path)
    assert (rate_hz, info.samplerate, info.frames, info.channels) == (RATE_HZ, RATE_HZ, RATE_HZ, 1)
    assert info.subtype == ("FLOAT" if float32 else "PCM_16") and info.format == "WAV"
    scale = 1 if float32 else 32768
    for read in (scipys / scale, soundfile.read(path)[0]):
        np.testing.assert_allclose(read, tone(RATE_HZ), atol=0 if float32 else 0.5 / 32768 + 1e-7)
    if not float32:
        with wave.open(str(path)) as file:
            assert (file.getnframes(), file.getsampwidth(), file.getframerate()) == (RATE_HZ, 2, RATE_HZ)


@pytest.mark.parametrize("float32", [False, True])
def test_above_4_gib_it_is_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, float32: bool) -> None:
    sound = noise(1.0)
    monkeypatch.setattr(wav_writer, "_RIFF_LIMIT", 20_000)
    path = in_pieces(tmp_path / "a.wav", sound, float32=float32)
    assert path.read_bytes()[:4] == b"RF64" and soundfile.info(path).format == "RF64"
    assert soundfile.info(path).frames == len(sound)
    np.testing.assert_allclose(soundfile.read(path)[0], sound, atol=1e-4)
    np.testing.assert_array_equal(load_sound(path).samples, soundfile.read(path, dtype="float32")[0])
    known = in_pieces(tmp_path / "b.wav", sound, float32=float32, samples=len(sound))
    assert known.read_bytes() == path.read_bytes()


def test_the_head_of_five_gigabytes_says_so(tmp_path: Path) -> None:
    # The samples are a hole: their number alone makes the head.
    with WavWriter(tmp_path / "a.wav", 48_000) as file:
        file.samples = 2_500_000_000
        file._file.truncate(80 + 5_000_000_000)
    head = (tmp_path / "a.wav").open("rb").read(80)
    assert os.stat(tmp_path / "a.wav").st_size == 5_000_000_080
    with soundfile.SoundFile(tmp_path / "a.wav") as read:
        assert read.frames == 2_500_000_000 and head[:4] == b"RF64"
        read.seek(2_499_999_000)
        assert len(read.read(2_000)) == 1_000


def test_a_gain_is_put_on_and_full_scale_is_not_passed(tmp_path: Path) -> None:
    in_pieces(tmp_path / "a.wav", tone(RATE_HZ, level=0.5), gain=3.0)
    read = soundfile.read(tmp_path / "a.wav")[0]
    np.testing.assert_allclose(read, np.clip(tone(RATE_HZ, level=1.5), -1, 32767 / 32768), atol=1e-4)


@pytest.mark.parametrize("level", [0.3, 1.7])
@pytest.mark.parametrize("float32", [False, True])
def test_a_voice_of_unknown_peak_ends_as_if_it_had_been_known(tmp_path: Path, level: float, float32: bool) -> None:
    voice = tone(RATE_HZ, level=level)
    with WavWriter(tmp_path / "scratch.wav", RATE_HZ, float32=True) as scratch:
        for piece in np.array_split(voice, 5):
            scratch.write(piece)
    assert scratch.peak == np.abs(voice).max()
    finish_wav(tmp_path / "scratch.wav", tmp_path / "a.wav", peak=scratch.peak, float32=float32)
    write_wav(tmp_path / "b.wav", voice, RATE_HZ, float32=float32)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert (tmp_path / "scratch.wav").exists()


def interrupted(path: Path) -> None:
    with WavWriter(path, RATE_HZ) as file:
        file.write(tone(RATE_HZ))
        assert path.read_bytes() == b"as it was"
        raise KeyboardInterrupt


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"as it was")
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"as it was"


def on_a_full_disk(path: Path, seconds: int) -> None:
    with WavWriter(path, RATE_HZ) as file:
        file._file.close()
        file._file = open("/dev/full", "wb")  # noqa: SIM115
        for _ in range(seconds):
            file.write(tone(RATE_HZ))


@pytest.mark.parametrize("seconds", [0, 10])  # told by the last write, or by one before
def test_a_full_disk_leaves_nothing(tmp_path: Path, seconds: int) -> None:
    with pytest.raises(OSError, match="No space left"):
        on_a_full_disk(tmp_path / "a.wav", seconds)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_absent_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WavWriter(tmp_path / "none" / "a.wav", RATE_HZ)
    with pytest.raises(OSError, match="absent.wav"):
        finish_wav(tmp_path / "absent.wav", tmp_path / "a.wav", peak=1.0)

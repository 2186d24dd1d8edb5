"""Reading sound: what is refused and by which sentence, and that nothing is lost on the way."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from media_files import tone

from clients.errors import BadInput
from clients.media.sound import load_sound, resample, write_wav


def write_container(path: Path, samples: np.ndarray, rate_hz: int, codec: str) -> Path:
    """Encode a mono recording with FFmpeg."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        frame.time_base = Fraction(1, rate_hz)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


@pytest.mark.parametrize("ending", ["wav", "flac"])
@pytest.mark.parametrize("rate_hz", [8000, 44100])
def test_a_file_comes_back_as_written_whatever_its_rate(tmp_path: Path, ending: str, rate_hz: int) -> None:
    samples = tone(rate_hz, 0.5)
    soundfile.write(tmp_path / f"a.{ending}", samples, rate_hz, subtype="PCM_24")
    sound = load_sound(tmp_path / f"a.{ending}")
    assert sound.sample_rate_hz == rate_hz
    np.testing.assert_allclose(sound.samples, samples, atol=2**-23)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", tone(16000), 16000, format="FLAC")
    assert load_sound(tmp_path / "a.mp3").seconds == 1.0


def test_stereo_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    left, right = tone(16000), tone(16000, frequency_hz=1000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(load_sound(tmp_path / "a.wav").samples, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("array", [tone(16000) * 32768, tone(16000) * 128 + 128], ids=["int16", "uint8"])
def test_integer_arrays_are_brought_to_full_scale_one(array: np.ndarray) -> None:
    integers = array.astype(np.int16 if array.max() > 300 else np.uint8)
    step = 1 / 32768 if integers.dtype == np.int16 else 1 / 128
    np.testing.assert_allclose(load_sound(integers, 16000).samples, tone(16000), atol=step)


@pytest.mark.parametrize(
    ("ending", "codec"), [("m4a", "aac"), ("mp3", "libmp3lame"), ("mkv", "aac"), ("ogg", "libopus")]
)
def test_other_containers_are_decoded_at_their_rate(tmp_path: Path, ending: str, codec: str) -> None:
    path = write_container(tmp_path / f"a.{ending}", tone(48000, 1.0), 48000, codec)
    sound = load_sound(path)
    spectrum = np.abs(np.fft.rfft(sound.samples * np.hanning(len(sound.samples))))
    assert sound.sample_rate_hz == 48000
    assert sound.seconds == pytest.approx(1.0, abs=0.1)
    assert np.argmax(spectrum) / sound.seconds == pytest.approx(440, abs=2)


def test_resampling_keeps_length_pitch_and_level() -> None:
    samples = tone(44100, 1.0)
    there = resample(samples, 44100, 16000)
    back = resample(there, 16000, 44100, len(samples))
    assert len(there) == 16000 and len(back) == 44100
    assert np.argmax(np.abs(np.fft.rfft(there))) == 440
    np.testing.assert_allclose(back[2000:-2000], samples[2000:-2000], atol=1e-3)


def test_an_integer_file_is_lowered_rather_than_clipped(tmp_path: Path) -> None:
    loud = tone(16000, level=1.2)
    write_wav(tmp_path / "a.wav", loud, 16000)
    written, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"
    np.testing.assert_allclose(written, loud / np.abs(loud).max(), atol=1e-4)


def test_a_float_file_keeps_every_value(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(16000, level=1.2), 16000, float32=True)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav", dtype="float32")[0], tone(16000, level=1.2))


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no file .*nothing.wav"):
        load_sound(tmp_path / "nothing.wav")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be opened"):
        load_sound(name)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        load_sound(tmp_path)


def test_a_device_is_refused() -> None:
    with pytest.raises(BadInput, match="a device or a pipe"):
        load_sound("/dev/zero")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(BadInput, match="empty .0 bytes."):
        load_sound(tmp_path / "a.wav")


def test_a_text_named_wav_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("Good morning, this is text.\n" * 50)
    with pytest.raises(BadInput, match=r"cannot be decoded|begins with b'Good mor'"):
        load_sound(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_text("hello, this is text.\n" * 50)
    with pytest.raises(BadInput, match=r"begins with b'hello, t'"):
        load_sound(tmp_path / "b.wav")


def test_a_wav_cut_short_says_what_it_promised_and_what_it_holds(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000)
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[:20044])
    with pytest.raises(BadInput, match="promises 32000 bytes of sound, it holds 20000"):
        load_sound(tmp_path / "a.wav")


def test_a_wav_whose_header_alone_is_left_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:30])
    with pytest.raises(BadInput, match="promises a chunk of sound, it holds none"):
        load_sound(tmp_path / "a.wav")


def test_a_flac_cut_short_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(16000), 16000)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="cannot be decoded|cut short"):
        load_sound(tmp_path / "a.flac")


def test_a_video_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mkv", tone(48000, 10.0), 48000, "aac")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(BadInput, match="cut short: its header promises 10.0 s"):
        load_sound(path)


def test_silence_is_refused_with_its_level(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    with pytest.raises(BadInput, match="silent .digital silence"):
        load_sound(tmp_path / "a.wav")
    with pytest.raises(BadInput, match="silent .-93 dBFS"):
        load_sound(tone(16000, level=3e-5), 16000)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused_with_their_place(tmp_path: Path, bad: float) -> None:
    samples = tone(16000)
    samples[8000] = bad
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(BadInput, match=r"1 values that are no numbers .* at 0.500 s"):
        load_sound(tmp_path / "a.wav")


def test_too_short_a_recording_is_refused_with_both_lengths() -> None:
    with pytest.raises(BadInput, match=r"0\.062 s long .1000 samples at 16000 Hz.") as caught:
        load_sound(tone(16000)[:1000], 16000)
    assert "at least 0.1 s" in str(caught.value)


def test_a_huge_recording_is_refused_from_its_header(tmp_path: Path) -> None:
    # A header for an hour at 192 kHz over a file of 44 bytes and one hole: nothing of it may be read.
    frames = 3600 * 192_000
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + 2 * frames,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        192_000,
        384_000,
        2,
        16,
        b"data",
        2 * frames,
    )
    with (tmp_path / "a.wav").open("wb") as file:
        file.write(header)
        file.truncate(44 + 2 * frames)
    with pytest.raises(BadInput, match="3,600.0 s long"):
        load_sound(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("channels", "rate_hz", "said"),
    [(64, 16000, "64 channels"), (1, 1, "sample rate of 1 Hz"), (1, 10_000_000, "10000000 Hz")],
)
def test_absurd_headers_are_refused(tmp_path: Path, channels: int, rate_hz: int, said: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.tile(tone(16000)[:, None], (1, channels)), rate_hz)
    with pytest.raises(BadInput, match=said):
        load_sound(tmp_path / "a.wav")


def test_compressed_wav_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000, subtype="MS_ADPCM")
    with pytest.raises(BadInput, match="WAV of type MS_ADPCM"):
        load_sound(tmp_path / "a.wav")


def test_an_array_needs_a_rate_and_a_shape() -> None:
    with pytest.raises(BadInput, match="without its sample rate"):
        load_sound(tone(16000))
    with pytest.raises(BadInput, match=r"shape \(2, 2, 2\)"):
        load_sound(np.zeros((2, 2, 2), np.float32), 16000)


def test_control_characters_of_a_file_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load_sound(tmp_path / "a\x1b[31m\nb.wav")
    assert "\x1b" not in str(caught.value) and r"a\x1b[31m\nb.wav" in str(caught.value)


def test_a_message_says_what_was_seen_wanted_why_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load_sound(tmp_path / "nothing.wav")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["wanted", "why", "do"]
    assert caught.value.exit_code == 4

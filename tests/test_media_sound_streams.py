"""Recordings read and resampled piece by piece: the same samples as at once, in memory that does not grow."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from media_files import RATE_HZ, flat, noise, tone, write_video

from clients.errors import BadInput
from clients.media import limits
from clients.media.container_sound import ContainerReader
from clients.media.resampling import Resampler, resample
from clients.media.sound import load_sound, open_sound


def written(path: Path, samples: np.ndarray) -> Path:
    """The samples in a file of the kind that the ending names."""
    if path.suffix in (".wav", ".flac"):
        soundfile.write(path, samples, RATE_HZ, subtype="PCM_24")
        return path
    return write_video(path, [flat(128)] * 25, sound=samples)


@pytest.mark.parametrize("ending", ["wav", "flac", "mkv", "mp4"])
@pytest.mark.parametrize("size", [1_000, 7_919, 1 << 18])
def test_blocks_hold_what_the_whole_holds(tmp_path: Path, ending: str, size: int) -> None:
    path = written(tmp_path / f"a.{ending}", noise(1.5))
    whole = load_sound(path)
    with open_sound(path) as reader:
        blocks = list(reader.blocks(size))
        again = list(reader.blocks(size))
    assert {len(block) for block in blocks[:-1]} <= {size} and 0 < len(blocks[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(blocks), whole.samples)
    np.testing.assert_array_equal(np.concatenate(again), whole.samples)
    assert reader.sample_rate_hz == whole.sample_rate_hz == RATE_HZ


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_the_head_tells_the_length(tmp_path: Path, ending: str) -> None:
    with open_sound(written(tmp_path / f"a.{ending}", noise(1.5))) as reader:
        assert reader.samples == 24_000


def test_a_pass_that_is_not_finished_gives_way_to_the_next(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mkv", noise(1.5))
    with open_sound(path) as reader:
        first = reader.blocks(1_000)
        begin = next(first)
        np.testing.assert_array_equal(next(reader.blocks(1_000)), begin)
        assert list(first) == []


def test_silence_is_told_when_all_was_heard(tmp_path: Path) -> None:
    with open_sound(written(tmp_path / "a.wav", np.zeros(40_000, np.float32))) as reader:
        blocks = reader.blocks(10_000)
        assert [len(next(blocks)) for _ in range(4)] == [10_000] * 4
        with pytest.raises(BadInput, match=r"silent .digital silence on average over 2.5 s"):
            next(blocks)


def test_a_value_that_is_no_number_is_told_with_its_place_in_the_recording(tmp_path: Path) -> None:
    samples = noise(2.0)
    samples[24_000] = np.inf
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ, subtype="FLOAT")
    with open_sound(tmp_path / "a.wav") as reader, pytest.raises(BadInput, match=r"inf, at 1.500 s"):
        list(reader.blocks(1_000))


def hours_of_wav(path: Path, hours: int) -> Path:
    """The head of a WAV over a hole."""
    rate_hz, size = 4_000, hours * 3600 * 4_000
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, rate_hz, 1, 8)
    head = struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + form + struct.pack("<4sI", b"data", size)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(44 + size)
    return path


def test_what_is_too_long_for_memory_can_be_read_in_blocks(tmp_path: Path) -> None:
    path = hours_of_wav(tmp_path / "a.wav", 2)
    with pytest.raises(BadInput, match=r"7,200.0 s long .*\n.*at most 1,800 s"):
        load_sound(path)
    with open_sound(path) as reader:
        assert reader.samples == 2 * 3600 * 4_000
        assert len(next(reader.blocks(1_000))) == 1_000


def test_more_than_a_day_is_refused_by_its_head(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"25.0 h long.\n.*at most 24 h"):
        open_sound(hours_of_wav(tmp_path / "a.wav", 25))


def test_more_than_a_day_is_refused_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_sound(written(tmp_path / "a.mkv", noise(2.0))) as reader:
        monkeypatch.setattr(limits, "MAX_STREAM_SECONDS", 1)
        with pytest.raises(BadInput, match="h long"):
            list(reader.blocks(4_000))


def without(path: Path, target: Path, begin_s: float, end_s: float) -> Path:
    """A copy of a video's sound in which some packets are missing."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        heard = source.streams.audio[0]
        copy = output.add_stream_from_template(heard)
        for packet in source.demux(heard):
            if packet.dts is not None and not begin_s <= float(packet.pts * packet.time_base) < end_s:
                packet.stream = copy
                output.mux(packet)
    return target


def test_a_gap_in_the_sound_of_a_video_is_silence_of_its_length(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mkv", noise(3.0))
    whole = load_sound(path).samples
    gap = load_sound(without(path, tmp_path / "b.mkv", 1.0, 1.6)).samples
    assert len(gap) == pytest.approx(len(whole), abs=0.002 * RATE_HZ)
    assert not gap[round(1.15 * RATE_HZ) : round(1.55 * RATE_HZ)].any()
    for part in (slice(0, round(0.9 * RATE_HZ)), slice(round(1.8 * RATE_HZ), round(2.8 * RATE_HZ))):
        lag = np.argmax(np.correlate(gap[part], whole[part], "full")) - (part.stop - part.start - 1)
        assert abs(lag) <= 0.002 * RATE_HZ


def test_the_beginning_of_a_sound_that_begins_late_is_known(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [flat(128)] * 50, sound=noise(1.0), sound_begins_s=0.7)
    assert ContainerReader(path).begins_s == pytest.approx(0.7, abs=0.002)


RATES = [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (16_000, 44_100), (22_050, 16_000), (16_000, 16_000)]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("samples", [1, 999, 30_011])
def test_resampling_in_pieces_is_resampling_at_once(from_hz: int, to_hz: int, samples: int) -> None:
    sound, rng = noise(samples / from_hz, from_hz), np.random.default_rng(1)
    resampler, cuts = Resampler(from_hz, to_hz), np.sort(rng.integers(0, samples + 1, 7))
    pieces = [resampler.push(piece) for piece in np.split(sound, cuts)]
    joined, whole = np.concatenate([*pieces, resampler.end()]), resample(sound, from_hz, to_hz)
    assert len(joined) == len(whole)
    error = np.sum((joined - whole) ** 2, dtype=np.float64)
    assert error <= 1e-9 * np.sum(whole**2, dtype=np.float64), "less than 90 dB alike"


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from clients.media.sound import WavWriter, finish_wav, open_sound

def highest_mb():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024

def run(folder, seconds):
    block = 0.1 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
    with WavWriter(folder / "scratch.wav", 48_000, float32=True) as file:
        for _ in range(seconds):
            file.write(block)
    finish_wav(folder / "scratch.wav", folder / "a.wav", peak=file.peak)
    with open_sound(folder / "a.wav") as reader:
        assert sum(len(b) for b in reader.blocks()) == seconds * 48_000

folder = Path(sys.argv[1])
run(folder, 10)
before = highest_mb()
run(folder, 600)
print(highest_mb() - before)
"""


def test_ten_minutes_take_no_more_memory_than_ten_seconds(tmp_path: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 16, "the recording has 115 MB as floats"


def test_wav_is_read_and_written_without_ffmpeg_and_opencv(tmp_path: Path, root: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(RATE_HZ), RATE_HZ)
    code = (
        "import sys; sys.modules.update(av=None, cv2=None)\n"
        "from clients.media.sound import load_sound, write_wav\n"
        "sound = load_sound(sys.argv[1]); write_wav(sys.argv[1], sound.samples, sound.sample_rate_hz)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.wav"], cwd=root, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr

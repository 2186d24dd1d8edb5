"""Videos picture by picture and second by second: at their times, upright, in their colours, with their sound."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from media_files import RATE_HZ, click_times, clicks, flat, noise, turned_by_its_head, write_video

from clients.errors import BadInput
from clients.media import limits, tracks
from clients.media.sound import load_sound
from clients.media.video import VideoReader, VideoSecond, has_pictures, read_frames

GREYS = [10, 60, 110, 160, 210, 240]


def greys_of(path: Path, every_s: float | None = None, start_s: float = 0.0) -> list[tuple[float, int]]:
    """Times, and which of the greys is seen."""
    with VideoReader(path) as reader:
        return [
            (round(frame.time_s, 3), int(np.argmin(np.abs(np.array(GREYS) - frame.picture.mean()))))
            for frame in reader.frames(every_s, start_s)
        ]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six greys at 0, 0.1, 0.2, 1.5, 1.6 and 2.0 s."""
    path = tmp_path_factory.mktemp("video") / "a.mkv"
    return write_video(path, map(flat, GREYS), [0, 0.1, 0.2, 1.5, 1.6, 2.0], rate=10)


def test_every_picture_comes_at_its_own_time(uneven: Path) -> None:
    assert greys_of(uneven) == [(0, 0), (0.1, 1), (0.2, 2), (1.5, 3), (1.6, 4), (2.0, 5)]


def test_at_regular_moments_the_picture_on_the_screen_is_given(uneven: Path) -> None:
    assert greys_of(uneven, 0.5) == [(0, 0), (0.5, 2), (1.0, 2), (1.5, 3), (2.0, 5)]
    assert greys_of(uneven, 0.4, 0.15) == [(0.15, 1), (0.55, 2), (0.95, 2), (1.35, 2), (1.75, 4)]
    assert greys_of(uneven, 1.0, 5.0) == []


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "mpg", "avi"])
@pytest.mark.parametrize("start_s", [0.02, 1.0, 3.3, 3.95])
def test_beginning_later_is_leaving_out_what_comes_before(tmp_path: Path, ending: str, start_s: float) -> None:
    codec = {"mpg": "mpeg2video", "avi": "mpeg4"}.get(ending, "libx264")
    pictures = [flat(GREYS[number // 5 % 6]) for number in range(100)]
    path = write_video(tmp_path / f"a.{ending}", pictures, codec=codec, options={"g": "30"})
    assert greys_of(path, None, start_s) == [frame for frame in greys_of(path) if frame[0] >= start_s]


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_pictures_are_turned_as_phones_ask_for(tmp_path: Path, clockwise: int) -> None:
    y, x = np.mgrid[0:48, 0:64]
    picture = np.stack([3 * x, 4 * y, 0 * x + 90], axis=2).astype(np.uint8)
    path = write_video(tmp_path / "a.mp4", [picture] * 3, options={"crf": "5"})
    with VideoReader(path) as reader:
        stored = next(reader.frames()).picture
    with VideoReader(turned_by_its_head(path, clockwise)) as reader:
        turned = next(reader.frames()).picture
        assert (reader.height, reader.width) == turned.shape[:2] and reader.rotation == 360 - clockwise
    np.testing.assert_array_equal(turned, np.rot90(stored, -clockwise // 90))
    np.testing.assert_array_equal(next(read_frames(path)), turned)


@pytest.mark.parametrize(("standard", "said"), [("ITU601", True), ("ITU709", True), ("ITU601", False)])
def test_colours_come_back_by_the_standard_that_the_video_names(tmp_path: Path, standard: str, said: bool) -> None:
    colours = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 210], [220, 200, 30]], np.uint8)
    picture = np.repeat(np.repeat(colours[None], 48, 0), 16, 1)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv444p"
        if said:
            stream.codec_context.colorspace = {"ITU601": 6, "ITU709": 1}[standard]
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv444p", dst_colorspace=standard)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoReader(tmp_path / "a.mkv") as reader:
        seen = next(reader.frames()).picture
    np.testing.assert_allclose(seen[24, 8::16].astype(int), colours.astype(int), atol=4)


def seconds_of(path: Path, every_s: float = 1.0, sound_s: float = 1.0) -> list[VideoSecond]:
    with VideoReader(path) as reader:
        return list(reader.seconds(every_s, sound_s))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_each_picture_has_the_second_of_sound_around_it(tmp_path: Path, ending: str, apart: bool) -> None:
    path = write_video(tmp_path / f"a.{ending}", [flat(128)] * 100, sound=noise(4.0), apart=apart)
    whole = load_sound(path).samples
    seconds = seconds_of(path, 0.5)
    assert [second.time_s for second in seconds] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    for second in seconds:
        begin = round(max(0.0, second.time_s - 0.5) * RATE_HZ)
        assert second.sound is not None
        np.testing.assert_array_equal(second.sound, whole[begin : begin + RATE_HZ])


def test_sound_that_begins_late_and_ends_early_lies_where_it_is_heard(tmp_path: Path) -> None:
    sound = clicks(1.9, [0.5])
    path = write_video(tmp_path / "a.mkv", [flat(128)] * 125, sound=sound, sound_begins_s=0.6)
    seconds = seconds_of(path)
    heard = [None if second.sound is None else len(second.sound) / RATE_HZ for second in seconds]
    assert heard == [1.0, 1.0, 1.0, pytest.approx(0.0, abs=0.1) if heard[3] else None, None]
    assert seconds[0].sound is not None and not seconds[0].sound[: round(0.55 * RATE_HZ)].any()
    for number, place in ((1, 0.6), (1, 0.6)):
        assert seconds[number].sound is not None
        assert click_times(seconds[number].sound) == [
            pytest.approx(place, abs=0.01)
        ]  # at 1.1 s, half a second in front


def test_a_video_without_sound_is_only_seen(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [flat(128)] * 30)
    with VideoReader(path) as reader:
        assert not reader.has_sound and reader.sound_rate_hz is None
        assert [second.sound for second in reader.seconds()] == [None, None]


def test_the_head_tells_what_there_is(tmp_path: Path) -> None:
    with VideoReader(write_video(tmp_path / "a.mp4", [flat(9, (48, 80))] * 50, rate=20, sound=noise(2.0))) as reader:
        assert (reader.width, reader.height, reader.frame_rate, reader.rotation) == (80, 48, 20, 0)
        assert reader.duration_s == pytest.approx(2.5, abs=0.05)
        assert reader.has_sound and reader.sound_rate_hz == RATE_HZ


def test_a_recording_with_a_cover_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        heard = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(flat(9), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(noise(1.0)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux([*heard.encode(frame), *heard.encode(None)])
    assert not has_pictures(tmp_path / "a.mp4")
    with pytest.raises(BadInput, match="has no pictures"):
        VideoReader(tmp_path / "a.mp4")
    assert load_sound(tmp_path / "a.mp4").seconds == pytest.approx(1.0, abs=0.1)


def test_damaged_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [flat(128)] * 50, codec="mpeg4", options={"g": "10"})
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mkv"), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.size:
                if number in (20, 21, 22):
                    packet.update(bytes(packet.size))
                packet.stream = copy
                target.mux(packet)
    with VideoReader(tmp_path / "b.mkv") as reader:
        assert 45 <= len(list(reader.frames())) <= 50
        assert reader.damaged == 3


@pytest.mark.parametrize(
    "content", [b"RIFF\x00\x00\x00\x00WAVE" + bytes(40), b"%PDF-1.4" + bytes(40), b"#EXTM3U\nhttp://127.0.0.1/a.ts\n"]
)
def test_what_is_no_video_is_refused_by_its_first_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(BadInput, match=r"begins with b'.*which no video does"):
        VideoReader(tmp_path / "a.mp4")


def test_a_video_of_more_than_a_day_is_refused_while_it_is_read(uneven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoReader(uneven) as reader:
        monkeypatch.setattr(limits, "MAX_STREAM_SECONDS", 1.9)
        with pytest.raises(BadInput, match="h long"):
            list(reader.frames())


def test_more_pictures_than_a_head_may_promise_are_refused_while_they_are_read(
    uneven: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VideoReader(uneven) as reader:
        monkeypatch.setattr(limits, "MAX_FRAME_RATE", 2)
        with pytest.raises(BadInput, match="3 pictures per second"):
            list(reader.frames())


def test_decoding_for_long_without_a_picture_is_given_up(uneven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VideoReader(uneven) as reader:
        clock = iter(range(0, 10_000, 20))
        monkeypatch.setattr("clients.media.containers.time.monotonic", lambda: float(next(clock)))
        with pytest.raises(BadInput, match="decoded for 30 s without a picture"):
            list(reader.frames())


def test_sound_that_is_too_far_from_its_pictures_in_the_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mkv", [flat(128)] * 100, sound=noise(4.0), apart=True)
    monkeypatch.setattr(tracks, "MAX_WAITING_S", 1.0)
    seconds = seconds_of(path)
    assert len(seconds) == 4 and seconds[0].sound is None


MEMORY = """
import sys
from clients.media.video import VideoReader
from media_bombs import memory_mb

def read(path):
    with VideoReader(path) as reader:
        assert all(second.picture.any() for second in reader.seconds(0.2))
        assert sum(1 for frame in reader.frames()) > 20

read(sys.argv[1])
before = memory_mb("VmHWM")
read(sys.argv[2])
print(memory_mb("VmHWM") - before)
"""


def test_two_minutes_take_no_more_memory_than_five_seconds(tmp_path: Path, root: Path) -> None:
    for name, seconds in (("short", 5), ("long", 120)):
        pictures = [flat(40 + number % 200, (240, 320)) for number in range(10 * seconds)]
        write_video(tmp_path / f"{name}.mp4", pictures, rate=10, sound=noise(seconds), options={"preset": "ultrafast"})
    command = [sys.executable, "-c", MEMORY, tmp_path / "short.mp4", tmp_path / "long.mp4"]
    done = subprocess.run(
        command, cwd=root, env={"PYTHONPATH": f".:{root}/tests"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 24, "its pictures have 276 MB"


def test_sound_between_pictures_that_are_far_apart_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mkv", [flat(128)] * 200, sound=noise(8.0))
    whole = load_sound(path).samples
    monkeypatch.setattr(tracks, "MAX_WAITING_PACKETS", 40)  # 2.6 s of sound
    for second in seconds_of(path, 5.0):
        begin = round(max(0.0, second.time_s - 0.5) * RATE_HZ)
        assert second.sound is not None
        np.testing.assert_allclose(second.sound, whole[begin : begin + RATE_HZ], atol=1e-4)


def test_a_video_is_told_from_a_recording(tmp_path: Path, uneven: Path) -> None:
    assert has_pictures(uneven)
    (tmp_path / "a.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVE" + bytes(40))
    assert not has_pictures(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.mp4")  # to open it would be to wait for who writes
    for name in ("absent.mp4", "pipe.mp4", ""):
        with pytest.raises(BadInput):
            has_pictures(tmp_path / name)


def test_real_videos_are_read_with_their_sound(shared_data: Path) -> None:
    path = sorted((shared_data / "faces").glob("grid_*.mpg"))[0]
    with VideoReader(path) as reader:
        assert len(list(reader.frames())) == 75
        sounds = [second.sound for second in reader.seconds()]
        whole = load_sound(path).samples
    assert [len(sound) for sound in sounds if sound is not None] == [44_100] * 3
    np.testing.assert_array_equal(sounds[1], whole[22_050:66_150])


class Packet:
    """A packet that holds one picture at a time."""

    def __init__(self, time_s: float | None) -> None:
        self._time_s = time_s

    def decode(self) -> list[av.VideoFrame]:
        frame = av.VideoFrame(64, 48, "yuv420p")
        if self._time_s is not None:
            frame.pts, frame.time_base = round(self._time_s * 1_000), Fraction(1, 1_000)
        return [frame]


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ([0, 0.04, 0.08], [0, 0.04, 0.08]),
        ([0, None, 0.08], [0, 0.04, 0.08]),  # without a time
        ([0, 0.08, 0.04, 0.12], [0, 0.08, 0.08, 0.12]),  # in a wrong order
        ([0, 5, 9], [0, 5, 9]),  # gaps
        ([0, 15, 19], [0, 15, 19]),  # a gap that the promised length has room for
        ([0, 9_000, 9_000.04], [0, 0.04, 0.08]),  # another clock
        ([9_000, 9_000.04], [0, 0.04]),
        ([3, 3.04, 0.5, 0.54], [3, 3.04, 3.08, 3.12]),
    ],
)
def test_times_never_fall_and_jumps_of_the_clock_are_taken_out(stored: list[float | None], given: list[float]) -> None:
    stream = SimpleNamespace(average_rate=25)
    track = tracks.PictureTrack(stream, "a", 0.0, 20.0)  # type: ignore[arg-type]
    frames = track.frames(Packet(time_s) for time_s in stored)  # type: ignore[arg-type]
    assert [round(time_s, 3) for time_s, _ in frames] == given


@pytest.mark.parametrize("every_s", [0.0, -1.0, float("nan")])
def test_a_step_that_leads_nowhere_is_refused(uneven: Path, every_s: float) -> None:
    with VideoReader(uneven) as reader:
        for read in (reader.frames, reader.seconds):
            with pytest.raises(ValueError, match="the step is above 0"):
                read(every_s)

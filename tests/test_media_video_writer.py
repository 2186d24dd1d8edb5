"""Writing videos: colours, sizes and times come back, sound stays in step, and there is a whole file or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_files import RATE_HZ, click_times, clicks, flat, noise, turned_by_its_head, write_video

from clients.errors import BadInput
from clients.media import sound_feeds, video_writer
from clients.media.container_sound import ContainerReader
from clients.media.sound import load_sound, open_sound, write_wav
from clients.media.video import VideoReader, VideoWriter, replace_sound

CLICKS_S = [0.5, 1.25, 2.0, 2.8]


def gradient(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([60 + 130 * x / width, 200 - 130 * y / height, 0 * x + 80], axis=2).astype(np.uint8)


def written(path: Path, pictures: list[np.ndarray], rate: float = 25.0, sound_from: Path | None = None) -> Path:
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, width, height, rate, sound_from) as video:
        for picture in pictures:
            video.write(picture)
    return path


def heard_at_s(path: Path) -> list[float]:
    """When clicks are heard, seconds from the beginning of the video."""
    with open_sound(path) as reader:
        assert isinstance(reader, ContainerReader)
        sound = np.concatenate(list(reader.blocks()))
        return [time_s + reader.begins_s for time_s in click_times(sound, reader.sample_rate_hz)]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("size", [(120, 160), (121, 163)])
def test_pictures_come_back_in_their_colours(tmp_path: Path, ending: str, size: tuple[int, int]) -> None:
    picture = gradient(*size)
    with VideoReader(written(tmp_path / f"a.{ending}", [picture] * 10)) as reader:
        frames = list(reader.frames())
        even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        assert (reader.height, reader.width) == even and len(frames) == 10
    for frame in frames:
        seen = frame.picture[: size[0], : size[1]].astype(int)
        assert np.abs(seen - picture).mean() < 2
    np.testing.assert_allclose(frames[0].picture[-1, :, 0], frames[0].picture[-2, :, 0], atol=6)


@pytest.mark.parametrize("rate", [10.0, 30_000 / 1_001, 0.5, 1 / 3_600])
def test_pictures_come_back_at_their_times(tmp_path: Path, rate: float) -> None:
    with VideoReader(written(tmp_path / "a.mp4", [flat(40 * number) for number in range(6)], rate)) as reader:
        frames = list(reader.frames())
    assert [frame.time_s for frame in frames] == [pytest.approx(number / rate, abs=0.001) for number in range(6)]
    assert [round(frame.picture.mean() / 40) for frame in frames] == [0, 1, 2, 3, 4, 5]


def test_the_coding_is_one_that_every_player_knows(tmp_path: Path) -> None:
    with av.open(str(written(tmp_path / "a.mp4", [flat(9)] * 5))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)  # BT.709, limited
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index comes first, for pages that play while they load"


def test_without_an_encoder_for_h264_it_is_mpeg_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_writer.av, "codecs_available", {"mpeg4", "aac"})
    with av.open(str(written(tmp_path / "a.mp4", [gradient(48, 64)] * 5))) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert len(list(container.decode(video=0))) == 5


@pytest.mark.parametrize(
    ("source", "codec", "comes_as"), [("mkv", "aac", "aac"), ("mpg", "mp2", "aac"), ("mp4", "mp3", "mp3float")]
)
def test_the_sound_of_another_video_goes_along_in_step(tmp_path: Path, source: str, codec: str, comes_as: str) -> None:
    video = write_video(
        tmp_path / f"a.{source}",
        [flat(9)] * 100,
        sound=clicks(4.0, CLICKS_S),
        codec="mpeg2video" if source == "mpg" else "libx264",
        sound_codec="libmp3lame" if codec == "mp3" else codec,
    )
    path = written(tmp_path / "b.mp4", [flat(9)] * 75, sound_from=video)
    before, after = heard_at_s(video), heard_at_s(path)
    assert after == [pytest.approx(time_s, abs=0.01) for time_s in before]
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == comes_as
        assert float(container.duration / av.time_base) == pytest.approx(3.0, abs=0.15)  # not beyond the pictures


def test_copied_sound_is_not_coded_anew(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [flat(9)] * 50, sound=noise(2.0))
    path = written(tmp_path / "b.mp4", [flat(9)] * 60, sound_from=video)
    np.testing.assert_array_equal(load_sound(path).samples, load_sound(video).samples)


@pytest.mark.parametrize("begins_s", [0.0, 0.4])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_another_sound_is_in_step_to_ten_milliseconds(tmp_path: Path, ending: str, begins_s: float) -> None:
    video = write_video(tmp_path / f"a.{ending}", [flat(9)] * 100, sound=clicks(3.5, CLICKS_S), sound_begins_s=begins_s)
    reader = open_sound(video)
    voice = np.concatenate(list(reader.blocks()))  # as a separated voice: the length and the beginning of the sound
    write_wav(tmp_path / "voice.wav", voice, RATE_HZ)
    for target in ("mp4", "mkv"):
        replace_sound(video, tmp_path / "voice.wav", tmp_path / f"b.{target}")
        heard = heard_at_s(tmp_path / f"b.{target}")
        assert heard == [pytest.approx(begins_s + time_s, abs=0.01) for time_s in CLICKS_S]


def packets_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return sorted(
            (round(float((packet.pts or 0) * packet.time_base), 3), bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        )


@pytest.mark.parametrize(
    ("source", "codec"),
    [("mp4", "libx264"), ("mkv", "libx265"), ("mkv", "libx264"), ("mpg", "mpeg2video"), ("avi", "mpeg4")],
)
def test_pictures_are_copied_as_they_are(tmp_path: Path, source: str, codec: str) -> None:
    sound = {"mpg": "mp2", "avi": "libmp3lame"}.get(source, "aac")
    pictures = [np.roll(gradient(48, 64), 3 * number, 1) for number in range(60)]
    video = write_video(tmp_path / f"a.{source}", pictures, sound=noise(2.4), codec=codec, sound_codec=sound)
    write_wav(tmp_path / "voice.wav", noise(2.4, seed=1), RATE_HZ)
    replace_sound(video, tmp_path / "voice.wav", tmp_path / "b.mkv")
    with VideoReader(video) as before, VideoReader(tmp_path / "b.mkv") as after:
        first, second = list(before.frames()), list(after.frames())
    assert len(first) == len(second) == 60
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.picture, two.picture)
        assert two.time_s - second[0].time_s == pytest.approx(one.time_s - first[0].time_s, abs=0.05)
    if source == "mkv":
        assert packets_of(video) == packets_of(tmp_path / "b.mkv")


def test_the_rotation_goes_along(tmp_path: Path) -> None:
    video = turned_by_its_head(write_video(tmp_path / "a.mp4", [gradient(48, 64)] * 10, sound=noise(0.4)), 90)
    write_wav(tmp_path / "voice.wav", noise(0.4), RATE_HZ)
    for ending in ("mp4", "mkv"):
        replace_sound(video, tmp_path / "voice.wav", tmp_path / f"b.{ending}")
        with VideoReader(tmp_path / f"b.{ending}") as reader:
            assert (reader.rotation, reader.width, reader.height) == (270, 48, 64)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 192_000])
def test_a_sound_of_any_rate_keeps_its_pitch_and_place(tmp_path: Path, rate_hz: int) -> None:
    video = write_video(tmp_path / "a.mp4", [flat(9)] * 75)
    write_wav(tmp_path / "voice.wav", clicks(3.0, CLICKS_S, rate_hz), rate_hz)
    replace_sound(video, tmp_path / "voice.wav", tmp_path / "b.mp4")
    assert heard_at_s(tmp_path / "b.mp4") == [pytest.approx(time_s, abs=0.01) for time_s in CLICKS_S]


def test_a_silent_voice_is_no_error(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [flat(9)] * 25)
    write_wav(tmp_path / "voice.wav", np.zeros(RATE_HZ, np.float32), RATE_HZ)
    replace_sound(video, tmp_path / "voice.wav", tmp_path / "b.mp4")
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert reader.has_sound and len(list(reader.frames())) == 25


def test_real_videos_get_another_sound(shared_data: Path, tmp_path: Path) -> None:
    video = sorted((shared_data / "faces").glob("grid_*.mpg"))[0]
    write_wav(tmp_path / "voice.wav", load_sound(video).samples, 44_100)
    replace_sound(video, tmp_path / "voice.wav", tmp_path / "b.mp4")
    before, after = (load_sound(path).samples.astype(float) for path in (video, tmp_path / "b.mp4"))
    spectra = [np.fft.rfft(sound, 1 << 18) for sound in (before, after)]
    lag = int(np.argmax(np.fft.irfft(spectra[1] * np.conj(spectra[0]))))
    assert min(lag, (1 << 18) - lag) <= 441
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert len(list(reader.frames())) == 75


def test_what_mp4_cannot_hold_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", [flat(9)] * 10, codec="libvpx")
    write_wav(tmp_path / "voice.wav", noise(0.4), RATE_HZ)
    with pytest.raises(BadInput, match=r"a.mkv are vp8, which .mp4 cannot hold"):
        replace_sound(video, tmp_path / "voice.wav", tmp_path / "b.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"a.mkv", "voice.wav"}


def failing(path: Path, error: BaseException) -> None:
    with VideoWriter(path, 64, 48, 25) as video:
        video.write(flat(9))
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no")])
def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a.mp4").write_bytes(b"as it was")
    with pytest.raises(type(error)):
        failing(tmp_path / "a.mp4", error)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"as it was"


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        VideoWriter(tmp_path / "none" / "a.mp4", 64, 48, 25)


def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "touch", lambda path: path.symlink_to("/dev/full"))
    rng = np.random.default_rng(0)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path / "a.mkv", [rng.integers(0, 255, (240, 320, 3), np.uint8) for _ in range(60)])
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_pictures_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a picture"):
        VideoWriter(tmp_path / "a.mp4", 64, 48, 25).close()
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shape \(48, 64, 3\)"), VideoWriter(tmp_path / "a.mp4", 80, 48, 25) as video:
        video.write(flat(9))
    assert list(tmp_path.iterdir()) == []


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not as .gif"):
        VideoWriter(tmp_path / "a.gif", 64, 48, 25)


def test_sound_waits_for_its_pictures(tmp_path: Path) -> None:
    written_s: list[float] = []

    class Output:
        def mux(self, packet: float) -> None:
            written_s.append(packet)

    feed = sound_feeds.SoundFeed(Output(), iter((time_s, time_s) for time_s in (0.0, 0.5, 1.0)))  # type: ignore[arg-type]
    feed.advance(0.5)
    assert written_s == [0.0]
    feed.advance(9.0)
    assert written_s == [0.0, 0.5, 1.0]


def test_what_a_container_cannot_hold_is_coded_anew(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", [flat(9)] * 100, sound=clicks(4.0, CLICKS_S), sound_codec="flac")
    path = written(tmp_path / "b.mov", [flat(9)] * 100, sound_from=video)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    assert heard_at_s(path) == [pytest.approx(time_s, abs=0.01) for time_s in CLICKS_S]


def test_sound_from_a_silent_film_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", [flat(9)] * 5)
    with pytest.raises(BadInput, match="has no sound track"):
        VideoWriter(tmp_path / "b.mp4", 64, 48, 25, video)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_times_that_no_container_takes_are_damage_and_no_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As damaged files have them: to be decoded after it is shown."""
    source = write_video(tmp_path / "a.mp4", [flat(9)] * 10, sound=noise(0.6))
    write_wav(tmp_path / "a.wav", noise(0.6), RATE_HZ)
    copied, with_dts = sound_feeds._copied, video_writer._with_dts

    def late_sound(*given: Any) -> Iterator[Any]:
        for begins_s, packet in copied(*given):
            packet.dts = packet.pts + 9
            yield begins_s, packet

    monkeypatch.setattr(sound_feeds, "_copied", late_sound)
    monkeypatch.setattr(video_writer, "_with_dts", lambda *given: ((p.pts + 9, p) for _, p in with_dts(*given)))
    with pytest.raises(BadInput, match=r"a\.mp4 cannot be decoded: Invalid argument"):
        written(tmp_path / "b.mp4", [flat(9)] * 10, sound_from=source)
    with pytest.raises(BadInput, match=r"a\.mp4 cannot be decoded: Invalid argument"):
        replace_sound(source, tmp_path / "a.wav", tmp_path / "c.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "a.wav"}

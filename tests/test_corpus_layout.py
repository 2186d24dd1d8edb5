"""The layout of a corpus, and the lists of mixtures drawn from it."""

import csv
import json
import resource
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from train.corpus.drawer import Drawer
from train.corpus.layout import (
    Clip,
    read_piece,
    read_speakers,
    read_stills,
    splits_of,
    write_clips,
    write_stills,
    write_voice,
)
from train.corpus.lists import write_lists
from train.corpus.mixtures import Mixture, load_mixture, mix, read_list, write_list
from train.errors import TrainError

PAIRS = ("MM", "MF", "FM", "FF")


def rms(samples):
    return np.sqrt(np.mean(np.square(samples, dtype=np.float64)))


def corpus(root, people, *, samples=48_000, faces=2, split="train"):
    """An index without files: `people` is speaker -> (sex, videos, clips in each)."""
    clips = [
        Clip(split, name, sex, f"v{video}", f"{number:05d}", samples, faces)
        for name, (sex, videos, count) in people.items()
        for video in range(videos)
        for number in range(count)
    ]
    root.mkdir(parents=True, exist_ok=True)
    write_clips(root, clips)
    return clips


@pytest.fixture
def four(tmp_path):
    """Two men and two women with three videos of two clips."""
    corpus(tmp_path, {"a": ("M", 3, 2), "b": ("M", 3, 2), "c": ("F", 3, 2), "d": ("F", 3, 2)})
    return tmp_path


def test_speakers_come_back_as_they_were_written_split_by_split(tmp_path):
    clips = corpus(tmp_path, {"a": ("M", 2, 3), "b": ("F", 1, 1)})
    write_clips(tmp_path, [*clips, replace(clips[0], split="seen", video="v9")])
    speakers = read_speakers(tmp_path, "train")
    assert [(one.name, one.sex, len(one.clips)) for one in speakers] == [("a", "M", 6), ("b", "F", 1)]
    assert [clip for one in speakers for clip in one.clips] == clips
    assert splits_of(tmp_path) == ["train", "seen"]


def test_a_missing_corpus_split_or_column_is_said_with_what_to_do(tmp_path):
    with pytest.raises(TrainError, match="avedge synthesize talkers"):
        read_speakers(tmp_path, "train")
    corpus(tmp_path, {"a": ("M", 1, 1)})
    with pytest.raises(TrainError, match="no clip of split 'test'"):
        read_speakers(tmp_path, "test")
    (tmp_path / "clips.csv").write_text("split,speaker\ntrain,a\n")
    with pytest.raises(TrainError, match="line 2.*samples"):
        read_speakers(tmp_path, "train")


def test_a_voice_is_stored_to_16_bits_and_a_piece_of_it_is_that_piece(tmp_path):
    voice = np.random.default_rng(0).uniform(-0.9, 0.9, 40_000).astype(np.float32)
    write_voice(tmp_path / "v.flac", voice)
    np.testing.assert_allclose(read_piece(tmp_path / "v.flac", 123), voice[123 : 123 + 31_840], atol=1 / 32_000)
    np.testing.assert_allclose(read_piece(tmp_path / "v.flac", 39_000), voice[40_000 - 31_840 :], atol=1 / 32_000)


def test_a_voice_shorter_than_a_piece_is_repeated(tmp_path):
    write_voice(tmp_path / "v.flac", np.linspace(-0.5, 0.5, 20_000, dtype=np.float32))
    piece = read_piece(tmp_path / "v.flac")
    assert len(piece) == 31_840
    np.testing.assert_array_equal(piece[20_000:], piece[:11_840])


def test_a_voice_that_is_damaged_empty_or_of_another_rate_is_named(tmp_path):
    (tmp_path / "noise.flac").write_bytes(b"no sound")
    soundfile.write(tmp_path / "rate.flac", np.zeros(800), 8000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    for name, message in (
        ("noise.flac", "not a sound file"),
        ("rate.flac", "8000 Hz"),
        ("empty.wav", "no sound"),
        ("no.flac", "not a"),
    ):
        with pytest.raises(TrainError, match=message):
            read_piece(tmp_path / name)


def test_stills_come_back_in_order_and_hardly_changed(tmp_path):
    rows, columns = np.mgrid[0:224, 0:224]
    stills = [np.stack([rows, columns, np.full_like(rows, 60 * k)], axis=2).astype(np.uint8) for k in range(4)]
    write_stills(tmp_path / "s.jpg", stills)
    back = read_stills(tmp_path / "s.jpg")
    assert back.shape == (4, 224, 224, 3)
    assert np.abs(back.astype(int) - np.stack(stills)).mean() < 3


def test_a_picture_of_another_size_is_refused(tmp_path):
    write_stills(tmp_path / "s.jpg", [np.zeros((224, 200, 3), np.uint8)])
    with pytest.raises(TrainError, match="200x224"):
        read_stills(tmp_path / "s.jpg")
    with pytest.raises(TrainError, match="not a picture"):
        read_stills(tmp_path / "none.jpg")


def test_mixtures_have_the_level_and_the_ratio_asked_for():
    rng = np.random.default_rng(0)
    target, interferer = (rng.standard_normal(3200).astype(np.float32) * scale for scale in (0.3, 0.002))
    mixture, wanted, other = mix(target, interferer, sir_db=5.0)
    assert rms(mixture) == pytest.approx(0.1, rel=1e-5)
    assert 20 * np.log10(rms(wanted) / rms(other)) == pytest.approx(5.0, abs=1e-3)
    np.testing.assert_allclose(wanted + other, mixture, atol=1e-7)
    with pytest.raises(ValueError, match="silence"):
        mix(target, np.zeros_like(target))


def test_a_list_comes_back_as_written_and_nothing_is_left_of_one_that_failed(four, tmp_path):
    rows = list(Drawer(four, "train", 0, "seen-heard", 5.0).rows(40))
    assert write_list(tmp_path / "a" / "list.csv", iter(rows)) == 40
    assert read_list(tmp_path / "a" / "list.csv") == rows

    def breaks():
        yield rows[0]
        raise TrainError("stop")

    with pytest.raises(TrainError, match="stop"):
        write_list(tmp_path / "b" / "list.csv", breaks())
    assert not list((tmp_path / "b").iterdir())


def test_a_row_depends_on_seed_and_number_alone(four):
    rows = list(Drawer(four, "train", 3).rows(200))
    assert rows[:50] == list(Drawer(four, "train", 3).rows(50))
    assert rows[137] == Drawer(four, "train", 3).row(137)
    other = list(Drawer(four, "train", 4).rows(200))
    assert sum(one == another for one, another in zip(rows, other, strict=True)) < 5


def test_pairs_take_turns_and_speakers_differ_and_have_the_sex_that_the_pair_says(four):
    sex = {"a": "M", "b": "M", "c": "F", "d": "F"}
    rows = list(Drawer(four, "train", 0).rows(4000))
    assert Counter(row.pair for row in rows) == dict.fromkeys(PAIRS, 1000)
    for row in rows:
        assert row.target_speaker != row.interferer_speaker
        assert row.pair == sex[row.target_speaker] + sex[row.interferer_speaker]
        assert row.pair == row.target_gender + row.interferer_gender


def test_every_speaker_clip_and_place_is_as_likely_as_another(tmp_path):
    corpus(tmp_path, dict.fromkeys("abcde", ("M", 2, 2)), samples=31_840 + 4 * 160)
    rows = list(Drawer(tmp_path, "train", 0).rows(10_000))
    for field, kinds in (
        ("target_speaker", 5), ("interferer_speaker", 5), ("target_file", 20), ("target_start", 5),
        ("target_face", 20), ("target_face_index", 2), ("interferer_face", 20),
    ):  # fmt: skip
        counts = Counter(getattr(row, field) for row in rows)
        assert len(counts) == kinds
        expected = 10_000 / kinds
        assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in counts.values()), field
    ends = {row.target_start * 16_000 + 31_840 for row in rows}
    assert max(ends) == 31_840 + 4 * 160  # never beyond the clip


def test_the_face_is_of_another_video_of_the_same_speaker(four):
    for row in Drawer(four, "train", 0).rows(400):
        for heard, shown in ((row.target_file, row.target_face), (row.interferer_file, row.interferer_face)):
            (speaker, video, _), (same, other, _) = heard.split("/"), shown.split("/")
            assert speaker == same and video != other


def test_a_speaker_with_one_video_shows_another_clip_of_it_and_with_one_clip_that_and_it_is_counted(tmp_path):
    corpus(tmp_path, {"a": ("M", 1, 3), "b": ("M", 1, 1)})
    drawer = Drawer(tmp_path, "train", 0)
    for row in drawer.rows(100):
        same = row.target_file.removesuffix(".flac") == row.target_face.removesuffix(".jpg")
        assert same == (row.target_speaker == "b")
    assert drawer.tally == {"face of the same video": 100, "face of the same clip": 100}


def test_a_speaker_without_a_still_interferes_but_is_never_the_target_and_is_named(tmp_path, caplog):
    clips = corpus(tmp_path, {"a": ("M", 2, 1), "b": ("M", 2, 1), "c": ("F", 2, 1)})
    write_clips(tmp_path, [replace(clip, faces=0) if clip.speaker == "b" else clip for clip in clips])
    rows = list(Drawer(tmp_path, "train", 0).rows(200))
    assert {row.target_speaker for row in rows} == {"a", "c"}
    assert {row.interferer_face for row in rows if row.interferer_speaker == "b"} == {""}
    assert "1 of 3 speakers have no still and are never the target: b" in caplog.text
    assert "too few speakers for the pairs FF" in caplog.text


def test_a_corpus_that_cannot_be_mixed_is_refused(tmp_path):
    corpus(tmp_path, {"a": ("M", 2, 1)})
    with pytest.raises(TrainError, match="1 men and 0 women"):
        Drawer(tmp_path, "train", 0)
    with pytest.raises(TrainError, match="No list was written.*clips of train"):
        write_lists(tmp_path, {"test": 10, "val": 10, "train": 0})


def test_levels_are_drawn_evenly_from_the_range(four):
    levels = np.array([row.sir_db for row in Drawer(four, "train", 0, sir_range_db=5.0).rows(2000)])
    assert np.abs(levels).max() <= 5 and np.abs(np.quantile(levels, [0.1, 0.5, 0.9]) - [-4, 0, 4]).max() < 0.4
    assert {row.sir_db for row in Drawer(four, "train", 0).rows(20)} == {0.0}


def test_pauses_and_damaged_files_are_drawn_again_and_counted(tmp_path, caplog):
    clips = corpus(tmp_path, {"a": ("M", 2, 2), "b": ("M", 2, 1)}, samples=64_000)
    rng = np.random.default_rng(0)
    for clip in clips:
        voice = 0.1 * rng.standard_normal(64_000).astype(np.float32)
        voice[:32_000] *= 0.001  # the first half is a pause
        write_voice(clip.voice(tmp_path), voice)
    clips[0].voice(tmp_path).write_bytes(b"damaged")
    clips[1].voice(tmp_path).unlink()
    drawer = Drawer(tmp_path, "train", 0, check=True)
    rows = list(drawer.rows(50))
    assert not {row.target_file for row in rows} & {clip.voice_file for clip in clips[:2]}
    for row in rows:
        mixture, target, interferer = load_mixture(tmp_path, row)
        assert rms(mixture) == pytest.approx(0.1, rel=1e-5)
        assert rms(target) == pytest.approx(rms(interferer), rel=1e-5)
    assert drawer.tally["drawn again for a pause or a damaged file"] > 20
    assert caplog.text.count("00000.flac is not a sound file") == caplog.text.count("00001.flac is not a sound") == 1
    assert [row for row in rows if row.target_start < 0.07] == []  # less than a 32nd of it spoken
    assert rows == list(Drawer(tmp_path, "train", 0, check=True).rows(50))


def test_a_corpus_of_silence_is_refused_with_the_number_of_attempts(tmp_path):
    for clip in corpus(tmp_path, {"a": ("M", 2, 1), "b": ("M", 2, 1)}):
        write_voice(clip.voice(tmp_path), np.zeros(48_000, np.float32))
    with pytest.raises(TrainError, match="no speech in 50 draws"):
        Drawer(tmp_path, "train", 0, check=True).row(0)
    row = Drawer(tmp_path, "train", 0).row(0)
    with pytest.raises(TrainError, match="train-0000000.*silence"):
        load_mixture(tmp_path, row)


def test_a_row_is_cut_where_it_says(tmp_path):
    rng = np.random.default_rng(0)
    voices = {name: 0.2 * rng.uniform(-1, 1, 50_000).astype(np.float32) for name in "ab"}
    for name, voice in voices.items():
        write_voice(tmp_path / f"{name}.flac", voice)
    row = Mixture("x", "made", "MF", "a.flac", 0.37, "a", "M", "b.flac", 1.0, "b", "F", sir_db=-3.0)
    mixture, target, interferer = load_mixture(tmp_path, row)
    for piece, cut in ((target, voices["a"][5920:]), (interferer, voices["b"][16_000:])):
        assert np.corrcoef(piece, cut[:31_840])[0, 1] > 0.99999
    assert 20 * np.log10(rms(target) / rms(interferer)) == pytest.approx(-3.0, abs=1e-3)
    assert mixture.dtype == np.float32 and mixture.shape == (31_840,)


def test_the_command_writes_eight_subsets_of_seen_and_unseen_speakers(made_talkers, tmp_path):
    command = [sys.executable, "-m", "avedge", "mix", "--data", str(made_talkers), "--per-subset", "3", "--val", "8"]
    done = subprocess.run([*command, "--train", "20"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert {name: part["rows"] for name, part in report.items()} == {"test": 24, "val": 8, "train": 20}
    rows = read_list(made_talkers / "mixtures" / "test.csv")
    assert Counter((row.subset, row.pair) for row in rows) == {
        (subset, pair): 3 for subset in ("seen-heard", "unseen-unheard") for pair in PAIRS
    }
    seen = {clip.voice_file for one in read_speakers(made_talkers, "seen") for clip in one.clips}
    unseen = {clip.voice_file for one in read_speakers(made_talkers, "test") for clip in one.clips}
    for row in rows:
        assert row.target_file in (seen if row.subset == "seen-heard" else unseen)
        assert (made_talkers / row.target_face).is_file() and row.target_face_index in (0, 1)
    before = (made_talkers / "mixtures" / "test.csv").read_bytes()
    subprocess.run(command, capture_output=True, check=True)
    assert (made_talkers / "mixtures" / "test.csv").read_bytes() == before


def test_a_split_that_is_missing_is_said_and_the_list_goes_without(four, caplog):
    clips = [clip for one in read_speakers(four, "train") for clip in one.clips]
    write_clips(four, [replace(clip, split="test") for clip in clips])
    rng = np.random.default_rng(0)
    for clip in clips:
        write_voice(clip.voice(four), 0.1 * rng.standard_normal(48_000).astype(np.float32))
    report = write_lists(four, {"test": 2, "val": 2})
    assert report["test"]["rows"] == 8 and "val" not in report
    assert "no clips of split seen" in caplog.text and "no clips of split val" in caplog.text


def test_a_long_list_needs_no_more_memory_than_a_short_one(four, tmp_path):
    write_list(tmp_path / "short.csv", Drawer(four, "train", 0).rows(1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_list(tmp_path / "long.csv", Drawer(four, "train", 0).rows(40_000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4000  # KiB; the file has 10 MB
    with (tmp_path / "long.csv").open() as file:
        assert sum(1 for _ in csv.reader(file)) == 40_001

"""VoxCeleb2 in its own layout, from AAC and MP4 files to lists of mixtures."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_voxceleb2 import (
    ABSENT,
    BAR_PIXELS,
    DAMAGED_FILM,
    DAMAGED_SOUND,
    PEOPLE,
    SHORT,
    UNLISTED,
    WITHOUT_FILM,
    film_of,
    sound_of,
    write_tiny_voxceleb2,
)

from train.corpus.layout import Clip, read_piece, read_speakers, read_stills
from train.corpus.mixtures import load_mixture, read_list
from train.corpus.movies import read_film
from train.corpus.preparing import Options, prepare_voxceleb2
from train.corpus.voxceleb2 import assign_splits, read_meta, take_inventory
from train.errors import TrainError

SPLITS = ("train", "seen", "val", "test")


def prepare(root, out, *options, **kwargs):
    """Run the command itself."""
    command = [sys.executable, "-m", "avedge", "prepare", "voxceleb2", "--root", str(root), "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The tiny corpus as downloaded, and what was encoded into it."""
    root = tmp_path_factory.mktemp("voxceleb2")
    return root, write_tiny_voxceleb2(root)


@pytest.fixture(scope="module")
def prepared(tree, tmp_path_factory):
    """The tiny corpus in the common layout, and what the command said."""
    out = tmp_path_factory.mktemp("prepared") / "voxceleb2"
    done = prepare(tree[0], out, "--jobs", "1")
    assert done.returncode == 0, done.stderr
    return out, done


def clips_of(out):
    return [clip for split in SPLITS for speaker in read_speakers(out, split) for clip in speaker.clips]


def original_of(clip, originals):
    return originals[f"{PEOPLE[clip.speaker][0]}/{clip.speaker}/{clip.video}/{clip.name}"]


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_good_clip_is_there_and_every_trouble_is_named_and_counted(tree, prepared):
    _, originals = tree
    out, done = prepared
    assert len(clips_of(out)) == len(originals)
    report = json.loads(done.stdout)
    assert report == json.loads((out / "report.json").read_text())
    assert report["left_out"] == {
        "damaged sound": {"count": 1, "examples": [DAMAGED_SOUND]},
        "damaged film": {"count": 1, "examples": [DAMAGED_FILM]},
        "too short": {"count": 1, "examples": [SHORT]},
        "sound without film": {"count": 1, "examples": [WITHOUT_FILM]},
        "speakers in the table but not on disk": {"count": 1, "examples": [ABSENT]},
        "speakers on disk without a row in the table": {"count": 1, "examples": [f"dev/{UNLISTED}"]},
    }
    for name in (DAMAGED_SOUND, DAMAGED_FILM, SHORT, WITHOUT_FILM, ABSENT, UNLISTED):
        assert name in done.stderr
    assert {split: part["clips"] for split, part in report["splits"].items()} == {
        "train": 18, "seen": 12, "val": 10, "test": 8,
    }  # fmt: skip


def test_decoded_voices_are_those_that_were_encoded_at_the_same_time(tree, prepared):
    _, originals = tree
    for clip in clips_of(prepared[0]):
        voice, wanted = read_piece(clip.voice(prepared[0]), 0, clip.samples), original_of(clip, originals).voice
        assert abs(len(voice) - len(wanted)) <= 2048  # AAC comes in blocks of 1024
        shared = min(len(voice), len(wanted))
        assert np.corrcoef(voice[:shared], wanted[:shared])[0, 1] > 0.9


def test_stills_show_the_face_at_evenly_spaced_times(tree, prepared):
    _, originals = tree
    for clip in clips_of(prepared[0]):
        stills = read_stills(clip.stills(prepared[0]))
        assert len(stills) == clip.faces == 10
        face = original_of(clip, originals).face[:-BAR_PIXELS].astype(float)
        assert max(np.abs(still[:-BAR_PIXELS] - face).mean() for still in stills) < 8
        passed = (stills[:, -BAR_PIXELS // 2, :, 1] > 128).mean(axis=1)  # how far the bar has come
        np.testing.assert_allclose(passed, (np.arange(10) + 0.5) / 10, atol=0.02)


def test_splits_share_no_speaker_and_two_videos_of_each_speaker_trained_on_are_withheld(prepared):
    speakers = {split: {one.name: one for one in read_speakers(prepared[0], split)} for split in SPLITS}
    assert speakers["train"].keys() == speakers["seen"].keys()
    apart = [set(speakers[split]) for split in ("train", "val", "test")]
    assert len(set.union(*apart)) == sum(map(len, apart)) == len(PEOPLE)
    assert set(speakers["test"]) == {name for name, (part, _) in PEOPLE.items() if part == "test"}
    assert sorted(one.sex for one in speakers["val"].values()) == ["F", "M"]
    for name, trained in speakers["train"].items():
        seen = {clip.video for clip in speakers["seen"][name].clips}
        assert len(seen) == 2 and not seen & {clip.video for clip in trained.clips}


def test_the_result_depends_neither_on_the_processes_nor_on_a_kill_in_the_middle(tree, prepared, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "avedge", "prepare", "voxceleb2", "--root", str(tree[0]), "--out", str(out)]
    process = subprocess.Popen([*command, "--jobs", "1"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(list(out.glob("*/*/*.jpg"))) < 5 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.jpg")}
    assert 5 <= len(finished) < 38 and not (out / "clips.csv").exists()

    done = prepare(tree[0], out, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert files_of(out) == files_of(prepared[0])
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in finished.items())  # not made again


def test_a_full_disk_stops_with_the_reason_and_leaves_whole_files_only(tree, prepared, tmp_path):
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # bytes; some files are larger

    done = prepare(tree[0], tmp_path / "out", "--jobs", "1", preexec_fn=small_files)
    assert done.returncode == 8 and "Make room and run the same command again" in done.stderr
    left, whole = files_of(tmp_path / "out"), files_of(prepared[0])
    assert 0 < len(left) < len(whole) and left.items() <= whole.items()
    assert prepare(tree[0], tmp_path / "out", "--jobs", "1").returncode == 0


def test_other_options_take_fewer_clips_more_stills_and_other_people(tree, prepared, tmp_path):
    done = prepare(tree[0], tmp_path, "--stills", "3", "--val-speakers", "4", "--min-seconds", "3.5", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    clips = clips_of(tmp_path)
    assert {clip.faces for clip in clips} == {3} and min(clip.samples for clip in clips) >= 3.5 * 16_000
    assert len({clip.speaker for clip in clips if clip.split == "val"}) == 4
    short = {clip.voice_file for clip in clips_of(prepared[0]) if clip.samples < 3.5 * 16_000}
    assert short and not short & {clip.voice_file for clip in clips}


def test_lists_are_drawn_from_it_and_their_faces_are_of_other_videos(prepared):
    command = [sys.executable, "-m", "avedge", "mix", "--data", str(prepared[0]), "--per-subset", "4", "--val", "8"]
    subprocess.run(command, check=True, capture_output=True)
    rows = read_list(prepared[0] / "mixtures" / "test.csv")
    assert len({(row.subset, row.pair) for row in rows}) == 8 and len(rows) == 32
    for row in rows:
        assert Path(row.target_file).parent != Path(row.target_face).parent
        assert row.target_face.startswith(row.target_speaker + "/") and 0 <= row.target_face_index < 10
        mixture, target, interferer = load_mixture(prepared[0], row)
        assert np.sqrt(np.mean(mixture**2)) == pytest.approx(0.1, rel=1e-4)
        assert np.mean(target**2) == pytest.approx(np.mean(interferer**2), rel=1e-3)


def test_the_table_is_read_in_spite_of_its_spaces_and_byte_order_mark(tree, tmp_path):
    sexes = read_meta(tree[0] / "vox2_meta.csv")
    assert sexes == {**{name: sex for name, (_, sex) in PEOPLE.items()}, ABSENT: "M"}
    (tmp_path / "bad.csv").write_text("name,age\nx,3\n")
    for name, message in (("bad.csv", "columns name, age.*Gender"), ("none.csv", "No table of speakers")):
        with pytest.raises(TrainError, match=message):
            read_meta(tmp_path / name)


def touch(root, clip, *, film=True, wav=False):
    for path in [sound_of(root, clip)] + [film_of(root, clip)] * film:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if wav:
        sound_of(root, clip).with_suffix(".wav").touch()


def test_the_inventory_prefers_wav_limits_clips_and_keeps_who_is_in_both_parts_out_of_dev(tmp_path):
    for clip in ("dev/a/x/00001", "dev/a/x/00002", "dev/a/x/00003", "dev/b/y/00001", "test/b/z/00001"):
        touch(tmp_path, clip, wav=clip.endswith("2"))
    (tmp_path / "vox2_meta.csv").write_text("VoxCeleb2 ID ,Gender ,Set \na ,m ,dev \nb ,f ,test \n")
    inventory = take_inventory(tmp_path, clips_per_video=2)
    found = [(one.part, one.speaker, one.video, one.name, one.kind[1]) for one in inventory.recordings]
    assert found == [
        ("dev", "a", "x", "00001", ".m4a"), ("dev", "a", "x", "00002", ".wav"), ("test", "b", "z", "00001", ".m4a"),
    ]  # fmt: skip
    assert inventory.missing == {"speakers of dev who are in test as well": ["b"]}


def test_a_tree_with_nothing_usable_is_refused_with_what_is_wrong(tmp_path):
    with pytest.raises(TrainError, match=r"Neither dev nor test.*mp4"):
        prepare_voxceleb2(tmp_path, tmp_path / "out", Options())
    touch(tmp_path, "dev/a/x/00001", film=False)
    touch(tmp_path, "dev/a/x/00002")
    (tmp_path / "vox2_meta.csv").write_text("VoxCeleb2 ID ,Gender \na ,m \n")
    with pytest.raises(TrainError, match="None of the 1 clips.*1 sound without film; 1 damaged sound"):
        prepare_voxceleb2(tmp_path, tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()
    with pytest.raises(TrainError, match="--stills is 0"):
        Options(stills=0)


def test_another_corpus_is_never_written_into(tree, made_talkers):
    index = (made_talkers / "clips.csv").read_bytes()
    done = prepare(tree[0], made_talkers)
    assert done.returncode == 4 and "holds another corpus already" in done.stderr
    assert (made_talkers / "clips.csv").read_bytes() == index


def test_splits_follow_from_a_speakers_name_whoever_else_there_is():
    def people(count):
        return [
            Clip("dev", f"id{number:03d}", "FM"[number % 2], f"v{video}", "00001", 40_000, 10)
            for number in range(count)
            for video in range(3 + number % 4)
        ]

    few, many = (assign_splits(people(count), val_speakers=10, seed=1) for count in (60, 90))
    val = {clip.speaker for clip in few if clip.split == "val"}
    assert (
        len(val) == 10
        and sum(clip.sex == "F" for clip in {c.speaker: c for c in few if c.split == "val"}.values()) == 5
    )
    assert {one for one in {clip.speaker for clip in many if clip.split == "val"} if one < "id060"} <= val
    for clips in (few, many):
        seen = {(clip.speaker, clip.video) for clip in clips if clip.split == "seen"}
        trained = {clip.speaker for clip in clips if clip.split == "train"}
        assert len(seen) == 2 * sum(int(one[2:]) % 4 >= 2 for one in trained)  # who has five videos or six
    same = {(clip.speaker, clip.video): clip.split for clip in many}
    unmoved = [clip for clip in few if "val" not in (clip.split, same[clip.speaker, clip.video])]
    assert all(same[clip.speaker, clip.video] == clip.split for clip in unmoved)
    assert assign_splits(people(60), val_speakers=10, seed=2) != few


def test_a_film_shorter_than_the_number_of_stills_gives_some_twice_and_one_cut_off_is_refused(tree, tmp_path):
    root, originals = tree
    clip = next(iter(originals))
    assert len(read_film(film_of(root, clip), 200)) == 200
    content = film_of(root, clip).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    for path, message in ((tmp_path / "cut.mp4", "not a film"), (sound_of(root, clip), "no pictures")):
        with pytest.raises(TrainError, match=message):
            read_film(path, 10)


def test_files_are_as_small_as_compression_makes_them(prepared):
    seconds = sum(clip.samples for clip in clips_of(prepared[0])) / 16_000
    voices = sum(os.path.getsize(clip.voice(prepared[0])) for clip in clips_of(prepared[0]))
    assert voices / seconds < 25_000  # bytes a second; raw it would be 32,000

"""Semi-synthetic sounds: they follow the crowd, repeat, and never let training hear what validation hears."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from avedge import main
from train.crowd.ambience import crowd_sound, write_sounds
from train.crowd.ambience_sources import Part, Sources, Wave, read_sources
from train.crowd.layouts import Split, read_scenes
from train.dsp import CrowdLogMel
from train.errors import TrainError

RATE_HZ = 16_000


def tone(frequency_hz: float, seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float64]:
    return 0.1 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def strongest_hz(wave: Wave) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax() * RATE_HZ / len(wave))


def rms_dbfs(wave: Wave) -> float:
    return float(10 * np.log10(np.mean(wave.astype(float) ** 2)))


@pytest.fixture
def ambient(tmp_path: Path) -> Path:
    """Places whose first 70 % sound at 400 Hz, and the rest at 3000 Hz; one of them recorded at 8 kHz."""
    folder = tmp_path / "ambient"
    folder.mkdir()
    for name, rate_hz in (("square.flac", RATE_HZ), ("office.wav", 8000), ("road.flac", RATE_HZ)):
        soundfile.write(
            folder / name,
            np.concatenate([tone(400, 7, rate_hz), 3 * tone(3000, 3, rate_hz)]),
            rate_hz,
            subtype="PCM_16",
        )
    (folder / "ambient.csv").write_text(
        "file,kind,seconds\nsquare.flac,people,10\noffice.wav,people-sparse,10\nroad.flac,street,10\n"
    )
    return folder


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Ten speakers in folders of their own, two files each; speaker i speaks at 1000 + 50 i Hz."""
    folder = tmp_path / "speech"
    for speaker in range(10):
        for number in range(2):
            path = folder / f"s{speaker}" / "chapter" / f"{number}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(1000 + 50 * speaker, 2), RATE_HZ)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight photographs with an index: six for training, one for validation, one for test."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rows = []
    for number in range(8):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((20, 30, 3), 9 * number, np.uint8))
        people = 3**number if number else 0
        (folder / f"{number}.csv").write_text("x,y\n" + "12.3456,4.5\n" * people)
        rows.append((("val", "test") + ("train",) * 6)[number] + f",{number}.png,{number}.csv")
    (folder / "index.csv").write_text("\n".join(["split,image,points", *rows]) + "\n")
    return folder


@pytest.fixture
def noises() -> Sources:
    """Recordings of noise: all that is left to hear is the level."""
    rng = np.random.default_rng(0)
    places, voices = rng.standard_normal((2, 3, 5 * RATE_HZ)).astype(np.float32)
    return Sources([places[0]], [places[1]], [places[2]], list(voices))


def test_more_people_are_louder_by_ten_decibels_a_decade(noises: Sources) -> None:
    people = [1, 10, 100, 1000, 3000]
    levels = [
        np.mean([rms_dbfs(crowd_sound(np.random.default_rng([n, seed]), n, noises, RATE_HZ)) for seed in range(40)])
        for n in people
    ]
    assert (np.diff(levels) > 2).all()
    assert levels[3] - levels[2] == pytest.approx(10, abs=2)


def test_a_sound_fits_into_its_range_and_varies(noises: Sources) -> None:
    sounds = [crowd_sound(np.random.default_rng(seed), 3000, noises, RATE_HZ) for seed in range(20)]
    assert all(sound.dtype == np.float32 and sound.shape == (RATE_HZ,) for sound in sounds)
    assert max(float(np.abs(sound).max()) for sound in sounds) <= 1
    levels = np.array([rms_dbfs(sound) for sound in sounds])
    assert (levels < -10).all() and (levels > -32).all() and 1 < levels.std() < 4  # gain and liveliness


def test_of_nobody_only_the_surroundings_are_heard(noises: Sources) -> None:
    quiet = [rms_dbfs(crowd_sound(np.random.default_rng(seed), 0, noises, RATE_HZ)) for seed in range(20)]
    assert max(quiet) < -35 and min(quiet) > -75


def test_training_and_validation_hear_other_seconds_and_other_speakers(ambient: Path, speech: Path) -> None:
    training, held_out = (read_sources(ambient, speech, part) for part in ("training", "held out"))
    for kind in ("people", "sparse", "street"):
        (first,), (rest,) = getattr(training, kind), getattr(held_out, kind)
        assert strongest_hz(first) == pytest.approx(400, abs=2) and len(first) == pytest.approx(7 * RATE_HZ, abs=2)
        assert strongest_hz(rest) == pytest.approx(3000, abs=2) and len(rest) == pytest.approx(3 * RATE_HZ, abs=2)
        assert np.abs(np.fft.rfft(rest))[1200].max() < 1  # nothing is left of the first 400 Hz
    speakers = [{round(strongest_hz(voice)) for voice in part.voices} for part in (training, held_out)]
    assert len(speakers[0]) == 7 and len(speakers[1]) == 3 and not speakers[0] & speakers[1]
    for wave in training.people + training.voices:
        assert np.sqrt(np.mean(wave**2)) == pytest.approx(1, abs=1e-3)


def test_a_table_says_who_speaks_and_without_one_all_recordings_are_people(ambient: Path, speech: Path) -> None:
    rows = [f"s{number}/chapter/{take}.flac,{'ab'[number % 2]}" for number in range(4) for take in range(2)]
    (speech / "speech.csv").write_text("\n".join(["file,speaker", *rows]) + "\n")
    (ambient / "ambient.csv").unlink()
    parts = [read_sources(ambient, speech, part) for part in ("training", "held out")]
    assert [len(part.people) for part in parts] == [3, 3] and not parts[0].street
    heard = [sorted({round(strongest_hz(voice)) for voice in part.voices}) for part in parts]
    assert sorted(heard) == [[1000, 1100], [1050, 1150]]


def test_every_photograph_gets_a_sound_and_the_index_is_a_data_set(
    pictures: Path, ambient: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "sounds"
    words = f"prepare ambience --pictures {pictures} --ambient {ambient} --speech {speech} --out {out} --seed 3"
    assert main(words.split()) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["photographs"] == {"train": 6, "val": 1, "test": 1} and report["semi_synthetic"] is True
    seconds_of: dict[Split, int] = {"train": 4, "val": 1, "test": 1}
    for split, seconds in seconds_of.items():
        for with_sound, without in zip(read_scenes(out, split), read_scenes(pictures, split), strict=True):
            assert with_sound.picture.resolve() == without.picture.resolve()
            assert with_sound.points is not None and without.points is not None and with_sound.sound is not None
            assert np.allclose(with_sound.points, without.points, atol=5e-4)
            info = soundfile.info(with_sound.sound)
            assert (info.samplerate, info.channels, info.frames) == (RATE_HZ, 1, seconds * RATE_HZ)
    with (out / "index.csv").open() as file:
        assert all(not Path(row["image"]).is_absolute() for row in csv.DictReader(file))


def test_a_seed_gives_the_same_sounds_whichever_pictures_stand_beside(
    pictures: Path, ambient: Path, speech: Path, tmp_path: Path
) -> None:
    write_sounds(pictures, ambient, speech, tmp_path / "first", 3)
    index = (pictures / "index.csv").read_text().splitlines()
    (pictures / "index.csv").write_text("\n".join([index[0], *index[-2:0:-1]]) + "\n")  # backwards, one less
    write_sounds(pictures, ambient, speech, tmp_path / "again", 3)
    write_sounds(pictures, ambient, speech, tmp_path / "other", 4)

    def heard(name: str) -> dict[str, bytes]:
        with (tmp_path / name / "index.csv").open() as file:
            rows = list(csv.DictReader(file))
        return {row["image"]: (tmp_path / name / row["sound"]).read_bytes() for row in rows}

    first, again, other = heard("first"), heard("again"), heard("other")
    assert len(again) == 7 and all(again[image] == first[image] for image in again)
    assert all(other[image] != first[image] for image in other)


def test_a_folder_without_splits_is_divided_and_no_picture_is_in_two(
    pictures: Path, ambient: Path, speech: Path, tmp_path: Path
) -> None:
    rows = [line.partition(",")[2] for line in (pictures / "index.csv").read_text().splitlines()]
    (pictures / "index.csv").write_text("\n".join(rows) + "\n")
    report = write_sounds(pictures, ambient, speech, tmp_path / "out", 0)
    assert report["photographs"] == {"train": 7, "val": 1}


def test_recordings_that_do_not_do_are_refused(ambient: Path, speech: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="holds no recording; wanted ambient.csv or WAV and FLAC"):
        read_sources(tmp_path / "nowhere", speech, "training")
    soundfile.write(ambient / "square.flac", tone(400, 2), RATE_HZ)
    with pytest.raises(TrainError, match=r"square.flac is 2.0 s long; wanted 3.4 s"):
        read_sources(ambient, speech, "held out")
    (ambient / "ambient.csv").write_text("file,kind\noffice.wav,forest\n")
    with pytest.raises(TrainError, match="'forest' of office.wav; wanted one of people, people-sparse, street"):
        read_sources(ambient, speech, "training")
    (ambient / "ambient.csv").write_text("file,kind\nroad.flac,street\n")
    with pytest.raises(TrainError, match="no recording of the kind people"):
        read_sources(ambient, speech, "training")
    (ambient / "ambient.csv").write_text("file,kind\noffice.wav,people\n")
    (speech / "speech.csv").write_text("file,speaker\ns1/chapter/0.flac,s1\n")
    with pytest.raises(TrainError, match=r"one speaker only \(s1\)"):
        read_sources(ambient, speech, "training")
    soundfile.write(ambient / "office.wav", np.zeros(9 * RATE_HZ), RATE_HZ)
    with pytest.raises(TrainError, match="office.wav is silent"):
        read_sources(ambient, speech, "training")


def test_a_folder_that_holds_sounds_is_left_alone(pictures: Path, ambient: Path, speech: Path) -> None:
    with pytest.raises(TrainError, match="exists; wanted a folder without sounds"):
        write_sounds(pictures, ambient, speech, pictures, 0)


def test_real_recordings_tell_the_crowds_size_but_not_exactly(shared_data: Path) -> None:
    """A ridge regression of ln(people) on the mean log-mel, learnt on training sounds, judged on held-out ones."""
    rng, sounds = np.random.default_rng(0), []
    people = np.exp(rng.normal(5.5, 0.9, 300)).round()
    parts: list[tuple[Part, slice]] = [("training", slice(0, 200)), ("held out", slice(200, 300))]
    for part, chosen in parts:
        sources = read_sources(shared_data / "ambient", shared_data / "speech", part)
        sounds += [crowd_sound(rng, number, sources, RATE_HZ) for number in people[chosen]]
    bands = CrowdLogMel()(torch.from_numpy(np.stack(sounds))).mean(dim=(1, 2)).double().numpy()  # (300, 64)
    features = (bands - bands[:200].mean(axis=0)) / bands[:200].std(axis=0)
    target = np.log(people) - np.log(people[:200]).mean()
    learnt = features[:200]
    weights = np.linalg.solve(learnt.T @ learnt + 20 * np.eye(64), learnt.T @ target[:200])
    left = target[200:] - features[200:] @ weights
    assert 0.5 < 1 - np.mean(left**2) / target[200:].var() < 0.85

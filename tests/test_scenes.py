"""Drawn scenes: repeatable, with exact points, and with a sound that follows the crowd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import avedge
from train.crowd.data import read_example
from train.crowd.layouts import read_scenes
from train.errors import TrainError
from train.synthetic.ambience import ambient_sound, babble, synthetic_voice
from train.synthetic.scene_drawing import draw_person, random_perspective
from train.synthetic.scenes import draw_scene, place_heads, random_count, scene_rng, synthesize_scenes


def test_a_seed_draws_the_same_scene_again_and_another_seed_another_one() -> None:
    first, again, other = (draw_scene(scene_rng(seed, "train", 3), people=25) for seed in (5, 5, 6))
    for name in ("picture", "points", "sound"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def test_a_scene_has_the_contracts_sizes_and_its_heads_lie_inside() -> None:
    scene = draw_scene(np.random.default_rng(1), people=60)
    assert scene.picture.shape == (576, 1024, 3) and scene.picture.dtype == np.uint8
    assert scene.sound.shape == (16_000,) and scene.sound.dtype == np.float32 and np.abs(scene.sound).max() <= 1
    assert len(scene.points) == 60
    assert ((scene.points >= 0) & (scene.points < (1024, 576))).all()


def test_a_person_is_drawn_around_the_point_that_is_stored() -> None:
    canvas = np.full((576, 1024, 3), 255, np.uint8)
    draw_person(canvas, np.random.default_rng(0), 300.0, 200.0, 10.0)
    rows, columns = np.nonzero((canvas != 255).any(axis=2))
    head = rows < 200  # above the centre there is nothing but the head's upper half
    assert rows.min() == pytest.approx(190, abs=3)
    assert columns[head].mean() == pytest.approx(300, abs=2)


def test_heads_are_larger_towards_the_camera_and_do_not_cover_each_other() -> None:
    rng = np.random.default_rng(2)
    perspective = random_perspective(rng)
    points = place_heads(rng, perspective, 150)
    radii = np.array([perspective.radius_at(float(y)) for y in points[:, 1]])
    assert (np.diff(points[:, 1]) >= 0).all() and (np.diff(radii) >= 0).all() and radii[-1] > 1.3 * radii[0]
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(points))
    assert (gaps > np.minimum(radii[:, None], radii[None])).all()


def test_counts_are_skewed_to_small_crowds_and_some_scenes_are_empty() -> None:
    rng = np.random.default_rng(3)
    counts = np.array([random_count(rng) for _ in range(4000)])
    assert counts.min() == 0 and 250 < counts.max() <= 300
    assert 0.03 < (counts == 0).mean() < 0.08
    assert np.median(counts) < counts.mean() - 15


def test_babble_grows_with_the_people_and_nobody_is_silent() -> None:
    rng = np.random.default_rng(4)
    people = np.linspace(0, 300, 61).astype(int)
    levels = [float(np.sqrt(np.mean(babble(rng, n) ** 2))) for n in people]
    assert levels[0] == 0.0
    assert np.corrcoef(people, levels)[0, 1] > 0.7
    sounds = [float(np.sqrt(np.mean(ambient_sound(rng, n) ** 2))) for n in people]
    assert np.corrcoef(people, sounds)[0, 1] > 0.5  # still there behind wind, hum and traffic


def test_a_voice_has_the_pitch_and_the_rhythm_of_speech() -> None:
    voice = synthetic_voice(np.random.default_rng(5), 64_000).astype(float)
    assert np.sqrt(np.mean(voice**2)) == pytest.approx(1.0, rel=1e-3)
    spectrum = np.abs(np.fft.rfft(voice)) ** 2
    frequencies = np.fft.rfftfreq(64_000, 1 / 16_000)
    assert spectrum[(frequencies > 80) & (frequencies < 4000)].sum() > 0.95 * spectrum.sum()
    envelope = np.sqrt((voice**2).reshape(-1, 160).mean(axis=1))  # 10 ms
    rhythm = np.abs(np.fft.rfft(envelope - envelope.mean()))
    rhythm_hz = np.fft.rfftfreq(envelope.size, 0.01)
    assert 1 < rhythm_hz[rhythm.argmax()] < 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    synthesize_scenes(out, {"train": 3, "val": 1, "test": 2}, seed=9)
    return out


def test_a_shorter_run_writes_the_same_files_as_the_start_of_a_longer_one(folder: Path, tmp_path: Path) -> None:
    synthesize_scenes(tmp_path, {"train": 1, "test": 1}, seed=9)
    names = [path.relative_to(tmp_path) for path in tmp_path.rglob("0*")]
    assert len(names) == 6
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_what_was_written_is_read_back_with_its_ground_truth(folder: Path) -> None:
    scenes = read_scenes(folder, "train")
    assert [len(read_scenes(folder, split)) for split in ("train", "val", "test")] == [3, 1, 2]
    for index, files in enumerate(scenes):
        drawn, example = draw_scene(scene_rng(9, "train", index)), read_example(files)
        assert np.abs(example.picture.astype(int) - drawn.picture).mean() < 12  # JPEG, in a noisy picture
        np.testing.assert_allclose(example.sound, drawn.sound, atol=1 / 32_000)
        np.testing.assert_allclose(files.points, drawn.points, atol=1e-3)
        assert example.density.sum() == pytest.approx(len(drawn.points), abs=1e-2)
        assert example.patch_counts.sum() == len(drawn.points)


def test_a_folder_with_scenes_is_not_written_to_again(folder: Path) -> None:
    with pytest.raises(TrainError, match=r"index\.csv exists"):
        synthesize_scenes(folder, {"train": 1}, seed=1)


def test_streets_without_people_are_drawn_where_nobody_is_wanted(tmp_path: Path) -> None:
    assert avedge.main(["synthesize", "scenes", "--out", str(tmp_path), "--scenes", "1", "--people", "0"]) == 0
    assert [scene.people for scene in read_scenes(tmp_path, "train") + read_scenes(tmp_path, "val")] == [0] * 5

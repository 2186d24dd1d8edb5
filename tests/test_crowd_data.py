"""What training sees of photographs: the frame, parts at other scales, mosaics, pictures of nobody, sounds."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
import torch

from clients.media.letterbox import Letterbox
from train.crowd.augment import AugmentSettings, blank, framed, mosaic, window_at, without_people
from train.crowd.data import SceneBatches, Source, collate, read_example, read_sound
from train.crowd.frame import inside_photo, place, whole
from train.crowd.geometry import GEOMETRIES
from train.crowd.scene import Scene
from train.errors import TrainError

HEAD = (255, 40, 40)


def photo_with_heads(rng: np.random.Generator, width: int, height: int, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey photo with a red dot of 7 pixels around every head."""
    points = rng.uniform((12, 12), (width - 12, height - 12), (heads, 2)).astype(np.float32)
    photo = np.full((height, width, 3), 90, np.uint8)
    for x, y in points:
        cv2.circle(photo, (int(x), int(y)), 3, HEAD, -1)
    return photo, points


def write_set(folder: Path, scenes: list[tuple[np.ndarray, np.ndarray]], *, sounds: bool = False) -> Path:
    folder.mkdir(parents=True)
    rows = []
    for number, (photo, points) in enumerate(scenes):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
        (folder / f"{number}.csv").write_text("\n".join(["x,y", *(f"{x:.3f},{y:.3f}" for x, y in points), ""]))
        row = {"split": "train", "image": f"{number}.png", "points": f"{number}.csv"}
        if sounds:  # the level tells the number of people
            soundfile.write(folder / f"{number}.flac", np.full(16_000, len(points) / 1000), 16_000)
            row["sound"] = f"{number}.flac"
        rows.append(row)
    rows.append(rows[0] | {"split": "val"})  # or some of `train` would be held out
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.mark.parametrize("size", [(1024, 576), (300, 500), (768, 1024), (1601, 900), (97, 31)])
def test_training_places_a_photo_in_the_frame_exactly_as_the_client_does(size: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    served = Letterbox.fit(photo, frame_width=1024, frame_height=576)
    np.testing.assert_array_equal(place(photo), served.place(photo))


def test_heads_stay_on_their_pixels_in_every_part_and_scale() -> None:
    rng = np.random.default_rng(1)
    photo, points = photo_with_heads(rng, 800, 600, 40)
    for zoom in (None, 0.6, 1.0, 1.7, 3.0):
        picture, moved = framed(photo, points, zoom, rng)
        assert picture.shape == (576, 1024, 3)
        assert (moved >= 0).all() and (moved < (1024, 576)).all()
        if zoom is None or zoom <= 1:
            assert len(moved) == 40  # everything is seen
        colours = picture[moved[:, 1].astype(int), moved[:, 0].astype(int)].astype(int)
        assert np.median(colours[:, 0] - colours[:, 1]) > 100


def test_a_part_has_the_wanted_scale_and_lies_anywhere() -> None:
    rng = np.random.default_rng(2)
    photo = np.zeros((600, 800, 3), np.uint8)
    full = whole(photo)
    windows = [window_at(photo, 2.0, rng, width=1024, height=576) for _ in range(200)]
    for window in windows:
        scale = window.frame_width / window.width, window.frame_height / window.height
        assert scale == pytest.approx((2 * full.frame_width / 800,) * 2, rel=0.01)
        assert window.left + window.width <= 800 and window.top + window.height <= 600
    assert len({window.left for window in windows}) > 20 and len({window.top for window in windows}) > 20


def test_a_mosaic_holds_the_people_of_all_its_quarters() -> None:
    rng = np.random.default_rng(3)
    photos = [photo_with_heads(rng, 400, 300, heads) for heads in (3, 5, 7, 11)]
    picture, points = mosaic(photos, [0.5] * 4, rng)  # small enough to show each photo whole
    assert picture.shape == (576, 1024, 3) and len(points) == 26
    quarters = (points[:, 0] >= 512).astype(int) + 2 * (points[:, 1] >= 288)
    assert np.bincount(quarters, minlength=4).tolist() == [3, 5, 7, 11]


def test_a_picture_without_people_shows_no_head_and_falls_back_to_a_blank_one() -> None:
    rng = np.random.default_rng(4)
    photo, points = photo_with_heads(rng, 800, 600, 6)
    for _ in range(10):
        picture = without_people(photo, points, rng).astype(int)
        assert (picture[..., 0] - picture[..., 1]).max() < 60
    crowded, everywhere = photo_with_heads(rng, 200, 150, 400)
    picture = without_people(crowded, everywhere, rng)
    assert picture.shape == (576, 1024, 3) and picture.dtype == np.uint8
    assert any(blank(rng).std() == 0 for _ in range(20)) and any(blank(rng).std() > 10 for _ in range(20))


def test_heads_a_little_outside_are_counted_at_the_border_and_foreign_points_are_refused() -> None:
    photo = np.zeros((100, 200, 3), np.uint8)
    points = np.array([[-3, 5], [200, 50], [100, 104], [60, 60]], np.float32)
    moved = inside_photo(points, photo, "one")
    assert len(moved) == 4 and (moved >= 0).all() and (moved < (200, 100)).all()
    np.testing.assert_array_equal(moved[3], points[3])
    with pytest.raises(TrainError, match=r"two has 200x100 pixels.*neither was resized"):
        inside_photo(points * 2, photo, "two")


def test_sources_give_their_shares_and_every_scene_in_turn(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    folders = [
        write_set(tmp_path / name, [photo_with_heads(rng, 64, 36, base + i) for i in range(3)])
        for name, base in (("few", 0), ("many", 20))
    ]
    made = SceneBatches([Source(folders[0], 3.0), Source(folders[1], 1.0)], batch_size=4, seed=0)
    people = torch.cat([made.batch(step, 0, 1).patch_counts.sum(dim=1) for step in range(15)]).round().int().tolist()
    assert sum(count < 10 for count in people) == 45 and sum(count >= 20 for count in people) == 15
    assert [people.count(count) for count in (0, 1, 2, 20, 21, 22)] == [15, 15, 15, 5, 5, 5]
    assert made.mean_people == pytest.approx(0.75 * 1 + 0.25 * 21)


def test_batches_with_every_augmentation_are_functions_of_seed_and_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    folder = write_set(tmp_path / "set", [photo_with_heads(rng, 160, 120, 9) for _ in range(3)], sounds=True)
    augment = AugmentSettings(zoom=(0.7, 2.0), mosaic_share=0.3, empty_share=0.3, grey_share=0.5, degraded_share=0.5)
    first, again, other = (
        SceneBatches([Source(folder)], batch_size=4, seed=seed, augment=augment) for seed in (1, 1, 2)
    )
    for one, two in zip(first.batch(5, 0, 1), again.batch(5, 0, 1), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.batch(5, 0, 1).picture, other.batch(5, 0, 1).picture)
    for step in range(4):
        batch = first.batch(step, 0, 1)
        torch.testing.assert_close(batch.density.sum(dim=(1, 2)), batch.patch_counts.sum(dim=1), rtol=1e-4, atol=1e-3)
        shares = [first.batch(step, part, 2) for part in range(2)]
        for whole_batch, *parts in zip(batch, *shares, strict=True):
            assert torch.equal(whole_batch, torch.cat(parts))


def test_a_part_of_a_photo_sounds_like_a_crowd_of_its_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    scenes = [photo_with_heads(rng, 160, 90, heads) for heads in (5, 20, 60, 120)]
    folder = write_set(tmp_path / "set", scenes, sounds=True)
    whole_pictures = SceneBatches([Source(folder)], batch_size=4, seed=1).batch(0, 0, 1)
    levels = whole_pictures.sound.mean(dim=1) * 1000
    torch.testing.assert_close(levels, whole_pictures.patch_counts.sum(dim=1), rtol=0.01, atol=0.1)
    parts = SceneBatches([Source(folder)], batch_size=16, seed=1, augment=AugmentSettings(zoom=(3.0, 3.0)))
    batch = parts.batch(0, 0, 1)
    seen, heard = batch.patch_counts.sum(dim=1), batch.sound.mean(dim=1) * 1000
    assert seen.max() < 60 and heard.max() <= 60.5  # nobody hears the 120 of the whole photo
    quiet = SceneBatches([Source(folder)], batch_size=16, seed=1, augment=AugmentSettings(empty_share=1.0))
    batch = quiet.batch(0, 0, 1)
    assert batch.patch_counts.sum() == 0 and batch.density.sum() == 0
    silent = batch.sound.abs().mean(dim=1) < 0.004  # fewer than five people's; else silence alone would mean nobody
    assert 0 < silent.sum() < 16
    mute = AugmentSettings(silence_share=1.0)
    assert not SceneBatches([Source(folder)], batch_size=4, seed=1, augment=mute).batch(0, 0, 1).sound.any()


def test_the_low_resolution_example_keeps_its_people(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    folder = write_set(tmp_path / "set", [photo_with_heads(rng, 1024, 576, 30)])
    scene = Scene("0", folder / "0.png", photo_with_heads(np.random.default_rng(8), 1024, 576, 30)[1])
    regular, low = read_example(scene), collate([read_example(scene)], GEOMETRIES["low"])
    assert (
        low.picture.shape == (1, 72, 128, 3) and low.density.shape == (1, 36, 64) and low.patch_counts.shape == (1, 16)
    )
    assert low.density.sum().item() == pytest.approx(30, rel=1e-5) and low.patch_counts.sum().item() == 30
    assert low.density[0, 0, 0].item() == pytest.approx(regular.density[:2, :2].sum(), abs=1e-6)
    assert low.patch_counts[0, 1].item() == regular.patch_counts.reshape(8, 8)[:2, 2:4].sum()
    block = regular.picture[:8, :8].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(low.picture[0, 0, 0], block, atol=1)


def test_sounds_that_cannot_be_heard_are_refused_with_what_is_wanted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(8000), 16_000)
    (tmp_path / "damaged.flac").write_bytes(b"fLaC nothing")
    with pytest.raises(TrainError, match=r"short\.wav is 0\.500 s long; wanted a second or more"):
        read_sound(tmp_path / "short.wav", None)
    with pytest.raises(TrainError, match=r"damaged\.flac is not a recording that can be read"):
        read_sound(tmp_path / "damaged.flac", None)


def test_sounds_of_other_rates_and_channels_are_heard_all_the_same(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * 44_100) / 44_100)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, np.zeros_like(tone)], axis=1), 44_100, subtype="FLOAT")
    heard = read_sound(tmp_path / "stereo.wav", None)
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(heard[200:], expected[200:], atol=1e-3)  # the filter begins within the first samples


def test_the_first_second_of_a_recording_is_heard_or_a_random_one(tmp_path: Path) -> None:
    assert not read_sound(None, None).any()
    ramp = np.arange(48_000) / 48_000
    soundfile.write(tmp_path / "long.wav", ramp, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "long.wav", None), ramp[:16_000], atol=1e-6)
    starts = {read_sound(tmp_path / "long.wav", np.random.default_rng(seed))[0] for seed in range(5)}
    assert len(starts) == 5

"""The distinct faces of a video: who is counted once, who anew, and which picture is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import cbook
from media_files import flat, write_video

from clients.media.faces import FaceBox, TrackedFace, _cut_out, crop_face, faces_over_time, find_faces, track_faces
from clients.media.picture import load_picture
from clients.media.video import VideoFrame, VideoReader

STAGE = 300, 800  # height and width of the scenes


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A real face, 200 pixels high (Grace Hopper, public domain; ships with matplotlib)."""
    portrait = load_picture(Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    return np.asarray(cv2.resize(portrait[60:400, 110:450], (200, 200), interpolation=cv2.INTER_AREA))


def scene(face: np.ndarray, places: dict[int, float], blur: float = 0.0) -> np.ndarray:
    """Faces at places (pixels from the left), each at its size (1: 200 pixels)."""
    picture = flat(90, STAGE)
    for left, size in places.items():
        side = round(200 * size)
        small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
        picture[20 : 20 + side, left : left + side] = cv2.GaussianBlur(small, (0, 0), blur) if blur else small
    return picture


def tracked(*scenes: np.ndarray) -> list[TrackedFace]:
    return track_faces(VideoFrame(float(number), picture) for number, picture in enumerate(scenes))


def test_faces_that_stay_are_counted_once_from_left_to_right(face: np.ndarray) -> None:
    faces = tracked(*[scene(face, {50: 1, 300: 1, 550: 1})] * 3)
    assert [one.index for one in faces] == [0, 1, 2] and [one.seen for one in faces] == [3, 3, 3]
    middles = [one.place.left + one.place.width / 2 for one in faces]
    assert middles == [pytest.approx(left + 100, abs=25) for left in (50, 300, 550)]


def test_a_face_that_moves_slowly_is_one_face(face: np.ndarray) -> None:
    (one,) = tracked(*(scene(face, {50 + 40 * number: 1}) for number in range(6)))
    assert one.seen == 6


def test_a_face_that_comes_back_to_its_place_is_the_same(face: np.ndarray) -> None:
    here, away = scene(face, {50: 1}), scene(face, {})
    (one,) = tracked(here, here, away, away, away, here)
    assert one.seen == 3


def test_the_order_is_that_of_the_first_moment_with_most_faces(face: np.ndarray) -> None:
    # The right one comes first, alone.
    faces = tracked(scene(face, {550: 1}), scene(face, {50: 1, 550: 1}), scene(face, {60: 1, 550: 1}))
    assert [one.place.left < 400 for one in faces] == [True, False] and [one.seen for one in faces] == [2, 3]


def test_the_largest_and_sharpest_picture_is_kept(face: np.ndarray) -> None:
    scenes = [scene(face, {50: 0.8}), scene(face, {50: 1}, blur=3), scene(face, {50: 1}), scene(face, {50: 1}, blur=3)]
    (one,) = tracked(*scenes)
    assert one.time_s == 2


def test_what_is_seen_once_in_many_looks_is_taken_for_a_false_find(face: np.ndarray) -> None:
    both, alone = scene(face, {50: 1, 550: 1}), scene(face, {50: 1})
    assert len(tracked(both, alone, alone)) == 2
    assert len(tracked(both, alone, alone, alone)) == 1


def test_without_faces_there_are_none(face: np.ndarray) -> None:
    assert tracked(flat(90, STAGE), flat(90, STAGE)) == [] and tracked() == []


@pytest.mark.parametrize("left", [0, 3, 301, 600])
def test_the_kept_part_gives_the_same_crop_as_the_whole_picture(face: np.ndarray, left: int) -> None:
    picture = scene(face, {left: 1})
    (box,) = find_faces(picture)
    (one,) = tracked(picture)
    assert one.place == box and one.picture.size < picture.size
    np.testing.assert_array_equal(crop_face(one.picture, one.box, 224), crop_face(picture, box, 224))


@pytest.mark.parametrize("shift", range(4))
def test_the_same_holds_for_boxes_of_any_parity(shift: int) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (400, 500, 3), np.uint8)
    for box in (
        FaceBox(200 + shift, 150, 81, 77),
        FaceBox(201, 151 + shift, 50 + shift, 55),
        FaceBox(shift, shift, 60, 60),
    ):
        part, inside = _cut_out(picture, box)
        np.testing.assert_array_equal(crop_face(part, inside, 96), crop_face(picture, box, 96))


def test_boxes_overlap_by_what_both_cover() -> None:
    box = FaceBox(10, 10, 20, 10)
    assert box.overlap(box) == 1 and box.overlap(FaceBox(40, 10, 20, 10)) == 0
    assert box.overlap(FaceBox(20, 10, 20, 10)) == pytest.approx(1 / 3)


def test_the_faces_of_a_video_are_found(tmp_path: Path, face: np.ndarray) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(face, {50: 1, 550: 1})] * 50, options={"preset": "ultrafast"})
    with VideoReader(path) as reader:
        faces = faces_over_time(reader, 0.5)
    assert [one.seen for one in faces] == [4, 4]


def test_every_real_video_has_one_face(shared_data: Path) -> None:
    for path in sorted((shared_data / "faces").glob("grid_[bls]*.mpg"))[:3]:
        with VideoReader(path) as reader:
            (one,) = faces_over_time(reader, 0.5)
        assert one.seen >= 5 and find_faces(crop_face(one.picture, one.box, 224))


def test_threads_that_look_at_once_find_what_each_would_find_alone(face: np.ndarray) -> None:
    scenes = [scene(face, places) for places in ({50: 1}, {300: 0.8}, {50: 1.2, 500: 0.6}, {})]
    alone = [find_faces(picture) for picture in scenes]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(find_faces, scenes * 10))
    assert together == alone * 10

"""Reading photos and finding the face: what is refused and by which sentence, and where the crop lies."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from matplotlib import cbook
from PIL import ExifTags, Image, ImageOps

from clients.errors import BadInput
from clients.media import video
from clients.media.faces import FaceBox, choose_face, crop_face, find_faces
from clients.media.picture import load_picture
from train.synthetic import faces as drawn


def gradient(height: int = 120, width: int = 160) -> np.ndarray:
    """A smooth colour picture that JPEG keeps almost as it is."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 0 * x + 80], axis=2).astype(np.uint8)


def save(path: Path, rgb: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


def portrait() -> np.ndarray:
    """A real photograph with one face, which matplotlib ships (Grace Hopper, public domain)."""
    return load_picture(Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_comes_back_in_rgb(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"a.{ending}", gradient())
    np.testing.assert_allclose(load_picture(path).astype(int), gradient().astype(int), atol=0 if ending == "png" else 8)


@pytest.mark.parametrize("kind", ["grey", "alpha", "sixteen"])
def test_grey_transparent_and_deep_pictures_become_rgb(tmp_path: Path, kind: str) -> None:
    rgb = gradient()
    grey = np.repeat(rgb[..., :1], 3, axis=2)
    stored = {
        "grey": rgb[..., 0],
        "alpha": cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA),
        "sixteen": grey.astype(np.uint16) * 257,
    }
    assert cv2.imwrite(str(tmp_path / "a.png"), stored[kind])
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png"), rgb if kind == "alpha" else grey)


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P", "LA", "RGBA", "I;16"])
def test_pictures_of_other_kinds_come_out_as_another_library_shows_them(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture = Image.fromarray(gradient())
    if mode == "I;16":
        Image.fromarray(gradient()[..., 0].astype(np.uint16) * 257).save(path)
        shown = np.repeat(gradient()[..., :1], 3, axis=2)
    else:
        picture.convert(mode).save(path)
        shown = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_allclose(load_picture(path).astype(int), shown.astype(int), atol=1)


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(gradient()).save(tmp_path / f"a.{ending}", exif=exif)
    with Image.open(tmp_path / f"a.{ending}") as stored:
        shown = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_allclose(load_picture(tmp_path / f"a.{ending}").astype(int), shown.astype(int), atol=1)


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_picture_cut_short_is_refused(tmp_path: Path, ending: str, share: float) -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    data = save(tmp_path / f"a.{ending}", noisy).read_bytes()
    (tmp_path / f"a.{ending}").write_bytes(data[: int(share * len(data))])
    with pytest.raises(BadInput, match="cut short after"):
        load_picture(tmp_path / f"a.{ending}")


def test_a_thumbnail_does_not_hide_that_the_photo_is_cut_short(tmp_path: Path) -> None:
    data = save(tmp_path / "a.jpg", gradient()).read_bytes()
    small = b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data  # a whole JPEG inside of an application segment
    (tmp_path / "b.jpg").write_bytes(data[:2] + small + data[2:-200])
    with pytest.raises(BadInput, match="cut short"):
        load_picture(tmp_path / "b.jpg")


def test_a_damaged_png_is_refused(tmp_path: Path) -> None:
    data = bytearray(save(tmp_path / "a.png", gradient()).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(BadInput, match="checksum of its part b'IDAT' is wrong"):
        load_picture(tmp_path / "a.png")


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (65_000, 20), (65_500, 65_500), (12_000, 12_000)])
def test_absurd_sizes_are_refused_from_the_header(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "a.png").write_bytes(png_header(width, height) + b"\x00" * 100)
    with pytest.raises(BadInput, match=f"{width}x{height} pixels") as caught:
        load_picture(tmp_path / "a.png")
    assert "16 to 16384 pixels" in str(caught.value)


def test_a_jpeg_65000_pixels_wide_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.zeros((16, 65_000, 3), np.uint8))
    with pytest.raises(BadInput, match="65000x16 pixels"):
        load_picture(path)


def test_another_kind_of_file_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"GIF89a" + b"\x00" * 100)
    with pytest.raises(BadInput, match=r"begins with b'GIF89a"):
        load_picture(tmp_path / "a.jpg")


def test_an_array_of_another_type_is_refused() -> None:
    with pytest.raises(BadInput, match="float64"):
        load_picture(np.zeros((100, 100, 3)))


def test_the_face_of_a_photograph_is_found() -> None:
    (box,) = find_faces(portrait())
    assert (
        abs(box.left + box.width / 2 - 265) < 20 and abs(box.top + box.height / 2 - 216) < 25
    )  # the bridge of the nose


def test_a_photo_without_a_face_is_refused() -> None:
    with pytest.raises(BadInput, match=r"No face was found in wall.jpg .160x120 pixels."):
        choose_face(gradient(), "wall.jpg")


def test_two_faces_are_listed_and_one_can_be_chosen() -> None:
    two = np.hstack([portrait()[:512], portrait()[:512, ::-1]])
    with pytest.raises(BadInput, match=r"2 faces were found in two.jpg .1024x512.*, from left to right 0: \d+x\d+ at"):
        choose_face(two, "two.jpg")
    first, second = (choose_face(two, "two.jpg", index) for index in (0, 1))
    assert first.left < 512 <= second.left
    with pytest.raises(BadInput, match=r"no face 2 in two.jpg .*\n.*from 0 to 1"):
        choose_face(two, "two.jpg", 2)


def test_the_crop_follows_the_rule_in_closed_form() -> None:
    y, x = np.mgrid[0:300, 0:300]
    picture = np.stack([x // 2, y // 2, 0 * x], axis=2).astype(np.uint8)
    crop = crop_face(picture, FaceBox(100, 80, 80, 100), 140)  # s = 50, middle (140, 130)
    # Square from (70, 80) to (210, 220): 140 pixels, so nothing is resized.
    np.testing.assert_array_equal(crop, picture[80:220, 70:210])


def test_the_crop_is_grey_where_it_leaves_the_picture() -> None:
    crop = crop_face(np.full((100, 100, 3), 255, np.uint8), FaceBox(0, 0, 100, 100), 140)
    assert (crop[:100, 20:120] == 255).all()
    outside = np.ones((140, 140), bool)
    outside[:100, 20:120] = False
    assert (crop[outside] == 110).all()


def test_the_crop_is_the_one_that_training_makes() -> None:
    box = drawn.Box(180.0, 120.0, 150.0, 150.0)
    ours = crop_face(portrait(), FaceBox(180, 120, 150, 150), 224)
    theirs = drawn.crop_face(portrait(), box)
    assert np.abs(ours.astype(float) - theirs).mean() < 2


def test_drawn_portraits_have_one_face_where_it_was_drawn() -> None:
    rng = np.random.default_rng(7)
    for number in range(6):
        fullness, length, softness = rng.normal(size=3)
        look = drawn.draw_look("F" if number % 2 else "M", fullness, length, softness, rng)
        picture = drawn.draw_portrait(look, rng)
        (box,) = find_faces(picture.picture)
        assert abs(box.left + box.width / 2 - picture.face.left - picture.face.width / 2) < 0.15 * picture.face.width
        assert 0.8 < box.height / picture.face.height < 1.4


def test_every_face_crop_of_real_people_shows_one_face(shared_data: Path) -> None:
    paths = sorted((shared_data / "faces").glob("*_face1.jpg"))
    assert [len(find_faces(load_picture(path))) for path in paths] == [1] * len(paths)


def test_every_real_video_gives_the_face_that_its_crop_shows(shared_data: Path) -> None:
    for path in sorted((shared_data / "faces").glob("grid_[bls]*.mpg"))[:4]:
        frame = next(video.read_frames(path))
        crop = crop_face(frame, choose_face(frame, path.name), 224)
        assert find_faces(crop), f"the crop from {path.name} has no face in it"


def test_a_video_gives_whole_pictures_of_itself(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gradient(), format="rgb24")))
        container.mux(stream.encode(None))
    frames = list(video.read_frames(tmp_path / "a.mp4"))
    assert len(frames) == 5 and video.has_pictures(tmp_path / "a.mp4")
    for frame in frames:
        np.testing.assert_allclose(frame.astype(int), gradient().astype(int), atol=12)


def test_a_recording_has_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVE" + b"\x00" * 40)
    assert not video.has_pictures(tmp_path / "a.wav")


def test_cropping_a_crop_again_changes_little() -> None:
    crop = crop_face(portrait(), choose_face(portrait(), "photo"), 224)
    box = choose_face(crop, "crop")
    # By the rule the face lies 0.4 / 2.8 of the side from the left, at the top, and is 2 / 2.8 of the side wide.
    assert (box.left, box.top, box.width) == pytest.approx((32, 0, 160), abs=16)

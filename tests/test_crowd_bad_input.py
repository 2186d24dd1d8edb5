"""What crowd data sets hold besides good pictures is read right, counted, or refused with the reason: by both verbs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
import tiny_crowds as tiny
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

import avedge
from clients.media.picture import load_picture
from train.crowd.augment import AugmentSettings
from train.crowd.data import SceneBatches, Source
from train.crowd.models import build_counter, save_counter
from train.crowd.scene import read_picture
from train.errors import TrainError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow untrained CC-AV."""
    path = tmp_path_factory.mktemp("weights") / "crowd_av.safetensors"
    save_counter(path, build_counter("crowd_av", "compact", **tiny.NARROW, density_scale=1e-3), mean_people=4.0)
    return path


def evaluate(capsys: pytest.CaptureFixture[str], weights: Path, folder: Path) -> tuple[int, str, str]:
    code = avedge.main(["evaluate", "crowd", "--data", str(folder), "--weights", str(weights), "--json"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def train(capsys: pytest.CaptureFixture[str], root: Path, folder: Path, run: Path, *more: str) -> tuple[int, str, str]:
    """One step of training; the same folder is validated on."""
    changes = [
        f'--data=[{{"folder": "{folder}"}}]',
        f"--run={run / 'run'}",
        f"--weights={run / 'crowd_av.safetensors'}",
        f"--options={json.dumps(tiny.NARROW | {'density_scale': 1e-3})}",
        "--start_from=null",
        "--batch_size=1",
        "--fit.steps=1",
        "--fit.warmup_steps=1",
        "--fit.accumulate_batches=1",
        *more,
    ]
    config = str(root / "train" / "configs" / "table1_cc_av_compact.yaml")
    code = avedge.main(["train", "crowd", "--config", config, "--", *changes])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ---- pictures ----


def colours() -> NDArray[np.uint8]:
    """Soft blobs, (48, 64, 3) RGB, which JPEG keeps within a few levels."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC), np.uint8)


def write_16_bits(path: Path) -> None:
    assert cv2.imwrite(str(path), colours()[..., ::-1].astype(np.uint16) * 257)


def write_cmyk(path: Path) -> None:
    Image.fromarray(colours()).convert("CMYK").save(path, quality=98, subsampling=0)


def write_transparent(path: Path) -> None:
    Image.fromarray(np.dstack([colours(), np.full((48, 64), 77, np.uint8)])).save(path)


def write_turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    Image.fromarray(np.rot90(colours()).copy()).save(path, quality=98, subsampling=0, exif=exif.tobytes())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("sixteen.png", write_16_bits),
        ("cmyk.jpg", write_cmyk),
        ("transparent.png", write_transparent),
        ("turned.jpg", write_turned),
    ],
)
def test_pictures_of_every_kind_are_read_in_their_colours_as_the_client_reads_them(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    read = read_picture(tmp_path / name)
    np.testing.assert_array_equal(read, load_picture(tmp_path / name))
    assert np.abs(read.astype(int) - colours()).mean() < 3


@pytest.mark.parametrize(("name", "bits"), [("grey.jpg", np.uint8), ("grey.png", np.uint8), ("grey16.png", np.uint16)])
def test_grey_pictures_are_read_as_three_equal_colours(
    tmp_path: Path, name: str, bits: type[np.unsignedinteger]
) -> None:
    grey = colours()[..., 1]
    assert cv2.imwrite(str(tmp_path / name), grey.astype(bits) * bits(257 if bits is np.uint16 else 1))
    read = read_picture(tmp_path / name)
    np.testing.assert_array_equal(read, load_picture(tmp_path / name))
    assert (read == read[..., :1]).all() and np.abs(read[..., 0].astype(int) - grey).mean() < 3


@pytest.mark.parametrize("name", ["IMG_2.jpg", "IMG_2.png"])
@pytest.mark.parametrize("kept_share", [0.0, 0.6])
def test_pictures_that_are_cut_short_are_refused(tmp_path: Path, name: str, kept_share: float) -> None:
    Image.fromarray(colours()).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(kept_share * len(whole))])
    with pytest.raises(TrainError, match=rf"{name} is missing or no whole picture"):
        read_picture(tmp_path / name)


def test_a_folder_of_pictures_of_every_kind_is_judged(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_shanghaitech_pictures(tmp_path, 3)
    for number, (ending, write) in enumerate(((".png", write_16_bits), (".jpg", write_cmyk)), start=1):
        (tmp_path / "images" / f"IMG_{number}.jpg").unlink()
        write(tmp_path / "images" / f"IMG_{number}{ending}")
    assert cv2.imwrite(str(tmp_path / "images" / "IMG_3.jpg"), np.full((36, 48), 90, np.uint8))
    code, out, err = evaluate(capsys, weights, tmp_path)
    assert code == 0, err
    assert json.loads(out)["n"] == 3 and json.loads(out)["heads_outside"] == 0


# ---- heads and maps that do not fit ----


def test_heads_a_little_outside_are_counted_and_told(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    tiny.write_shanghaitech_pictures(tmp_path, 2)
    heads = np.array([[-0.5, 3.0], [tiny.WIDTH + 1.25, 4.0], [tiny.WIDTH, 4.0], [9.0, 9.0]])
    tiny.write_image_info(tmp_path / "ground-truth" / "GT_IMG_1.mat", heads)
    tiny.write_image_info(tmp_path / "ground-truth" / "GT_IMG_2.mat", heads[3:])
    with caplog.at_level(logging.WARNING):
        code, out, _ = evaluate(capsys, weights, tmp_path)
    report = json.loads(out)
    assert code == 0 and report["heads_outside"] == 3 and report["mean_people"] == 2.5
    assert "3 heads of 1 pictures are annotated outside of them" in caplog.text


def foreign_heads(folder: Path) -> None:
    tiny.write_shanghaitech_pictures(folder, 2)
    tiny.write_image_info(folder / "ground-truth" / "GT_IMG_1.mat", np.array([[3.0, 400.0]]))


def foreign_map(folder: Path) -> None:
    tiny.write_disco(folder, {"train": 2, "val": 1, "test": 1})
    for name in ("train/0000", "train/0001", "val/0002", "test/0003"):
        savemat(folder / "density" / f"{name}.mat", {"map": np.ones((tiny.WIDTH, tiny.HEIGHT))})


def another_matlab_file(folder: Path) -> None:
    tiny.write_shanghaitech_pictures(folder, 2)
    savemat(folder / "ground-truth" / "GT_IMG_2.mat", {"annPoints": np.ones((3, 2))})


def no_annotation(folder: Path) -> None:
    tiny.write_shanghaitech_pictures(folder, 2)
    (folder / "ground-truth" / "GT_IMG_2.mat").unlink()


def no_picture(folder: Path) -> None:
    tiny.write_shanghaitech_pictures(folder, 2)
    (folder / "images" / "IMG_2.jpg").unlink()


def short_sound(folder: Path) -> None:
    tiny.write_csv_index(folder, {"train": 1, "val": 1, "test": 1})
    for path in (folder / "sounds").iterdir():
        soundfile.write(path, np.zeros(8_000), 16_000)


def no_sound_inside(folder: Path) -> None:
    tiny.write_csv_index(folder, {"train": 1, "val": 1, "test": 1})
    for path in (folder / "sounds").iterdir():
        path.write_bytes(b"no sound at all")


@pytest.mark.parametrize("verb", ["evaluate", "train"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (foreign_heads, "IMG_1.jpg has 48x36 pixels, but a head up to"),
        (foreign_map, "is a map of 36x48; wanted one of the same aspect"),
        (another_matlab_file, "GT_IMG_2.mat holds annPoints; wanted the variable 'image_info'"),
        (no_annotation, "1 pictures without their annotation: IMG_2.jpg"),
        (no_picture, "1 annotations without their picture: GT_IMG_2.mat"),
        (short_sound, "is 0.500 s long; wanted a second or more"),
        (no_sound_inside, "holds no sound"),
    ],
)
def test_what_does_not_belong_together_is_refused_by_name_before_any_figure(
    tmp_path: Path,
    weights: Path,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    folder = tmp_path / "crowd"
    folder.mkdir()
    damage(folder)
    if verb == "evaluate":
        code, out, err = evaluate(capsys, weights, folder)
    else:
        code, out, err = train(capsys, root, folder, tmp_path)
    assert code == 4 and not out and said in err, err
    assert "Traceback" not in err and not (tmp_path / "crowd_av.safetensors").exists()


def test_mosaics_of_scenes_without_points_are_refused_before_the_first_step(tmp_path: Path) -> None:
    tiny.write_disco(tmp_path, {"train": 2})
    with pytest.raises(TrainError, match=r"imgs/000.*: a density map and no points"):
        SceneBatches([Source(tmp_path)], batch_size=1, seed=0, augment=AugmentSettings(mosaic_share=0.1))
    assert SceneBatches([Source(tmp_path)], batch_size=1, seed=0).batch(0, 0, 1).density.shape == (1, 72, 128)


def test_what_a_loader_worker_refuses_is_told_without_its_traceback(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_csv_index(tmp_path, {"train": 1, "val": 1})
    (tmp_path / "images" / "train_0.png").write_bytes(b"no picture")
    code, _, err = train(capsys, root, tmp_path, tmp_path / "out", "--fit.workers=1")
    assert code == 4 and "train_0.png is missing or no whole picture" in err and "Traceback" not in err

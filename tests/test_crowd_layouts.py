"""Every published layout, written tiny, is recognised and read back; what is wrong in a tree is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_crowds as tiny
from scipy.io import savemat

from train.crowd.layouts import layout_of, read_scenes
from train.crowd.scene import Scene
from train.crowd.splits import held_out
from train.errors import TrainError


def check_heads(scenes: list[Scene], heads: dict[str, tiny.Points]) -> None:
    """Every scene has its picture and exactly its heads."""
    for scene in scenes:
        assert scene.picture.is_file() and scene.points is not None and scene.points.dtype == np.float32
        np.testing.assert_array_equal(scene.points, heads[scene.picture.stem].astype(np.float32))
        assert scene.people == len(heads[scene.picture.stem])


def stems(scenes: list[Scene]) -> list[str]:
    return [scene.picture.stem for scene in scenes]


# ---- splits ----


def test_held_out_is_the_same_tenth_on_every_machine_and_in_any_order() -> None:
    names = [f"IMG_{number}.jpg" for number in range(1, 41)]
    assert held_out(names) == held_out(reversed(names)) == {f"IMG_{number}.jpg" for number in (5, 12, 25, 28)}
    assert [len(held_out(map(str, range(size)))) for size in (300, 400, 2, 1, 0)] == [30, 40, 1, 0, 0]


def test_train_and_val_divide_the_training_pictures_and_test_stays_apart(tmp_path: Path) -> None:
    heads = tiny.write_shanghaitech_pictures(tmp_path / "train_data", 20)
    tiny.write_shanghaitech_pictures(tmp_path / "test_data", 3, seed=1)
    train, val = read_scenes(tmp_path, "train"), read_scenes(tmp_path, "val")
    assert len(train) == 18 and len(val) == 2 and set(stems(train)) | set(stems(val)) == set(heads)
    assert len(read_scenes(tmp_path, "test")) == 3
    names = [scene.name for scene in read_scenes(tmp_path, "all")]
    assert len(set(names)) == 23 and "test_data/images/IMG_1.jpg" in names


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    tiny.write_shanghaitech_pictures(tmp_path, 12)
    assert stems(read_scenes(tmp_path, "all")) == [f"IMG_{number}" for number in range(1, 13)]


def test_a_missing_split_is_refused_with_what_to_ask_for(tmp_path: Path) -> None:
    tiny.write_shanghaitech_pictures(tmp_path / "a" / "train_data", 2)
    tiny.write_shanghaitech_pictures(tmp_path / "b" / "test_data", 2)
    with pytest.raises(TrainError, match=r"has no test split, only train.*`--split val`, a fixed tenth"):
        read_scenes(tmp_path / "a", "test")
    with pytest.raises(TrainError, match="has no val split, only test.*ask for another"):
        read_scenes(tmp_path / "b", "val")


# ---- ShanghaiTech ----


@pytest.mark.parametrize("truth", ["ground-truth", "ground_truth"])
@pytest.mark.parametrize("part", ["part_A", "part_A_final"])
def test_shanghaitech_is_read_in_both_spellings(tmp_path: Path, part: str, truth: str) -> None:
    folder = tmp_path / part
    heads = tiny.write_shanghaitech_pictures(folder / "train_data", 5, truth=truth)
    assert layout_of(folder) == "ShanghaiTech part" and layout_of(tmp_path) == "ShanghaiTech"
    for place in (folder, tmp_path, folder / "train_data"):
        check_heads(read_scenes(place, "train") + read_scenes(place, "val"), heads)
        assert stems(read_scenes(place, "val")) == stems(read_scenes(folder, "val"))  # wherever one starts


def test_a_folder_without_splits_answers_test_and_all_with_everything(tmp_path: Path) -> None:
    heads = tiny.write_shanghaitech_pictures(tmp_path / "my_crowd", 10)
    assert layout_of(tmp_path / "my_crowd") == "ShanghaiTech pictures"
    for split, count in (("test", 10), ("all", 10), ("train", 9), ("val", 1)):
        scenes = read_scenes(tmp_path / "my_crowd", split)  # type: ignore[arg-type]
        assert len(scenes) == count
        check_heads(scenes, heads)


def test_both_parts_keep_their_own_tenth_and_unique_names(tmp_path: Path) -> None:
    for part, count in (("part_A", 10), ("part_B", 20)):
        tiny.write_shanghaitech_pictures(tmp_path / part / "train_data", count)
    val = read_scenes(tmp_path, "val")
    assert [scene.name.split("/")[0] for scene in val] == ["part_A", "part_B", "part_B"]
    assert len({scene.name for scene in read_scenes(tmp_path, "all")}) == 30


def test_pictures_and_annotations_without_each_other_are_named(tmp_path: Path) -> None:
    tiny.write_shanghaitech_pictures(tmp_path, 6)
    for number in (2, 3, 4, 5):
        (tmp_path / "ground-truth" / f"GT_IMG_{number}.mat").unlink()
    with pytest.raises(TrainError, match=r"4 pictures without their annotation: IMG_2.jpg, IMG_3.jpg, .* and 1 more"):
        read_scenes(tmp_path, "all")
    shutil.rmtree(tmp_path / "ground-truth")
    tiny.write_shanghaitech_pictures(tmp_path, 6)
    (tmp_path / "images" / "IMG_6.jpg").unlink()
    with pytest.raises(TrainError, match=r"1 annotations without their picture: GT_IMG_6.mat. Wanted one for each"):
        read_scenes(tmp_path, "all")


def test_endings_of_any_case_are_pictures_and_hidden_files_are_not(tmp_path: Path) -> None:
    tiny.write_shanghaitech_pictures(tmp_path, 3)
    (tmp_path / "images" / "IMG_1.jpg").rename(tmp_path / "images" / "IMG_1.JPEG")
    (tmp_path / "images" / "IMG_2.jpg").rename(tmp_path / "images" / "IMG_2.PNG")
    (tmp_path / "images" / "._IMG_1.jpg").write_bytes(b"left by another system")
    (tmp_path / "ground-truth" / "._GT_IMG_1.mat").write_bytes(b"left by another system")
    assert len(read_scenes(tmp_path, "all")) == 3
    shutil.copy(tmp_path / "images" / "IMG_3.jpg", tmp_path / "images" / "IMG_3.png")
    with pytest.raises(TrainError, match=r"IMG_3.jpg and IMG_3.png share their annotation"):
        read_scenes(tmp_path, "all")


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(500))
    elif how == "zeros":
        path.write_bytes(whole[:128] + bytes(len(whole) - 128))
    elif how == "other variable":
        savemat(path, {"map": np.ones((3, 3))})
    elif how == "other build":
        savemat(path, {"image_info": np.ones((3, 3))})
    elif how == "other shape":
        tiny.write_image_info(path, np.ones((4, 3)))
    else:
        tiny.write_image_info(path, np.array([[1.0, np.nan]]))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", "cannot be read"),
        ("empty", "cannot be read"),
        ("noise", "cannot be read"),
        ("zeros", "IMG_2.mat"),
        ("other variable", "holds map; wanted the variable 'image_info'"),
        ("other build", "`image_info` of another build"),
        ("other shape", r"points of shape \(4, 3\); wanted \(n, 2\)"),
        ("not finite", "not finite"),
    ],
)
def test_a_damaged_or_foreign_annotation_is_named(tmp_path: Path, how: str, message: str) -> None:
    tiny.write_shanghaitech_pictures(tmp_path, 3)
    damage(tmp_path / "ground-truth" / "GT_IMG_2.mat", how)
    with pytest.raises(TrainError, match=message) as caught:
        read_scenes(tmp_path, "all")
    assert "GT_IMG_2.mat" in str(caught.value)


def test_heads_outside_of_the_picture_and_pictures_of_nobody_are_kept(tmp_path: Path) -> None:
    tiny.write_shanghaitech_pictures(tmp_path, 2)
    outside = np.array([[-0.5, 3.0], [tiny.WIDTH + 1.25, 4.0]])
    tiny.write_image_info(tmp_path / "ground-truth" / "GT_IMG_1.mat", outside)
    tiny.write_image_info(tmp_path / "ground-truth" / "GT_IMG_2.mat", np.zeros((0, 0)))
    with_heads, nobody = (scene.points for scene in read_scenes(tmp_path, "all"))
    assert with_heads is not None and np.array_equal(with_heads, outside)
    assert nobody is not None and nobody.shape == (0, 2)


# ---- the others ----


def test_qnrf_is_read_from_its_root_and_from_one_of_its_folders(tmp_path: Path) -> None:
    train = tiny.write_qnrf_pictures(tmp_path / "Train", 10)
    test = tiny.write_qnrf_pictures(tmp_path / "Test", 3, seed=1)
    assert layout_of(tmp_path) == "UCF-QNRF" and layout_of(tmp_path / "Test") == "UCF-QNRF pictures"
    assert [len(read_scenes(tmp_path, split)) for split in ("train", "val", "test", "all")] == [9, 1, 3, 13]
    check_heads(read_scenes(tmp_path, "train"), train)
    check_heads(read_scenes(tmp_path, "test"), test)
    check_heads(read_scenes(tmp_path / "Test", "test"), test)
    (tmp_path / "Test" / "img_0002_ann.mat").unlink()
    with pytest.raises(TrainError, match=r"1 pictures without their annotation: img_0002.jpg"):
        read_scenes(tmp_path, "test")


def test_disco_gives_maps_and_sounds_by_split(tmp_path: Path) -> None:
    heads = tiny.write_disco(tmp_path, {"train": 3, "val": 2, "test": 2})
    assert layout_of(tmp_path) == "DISCO"
    assert [stems(read_scenes(tmp_path, split)) for split in ("train", "val", "test")] == [
        ["0000", "0001", "0002"],
        ["0003", "0004"],
        ["0005", "0006"],
    ]
    for scene in read_scenes(tmp_path, "all"):
        assert scene.points is None and scene.density is not None and scene.sound is not None
        assert scene.sound.name == f"{scene.picture.stem}.wav" and scene.sound.is_file()
        assert scene.people == len(heads[scene.picture.stem])


def test_disco_counts_points_where_there_are_any_and_needs_no_sound_folder(tmp_path: Path) -> None:
    heads = tiny.write_disco(tmp_path, {"train": 3, "test": 1}, points=True)
    (tmp_path / "points" / "new_0001.txt").rename(tmp_path / "points" / "0001.txt")
    shutil.rmtree(tmp_path / "auds")
    scenes = read_scenes(tmp_path, "all")
    check_heads(scenes, heads)
    assert all(scene.sound is None and scene.density is not None for scene in scenes)
    shutil.copy(tmp_path / "points" / "0001.txt", tmp_path / "points" / "old_0001.txt")
    with pytest.raises(TrainError, match=r"0001.txt and .*old_0001.txt are both points of '0001'"):
        read_scenes(tmp_path, "train")


def test_the_cross_scene_split_of_disco_is_read_where_it_stands_alone(tmp_path: Path) -> None:
    tiny.write_disco(tmp_path, {"train": 2, "test": 1}, prefix="cross_scene_")
    assert layout_of(tmp_path) == "DISCO" and len(read_scenes(tmp_path, "test")) == 1


@pytest.mark.parametrize("lost", ["imgs/0001.jpg", "auds/0001.wav"])
def test_a_map_of_disco_without_its_picture_or_sound_is_named(tmp_path: Path, lost: str) -> None:
    tiny.write_disco(tmp_path, {"test": 3})
    (tmp_path / lost).unlink()
    with pytest.raises(TrainError, match=rf"1 density maps without their .* in {lost[:4]}: 0001.mat"):
        read_scenes(tmp_path, "test")


@pytest.mark.parametrize("values", [np.full((3, 3), np.nan), np.ones((2, 2, 2)), np.array([["a"]]), np.zeros((0, 0))])
def test_a_map_that_is_no_density_is_named_when_it_is_counted(tmp_path: Path, values: np.ndarray) -> None:
    tiny.write_disco(tmp_path, {"test": 1})
    savemat(tmp_path / "density" / "test" / "0000.mat", {"map": values})
    with pytest.raises(TrainError, match=r"0000.mat holds a `map` of .* no matrix of finite numbers"):
        _ = read_scenes(tmp_path, "test")[0].people


def test_an_index_of_pictures_and_points_is_read_as_csv_and_as_json(tmp_path: Path) -> None:
    counts = {"train": 10, "test": 2}
    for name, write in (("index.csv", tiny.write_csv_index), ("index.json", tiny.write_json_index)):
        folder = tmp_path / name
        folder.mkdir()
        heads = write(folder, counts)
        assert layout_of(folder) == name
        assert [len(read_scenes(folder, split)) for split in ("train", "val", "test", "all")] == [9, 1, 2, 12]
        check_heads(read_scenes(folder, "all"), heads)
        assert all((scene.sound is not None) == (name == "index.csv") for scene in read_scenes(folder, "all"))


def test_an_index_without_splits_and_points_without_header_are_read(tmp_path: Path) -> None:
    tiny.write_picture(tmp_path / "street.jpg", np.random.default_rng(0))
    (tmp_path / "heads.txt").write_text("3.5 4\n5 6\n\n")
    (tmp_path / "index.csv").write_text("image,points\nstreet.jpg,heads.txt\nstreet.jpg,heads.txt\n")
    first, second = read_scenes(tmp_path, "test")
    assert first.points is not None and first.points.tolist() == [[3.5, 4], [5, 6]]
    assert (first.name, second.name) == ("street.jpg#1", "street.jpg#2")  # one picture twice has two names


def test_a_picture_with_several_sounds_is_never_in_both_train_and_val(tmp_path: Path) -> None:
    tiny.write_csv_index(tmp_path, {"train": 20}, sound=False)
    lines = (tmp_path / "index.csv").read_text().splitlines()
    (tmp_path / "index.csv").write_text("\n".join([*lines, *lines[1:]]) + "\n")
    train, val = read_scenes(tmp_path, "train"), read_scenes(tmp_path, "val")
    assert (len(train), len(val)) == (36, 4) and not set(stems(train)) & set(stems(val))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("split,image\ntest,a.jpg\n", "row 1, has no image or no points"),
        ("split,image,points\ntest,a.jpg,a.csv\nbest,a.jpg,a.csv\n", "row 2, has the split 'best'"),
        ("split,image,points\ntest,b.jpg,a.csv\n", "names 1 files that are not there: .*b.jpg"),
        ("split,image,points,sound\ntest,a.jpg,a.csv,a.wav\n", "not there: .*a.wav"),
        ("split,image,points\ntest,a.jpg,none.csv\n", "none.csv cannot be read"),
        ("split,image,points\ntest,a.jpg,words.csv\n", "words.csv has the line 'one two three'"),
        ("split,image,points\ntest,a.jpg,letters.csv\n", "letters.csv holds points that are no numbers"),
        ("split,image,points,people\ntest,a.jpg,a.csv,7\n", "says 7 people for a.jpg, but 1 points"),
        ("split,image,points\n", "holds no picture of the split 'test'"),
    ],
)
def test_what_is_wrong_in_an_index_is_named(tmp_path: Path, index: str, message: str) -> None:
    tiny.write_picture(tmp_path / "a.jpg", np.random.default_rng(0))
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "words.csv").write_text("x,y\n1,2\none two three\n")
    (tmp_path / "letters.csv").write_text("x,y\n1,b\n")
    (tmp_path / "index.csv").write_text(index)
    with pytest.raises(TrainError, match=message):
        read_scenes(tmp_path, "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ('{"image": "a.jpg"}', "no list of objects"),
        ('[{"image": "a.jpg", "points": [[1, 2, 3]]}]', r"points of shape \(1, 3\)"),
        ('[{"image": "a.jpg", "points": [[1, 2], [3]]}]', "no numbers"),
        ('[{"image": "a.jpg"}]', "row 1, has no image or no points"),
        ('[{"image": 5, "points": []}]', "row 1, has .* a name that is no text"),
    ],
)
def test_what_is_wrong_in_a_json_index_is_named(tmp_path: Path, content: str, message: str) -> None:
    tiny.write_picture(tmp_path / "a.jpg", np.random.default_rng(0))
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(TrainError, match=message):
        read_scenes(tmp_path, "test")


def test_a_folder_in_no_known_layout_is_told_all_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(TrainError, match="no crowd data set") as caught:
        read_scenes(tmp_path, "test")
    known = ("index.csv", "index.json", "ShanghaiTech part", "ShanghaiTech:", "DISCO", "UCF-QNRF", "GT_IMG_n.mat")
    assert all(name in str(caught.value) for name in known)
    with pytest.raises(TrainError, match="is no folder"):
        layout_of(tmp_path / "nowhere")


# ---- the real photographs ----


def test_the_real_part_a_is_divided_into_270_and_30(shared_data: Path) -> None:
    folder = shared_data / "crowd" / "part_A"
    train, val = read_scenes(folder, "train"), read_scenes(folder, "val")
    assert (len(train), len(val), len(read_scenes(folder, "all"))) == (270, 30, 300)
    assert not {scene.name for scene in train} & {scene.name for scene in val}
    assert sum(scene.people for scene in train) + sum(scene.people for scene in val) == 162_413
    assert stems(val)[:3] == ["IMG_1", "IMG_6", "IMG_32"]


def test_both_real_parts_are_read_together_without_losing_anyone(shared_data: Path) -> None:
    scenes = read_scenes(shared_data / "crowd", "all")
    assert len(scenes) == 700 and sum(scene.people for scene in scenes) == 211_564
    assert len(read_scenes(shared_data / "crowd", "val")) == 30 + 40

"""`avedge evaluate crowd`: any layout, any counter, degraded or not, in torch or through a server; and its tables."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import tiny_crowds as tiny
import torch

import avedge
from clients.media.letterbox import Letterbox
from train.crowd.commands import _settings
from train.crowd.evaluation import Options, evaluate
from train.crowd.frame import whole
from train.crowd.geometry import GEOMETRIES
from train.crowd.ground_truth import patch_counts
from train.crowd.layouts import read_scenes
from train.crowd.models import build_counter, save_counter, training_mean_people
from train.crowd.report import TABLE_1, TABLE_3, table_1, table_3, write_report
from train.crowd.scene import Scene, read_picture
from train.crowd.systems import Counted, Observed, TorchSystem, View, find_weights
from train.errors import TrainError

if TYPE_CHECKING:
    from serve.launcher import EmbeddedTriton

MEAN_PEOPLE = 4.0


def write_weights(folder: Path, model: str, mean_people: float | None = None, **options: Any) -> Path:
    torch.manual_seed(0)
    counter = build_counter(model, "compact", **tiny.NARROW | options)
    counter.scale_to(MEAN_PEOPLE)
    path = folder / f"{model}.safetensors"
    save_counter(path, counter, mean_people=mean_people)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of narrow untrained counters."""
    folder = tmp_path_factory.mktemp("weights")
    for model in ("crowd_v", "crowd_av"):
        write_weights(folder, model, MEAN_PEOPLE)
    return folder


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos in ShanghaiTech's layout."""
    folder = tmp_path_factory.mktemp("crowds") / "part_A"
    tiny.write_shanghaitech_pictures(folder / "test_data", 3, truth="ground_truth")
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = avedge.main(["evaluate", "crowd", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class Oracle:
    """Knows the density of every photo; a share of the people is missed."""

    model, geometry, hears, view = "cc-v", GEOMETRIES["regular"], False, View()

    def __init__(self, scenes: Sequence[Scene], seen_share: float = 1.0) -> None:
        self._scenes, self._share = list(scenes), seen_share

    def count(self, observed: Sequence[Observed]) -> list[Counted]:
        answers = []
        for one in observed:
            scene = self._scenes.pop(0)
            assert scene.points is not None
            window = whole(one.photo)
            points = window.move(scene.points)
            covered = window.frame_width / 8, window.frame_height / 8
            columns, rows = (int(np.ceil(cells)) for cells in covered)
            density = np.zeros((72, 128), np.float32)  # each head in its own cell
            np.add.at(density, tuple((points // 8).astype(int).T[::-1]), self._share)
            counts = patch_counts(points)
            shares = counts / max(1.0, float(counts.sum()))
            answers.append(Counted(density[:rows, :columns], covered, shares, counts))
        return answers

    def describe(self) -> dict[str, Any]:
        return {"kind": "oracle"}


def test_one_json_object_says_all_of_a_folder_never_seen(
    part: Path, weights: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        code, out, _ = run(capsys, "--data", part, "--weights", weights, "--json")
    report = json.loads(out)  # exactly one object: anything else on stdout would break it
    assert code == 0 and "3 pictures" in caplog.text and "split test" in caplog.text
    scenes = read_scenes(part, "test")
    truth = np.array([scene.people for scene in scenes])
    assert (report["n"], report["split"], report["truth"]) == (3, "test", "points")
    assert report["mean_people"] == pytest.approx(truth.mean())
    assert report["constant_predictor_mae"] == pytest.approx(np.abs(MEAN_PEOPLE - truth).mean())
    assert report["mae_over_constant"] == pytest.approx(report["mae"] / report["constant_predictor_mae"])
    assert report["game"]["0"] == pytest.approx(report["mae"])
    assert list(report["game"].values()) == sorted(report["game"].values()) and set(report["game"]) == set("0123")
    assert report["rmse"] >= report["mae"] > 0 and report["nae"] > 0
    assert len(report["weights"]["sha256"]) == 64 and report["model"] == "cc-v"
    assert sum(row["n"] for row in report["by_density"]) == 3
    code, table, _ = run(capsys, "--data", part / "test_data", "--weights", weights / "crowd_v.safetensors")
    assert code == 0 and f"{report['mae']:.2f}" in table  # a folder without splits is judged whole


def test_the_count_is_the_density_that_touches_the_photo_as_the_client_counts(part: Path, weights: Path) -> None:
    system = TorchSystem(weights / "crowd_v.safetensors")
    scene = read_scenes(part, "test")[0]
    photo = cv2.resize(read_picture(scene.picture), (50, 61)).astype(np.uint8)  # its border cuts cells
    box = Letterbox.fit(photo, frame_width=1024, frame_height=576)
    with torch.no_grad():
        density = system.counter(torch.from_numpy(box.place(photo)[None]))[0][0].numpy()
    counted = system.count([Observed(photo, np.zeros(16_000, np.float32))])[0]
    assert counted.people == pytest.approx(float(box.remove(density, 8).sum()), rel=1e-5)
    assert counted.covered == (box.width / 8, box.height / 8) and density.sum() > 1.2 * counted.people


def test_an_oracle_makes_no_errors_and_one_that_misses_half_makes_half(part: Path) -> None:
    scenes = read_scenes(part, "test")
    perfect = evaluate(scenes, Oracle(scenes), Options(constant=MEAN_PEOPLE))
    assert perfect["mae"] == perfect["rmse"] == perfect["nae"] == perfect["mae_over_constant"] == 0
    assert perfect["game"]["0"] == perfect["estimates_mae"] == 0
    assert perfect["count_correlation"] == perfect["patch_correlation"] == pytest.approx(1)
    assert perfect["importance_correlation"] == pytest.approx(1)
    half = evaluate(scenes, Oracle(scenes, 0.5), Options())
    assert half["nae"] == pytest.approx(0.5) and half["mae"] == pytest.approx(half["mean_people"] / 2)
    assert half["game"]["1"] == pytest.approx(half["mae"], abs=0.5) and half["constant_predictor_mae"] is None


def test_figures_do_not_depend_on_which_pictures_are_counted_together(tmp_path: Path, weights: Path) -> None:
    tiny.write_shanghaitech_pictures(tmp_path, 5)
    system, scenes = TorchSystem(weights / "crowd_v.safetensors"), read_scenes(tmp_path, "all")
    options = Options("dark_50")
    together = evaluate(scenes, system, options)
    parts = [evaluate(some, system, options) for some in (scenes[3:], scenes[:3])]
    for name in ("mae", "estimates_mae"):
        assert together[name] == pytest.approx((2 * parts[0][name] + 3 * parts[1][name]) / 5, rel=1e-4)


def test_several_settings_are_judged_and_a_picture_all_black_is_the_same_for_each(
    part: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--setting", "noise_25", "--setting", "occlusion_1.0")
    _, out, _ = run(capsys, "--data", part, "--weights", weights, *words, "--json")
    report = json.loads(out)["settings"]
    assert list(report) == ["noise_25", "occlusion_1.0"] and report["noise_25"]["setting"] == "noise_25"
    assert report["occlusion_1.0"]["count_correlation"] is None  # one count for all
    assert report["noise_25"]["mae"] != report["occlusion_1.0"]["mae"]


def test_low_resolution_needs_a_network_of_its_own(
    part: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "--data", part, "--weights", weights, "--setting", "low_resolution")
    assert code == 4 and "128x72" in err and "1024x576" in err
    low = write_weights(tmp_path, "crowd_v", resolution="low", picture_reduction=1, merge_stride=2)
    code, out, _ = run(capsys, "--data", part, "--weights", low, "--json", "--flip")
    report = json.loads(out)
    assert code == 0 and report["setting"] == "low_resolution" and report["game"]["0"] == pytest.approx(report["mae"])
    code, _, err = run(capsys, "--data", part, "--weights", low, "--setting", "regular")
    assert code == 4 and "low_resolution" in err


def test_with_flip_a_mirrored_data_set_has_the_same_counts(part: Path, weights: Path, tmp_path: Path) -> None:
    from avedge_evaluate import spread

    system = TorchSystem(weights / "crowd_v.safetensors", View(flip=True), spread)
    silence = np.zeros(16_000, np.float32)
    photo = read_picture(read_scenes(part, "test")[0].picture)
    mirror = np.ascontiguousarray(photo[:, ::-1])
    one, other = system.count([Observed(photo, silence), Observed(mirror, silence)])
    np.testing.assert_allclose(one.density, other.density[:, ::-1], rtol=1e-4, atol=1e-7)
    plain = TorchSystem(weights / "crowd_v.safetensors")
    first, second = plain.count([Observed(photo, silence), Observed(mirror, silence)])
    assert one.people == pytest.approx((first.people + second.people) / 2, rel=1e-4)
    assert abs(first.people - second.people) > 1e-6


def test_tiles_show_a_photo_larger_and_every_region_is_still_counted_once(
    part: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", part, "--weights", weights, "--limit", 1, "--json")
    _, out, _ = run(capsys, *words, "--tiles", 2)
    report = json.loads(out)
    assert report["n"] == 1 and report["tiles"] == 2 and report["patch_correlation"] is None
    assert report["game"]["0"] == pytest.approx(report["mae"])
    _, out, _ = run(capsys, *words)
    assert json.loads(out)["mae"] != pytest.approx(report["mae"])


def test_a_network_that_hears_is_given_silence_where_there_is_no_sound_and_says_so(
    part: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        code, out, _ = run(capsys, "--data", part, "--weights", weights, "--model", "cc-av", "--json")
    assert code == 0 and json.loads(out)["model"] == "cc-av"
    assert any("3 of 3 pictures have no sound" in record.message for record in caplog.records)
    caplog.clear()
    tiny.write_csv_index(tmp_path, {"test": 2})
    code, out, _ = run(capsys, "--data", tmp_path, "--weights", weights / "crowd_av.safetensors", "--json")
    assert code == 0 and json.loads(out)["n"] == 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_truth_of_a_density_map_is_its_sum_and_that_of_points_their_number(tmp_path: Path) -> None:
    tiny.write_disco(tmp_path, {"test": 3}, points=True)
    scenes = read_scenes(tmp_path, "test")
    by_points = evaluate(scenes, Oracle(scenes), Options())
    assert by_points["mae"] == 0 and by_points["truth"] == "points"
    maps = [Scene(scene.name, scene.picture, density=scene.density) for scene in scenes]
    assert all(scene.density is not None for scene in maps)
    by_maps = evaluate(maps, Oracle(scenes), Options())  # points were wanted; there are none
    assert by_maps["truth"] == "density" and by_maps["mae"] == pytest.approx(0, abs=1e-6)
    both = evaluate(scenes, Oracle(scenes), Options(truth="density"))
    assert both["truth"] == "density" and both["game"] == pytest.approx(by_maps["game"])


def test_the_split_is_test_where_there_is_one_and_else_the_held_out_tenth(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_shanghaitech_pictures(tmp_path / "part_B" / "train_data", 11)
    words = ("--data", tmp_path / "part_B", "--weights", weights, "--json")
    _, out, _ = run(capsys, *words)
    assert (json.loads(out)["split"], json.loads(out)["n"]) == ("val", 1)
    code, _, err = run(capsys, *words, "--split", "test")
    assert code == 4 and "--split val" in err
    code, out, _ = run(capsys, *words, "--split", "train", "--limit", 2)
    assert code == 0 and json.loads(out)["n"] == 2


def test_a_damaged_picture_is_named_and_ends_the_evaluation(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_shanghaitech_pictures(tmp_path, 3)
    (tmp_path / "images" / "IMG_2.jpg").write_bytes(b"no picture")
    code, out, err = run(capsys, "--data", tmp_path, "--weights", weights, "--json")
    assert code == 4 and not out and "IMG_2.jpg" in err and "Traceback" not in err


def test_weights_that_do_not_know_their_training_have_no_constant_unless_it_is_given(
    part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = write_weights(tmp_path, "crowd_v")
    assert training_mean_people(path) is None
    with caplog.at_level(logging.WARNING):
        code, out, _ = run(capsys, "--data", part, "--weights", tmp_path, "--json", "--limit", 1)
    assert code == 0 and json.loads(out)["constant_predictor_mae"] is None
    assert any("--constant" in record.message for record in caplog.records)
    truth = read_scenes(part, "test")[0].people
    _, out, _ = run(capsys, "--data", part, "--weights", tmp_path, "--json", "--limit", 1, "--constant", 20)
    assert json.loads(out)["constant_predictor_mae"] == pytest.approx(20 - truth)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--limit", "0"), 2, "--limit is 0"),
        (("--url", "127.0.0.1:1"), 2, "--through-server"),
        (("--through-server", "--model", "mcnn"), 2, "not mcnn"),
        (("--setting", "fog"), 4, "no setting 'fog'"),
        (("--data", "nowhere"), 4, "nowhere is no folder"),
        (("--model", "csrnet"), 4, "No csrnet.safetensors"),
        (("--interval", "0.9"), 4, "Saw 3 pictures; wanted 12"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_the_reason(
    part: Path, weights: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    found, out, err = run(capsys, "--data", part, "--weights", weights, *words)
    assert (found, out) == (code, "") and said in err


def test_short_names_stand_for_the_columns_of_table_1_and_the_curve_of_figure_6(part: Path) -> None:
    system = Oracle(read_scenes(part, "test"))
    table_1_regular = ["regular", "noise_25", "noise_50", "dark_25", "dark_50"]
    assert _settings(["noise_50", "table_1"], system) == ["noise_50", "regular", "noise_25", "dark_25", "dark_50"]
    curve = _settings(["table_1", "figure_6"], system)
    assert curve[:5] == table_1_regular and curve[5:] == [
        f"occlusion_{rate}" for rate in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    assert _settings(None, system) == ["regular"]
    system.geometry = GEOMETRIES["low"]
    assert _settings(None, system) == _settings(["table_1"], system) == ["low_resolution"]


def test_the_only_counter_of_a_folder_is_the_one_judged(tmp_path: Path) -> None:
    write_weights(tmp_path, "crowd_av")
    assert find_weights(tmp_path).name == "crowd_av.safetensors"


def test_weights_of_another_model_than_named_are_refused(weights: Path) -> None:
    assert find_weights(weights, "cc-av").name == "crowd_av.safetensors"
    assert find_weights(weights).name == "crowd_v.safetensors"
    with pytest.raises(TrainError, match="holds cc-v, but --model says cc-av"):
        find_weights(weights / "crowd_v.safetensors", "cc-av")


# ---- reports ----


def figures(scenes: Sequence[Scene], setting: str, seen_share: float, data: str = "data/scenes") -> dict[str, Any]:
    found = evaluate(scenes, Oracle(scenes, seen_share), Options(setting, constant=MEAN_PEOPLE))
    return {"model": "cc-v", "data": data, "split": "test"} | found


def test_reports_of_several_models_become_one_table_beside_the_papers(part: Path, tmp_path: Path) -> None:
    scenes = read_scenes(part, "test")
    settings = ("regular", "noise_25", "noise_50", "dark_25", "dark_50", "occlusion_0.5", "occlusion_1.0")
    for number, name in enumerate(("cc_v", "cc_av")):
        found = {setting: figures(scenes, setting, 0.9 - 0.2 * number, "data/part_A") for setting in settings}
        write_report(tmp_path, name, {"settings": found}, f"avedge evaluate crowd --name {name}")
    low = figures(scenes, "regular", 0.5) | {"setting": "low_resolution"}
    path = write_report(tmp_path, "cc_v_low_resolution", {"settings": {"low_resolution": low}}, "avedge evaluate crowd")
    written = json.loads(path.read_text())
    assert {"commit", "machine", "packages", "measured_at_utc"} <= set(written["environment"])
    table = (tmp_path / "table.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| CC-V  ")]
    table_1_row = next(row for row in rows if row.count("/") == 7)
    assert f"{low['mae']:.2f} / {low['rmse']:.2f}" in table_1_row and not table_1_row.rstrip(" |").endswith("-")
    for said in (
        "9.24 / 19.81",
        "# Table 2: ShanghaiTech A",
        "58.7",
        "# Figure 6",
        "avedge evaluate crowd --name cc_v",
    ):
        assert said in table
    assert "Table 3" not in table and table.index("| CC-V") < table.index("| CC-AV")
    picture = cv2.imread(str(tmp_path / "occlusion.png"))
    assert picture is not None and picture.std() > 5
    (tmp_path / "cc_v.json").write_text("{}")
    with pytest.raises(TrainError, match=r"cc_v\.json is not a report"):
        write_report(tmp_path, "cc_av", {"settings": {"regular": low}}, "again")


def test_the_papers_own_means_and_increases_come_out_of_its_rows() -> None:
    # crowd.md 1.10: both re-computed by hand from Tables 1 and 3
    row = next(line for line in table_1({"cc_av": {}}).splitlines() if "CC-AV, paper" in line)
    assert row.rstrip(" |").endswith("13.71 / 28.51")
    increases = [row.split("|")[7].strip() for row in table_3({}).splitlines()[2:]]
    assert increases == ["73.2 %", "80.7 %", "67.7 %", "104.5 %", "87.2 %", "50.4 %", "54.8 %", "0.0 %"]
    assert len(TABLE_1) == 6 and len(TABLE_3) == 8


def test_an_ablation_stands_in_table_3_with_its_own_increase(part: Path, tmp_path: Path) -> None:
    scenes = read_scenes(part, "test")
    for name, seen_share in (("default", 0.8), ("one_branch", 0.7)):
        write_report(tmp_path, name, {"settings": {"regular": figures(scenes, "regular", seen_share)}}, "avedge")
    row = next(
        line for line in (tmp_path / "table.md").read_text().split("# Table 3")[1].splitlines() if "only S1" in line
    )
    assert row.split("|")[3].strip() == row.split("|")[5].strip() == "50.0 %"


# ---- committed weights ----


def test_the_command_counts_real_photographs(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--data", shared_data / "crowd" / "part_A", "--limit", 2, "--constant", 500, "--json")
    report = json.loads(out)
    assert code == 0 and report["n"] == 2 and report["split"] == "val" and 0 < report["mae"] < 5000


def test_a_served_counter_gives_the_figures_of_the_network_in_torch(
    server: EmbeddedTriton, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_csv_index(tmp_path, {"test": 2})
    for model in ("cc-v", "cc-av"):
        words = ("--data", tmp_path, "--weights", root / "train" / "weights", "--model", model, "--json", "--limit", 1)
        _, out, _ = run(capsys, *words)
        code, through, err = run(capsys, *words, "--through-server", "--url", server.grpc_url)
        assert code == 0, err
        own, served = json.loads(out), json.loads(through)
        truth = own["mean_people"]
        counts = [truth + report["by_density"][0]["bias"] for report in (own, served)]
        assert counts[1] == pytest.approx(counts[0], rel=1e-3)
        assert served["system"]["kind"] == "served"
        assert served["importance_correlation"] == pytest.approx(own["importance_correlation"], abs=0.01)
    several = (*words, "--tiles", 2, "--flip")
    own, served = (json.loads(run(capsys, *several, *more)[1]) for more in ((), ("--through-server", server.grpc_url)))
    assert served["by_density"][0]["bias"] + truth == pytest.approx(own["by_density"][0]["bias"] + truth, rel=1e-3)

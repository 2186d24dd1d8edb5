"""`avedge count` of videos, folders and regions: table, plot, video and JSON say the same, and nothing half is left."""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from fake_triton import FakeTriton, crowd_of, serving
from tiny_videos import tones, write_video

from clients.commands import count as count_command
from clients.errors import BadInput

LEFT, RIGHT = "left=0%,0%,50%,0%,50%,100%,0%,100%", "right=50%,0%,100%,0%,100%,100%,50%,100%"


def people_of(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A counter that reads its number off the picture's middle, and puts all into the left half of a 4:3 photo."""
    density = np.zeros((72, 128), np.float32)
    density[36, 20] = round(float(inputs["picture"][280:296, 380:388].mean()) / 5)
    return crowd_of(density)(inputs)


@pytest.fixture
def fake() -> FakeTriton:
    return FakeTriton({"crowd_counting": people_of, "crowd_counting_vision": people_of})


@pytest.fixture
def url(fake: FakeTriton) -> Iterator[str]:
    with serving(fake) as address:
        yield address


def grey(people: int) -> np.ndarray:
    """A picture in which the fake counter finds so many."""
    return np.full((96, 128, 3), 5 * people, np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six seconds with 10, 20, 30, 27, 22 and 10 people, and sound that is silent around second 3."""
    people = [10, 20, 30, 27, 22, 10]
    sound = tones([500.0] * 6)
    sound[40_000:56_000] = 0
    return write_video(tmp_path / "square.mkv", seconds=6, picture_at=lambda t: grey(people[int(t)]), sound=sound)


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    count_command.add_arguments(parser)
    return count_command.run(parser.parse_args([str(word) for word in words]))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_video_gives_a_table_a_plot_and_a_line_that_says_why_the_sound_was_not_heard(
    tmp_path: Path, url: str, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(video, "--url", url, "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["square.counts.csv", "square.counts.png"]
    rows = table(tmp_path / "out/square.counts.csv")
    assert [float(row["time_s"]) for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [float(row["count"]) for row in rows] == [10, 20, 30, 27, 22, 10]
    assert [row["fallback_reason"] for row in rows] == ["", "", "", "silent_second", "", ""]
    assert [row["model"] for row in rows][2:4] == ["crowd_counting", "crowd_counting_vision"]
    assert cv2.imread(str(tmp_path / "out/square.counts.png")).std() > 10
    out = capsys.readouterr().out
    assert "19.8 people on average, 30.0 at most at 2 s, of 6 pictures" in out
    assert "picture and sound in 5; picture alone in 1: this second of the sound is silent" in out


def test_json_gives_a_line_for_each_second_and_the_same_numbers_as_the_table(
    tmp_path: Path, url: str, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (video, "--url", url, "-o", tmp_path / "out", "--region", LEFT, "--region", RIGHT, "--json")
    assert run(*words, "--every", 0.5) == 0
    *samples, last = said(capsys)
    rows = table(tmp_path / "out/square.counts.csv")
    assert len(samples) == len(rows) == 12
    for one, row in zip(samples, rows, strict=True):
        assert one["status"] == "counting" and one["input"] == str(video) and one["schema_version"] == 1
        sample = one["sample"]
        assert float(row["time_s"]) == sample["time_s"] and float(row["count"]) == sample["count"]
        for region in ("left", "right"):
            assert float(row[f"count_{region}"]) == sample["regions"][region]["count"]
        assert (row["fallback_reason"] or None) == sample["fallback_reason"] and row["model"] == sample["model"]
        assert sample["regions"]["left"]["count"] == sample["count"] and sample["regions"]["right"]["count"] == 0
    assert last["status"] == "done" and set(last["outputs"]) == {"counts_csv", "counts_png"}
    result = last["result"]
    assert result["samples"] == 12 and result["ended_by"] == "end" and result["counts"]["total"]["max"] == 30
    assert result["counts"]["left"] == result["counts"]["total"]
    assert result["fallbacks"] == {"silent_second": 12 - result["heard_samples"]}
    assert set(result["models"]) == {"crowd_counting", "crowd_counting_vision"}


def test_an_alarm_is_told_held_and_marked(
    tmp_path: Path, url: str, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (video, "--url", url, "--region", LEFT, "--alarm", 25, "--alarm-clear", 20, "--alarm", "left=28")
    assert run(*words, "-o", tmp_path / "out") == 0
    rows = table(tmp_path / "out/square.counts.csv")
    assert [row["alarms"] for row in rows] == ["", "", "total;left", "total;left", "total", ""]  # left ends below 25.2
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in told] == [
        "2 s: alarm: 30.0 people, 25 or more",
        "2 s: alarm: 30.0 people in left, 28 or more",
        "4 s: alarm over: 22.0 people in left, fewer than 25.2",
        "5 s: alarm over: 10.0 people, fewer than 20",
    ]
    assert run(*words, "-o", tmp_path / "json", "--json") == 0
    captured = capsys.readouterr()
    *samples, last = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == ""
    assert [one["sample"]["alarms"] for one in samples] == [
        row["alarms"].split(";") if row["alarms"] else [] for row in rows
    ]
    changes = [change for one in samples for change in one["sample"]["alarm_changes"]]
    assert changes == last["result"]["alarm_changes"] and len(changes) == 4
    assert changes[0] == {"time_s": 2, "watched": "total", "raised": True, "count": 30, "threshold": 25}


def test_an_annotated_video_comes_with_the_table(tmp_path: Path, url: str, video: Path) -> None:
    assert run(video, "--url", url, "-o", tmp_path / "out", "--video", "--duration", 2.5, "--quiet") == 0
    assert names(tmp_path / "out") == ["square.counted.mp4", "square.counts.csv", "square.counts.png"]
    assert len(table(tmp_path / "out/square.counts.csv")) == 3
    with av.open(str(tmp_path / "out/square.counted.mp4")) as container:
        assert len(container.streams.audio) == 1
        assert sum(1 for _ in container.decode(video=0)) == 20


def test_without_its_sound_only_the_model_that_sees_is_asked(
    tmp_path: Path, url: str, fake: FakeTriton, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(video, "--url", url, "-o", tmp_path / "out", "--no-sound", "--json") == 0
    *samples, _ = said(capsys)
    assert {one["sample"]["fallback_reason"] for one in samples} == {"sound_off"}
    assert all(set(request) == {"picture"} for request in fake.requests)


def test_a_server_that_only_sees_counts_what_has_no_sound_and_refuses_the_rest(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(FakeTriton({"crowd_counting_vision": people_of})) as url:
        assert run(video, "--url", url, "-o", tmp_path / "out", "--no-sound") == 0
        assert run(video, "--url", url, "-o", tmp_path / "heard") == 6
    assert "does not serve crowd_counting" in capsys.readouterr().err
    assert names(tmp_path / "heard") == []


def test_a_folder_of_photos_and_videos_is_counted_and_not_counted_again(
    tmp_path: Path, url: str, fake: FakeTriton, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "site"
    (folder / "monday").mkdir(parents=True)
    video.rename(folder / "monday" / "square.mkv")
    cv2.imwrite(str(folder / "gate.png"), grey(12))
    (folder / "notes.txt").write_text("no media")
    words = (folder, "--url", url, "-o", tmp_path / "out", "--json", "--jobs", 2)
    assert run(*words) == 0
    assert {one["input"] for one in said(capsys) if one["status"] == "done"} == {
        str(folder / "gate.png"),
        str(folder / "monday/square.mkv"),
    }
    assert names(tmp_path / "out") == ["gate.density.npy", "gate.density.png", "monday"]
    assert names(tmp_path / "out/monday") == ["square.counts.csv", "square.counts.png"]
    asked = len(fake.requests)
    assert run(*words) == 0
    again = said(capsys)
    assert [one["status"] for one in again] == ["skipped", "skipped"] and len(fake.requests) == asked
    assert {one["result"].get("samples", one["result"].get("count")) for one in again} == {6, 12}
    assert run(*words, "--alarm", 5) == 3, "results of other settings are not replaced unasked"


def test_standard_input_is_called_so(tmp_path: Path, url: str, video: Path) -> None:
    words = ["count", "-", "--url", url, "--output", str(tmp_path / "out"), "--json"]
    with video.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "avedge", *words], stdin=file, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 7 and {one["input"] for one in lines} == {"stdin"}
    assert names(tmp_path / "out") == ["stdin.counts.csv", "stdin.counts.png"]


def test_a_photos_regions_and_alarms_stand_in_line_warning_and_json(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "gate.png"
    cv2.imwrite(str(photo), grey(12))
    site = tmp_path / "site.json"
    site.write_text('{"all": [[0, 0], [128, 0], [128, 96], [0, 96]]}')
    words = (photo, "--url", url, "-o", tmp_path / "out", "--regions", site, "--region", RIGHT, "--alarm", "all=12")
    assert run(*words) == 0
    captured = capsys.readouterr()
    assert "12.0 people, all 12.0, right 0.0 (picture alone, " in captured.out
    assert " s; no sound was given with the picture)\n" in captured.out
    assert captured.err == f"{photo}: warning: alarm: 12.0 people in all, 12 or more\n"
    assert run(*words, "--json", "--overwrite") == 0
    (one,) = said(capsys)
    assert one["result"]["alarms"] == ["all"] and one["result"]["fallback_reason"] == "no_sound_given"
    assert one["result"]["regions"]["all"] == {"count": 12, "area_share": 1}


@pytest.mark.parametrize("options", [("--region", "far=500,500,600,500,600,600"), ("--tiles", "2")])
def test_a_video_that_cannot_be_counted_so_leaves_nothing(
    tmp_path: Path, url: str, video: Path, options: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(video, "--url", url, "-o", tmp_path / "out", "--video", *options)
    if options[0] == "--region":
        assert code == 4 and "Region far lies beyond the photo of 128x96 pixels" in capsys.readouterr().err
        assert names(tmp_path / "out") == []
    else:
        assert code == 0 and "the tiles magnify the photo" in capsys.readouterr().err


def test_a_server_that_goes_away_leaves_nothing_of_a_video(tmp_path: Path, fake: FakeTriton, video: Path) -> None:
    with serving(fake) as url:
        answer = fake.answers["crowd_counting"]

        def leave(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            if len(fake.requests) > 3:
                fake.configs.clear()
                raise RuntimeError("out of memory")
            return answer(inputs)

        fake.answers["crowd_counting"] = leave
        assert run(video, "--url", url, "-o", tmp_path / "out", "--video", "--timeout", 2) in (5, 6, 7)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a.jpg", "--camera", "0"],
        ["a.jpg", "--stream", "rtsp://camera/live"],
        ["--camera", "0", "--stream", "rtsp://camera/live"],
        ["a.jpg", "--region", "gate=1,2,3"],
        ["a.jpg", "--region", LEFT, "--region", LEFT],
        ["a.jpg", "--alarm", "many"],
        ["a.jpg", "--alarm", "gate=5"],
        ["a.jpg", "--alarm-clear", "5"],
        ["a.jpg", "--strength", "1.1"],
        ["a.jpg", "--every", "0"],
        ["a.jpg", "--every", "0.001"],
        ["a.jpg", "--every", "4000"],
        ["a.jpg", "--duration", "-1"],
    ],
)
def test_a_command_line_that_makes_no_sense_exits_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert caught.value.code == 2 and "error: " in capsys.readouterr().err


def test_a_file_of_regions_that_does_not_read_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "site.json").write_text("gate: 1, 2")
    with pytest.raises(BadInput, match="The regions of .*site.json do not read") as caught:
        run("a.jpg", "--regions", tmp_path / "site.json")
    assert caught.value.exit_code == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_what_is_no_file_is_refused_and_not_waited_for(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert run(tmp_path / "pipe.mp4", "--url", url, "-o", tmp_path / "out") == 4
    assert run(tmp_path / "absent.mp4", "--url", url, "-o", tmp_path / "out") == 4
    assert "There is no file" in capsys.readouterr().err

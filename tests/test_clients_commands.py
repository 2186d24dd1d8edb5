"""`avedge separate` and `avedge count`: what stands on standard output, in the folder, and in the exit code."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import soundfile
from fake_triton import FakeTriton, crowd_of, same_voice, serving
from matplotlib import cbook

import avedge
from clients.commands import count as count_command
from clients.commands import separate as separate_command
from clients.errors import OutputFailed

PORTRAIT = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
DENSITY = np.full((72, 128), 0.001, np.float32)


def run(command: ModuleType, *words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def url() -> Iterator[str]:
    fake = FakeTriton(
        {"facefilter": same_voice, "crowd_counting": crowd_of(DENSITY), "crowd_counting_vision": crowd_of(DENSITY)}
    )
    with serving(fake) as address:
        yield address


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", np.random.default_rng(0).normal(0, 0.1, 44_100), 44_100)
    return tmp_path / "talk.wav"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "square.jpg"), np.random.default_rng(0).integers(0, 255, (300, 500, 3), np.uint8))
    return tmp_path / "square.jpg"


def names(folder: Path) -> list[str]:
    """What people see; the records of what is finished are hidden."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_separate_writes_voice_and_spectrogram_and_one_json_object(
    tmp_path: Path, url: str, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(separate_command, recording, "--face", PORTRAIT, "--url", url, "-o", tmp_path / "out", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["schema_version"] == 1 and said["command"] == "separate" and said["input"] == str(recording)
    assert said["outputs"] == {
        "voice_wav": str(tmp_path / "out/talk.voice.wav"),
        "spectrogram_png": str(tmp_path / "out/talk.spectrogram.png"),
    }
    assert said["result"]["samples"] == 44_100 and said["result"]["level_change_db"] == pytest.approx(0, abs=5)
    assert said["result"]["contract_digest"] and said["timings_s"]["total"] > 0
    assert names(tmp_path / "out") == ["talk.spectrogram.png", "talk.voice.wav"]
    assert soundfile.info(tmp_path / "out/talk.voice.wav").frames == 44_100


def test_count_writes_overlay_and_density_and_one_json_object_per_photo(
    tmp_path: Path, url: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = photo.with_name("park.jpg")
    other.write_bytes(photo.read_bytes())
    assert run(count_command, photo, other, "--url", url, "-o", tmp_path / "out", "--json") == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(one["input"]).name for one in said] == ["square.jpg", "park.jpg"]
    assert said[0]["result"]["count"] == pytest.approx(72 * 120 * 0.001, abs=0.01)  # 960 of 1024 pixels
    assert said[0]["result"]["model"] == "crowd_counting_vision"
    assert names(tmp_path / "out") == [
        "park.density.npy",
        "park.density.png",
        "square.density.npy",
        "square.density.png",
    ]


def test_count_hears_the_sound(
    tmp_path: Path, url: str, photo: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(count_command, photo, "--sound", recording, "--url", url, "-o", tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["result"]["model"] == "crowd_counting"


def test_people_read_one_line_and_the_names_of_the_files(
    tmp_path: Path, url: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(count_command, photo, "--url", url, "-o", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "8.6 people (picture alone" in out and str(tmp_path / "out/square.density.png") in out
    assert run(count_command, photo, "--url", url, "-o", tmp_path / "out", "--overwrite", "--quiet") == 0
    assert capsys.readouterr().out == ""


def test_count_says_how_the_photo_was_seen(
    tmp_path: Path, url: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (photo, "--url", url, "-o", tmp_path / "out", "--overwrite")
    assert run(count_command, *words, "--tiles", 2, "--flip") == 0
    captured = capsys.readouterr()
    assert "(picture alone, 2x2 tiles, mirror image too, " in captured.out and "magnify the photo" in captured.err
    assert run(count_command, *words, "--tiles", "auto", "--json") == 0
    assert json.loads(capsys.readouterr().out)["result"]["tiles"] == {"rows": 1, "columns": 1, "scale": 1.92}


@pytest.mark.parametrize("text", ["0", "9", "2.5", "all"])
def test_tiles_must_be_a_number_or_auto(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(count_command, "a.jpg", "--tiles", text)
    assert caught.value.code == 2


def test_a_single_bad_input_exits_with_its_own_code_and_leaves_nothing(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_text("hello")
    assert run(count_command, tmp_path / "bad.jpg", "--url", url, "-o", tmp_path / "out", "--json") == 4
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert (
        said["error"]["kind"] == "BadInput"
        and said["error"]["exit_code"] == 4
        and "neither JPEG" in said["error"]["seen"]
    )
    assert "neither JPEG nor PNG" in captured.err
    assert names(tmp_path / "out") == []


def test_one_bad_input_of_several_is_reported_and_the_others_are_done(
    tmp_path: Path, url: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_text("hello")
    assert run(count_command, tmp_path / "bad.jpg", photo, "--url", url, "-o", tmp_path / "out", "--json") == 3
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in one for one in said] == [True, False]
    assert names(tmp_path / "out") == ["square.density.npy", "square.density.png"]


def test_no_face_in_the_photo_exits_4(
    tmp_path: Path, url: str, recording: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(separate_command, recording, "--face", photo, "--url", url, "-o", tmp_path / "out") == 4
    assert "No face was found" in capsys.readouterr().err
    assert run(separate_command, recording, "--face", photo, "--face-crop", "--url", url, "-o", tmp_path / "out") == 0


def test_an_absent_server_exits_5_and_ends_the_run(
    tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = photo.with_name("park.jpg")
    other.write_bytes(photo.read_bytes())
    words = ["count", photo, other, "--url", "127.0.0.1:1", "--timeout", 1, "-o", tmp_path / "out"]
    assert avedge.main([str(word) for word in words]) == 5
    assert capsys.readouterr().err.count("No server answers") == 1
    assert names(tmp_path / "out") == []


def test_earlier_results_are_kept_unless_told_otherwise(
    tmp_path: Path, url: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/square.density.png").write_text("earlier")
    assert run(count_command, photo, "--url", url, "-o", tmp_path / "out") == 8
    assert "square.density.png is there already" in capsys.readouterr().err
    assert (tmp_path / "out/square.density.png").read_text() == "earlier"
    assert names(tmp_path / "out") == ["square.density.png"]
    assert run(count_command, photo, "--url", url, "-o", tmp_path / "out", "--overwrite") == 0
    assert len(names(tmp_path / "out")) == 2


def test_a_folder_that_cannot_be_written_is_told_before_any_work(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "out").write_text("a file stands where the folder should be")
    with pytest.raises(OutputFailed, match="Nothing could be written to .*out: File exists") as caught:
        run(count_command, photo, "--url", "127.0.0.1:1", "-o", tmp_path / "out")
    assert caught.value.exit_code == 8


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs /proc, where nobody may write")
def test_a_folder_without_rights_is_told(photo: Path) -> None:
    with pytest.raises(OutputFailed, match="Nothing could be written to /proc/avedge"):
        run(count_command, photo, "--url", "127.0.0.1:1", "-o", "/proc/avedge")


def test_control_characters_in_names_stay_off_the_terminal(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(count_command, tmp_path / "a\x1b[2Jb.jpg", "--url", url, "-o", tmp_path / "out") == 4
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err and r"a\x1b[2Jb.jpg" in captured.err


@pytest.mark.parametrize("text", ["0", "-1", "inf", "soon"])
def test_a_timeout_must_be_a_number_of_seconds(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(count_command, "a.jpg", "--timeout", text)
    assert caught.value.code == 2

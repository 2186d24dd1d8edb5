"""The pages on data of one's own: programs and commands are run as printed, on a few drawn people and pictures."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
import yaml
from doc_pages import ROOT, blocks, console
from separation_parts import make_video
from tiny_crowds import NARROW, write_csv_index

import avedge
from clients.media.faces import find_faces
from clients.media.video import VideoReader
from train.corpus.layout import read_speakers, read_stills
from train.crowd.layouts import read_scenes
from train.synthetic.faces import draw_portrait
from train.synthetic.speech import Synthesizer
from train.synthetic.talkers import Person, draw_person, look_of, speak

FACES, CROWDS = ROOT / "docs" / "own_faces.md", ROOT / "docs" / "own_crowds.md"
# As printed but for sizes and steps: everything ends in seconds.
SMALL = {"fit": {"steps": 1, "validate_every_steps": 1, "warmup_steps": 1}}
TINY = {
    "own_identity.yaml": SMALL | {"speakers_per_batch": 2},
    "own_separator.yaml": SMALL | {"mixtures_per_batch": 1, "face_variants": 1},
    "own.yaml": SMALL | {"batch_size": 1, "start_from": None, "options": {"reduction": "unshuffle", **NARROW}},
}
SHORTER = {
    "avedge mix": "--per-subset 1 --val 1",
    "avedge evaluate identity": "--pieces 1",
    "avedge evaluate facefilter": "--jobs 0",
}
RUN_ELSEWHERE = "avedge export --weights runs/own"  # test_own_weights does this


def write_configs(page: Path, folder: Path) -> None:
    """The page's configs under the names that its commands have for them."""
    names = [word for line in console(page) for word in line.split() if word.endswith(".yaml")]
    for name, text in zip(names, blocks(page.read_text(), "yaml"), strict=True):
        config = yaml.safe_load(text)
        small = {**TINY[name], "fit": {**config["fit"], **TINY[name]["fit"]}}
        (folder / name).write_text(yaml.safe_dump({**config, **small}))


def follow(page: Path, lines: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Type the lines; what each says."""
    said = {}
    for line in lines:
        extra = next((flags for start, flags in SHORTER.items() if line.startswith(start)), "")
        code = avedge.main([*shlex.split(line)[1:], *extra.split()])
        told = capsys.readouterr()
        assert code == 0, f"{page.name}: {line}\n{told.out[-500:]}{told.err[-2_000:]}"
        said[line] = told.out
    return said


def film(path: Path, person: Person, sound: np.ndarray, rng: np.random.Generator) -> None:
    """A video of somebody in whom the detector sees a face; it does not in every drawing."""
    for _ in range(10):
        picture = cv2.resize(draw_portrait(look_of(person, rng), rng).picture, (240, 240), interpolation=cv2.INTER_AREA)
        make_video(path, [picture] * 15, sound)
        with VideoReader(path) as reader:
            if len(find_faces(next(iter(reader.frames())).picture)) == 1:
                return
    raise AssertionError(f"no face was seen in {path}")


def write_people(folder: Path) -> int:
    """Videos as the table on the page has them."""
    table = next(block for block in blocks(FACES.read_text(), "") if block.startswith("file,speaker"))
    (folder / "people.csv").write_text(table)
    rng = np.random.default_rng(7)
    people: dict[str, Person] = {}
    rows = list(csv.DictReader(table.splitlines()))
    for row in rows:
        person = people.setdefault(row["speaker"], draw_person(row["sex"], rng))
        with Synthesizer() as synthesizer:
            voice = speak(person, synthesizer, rng)
        voice = np.tile(voice, 2)[: 3 * 16_000]  # three seconds
        path = folder / row["file"]
        path.parent.mkdir(exist_ok=True)
        film(path, person, np.repeat(voice, 3)[: 3 * 44_100], rng)
    return len(rows)


@pytest.mark.slow
def test_the_page_on_faces_leads_from_videos_to_judged_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own").mkdir()
    clips = write_people(Path("own"))
    Path("train").symlink_to(ROOT / "train")
    write_configs(FACES, tmp_path)
    bring_in, group = blocks(FACES.read_text(), "python")
    exec(compile(bring_in, FACES.name, "exec"), {})
    assert f"{clips} clips of 10 people" in capsys.readouterr().out
    (anna,) = (one for one in read_speakers(Path("data/own"), "train") if one.name == "anna")
    assert [clip.video for clip in anna.clips] == ["monday", "monday"]
    assert len(read_stills(anna.clips[0].stills(Path("data/own")))) >= 8

    lines = [line for line in console(FACES) if line != RUN_ELSEWHERE]
    *before, by_group = lines
    said = follow(FACES, before, capsys)
    assert {path.name for path in Path("runs/own").glob("*.safetensors")} == {
        "facefilter_identity.safetensors", "facefilter_voice_identity.safetensors", "facefilter_separator.safetensors",
    }  # fmt: skip
    assert "SDRi" in said["avedge evaluate facefilter --data data/own"]
    exec(compile(group, FACES.name, "exec"), {})
    (out,) = follow(FACES, [by_group], capsys).values()
    assert re.search(r"\| glasses +\|", out) and re.search(r"\| none +\|", out)


@pytest.mark.slow
def test_the_page_on_crowds_leads_from_pictures_to_a_judged_counter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv_index(Path("data/own"), {"train": 3, "val": 2, "test": 1}, sound=False)
    rng = np.random.default_rng(0)
    for name in ("ambient/street.wav", "ambient/market.wav", "speech/ann/1.wav", "speech/bob/1.wav"):
        path = Path("data", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 16 * 16_000), 16_000)
    Path("train").symlink_to(ROOT / "train")
    write_configs(CROWDS, tmp_path)
    said = follow(CROWDS, [line for line in console(CROWDS) if line != RUN_ELSEWHERE], capsys)
    assert Path("runs/own/crowd_v.safetensors").is_file()
    judged = json.loads(next(text for line, text in said.items() if "--json" in line))
    assert judged["split"] == "val" and judged["flip"] and judged["tiles"] == 2


def test_the_tables_on_the_page_on_crowds_are_read(tmp_path: Path) -> None:
    text = CROWDS.read_text()
    table = next(block for block in blocks(text, "") if block.startswith("split,image"))
    for row in csv.DictReader(table.splitlines()):
        for name in filter(None, (row["image"], row["points"], row["sound"])):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("310,122\n" if name == row["points"] else "")
    (tmp_path / "index.csv").write_text(table)
    scenes = read_scenes(tmp_path, "train")
    assert [len(scene.points) for scene in scenes] == [1, 1] and scenes[1].sound is None
    assert len(read_scenes(tmp_path, "val")) == len(read_scenes(tmp_path, "test")) == 1

    listed = text.split("`index.json` has the points inside: `")[1].split("`")[0]
    folder = tmp_path / "json"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "gate_01.jpg").touch()
    (folder / "index.json").write_text(listed)
    (scene,) = read_scenes(folder, "all")
    np.testing.assert_array_equal(scene.points, [[310, 122], [402, 98]])

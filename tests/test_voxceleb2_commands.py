"""The commands of docs/facefilter.md on a tiny VoxCeleb2 of real AAC and MP4 files: from the release to Table 3."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from tiny_voxceleb2 import write_tiny_voxceleb2

import avedge
from train.corpus.mixtures import read_list

ONE_STEP = "--fit.steps=1 --fit.warmup_steps=0 --fit.workers=0"
SMALL_NETWORK = "'--options={channels: 4, features: 4, mask_blocks: 1}' --mixtures_per_batch=1"
SMALLER = {  # so little that the paper's sizes end in seconds
    "avedge prepare": "--jobs 1 --stills 3 --val-speakers 4",
    "avedge mix": "--per-subset 1 --val 1",
    "avedge train identity": f"-- {ONE_STEP} --speakers_per_batch=2",
    "avedge train facefilter": f"-- {ONE_STEP} {SMALL_NETWORK}",
    "avedge evaluate facefilter": "--jobs 1",
}


def commands(page: str) -> list[list[str]]:
    """The commands of the page's first section, made small."""
    section = page.split("## With VoxCeleb2")[1].split("\n## ")[0]
    lines = re.findall(r"^    (avedge .*)$", section, flags=re.MULTILINE)
    return [shlex.split(f"{line} {next(v for k, v in SMALLER.items() if line.startswith(k))}") for line in lines]


def test_the_papers_experiment_runs_from_the_release_to_table_3(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_voxceleb2(tmp_path / "VOXCELEB2")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "configs").symlink_to(root / "train" / "configs")
    monkeypatch.chdir(tmp_path)
    found = commands((root / "docs" / "facefilter.md").read_text())
    assert [words[1] for words in found] == ["prepare", "mix", "train", "train", "evaluate"]
    for words in found:
        assert avedge.main(words[1:]) == 0, capsys.readouterr().err
    assert len(read_list(tmp_path / "data" / "voxceleb2" / "mixtures" / "test.csv")) == 8
    report = json.loads((tmp_path / "results" / "attention_srl.json").read_text())
    assert set(report["subsets"]) == {"seen-heard", "unseen-unheard"} and report["table2"]["n"] == 8
    assert report["drawn_faces"] == 0 and report["skipped"] == []
    table = (tmp_path / "results" / "table.md").read_text()
    assert "3.830" in table and "94.5" in table  # the paper's unseen F-M beside ours

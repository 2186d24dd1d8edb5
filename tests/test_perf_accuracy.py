"""Accuracy through the server: the same judges, the same sets, two paths."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from perf import accuracy, evaluation_sets
from perf.errors import PerfError
from perf.record import Record
from serve.launcher import EmbeddedTriton


def _options(**given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    accuracy.add_arguments(parser)
    return argparse.Namespace(**vars(parser.parse_args([])) | given)


@pytest.fixture(scope="module")
def record(server: EmbeddedTriton) -> Record:
    return accuracy.measure(_options(url=server.grpc_url, mixtures=4, scenes=3), lambda line: None)


def test_all_four_ensembles_answer_as_torch_does(record: Record) -> None:
    assert set(record.figures["separation"]) == {"facefilter", "facefilter_enrolled"}
    assert set(record.figures["counting"]) == {"crowd_counting", "crowd_counting_vision"}
    assert len(record.aims) == 4 and all(aim.met for aim in record.aims)
    for found in record.figures["separation"].values():
        assert found["torch"]["n"] == found["served"]["n"] == 4
        assert found["agreement_db"]["lowest"] > 60  # fp32 to fp32
    for found in record.figures["counting"].values():
        assert found["torch"]["n"] == found["served"]["n"] == 3
        assert found["largest_difference_people"] < 0.01


def test_a_record_comes_back_from_its_file_with_the_same_tables(record: Record, tmp_path: Path) -> None:
    record.write(tmp_path / "accuracy.json")
    again = Record.read(tmp_path / "accuracy.json")
    assert [table.markdown() for table in accuracy.tables(again)] == [
        table.markdown() for table in accuracy.tables(record)
    ]
    assert "4 synthetic talkers" in accuracy.tables(again)[0].note


def test_a_loss_beyond_the_bounds_is_a_missed_aim(record: Record) -> None:
    figures = json.loads(json.dumps(record.figures))
    figures["separation"]["facefilter"]["served"]["sdri_db"] -= 0.2
    figures["counting"]["crowd_counting"]["served"]["mae"] *= 0.99  # better is another count, too
    missed = [aim.what for aim in accuracy.aims_of(figures) if not aim.met]
    assert missed == ["facefilter: SDRi served against torch", "crowd_counting: MAE served against torch"]


def test_agreement_is_the_ratio_of_signal_to_difference_in_db() -> None:
    voice = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert accuracy.agreement_db(voice * np.float32(1.1), voice) == pytest.approx(20, abs=1e-4)
    assert accuracy.agreement_db(voice, voice) == 150
    assert accuracy.agreement_db(voice, np.zeros_like(voice)) == -150


def test_mixtures_are_of_talkers_made_for_testing_and_the_pairs_of_sexes_take_turns(tmp_path: Path) -> None:
    made = evaluation_sets.mixtures(8, 5, tmp_path / "made")
    assert [row.pair for row in made.rows] == ["MM", "MF", "FM", "FF"] * 2
    speakers = {name for row in made.rows for name in (row.target_speaker, row.interferer_speaker)}
    assert len(speakers) == 4 and all(name.startswith("test-") for name in speakers)
    assert all((made.root / file).is_file() for row in made.rows for file in (row.target_file, row.target_face))


def test_scenes_on_disk_are_taken_evenly_and_silent_ones_are_told(tmp_path: Path) -> None:
    evaluation_sets.scenes(5, 1, tmp_path)
    chosen = evaluation_sets.scenes(2, 1, tmp_path / "unused", tmp_path)
    everything = evaluation_sets.scenes(9, 1, tmp_path / "unused", tmp_path)
    assert len(everything.scenes) == 5 and everything.heard
    assert [one.name for one in chosen.scenes] == [everything.scenes[place].name for place in (0, 2)]
    silent = [dataclasses.replace(everything.scenes[0], sound=None), *everything.scenes[1:]]
    assert not evaluation_sets.Scenes(silent, "").heard


def test_a_repository_of_other_weights_is_refused(repository: Path, root: Path, tmp_path: Path) -> None:
    accuracy.require_same_weights(repository, root / "train/weights")
    shutil.copytree(root / "train/weights", tmp_path, dirs_exist_ok=True)
    with (tmp_path / "crowd_v.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(PerfError, match=r"serves a crowd_v made from weights [0-9a-f]{12}, and") as caught:
        accuracy.require_same_weights(repository, tmp_path)
    assert caught.value.exit_code == 6


def test_no_mixtures_are_refused_before_anything_is_started() -> None:
    with pytest.raises(PerfError, match="--mixtures is 0") as caught:
        accuracy.measure(_options(mixtures=0), lambda line: None)
    assert caught.value.exit_code == 2

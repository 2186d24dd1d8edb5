"""Tolerances with reasons, tasks judged with torch and with an artefact in its place, and the sets for that."""

import math

import numpy as np
import pytest
import torch

from export.contract import MODELS, model_named
from export.errors import ExportError
from export.modules import WEIGHTS, is_network, served_module
from export.parity import Array, Runner, module_runner
from export.precision import PRECISIONS
from export.task_parity import JUDGED, Artefact, TaskParity, judge, require_tasks
from export.task_sets import Sizes, TaskSets, drawn
from export.thresholds import PRECISIONS as OF_THRESHOLDS
from export.thresholds import TASKS, TENSORS, change_of, task_misses

SEPARATOR = "facefilter_separator"
GOOD = {"sdri_db": 9.0, "accuracy": 0.97}
TINY = Sizes(mixtures=4, scenes=3, calibration_mixtures=2, calibration_scenes=1, talkers=2, people=5)


def figures(**changed: float) -> TaskParity:
    return TaskParity(SEPARATOR, "fp16", 100, GOOD, GOOD | changed, (), 1.0)


def test_every_output_and_every_network_has_a_tolerance_with_its_reason_in_every_precision() -> None:
    assert PRECISIONS == OF_THRESHOLDS
    assert set(TASKS) == set(JUDGED) == {model.name for model in MODELS if is_network(model)}
    for precision in PRECISIONS:
        held = TENSORS[precision]
        assert set(held) == {tensor.name for model in MODELS for tensor in model.outputs}
        assert all(one.because and 0 < one.peak < 1 and one.snr_db > 0 for one in held.values())
        assert all(one.because for name in JUDGED for one in TASKS[name][precision].values())


def test_lower_precision_is_never_held_tighter_and_signal_processing_never_looser() -> None:
    for finer, coarser in (("fp32", "fp16"), ("fp16", "int8")):
        for name, tolerance in TENSORS[coarser].items():
            assert tolerance.peak >= TENSORS[finer][name].peak and tolerance.snr_db <= TENSORS[finer][name].snr_db
        for name in JUDGED:
            for measure, allowed in TASKS[name][coarser].items():
                assert allowed.change >= TASKS[name][finer][measure].change
    for model in (model for model in MODELS if model.exact):
        assert all(TENSORS["int8"][tensor.name] == TENSORS["fp32"][tensor.name] for tensor in model.outputs)


def test_changes_are_in_the_unit_of_their_tolerance() -> None:
    assert change_of("mae", {"mae": 20.0}, {"mae": 21.0}, "relative") == pytest.approx(0.05)
    assert change_of("sdri_db", {"sdri_db": 9.0}, {"sdri_db": 8.5}, "dB") == pytest.approx(-0.5)
    assert change_of("mae", {"mae": 0.0}, {"mae": 0.0}, "relative") == 0
    assert math.isnan(change_of("mae", {"mae": 0.0}, {"mae": 1.0}, "relative"))


@pytest.mark.parametrize("changed", [{"sdri_db": 8.9}, {"sdri_db": 9.1}, {"sdri_db": math.nan}, {"accuracy": 0.95}])
def test_a_task_done_otherwise_is_refused_by_model_measure_and_figures(changed: dict[str, float]) -> None:
    require_tasks([figures(sdri_db=9.01)])
    (measure,) = changed
    with pytest.raises(
        ExportError, match=rf"{SEPARATOR}/model.onnx in fp16: {measure} is .* nothing published"
    ) as seen:
        require_tasks([figures(**changed)])
    assert seen.value.exit_code == 6 and len(task_misses(SEPARATOR, "fp16", GOOD, GOOD | changed)) == 1


def test_a_judgement_on_fewer_than_a_hundred_inputs_is_none() -> None:
    few = TaskParity(SEPARATOR, "fp16", 99, GOOD, GOOD, (), 1.0)
    with pytest.raises(ExportError, match="judged on 99 inputs, wanted are 100"):
        require_tasks([few])


def test_an_artefact_in_a_modules_place_gives_its_own_answers_and_tells_how_far_they_are_off() -> None:
    model = model_named("crowd_density_sum")
    module = served_module(model, WEIGHTS)
    tenth_more = scaled(module_runner(module, model), 1.1)
    placed = Artefact(model, tenth_more, module)
    density = torch.rand(2, 72, 128)
    count, patches = placed(density)
    torch.testing.assert_close(count, 1.1 * density.sum(dim=(1, 2)).unsqueeze(1))
    assert patches.shape == (2, 64)
    assert all(not one.holds and one.snr_db == pytest.approx(20, abs=0.01) for one in placed.parities("fp32"))


def scaled(runner: Runner, factor: float) -> Runner:
    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        return {name: np.float32(factor) * value for name, value in runner(inputs).items()}

    return run


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> TaskSets:
    return drawn(tmp_path_factory.mktemp("sets"), TINY)


@pytest.mark.slow
def test_sets_are_drawn_once_whole_and_calibration_shares_nobody_with_them(sets: TaskSets) -> None:
    cache = sets.root.parents[1]
    assert [path.name for path in cache.iterdir()] == [sets.root.parent.name]  # nothing half-drawn is left
    again = drawn(cache, TINY)
    assert list(again.mixtures) == list(sets.mixtures)
    assert [len(part) for part in (sets.mixtures, sets.scenes, sets.calibration_mixtures, sets.calibration_scenes)] == [
        4, 3, 2, 1,
    ]  # fmt: skip
    judged, calibrated = (
        {name for row in rows for name in (row.target_speaker, row.interferer_speaker)}
        for rows in (sets.mixtures, sets.calibration_mixtures)
    )
    assert judged and calibrated and not judged & calibrated


@pytest.mark.slow
def test_torch_in_its_own_place_changes_nothing_and_a_planted_fault_is_seen_in_its_task(sets: TaskSets) -> None:
    modules = {name: served_module(model_named(name), WEIGHTS) for name in JUDGED}
    runners = {name: module_runner(modules[name], model_named(name)) for name in JUDGED}
    for one in judge(sets, WEIGHTS, modules, runners, "fp32"):
        assert one.artefact == one.torch and all(found.error == 0 and found.holds for found in one.tensors)
    fifth_more = runners | {"crowd_v": scaled(runners["crowd_v"], 1.2)}
    found = {one.model: one for one in judge(sets, WEIGHTS, modules, fifth_more, "int8")}
    with pytest.raises(ExportError, match="crowd_v"):
        require_tasks([found["crowd_v"]], least=3)
    assert found["crowd_v"].artefact != found["crowd_v"].torch and found["crowd_av"].artefact == found["crowd_av"].torch

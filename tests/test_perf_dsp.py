"""`avedge perf dsp`: the contenders solve the same problem, the record says what was measured."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from perf import dsp
from perf.dsp_contenders import (
    convergence_db,
    crowd_log_mel,
    draw_problem,
    error_db,
    griffin_lim_contenders,
    reference,
    scipy_stft,
    stft_contenders,
)
from perf.errors import PerfError
from perf.record import Record
from train.dsp import CrowdLogMel, GriffinLim, Stft

SAMPLES = 3_200


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    dsp.add_arguments(parser)
    return parser.parse_args(words)


def test_every_contender_computes_the_same_stft() -> None:
    problem = draw_problem(2, SAMPLES)
    ours = Stft()(torch.from_numpy(problem.mixture))[0].numpy()
    for name, call in stft_contenders(problem.mixture, cores=2).items():
        magnitude, spectrum = call()
        by_bins = magnitude if magnitude.shape == ours.shape else magnitude.swapaxes(1, 2)
        np.testing.assert_allclose(by_bins, ours, atol=1e-4, err_msg=name)
        assert spectrum.shape == magnitude.shape


def test_contenders_with_the_same_start_give_the_same_speech() -> None:
    problem = draw_problem(2, SAMPLES)
    wanted = reference(problem, 3)
    ours = GriffinLim(3)(*map(torch.from_numpy, problem.tensors)).numpy()
    assert error_db(ours, wanted) < -80
    for name, call in griffin_lim_contenders(problem, 3, cores=2).items():
        if name != "librosa":
            assert error_db(call(), wanted) < -80, name


def test_librosa_gives_a_waveform_of_the_wanted_magnitude_too() -> None:
    problem = draw_problem(1, SAMPLES)
    few, many = (griffin_lim_contenders(problem, count, cores=1)["librosa"]() for count in (1, 20))
    assert many.shape == problem.mixture.shape
    assert convergence_db(many, problem.wanted) < convergence_db(few, problem.wanted) - 3


def test_convergence_never_rises_with_iterations() -> None:
    problem = draw_problem(1, SAMPLES)
    reached = [convergence_db(reference(problem, count), problem.wanted) for count in range(8)]
    assert reached == sorted(reached, reverse=True)


def test_convergence_of_the_answer_itself_is_perfect() -> None:
    problem = draw_problem(1, SAMPLES)
    mixture = problem.mixture.astype(np.float64)
    assert convergence_db(mixture * 1.1, np.abs(problem.spectrum)) == pytest.approx(-20, abs=1e-6)
    assert convergence_db(mixture, np.abs(problem.spectrum) * (1 + 1e-9)) < -150


def test_an_error_of_a_thousandth_is_minus_sixty_decibels() -> None:
    assert error_db(np.array([1.001, 2.002]), np.array([1.0, 2.0])) == pytest.approx(-60)


def test_reference_log_mel_is_the_served_one() -> None:
    sound = draw_problem(2, 16_000).mixture
    np.testing.assert_allclose(CrowdLogMel()(torch.from_numpy(sound)).numpy(), crowd_log_mel(sound), atol=1e-5)


def test_float64_stays_float64() -> None:
    assert scipy_stft(np.zeros((1, SAMPLES))).dtype == np.complex128
    assert scipy_stft(np.zeros((1, SAMPLES), np.float32)).dtype == np.complex64


def test_calls_take_turns() -> None:
    order: list[str] = []
    times = dsp.in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, seconds=0)
    assert "".join(order[4:]).startswith("aabbaabb")
    assert times["a"]["rounds"] == times["b"]["rounds"] >= 5
    assert 0 <= times["a"]["p50_ms"] <= times["a"]["p95_ms"]


@pytest.fixture(scope="module")
def record(repository: Path) -> Record:
    words = ("--iterations", "2,3", "--batches", "1", "--samples", str(SAMPLES), "--seconds", "0.01")
    return dsp.measure(options(*words, "--repository", str(repository)), lambda text: None)


def test_a_record_has_every_contender_with_its_figures(record: Record, tmp_path: Path) -> None:
    record.write(tmp_path / "dsp.json")
    found = Record.read(tmp_path / "dsp.json").figures["comparisons"]
    assert [one["iterations"] for one in found] == [None, 2, 3]
    for one in found:
        kinds = {name.split(",")[0] for name in one["contenders"]}
        assert kinds == {"ours", "torch FFT", "librosa", "scipy loop"}
        assert one["librosa_over"]["librosa"] == 1
    reached = [one["contenders"]["ours, TorchScript"]["convergence_db"] for one in found[1:]]
    assert reached[1] < reached[0] < 0


def test_every_exported_form_is_near_float64(record: Record) -> None:
    for form in ("ONNX dB", "TorchScript dB"):
        errors = record.figures["errors"][form]
        assert set(errors) == {"spectrum", "crowd log-mel", "speech, 2 iterations", "speech, 3 iterations"}
        assert max(errors.values()) < -100


def test_the_aims_are_those_of_the_shortest_single_item(record: Record) -> None:
    assert [aim.what.split(":")[0] for aim in record.aims] == [
        "STFT",
        *["Griffin-Lim, 2 iterations"] * 3,
        *["Griffin-Lim, 3 iterations"] * 3,
    ]
    assert [(aim.bound, aim.at_least) for aim in record.aims[:4]] == [(3, True), (3, True), (0, True), (1.3, False)]


def test_tables_and_plot_show_the_record(record: Record, tmp_path: Path) -> None:
    tables = dsp.tables(record)
    assert [table.title for table in tables] == ["STFT", "Griffin-Lim", "error against float64"]
    for table in tables:
        assert table.rows and all(len(row) == len(table.columns) for row in table.rows)
    dsp.plot(record, tmp_path / "dsp.png")
    assert (tmp_path / "dsp.png").stat().st_size > 1_000


@pytest.mark.parametrize("words", [("--samples", "1000"), ("--batches", "0"), ("--iterations", "0")])
def test_sizes_that_cannot_be_transformed_are_refused(words: tuple[str, str]) -> None:
    with pytest.raises(PerfError, match=words[1]) as refused:
        dsp.measure(options(*words), lambda text: None)
    assert refused.value.exit_code == 2


def test_an_empty_repository_is_refused_with_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(PerfError, match="avedge export") as refused:
        dsp.measure(options("--repository", str(tmp_path)), lambda text: None)
    assert refused.value.exit_code == 4

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export import parity
from export.contract import MODELS, model_named
from export.errors import ExportError
from export.parity import Comparison, Parity, snr_of
from export.samples import sample_inputs
from export.thresholds import Tolerance
from export.to_onnx import export_onnx
from train.crowd.network import CrowdDensitySum
from train.dsp import GriffinLim, Stft

SUM, STFT = model_named("crowd_density_sum"), model_named("facefilter_stft")


class TenthMore(nn.Module):
    """A density sum with a fault that only the figures show."""

    def forward(self, density: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count, patches = CrowdDensitySum()(density)
        return count * 1.1, patches


@pytest.fixture(scope="module")
def sum_graph() -> onnx.ModelProto:
    return export_onnx(CrowdDensitySum().eval(), SUM, {"model": "crowd_density_sum"})


def test_a_graph_carries_the_contracts_names_and_facts(sum_graph: onnx.ModelProto) -> None:
    assert [value.name for value in sum_graph.graph.input] == ["density"]
    assert [value.name for value in sum_graph.graph.output] == ["count", "patch_counts"]
    assert {prop.key: prop.value for prop in sum_graph.metadata_props} == {"model": "crowd_density_sum"}


def test_a_graph_says_nothing_of_the_machine_that_made_it(sum_graph: onnx.ModelProto, root: Path) -> None:
    assert str(root).encode() not in sum_graph.SerializeToString()


def test_a_true_artefact_holds_and_a_false_one_is_refused_by_name(sum_graph: onnx.ModelProto) -> None:
    runner = parity.onnx_runner(sum_graph.SerializeToString())
    parity.require(SUM, "model.onnx", parity.measure(CrowdDensitySum(), SUM, runner))
    with pytest.raises(
        ExportError, match=r"crowd_density_sum/model.onnx: count differs from torch by 9.09e-02 of its peak and 20.8 dB"
    ):
        parity.require(SUM, "model.onnx", parity.measure(TenthMore(), SUM, runner))


def test_parity_is_a_share_of_the_peak_and_never_holds_for_nan_or_another_shape() -> None:
    wanted, loose = np.array([0.0, -4.0]), Tolerance(1.0, -10.0, "anything goes")
    assert parity.relative_error(np.array([0.4, -4.0]), wanted) == pytest.approx(0.1)
    for wrong in (np.array([np.nan, -4.0]), np.zeros(3)):
        compared = Comparison()
        compared.add(wrong, wanted)
        assert not Parity("x", compared.error, 100.0, loose).holds
    assert not Parity("x", 0.0, float("nan"), loose).holds


def test_the_snr_of_batches_is_that_of_all_of_them_together() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((6, 50))
    found = wanted + 0.01 * rng.standard_normal(wanted.shape)
    compared = Comparison()
    for batch in (slice(0, 2), slice(2, 6)):
        compared.add(found[batch], wanted[batch])
    whole = 10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum())
    assert compared.rows == 6 and snr_of(compared.power, compared.lost) == pytest.approx(whole)
    assert snr_of(1.0, 0.0) == snr_of(0.0, 0.0) == 150 and snr_of(0.0, 1.0) == -150
    assert np.isnan(snr_of(1.0, float("nan")))


def test_samples_follow_the_seed_and_stay_in_the_contracts_range() -> None:
    for model in MODELS:
        first, again, other = (sample_inputs(model, batch=2, seed=seed) for seed in (1, 1, 2))
        for tensor in model.inputs:
            value = first[tensor.name]
            assert torch.equal(value, again[tensor.name]) and not torch.equal(value, other[tensor.name])
            assert tensor.low <= float(value.min()) and float(value.max()) <= tensor.high


def test_missing_weights_end_the_export_with_a_message_and_no_version(root: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "avedge",
        "export",
        "--repository",
        str(tmp_path / "r"),
        "--weights",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "No weights at" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "r").glob("*/[0-9]*")) and not list((tmp_path / "r").glob("*/.tmp-*"))


def test_stft_is_exported_for_any_length() -> None:
    graph = export_onnx(Stft().eval(), STFT, {})
    runner = parity.onnx_runner(graph.SerializeToString())
    waveform = np.random.default_rng(0).standard_normal((2, 4800)).astype(np.float32)
    assert runner({"waveform": waveform})["magnitude"].shape == (2, 257, 31)


def test_digital_silence_stays_finite_in_griffin_lims_graph() -> None:
    """The ONNX optimiser dropped a `+ 1e-12` once: torch was finite, the graph was not."""
    model = model_named("facefilter_griffin_lim")
    runner = parity.onnx_runner(export_onnx(GriffinLim(iterations=1).eval(), model, {}).SerializeToString())
    silence = {
        "separated_magnitude": np.zeros((1, 257, 20), np.float32),
        "spectrum": np.zeros((1, 2, 257, 20), np.float32),
    }
    np.testing.assert_array_equal(runner(silence)["speech"], np.zeros((1, 3040), np.float32))

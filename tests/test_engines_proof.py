"""The proof of an engine's answers, held against engines with the faults that GPUs have shown."""

from typing import Any

import numpy as np
import pytest
from engine_graphs import sum_graph

from export.contract import MAX_BATCH_SIZE, model_named
from export.engines.profiles import corners_of
from export.engines.proof import prove
from export.errors import ExportError
from export.parity import onnx_runner

SUM = model_named("crowd_density_sum")


def test_proof_holds_for_the_graph_itself_and_at_every_corner() -> None:
    run = onnx_runner(sum_graph().SerializeToString())
    tolerances = {"count": 1e-5, "patch_counts": 1e-5}
    proof = prove(SUM, run, run, tolerances)
    assert list(proof) == [f"{corner.batch} x {corner.samples}" for corner in corners_of(SUM)]
    assert all(error == 0 for errors in proof.values() for error in errors.values())


def spoilt(fault: str) -> Any:
    """The graph with a fault such as GPUs have shown."""
    run = onnx_runner(sum_graph().SerializeToString())

    def engine(inputs: dict[str, Any]) -> dict[str, Any]:
        found = {name: value.copy() for name, value in run(inputs).items()}
        if fault == "all":
            found["count"] *= 1.001
        elif fault == "nan":
            found["patch_counts"][-1, 3] = np.nan
        elif len(found["count"]) == MAX_BATCH_SIZE and np.ptp(inputs["density"][:, 0, 0]) == 0:
            found["count"][5] *= 1.00001  # only rows that are alike show it: far below the tolerance of the answer
        return found

    return engine


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("all", r"at 1 x 31840 samples: count differs by 1\.0\de-03 of its peak"),
        ("nan", r"at 1 x 31840 samples: patch_counts is NaN or infinite"),
        ("row", r"at 8 x 31840 samples: count differs by .* between rows that are alike"),
    ],
)
def test_proof_refuses_wrong_rows_values_and_nan_by_corner(fault: str, message: str) -> None:
    run = onnx_runner(sum_graph().SerializeToString())
    with pytest.raises(ExportError, match=message):
        prove(SUM, spoilt(fault), run, {"count": 5e-5, "patch_counts": 5e-5})

"""Every exported graph becomes a TensorRT engine; TensorRT for RTX proves it without a GPU."""

from pathlib import Path

import pytest

from export.contract import MODELS, Model
from export.publish import versions
from export.to_engine import build_engine


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_exported_graph_parses_and_builds(repository: Path, model: Model) -> None:
    newest = versions(repository / model.name)[-1]
    graph = (repository / model.name / str(newest) / "model.onnx").read_bytes()
    assert len(build_engine(graph, model, "tensorrt_rtx")) > 10_000

"""Rewritten graphs answer as the exported ones, take fewer steps, and leave alone what they do not know."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.contract import model_named
from export.graph_passes import rewrite
from export.samples import sample_inputs
from export.to_onnx import OPSET
from train.crowd.visual import PictureInput
from train.facefilter.separator import build_separator

Array = NDArray[np.float32]


def exported(module: nn.Module, *inputs: torch.Tensor) -> onnx.ModelProto:
    """The exporter's graph without any of ours, with a batch of any size."""
    import onnxsim

    program = torch.onnx.export(
        module.eval(),
        inputs,
        dynamo=True,
        opset_version=OPSET,
        verbose=False,
        dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),
    )
    assert program is not None
    graph: onnx.ModelProto = onnxsim.simplify(program.model_proto)[0]
    return graph


def answers(graph: onnx.ModelProto, *inputs: torch.Tensor) -> list[Array]:
    """What ONNX Runtime makes of it."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, (value.numpy() for value in inputs), strict=True)))


def operations(graph: onnx.ModelProto) -> Counter[str]:
    """How often each operation stands in a graph."""
    return Counter(node.op_type for node in graph.graph.node)


def test_the_rewritten_separator_answers_as_the_exported_one() -> None:
    """The counters are compared with torch at every export, their first layers below."""
    model = model_named("facefilter_separator")
    inputs = tuple(sample_inputs(model, batch=2, seed=1).values())
    torch.manual_seed(0)
    graph = exported(build_separator("compact", channels=16, features=8, mask_blocks=2), *inputs)
    rewritten = rewrite(graph)
    onnx.checker.check_model(rewritten, full_check=True)
    weights = {tensor.name: list(tensor.dims) for tensor in rewritten.graph.initializer}
    assert {len(weights[node.input[1]]) for node in rewritten.graph.node if node.op_type == "Conv"} == {4}
    assert not operations(rewritten)["Pow"]
    others = tuple(sample_inputs(model, batch=3, seed=2).values())
    for wanted, found in zip(answers(graph, *others), answers(rewritten, *others), strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * float(np.abs(wanted).max()))


@pytest.mark.parametrize("exponent", [0.3, 1.7])
def test_a_power_is_equal_at_zero_at_tiny_and_at_large_values(exponent: float) -> None:
    graph = power_graph(exponent)
    values = torch.tensor([[0.0, 1e-38, 1e-6, 1.0, 2000.0, 1e12]])
    (found,) = answers(rewrite(graph), values)
    assert not operations(rewrite(graph))["Pow"]
    np.testing.assert_allclose(found, values.numpy().astype(np.float64) ** exponent, rtol=3e-6, atol=1e-37)


def test_a_square_stays_a_power_because_its_logarithm_has_no_answer_below_zero() -> None:
    assert operations(rewrite(power_graph(2.0)))["Pow"] == 1


class Front(nn.Module):
    """Blocks of pixels, then a convolution."""

    def __init__(self, *, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.pixels = PictureInput(2, "unshuffle")
        self.convolution = nn.Conv2d(12, 5, kernel, stride, padding)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) uint8 to features."""
        out: torch.Tensor = self.convolution(self.pixels(picture))
        return out


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (5, 1, 0)])
def test_blocks_of_pixels_become_a_larger_kernel(kernel: int, stride: int, padding: int) -> None:
    picture = torch.randint(0, 256, (2, 24, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    module = Front(kernel=kernel, stride=stride, padding=padding)
    graph = exported(module, picture)
    rewritten = rewrite(graph)
    assert set(operations(rewritten)) == {"Cast", "Reshape", "Sub", "Conv"}
    (found,) = answers(rewritten, picture)
    wanted = module.double()(picture).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


def test_a_graph_that_works_along_time_otherwise_is_left_alone() -> None:
    """A softmax over the last axis but one would run over the axis of one."""

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv1d(4, 4, 3, padding=1)

        def forward(self, sound: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.convolution(sound), dim=1)

    graph = exported(Other(), torch.randn(2, 4, 9))
    assert operations(rewrite(graph)) == operations(graph)


def power_graph(exponent: float) -> onnx.ModelProto:
    """x ** exponent."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 6]) for name in ("x", "y")]
    constant = numpy_helper.from_array(np.array(exponent, np.float32), "exponent")
    node = helper.make_node("Pow", ["x", "exponent"], ["y"])
    graph = helper.make_graph([node], "power", values[:1], values[1:], [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)

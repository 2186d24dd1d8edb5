"""A tiny graph with the tensors of the density's sum, for the tests of engines."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def sum_graph(operator: str = "ReduceSum", node: str = "the_sum", *, half: bool = False) -> onnx.ModelProto:
    """`count` of a density by one operator, in fp16 when asked; `patch_counts` by a product with ones."""
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    ones = np.ones((72 * 128, 64), np.float16 if half else np.float32)
    nodes = [
        helper.make_node("Reshape", ["density", "row"], ["flat"], name="flatten"),
        helper.make_node("Cast", ["flat"], ["typed"], name="cast", to=kind),
        helper.make_node("MatMul", ["typed", "ones"], ["product"], name="product"),
        helper.make_node("Cast", ["product"], ["patch_counts"], name="back", to=TensorProto.FLOAT),
        helper.make_node(operator, ["flat", *(["axis"] if operator == "ReduceSum" else [])], ["count"], name=node),
    ]
    constants = {"row": np.array([-1, 72 * 128]), "axis": np.array([1]), "ones": ones}
    inputs = [helper.make_tensor_value_info("density", TensorProto.FLOAT, ["batch", 72, 128])]
    outputs = [
        helper.make_tensor_value_info("count", TensorProto.FLOAT, ["batch", 1]),
        helper.make_tensor_value_info("patch_counts", TensorProto.FLOAT, ["batch", 64]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

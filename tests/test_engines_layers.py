"""Which precision each layer has: what the graph says, what TensorRT's inspector says, and whether they agree."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.engines.layers import Layer, compare, graph_layers, inspected_layers, require_agreement
from export.engines.spelling import for_tensorrt
from export.errors import ExportError
from export.parity import onnx_runner


def named(name: str, precision: str, *, product: bool = True) -> Layer:
    return Layer(name, "Conv" if product else "Softmax", precision, product, (name,))


def test_an_engine_with_fewer_digits_than_its_graph_is_refused_by_layer() -> None:
    said = [named("a", "fp16"), named("b", "fp32"), named("soft", "fp32", product=False)]
    done = [named("a", "fp16"), named("b", "tf32"), named("soft", "fp16", product=False)]
    verdict = compare(said, done)
    assert verdict.agreed == 1 and len(verdict.coarser) == 2
    with pytest.raises(ExportError, match="Conv b: tf32, the graph says fp32; Softmax soft: fp16"):
        require_agreement("x", said, verdict)
    assert compare(said[:2], done[:2], tf32=True).coarser == ()


def test_an_engine_that_ignored_its_graphs_precision_altogether_is_refused() -> None:
    """TensorRT 11 did so for callers of the old options: one warning, exit 0, an FP32 engine."""
    said = [named("a", "fp16"), named("b", "fp16")]
    with pytest.raises(ExportError, match="Conv a: fp32, the graph says fp16"):
        require_agreement("x", said, compare(said, [named("a", "fp32"), named("b", "fp32")]))
    partly = compare(said, [named("a", "fp32"), named("b", "fp16")])
    require_agreement("x", said, partly)
    assert partly.finer == ("Conv a: fp32, the graph says fp16",)


def quantised(kind: type[np.int8] | type[np.uint8], zero_point: int = 0) -> onnx.ModelProto:
    """Two products, of which the first takes quantised tensors; its activation in that type."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="d"),
        helper.make_node("Unsqueeze", ["d", "axis"], ["u"], name="u"),
        helper.make_node("DequantizeLinear", ["w", "scale", "zero_w"], ["wd"], name="wd"),
        helper.make_node("Conv", ["u", "wd"], ["y"], name="quantised"),
        helper.make_node("Conv", ["y", "v"], ["z"], name="plain"),
    ]
    weights = {
        "scale": np.array(0.1, np.float32), "zero": np.array(zero_point, kind), "axis": np.array([1]),
        "zero_w": np.array(0, np.int8), "w": np.ones((2, 1, 1), np.int8), "v": np.ones((2, 2, 1), np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 2, 8])],
        initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_quantised_product_is_int8_in_the_graph_and_the_rest_is_not() -> None:
    said = {layer.name: layer.precision for layer in graph_layers(quantised(np.int8))}
    assert (said["quantised"], said["plain"], said["q"], said["d"]) == ("int8", "fp32", "fp32", "int8")


def test_unsigned_steps_from_zero_become_signed_ones_of_the_same_range() -> None:
    spelled = for_tensorrt(quantised(np.uint8))
    onnx.checker.check_model(spelled, full_check=True)
    positive = np.abs(np.random.default_rng(0).standard_normal((3, 8))).astype(np.float32) * 8
    unsigned, signed = (
        onnx_runner(graph.SerializeToString())({"x": positive})["z"] for graph in (quantised(np.uint8), spelled)
    )
    step = 0.1 * 255 / 127
    assert np.abs(unsigned - signed).max() <= (step / 2 + 0.1 / 2) * 0.1 * 2 + 1e-5  # weights of 0.1, summed over two
    assert np.abs(signed).max() > 2.6  # the range is kept: signed steps of 0.1 would end at 12.7 * 0.2
    assert {layer.name: layer.precision for layer in graph_layers(spelled)}["quantised"] == "int8"


def test_other_graphs_are_left_as_they_are() -> None:
    for graph in (quantised(np.int8), quantised(np.uint8, zero_point=3)):
        assert for_tensorrt(graph) is graph


# Written as TensorRT 10 and 11 write it; no engine of theirs can be built or loaded without a GPU.
INSPECTED = {
    "Layers": [
        {"Name": "Reformatting CopyNode for Input Tensor 0 to conv", "LayerType": "Reformat", "Metadata": "",
         "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP32"}],
         "Outputs": [{"Name": "y", "Format/Datatype": "Half(64,1:8,...)"}]},
        {"Name": "conv + relu", "LayerType": "CaskConvolution", "Weights": {"Type": "Half", "Count": 9408},
         "Inputs": [{"Name": "y", "Format/Datatype": "N/A due to dynamic shapes"}], "Outputs": [],
         "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckcrs_nhwc_tilesize256x128x32",
         "Metadata": "[ONNX Layer: conv]\x1f[ONNX Layer: relu]"},
        {"Name": "quantised", "LayerType": "CaskGemmConvolution", "Metadata": "[ONNX Layer: quantised]",
         "Inputs": [{"Name": "q", "Format/Datatype": "Int8"}], "Outputs": [{"Name": "r", "Format/Datatype": "Float"}],
         "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs"},
        {"Name": "sum", "LayerType": "gemm", "Metadata": "[ONNX Layer: sum]",
         "Inputs": [{"Name": "s", "Format/Datatype": "Float"}], "Outputs": [{"Name": "t", "Format/Datatype": "Float"}],
         "TacticName": "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize32x32x64"},
        {"Name": "__myl_CastSoftCast", "LayerType": "kgen", "TacticName": "__myl_CastSoftCast_0x1",
         "Metadata": "[ONNX Layer: up]\x1e[ONNX Layer: soft]\x1f[ONNX Layer: down]",
         "Inputs": [{"Name": "t", "Format/Datatype": "Half"}], "Outputs": [{"Name": "u", "Format/Datatype": "Half"}]},
    ]
}  # fmt: skip


def test_the_inspectors_report_is_read_by_kernel_then_weights_then_tensors() -> None:
    layers = {layer.name: layer for layer in inspected_layers(json.dumps(INSPECTED))}
    assert layers["conv + relu"].precision == "fp16" and layers["conv + relu"].nodes == ("conv", "relu")
    assert layers["quantised"].precision == "int8" and layers["sum"].precision == "tf32"
    assert [layer.is_product for layer in layers.values()] == [False, True, True, True, False]


def test_a_fusion_that_may_compute_otherwise_than_its_tensors_proves_nothing_against_it() -> None:
    done = inspected_layers(json.dumps(INSPECTED))
    said = [named("conv", "fp16"), named("soft", "fp32", product=False), named("lost", "fp16"), named("sum", "fp32")]
    verdict = compare(said, done)
    assert verdict.untold == ("lost",) and verdict.agreed == 1
    assert verdict.coarser == ("Conv sum: tf32, the graph says fp32",)


def test_a_report_of_another_kind_is_refused() -> None:
    for report in ("", "[]", '{"Layers": ["conv", "relu"]}'):  # the last is what less than detailed verbosity gives
        with pytest.raises(ExportError, match="inspector wrote something else than layers"):
            inspected_layers(report)

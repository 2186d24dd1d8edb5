"""An ONNX graph to a TensorRT engine: one builder for `tensorrt` (10.3 to 11.x, on a GPU) and `tensorrt-rtx`.

TensorRT for RTX builds ahead of time on a machine without GPU or driver, which proves in the tests that every graph
can become an engine. Precision lives in the graph: networks are strongly typed.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Literal

from export.contract import MAX_BATCH_SIZE, PADDED_SAMPLES, Model, is_dynamic, size_of
from export.errors import ExportError

Library = Literal["tensorrt", "tensorrt_rtx"]
_CONTAINER = "nvcr.io/nvidia/tritonserver:26.09-py3"


def load_library(library: Library) -> ModuleType:
    """Import a TensorRT.

    Raises:
        ExportError: it is not installed; says what to install or to run.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        remedy = (
            "pip install 'avedge[engine]'"
            if library == "tensorrt_rtx"
            else f"inside the Triton container ({_CONTAINER}) on a machine with an NVIDIA GPU: "
            "pip install 'avedge[export]' tensorrt && avedge export --target tensorrt"
        )
        raise ExportError(
            f"{library} is not installed here, and an engine can only be built with it. Run {remedy}"
        ) from error


def build_engine(onnx_content: bytes, model: Model, library: Library) -> bytes:
    """Build one engine with the contract's batch sizes and lengths as its optimisation profile.

    Raises:
        ExportError: the graph does not parse or build; names the operators that were refused.
    """
    trt = load_library(library)
    logger = _Log(trt)
    builder = trt.Builder(logger.sink)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger.sink)
    if not parser.parse(onnx_content):
        faults = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ExportError(f"{model.name}: {library} does not take the graph: {faults}")
    config = builder.create_builder_config()
    if model.exact and hasattr(trt.BuilderFlag, "TF32"):
        # TF32 keeps 10 bits of a float's 23: enough for a network, not for a Fourier transform.
        config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(_profile(builder, model))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ExportError(f"{model.name}: {library} could not build the engine: {logger.last_error}")
    return bytes(engine)


def _profile(builder: Any, model: Model) -> Any:
    """Smallest, usual and largest shape of every input: batches of one to the largest, the padded lengths."""
    profile = builder.create_optimization_profile()
    smallest, usual, largest = PADDED_SAMPLES[0], PADDED_SAMPLES[0], PADDED_SAMPLES[-1]
    corners = ((1, smallest), (MAX_BATCH_SIZE // 2, usual), (MAX_BATCH_SIZE, largest))
    if not is_dynamic(model.inputs):
        corners = ((1, smallest), (MAX_BATCH_SIZE // 2, smallest), (MAX_BATCH_SIZE, smallest))
    for tensor in model.inputs:
        shapes = [(batch, *(size_of(axis, samples) for axis in tensor.shape)) for batch, samples in corners]
        profile.set_shape(tensor.name, *shapes)
    return profile


class _Log:
    """TensorRT's messages: errors are kept for the exception, the rest is dropped."""

    def __init__(self, trt: ModuleType) -> None:
        owner = self
        self.last_error = "no message"

        class Sink(trt.ILogger):  # type: ignore[name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    owner.last_error = message

        self.sink = Sink()

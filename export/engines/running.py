"""An engine loaded on the GPU: run through TensorRT's Python API with torch's CUDA tensors as buffers."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.engines.library import member
from export.engines.profiles import Profile
from export.errors import ExportError

Array = npt.NDArray[Any]
_TORCH_TYPES = {
    "FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16, "INT8": torch.int8, "UINT8": torch.uint8,
    "INT32": torch.int32, "INT64": torch.int64, "BOOL": torch.bool,
}  # fmt: skip


class EngineRunner:
    """One engine with one execution context; not for several threads."""

    def __init__(self, trt: ModuleType, plan: bytes, logger: Any) -> None:
        """Load an engine.

        Raises:
            ExportError: TensorRT refuses it, as one built by another release or for another GPU.
        """
        self._trt = trt
        self._runtime = trt.Runtime(logger.sink)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise ExportError(
                f"{trt.__name__} {trt.__version__} cannot load the engine ({logger.last_error}); wanted one built by "
                "this release for this GPU, no other runs. Build it here: avedge build."
            )
        self._context = self.engine.create_execution_context()
        names = [self.engine.get_tensor_name(place) for place in range(self.engine.num_io_tensors)]
        inputs = [name for name in names if self.engine.get_tensor_mode(name) == member(trt.TensorIOMode, "INPUT")]
        self._outputs = [name for name in names if name not in inputs]

    def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run one batch: arrays by name, each with its batch axis, to the outputs by name."""
        stream = torch.cuda.current_stream()
        buffers = {name: torch.from_numpy(np.ascontiguousarray(value)).cuda() for name, value in inputs.items()}
        for name, buffer in buffers.items():
            if not self._context.set_input_shape(name, tuple(buffer.shape)):
                raise ExportError(
                    f"The engine refuses {name} of shape {tuple(buffer.shape)}; wanted a shape of its profile. "
                    "Build it with the contract's shapes: avedge build."
                )
        for name in self._outputs:
            kind = _TORCH_TYPES[self.engine.get_tensor_dtype(name).name]
            # NaN-filled, so that an output that was never written is seen as one.
            shape = tuple(self._context.get_tensor_shape(name))
            buffers[name] = torch.full(shape, float("nan") if kind.is_floating_point else 0, dtype=kind, device="cuda")
        for name, buffer in buffers.items():
            self._context.set_tensor_address(name, buffer.data_ptr())
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise ExportError("TensorRT could not run the engine; the lines above say why.")
        stream.synchronize()
        return {name: buffers[name].cpu().numpy() for name in self._outputs}

    def report(self, profile: Profile) -> str:
        """The inspector's JSON of all layers, told for the usual shapes: without shapes it leaves types out."""
        for name, sizes in profile.items():
            self._context.set_input_shape(name, sizes.usual)
        inspector = self.engine.create_engine_inspector()
        inspector.execution_context = self._context
        return str(inspector.get_engine_information(member(self._trt.LayerInformationFormat, "JSON")))

"""One network in every runtime: torch eager, TorchScript, torch.compile, ONNX Runtime and TensorRT engines.

Each side is a function from a batch's tensors, ready on the device, to a call that runs them. A side that this machine
cannot run says why (`UnavailableError`), and the measurement goes on without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.devices import Device, Precision
from perf.errors import PerfError
from perf.stand import newest_artefact
from train import settings

if TYPE_CHECKING:
    import torch
    from torch import nn

Inputs = Mapping[str, "torch.Tensor"]
Call = Callable[[], object]
Side = Callable[[Inputs], Call]

_FRAMES = settings.frames_of(settings.TRAINING_SAMPLES)
_WAVEFORM, _MAGNITUDE = (settings.TRAINING_SAMPLES,), (settings.FREQUENCY_BINS, _FRAMES)
_PICTURE = (settings.PICTURE_HEIGHT, settings.PICTURE_WIDTH, 3)

# Inputs of one item in the order of the module's arguments; three axes that end with colours are UINT8.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "facefilter_stft": {"waveform": _WAVEFORM},
    "facefilter_identity": {"face": (settings.FACE_SIZE, settings.FACE_SIZE, 3)},
    "facefilter_separator": {"magnitude": _MAGNITUDE, "identity": (settings.IDENTITY_SIZE,)},
    "facefilter_griffin_lim": {"separated_magnitude": _MAGNITUDE, "spectrum": (2, *_MAGNITUDE)},
    "crowd_v": {"picture": _PICTURE},
    "crowd_av": {"picture": _PICTURE, "log_mel": (1, settings.LOG_MEL_FRAMES, settings.LOG_MEL_BANDS)},
}
# Sums and phases that lose digits: fp32 in every precision.
EXACT = frozenset({"facefilter_stft", "facefilter_griffin_lim"})
_COMPILATIONS = 64  # of one function: networks that share code, at every batch and precision


class UnavailableError(Exception):
    """This side cannot run here; the message says why."""


@dataclass(frozen=True)
class Network:
    """What the sides are made of."""

    name: str
    module: nn.Module  # fp32, on the CPU, in evaluation mode
    repository: Path | None  # of exported artefacts in the same sizes and in the precision that is measured


def module_of(name: str, preset: str) -> nn.Module:
    """The module of a served model: trained weights for `compact`, random ones for `paper`.

    Raises:
        TrainError: The committed weights are missing or damaged.
    """
    import torch

    from train.crowd.models import build_counter, load_counter
    from train.dsp import GriffinLim, Stft
    from train.environment import ROOT
    from train.facefilter.identity import build_face_identity, load_face_identity
    from train.facefilter.separator import build_separator, load_separator

    file = ROOT / "train" / "weights" / f"{name}.safetensors"
    torch.manual_seed(0)
    trained = preset == "compact"
    makers: dict[str, Callable[[], nn.Module]] = {
        "facefilter_stft": Stft,
        "facefilter_griffin_lim": GriffinLim,
        "facefilter_identity": lambda: load_face_identity(file) if trained else build_face_identity(preset),
        "facefilter_separator": lambda: load_separator(file) if trained else build_separator(preset),
        "crowd_v": lambda: load_counter(file) if trained else build_counter("crowd_v", preset),
        "crowd_av": lambda: load_counter(file) if trained else build_counter("crowd_av", preset),
    }
    return makers[name]().eval().requires_grad_(False)


def inputs_for(name: str, batch: int, device: Device) -> dict[str, torch.Tensor]:
    """Seeded inputs of one model on a device: pictures of grain, magnitudes and sounds that are nowhere negative."""
    import torch

    draw = torch.Generator().manual_seed(0)
    made = {}
    for key, shape in SHAPES[name].items():
        whole = (batch, *shape)
        values = (
            torch.randint(0, 256, whole, dtype=torch.uint8, generator=draw)
            if shape[-1] == 3
            else torch.randn(whole, generator=draw).abs()
        )
        made[key] = values.to(device.kind)
    return made


def torch_eager(network: Network, device: Device, precision: Precision) -> Side:
    """The module as it was trained; in fp16 its weights are halves and autocast chooses what is computed in them."""
    module = _placed(network, device, precision)
    return lambda inputs: _autocast(lambda: module(*inputs.values()), device, precision)


def torch_compiled(network: Network, device: Device, precision: Precision) -> Side:
    """The same through torch.compile, made anew for every shape.

    Raises:
        UnavailableError: No C++ compiler (CPU), or no Triton language (CUDA).
    """
    import torch

    if device.kind == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise UnavailableError("torch.compile needs a C++ compiler on a CPU, and none is installed")
    if device.kind == "cuda" and importlib.util.find_spec("triton") is None:
        raise UnavailableError("torch.compile needs the package triton on CUDA, and it is not installed")
    torch._dynamo.config.recompile_limit = _COMPILATIONS  # beyond it, torch silently runs the module as it is
    module = torch.compile(_placed(network, device, precision), dynamic=False)
    return lambda inputs: _autocast(lambda: module(*inputs.values()), device, precision)


def torchscript(network: Network, device: Device, precision: Precision) -> Side:
    """The repository's model.pt, which is fp32 in every precision.

    Raises:
        UnavailableError: It is asked for fp16, or there is none.
    """
    import torch

    if precision == "fp16":
        raise UnavailableError("model.pt is fp32 in every precision")
    module = torch.jit.load(str(_artefact(network, "model.pt")), map_location=device.kind).eval()
    return lambda inputs: _autocast(lambda: module(*inputs.values()), device, precision)


def onnx_runtime(network: Network, device: Device, precision: Precision) -> Side:
    """The repository's model.onnx; on CUDA with inputs and outputs that stay there.

    Raises:
        UnavailableError: ONNX Runtime has no provider for the device, or there is no such file.
    """
    import onnxruntime
    import torch

    provider = "CUDAExecutionProvider" if device.kind == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise UnavailableError("this onnxruntime has no CUDA provider: pip install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    tuning = [{"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}] if device.kind == "cuda" else [{}]
    session = onnxruntime.InferenceSession(
        str(_artefact(network, "model.onnx")), options, providers=[provider], provider_options=tuning
    )

    def side(inputs: Inputs) -> Call:
        if device.kind == "cpu":
            arrays = {name: values.numpy() for name, values in inputs.items()}
            return lambda: session.run(None, arrays)
        binding = session.io_binding()
        for name, values in inputs.items():
            kind = {torch.uint8: "uint8", torch.float32: "float32"}[values.dtype]
            binding.bind_input(name, "cuda", 0, kind, tuple(values.shape), values.data_ptr())
        for output in session.get_outputs():
            binding.bind_output(output.name, "cuda")
        return lambda: session.run_with_iobinding(binding)

    return side


def tensorrt_engine(network: Network, device: Device, precision: Precision) -> Side:
    """The repository's model.plan through TensorRT's own interface, torch's tensors for buffers.

    Raises:
        UnavailableError: No GPU, no TensorRT, no engine, or one that this TensorRT refuses.
    """
    if device.kind != "cuda":
        raise UnavailableError("TensorRT engines run on a GPU")
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError as error:
        raise UnavailableError("the package tensorrt is not installed") from error
    plan = _artefact(network, "model.plan").read_bytes()
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise UnavailableError(
            f"TensorRT {trt.__version__} refuses the engine: it was built by another or for another GPU"
        )
    # The runtime must outlive its engine.
    return lambda inputs: _engine_call(trt, (runtime, engine), inputs)


def _engine_call(trt: Any, owners: tuple[Any, Any], inputs: Inputs) -> Call:
    import torch

    engine = owners[1]
    context = engine.create_execution_context()
    stream = torch.cuda.current_stream().cuda_stream
    context.set_optimization_profile_async(_fitting_profile(engine, inputs), stream)
    names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
    buffers = dict(inputs)
    for name, values in inputs.items():
        context.set_input_shape(name, tuple(values.shape))
    for name in names:
        if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT:
            buffers[name] = torch.empty(tuple(context.get_tensor_shape(name)), device="cuda")  # fp32 by contract
        context.set_tensor_address(name, buffers[name].data_ptr())

    def call() -> object:
        if not context.execute_async_v3(stream):
            raise RuntimeError("TensorRT could not run the engine")
        return buffers, owners  # kept while the call is

    return call


def _fitting_profile(engine: Any, inputs: Inputs) -> int:
    """The first optimisation profile that takes the shapes."""
    for profile in range(engine.num_optimization_profiles):
        bounds = {name: engine.get_tensor_profile_shape(name, profile) for name in inputs}
        if all(
            low <= size <= high
            for name, values in inputs.items()
            for low, size, high in zip(bounds[name][0], values.shape, bounds[name][2], strict=True)
        ):
            return profile
    raise UnavailableError(f"no profile of the engine takes {[tuple(values.shape) for values in inputs.values()]}")


def _placed(network: Network, device: Device, precision: Precision) -> nn.Module:
    import copy

    import torch

    module = copy.deepcopy(network.module).to(device.kind)
    return module.to(torch.float16) if precision == "fp16" else module


def _autocast(call: Call, device: Device, precision: Precision) -> Call:
    import torch

    def under() -> object:
        with torch.inference_mode(), torch.autocast(device.kind, torch.float16, enabled=precision == "fp16"):
            return call()

    return under


def _artefact(network: Network, name: str) -> Path:
    if network.repository is None:
        raise UnavailableError("no repository of this preset and precision is given")
    try:
        return newest_artefact(network.repository, network.name, name)
    except PerfError as error:
        raise UnavailableError(f"the repository has no {name} of it") from error


SIDES: dict[str, Callable[[Network, Device, Precision], Side]] = {
    "torch eager": torch_eager,
    "TorchScript": torchscript,
    "torch.compile": torch_compiled,
    "ONNX Runtime": onnx_runtime,
    "TensorRT": tensorrt_engine,
}

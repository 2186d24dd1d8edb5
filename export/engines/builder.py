"""An ONNX graph to a TensorRT engine: one builder for `tensorrt` 10.3 to 11.x and for `tensorrt_rtx`.

Precision lives in the graph and the network is strongly typed, so nothing is asked of TensorRT but to keep it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from export.contract import Model
from export.engines import layers, profiles, timing_cache
from export.engines.library import Library, load_library, member, require_gpu
from export.engines.manifest import Evidence, Manifest
from export.engines.profiles import Profile
from export.engines.spelling import for_tensorrt
from export.errors import ExportError

PLAN_FILE = "model.plan"
MANIFEST_FILE = "model.plan.json"
# Said by CUDA on a machine without a GPU while TensorRT for RTX builds all the same.
_NOISE = "cudaError 35"
_AHEAD_OF_TIME = (
    "built ahead of time: such an engine is compiled by the GPU that first loads it, before that it can neither be "
    "inspected nor run"
)
# TensorRT for RTX builds for several GPUs at once; said, so that the machine that builds decides nothing.
_RTX_GPUS = {"SM86": "8.6", "SM89": "8.9", "SM120": "12.0"}
_INSPECTED = "TensorRT's inspector, at detailed verbosity and the usual shapes"


@dataclass(frozen=True)
class Options:
    """What may be asked of the builder beyond the graph."""

    # TF32 keeps 10 bits of a float's 23. TensorRT takes it for FP32 products unless told otherwise; here the graph says
    # what precision is: FP32 is FP32. Signal processing never takes it.
    tf32: bool = False
    version_compatible: bool = False  # newer TensorRT may load the engine; slower, and the server must allow it
    timing_cache: Path | None = None  # None: a file of the user's cache folder, for this GPU and TensorRT


def build(
    graph: bytes,
    model: Model,
    precision: str,
    *,
    library: Library = "tensorrt",
    options: Options | None = None,
    profile: Profile | None = None,
) -> dict[str, bytes]:
    """Build an engine and prove what can be proven here.

    Args:
        graph: an ONNX file with the contract's tensors.
        model: the contract's entry.
        precision: what the graph is said to be in: fp32, fp16 or int8.
        library: who builds.
        options: beyond the graph.
        profile: shapes that the engine must run; the contract's when None.

    Returns:
        The engine and its manifest by file name, to be published with the graph.

    Raises:
        ExportError: no such library or GPU here; the graph does not parse (names operator and node); the profile is not
            the graph's; the engine's layers or answers are not the graph's.
    """
    options, profile = options or Options(), profile or profiles.profile_of(model)
    trt = load_library(library)
    gpu = require_gpu() if library == "tensorrt" else None
    parsed = for_tensorrt(_read(graph, model))
    spelled = parsed.SerializeToString()
    profiles.require_fit(model.name, profile, parsed)
    logger = Log(trt)
    construction = Construction(trt, logger, model, options)
    construction.parse(spelled)
    cache_file = None
    if gpu is not None:
        cache_file = options.timing_cache or timing_cache.default_path(str(trt.__version__), gpu)
    plan, seconds, cache = construction.build(profile, cache_file)
    said = layers.graph_layers(parsed)
    runner = None
    if gpu is None:
        done, source, because = layers.network_layers(construction.network), "network", _AHEAD_OF_TIME
    else:
        from export.engines.running import EngineRunner

        runner = EngineRunner(trt, plan, logger)
        done, source, because = layers.inspected_layers(runner.report(profile)), "engine", _INSPECTED
    verdict = layers.compare(said, done, tf32=construction.tf32)
    layers.require_agreement(model.name, said, verdict)
    parity = None
    if runner is not None:
        from export.engines.proof import prove
        from export.parity import onnx_runner

        # TF32 has the digits of fp16.
        allowed = _tolerances(model, "fp16" if construction.tf32 and precision == "fp32" else precision)
        parity = prove(model, runner, onnx_runner(spelled), allowed)
    manifest = Manifest(
        model=model.name,
        precision=precision,
        graph=graph,
        plan=plan,
        library=library,
        library_version=str(trt.__version__),
        gpu=gpu,
        built_for=(gpu.compute_capability,) if gpu else tuple(_RTX_GPUS.values()),
        flags=construction.flags,
        profile=profile,
        timing_cache=cache,
        build_s=seconds,
        evidence=Evidence(source, because, done, verdict),
        parity=parity,
        parity_missing=_AHEAD_OF_TIME if parity is None else None,
    )
    return {PLAN_FILE: plan, MANIFEST_FILE: manifest.content()}


def _read(graph: bytes, model: Model) -> onnx.ModelProto:
    """The graph from its bytes.

    Raises:
        ExportError: they are none.
    """
    try:
        return onnx.load_from_string(graph)
    except DecodeError as error:
        raise ExportError(
            f"{model.name}: these {len(graph)} bytes are no ONNX graph ({error}); wanted a model.onnx as export writes "
            "it, an engine is made of nothing else. Make it again: avedge export."
        ) from error


class Construction:
    """One network and its builder; the order is parse, then build."""

    def __init__(self, trt: ModuleType, logger: Log, model: Model, options: Options) -> None:
        """Make an empty, strongly typed network and a configuration with every flag decided."""
        self._trt, self._logger, self._model = trt, logger, model
        self._builder = trt.Builder(logger.sink)
        # From 11 on it is accepted and means nothing, as all networks are strongly typed. Batches are always explicit
        # since TensorRT 10, whose EXPLICIT_BATCH flag means nothing either and is gone in 11.
        strongly_typed = member(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
        self.network = self._builder.create_network(1 << int(strongly_typed))
        if not self.network.get_flag(strongly_typed) and str(trt.__version__).startswith("10."):
            raise ExportError(
                f"TensorRT {trt.__version__} made a weakly typed network though asked for another; wanted it strongly "
                "typed, because else it chooses precisions by itself. Use a release from 10.3 to 11.x."
            )
        self._config = self._builder.create_builder_config()
        self.tf32 = options.tf32 and not model.exact
        self._set("TF32", self.tf32)
        self._set("VERSION_COMPATIBLE", options.version_compatible)
        self._config.profiling_verbosity = member(trt.ProfilingVerbosity, "DETAILED")
        if trt.__name__ == "tensorrt_rtx":
            self._config.num_compute_capabilities = len(_RTX_GPUS)
            for place, name in enumerate(_RTX_GPUS):
                self._config.set_compute_capability(member(trt.ComputeCapability, name), place)

    @property
    def flags(self) -> tuple[str, ...]:
        """Every decision that changes the engine, by name."""
        decided = [name for name in ("TF32", "VERSION_COMPATIBLE") if self._has(name)]
        return ("STRONGLY_TYPED", *decided)

    def _has(self, name: str) -> bool:
        return bool(self._config.get_flag(member(self._trt.BuilderFlag, name)))

    def _set(self, name: str, wanted: bool) -> None:
        flag = member(self._trt.BuilderFlag, name)
        (self._config.set_flag if wanted else self._config.clear_flag)(flag)
        if self._has(name) != wanted:
            raise ExportError(
                f"TensorRT {self._trt.__version__} does not let {name} be {'set' if wanted else 'cleared'}; wanted it, "
                "because the engine would be of another precision or use than asked for. Use a release from 10.3 to 11."
            )

    def parse(self, graph: bytes) -> None:
        """Read the graph into the network.

        Raises:
            ExportError: names each operator that was refused, and its node.
        """
        parser = self._trt.OnnxParser(self.network, self._logger.sink)
        if not parser.parse(graph):
            faults = [_fault(parser.get_error(place)) for place in range(parser.num_errors)]
            raise ExportError(
                f"{self._model.name}: {self._trt.__name__} does not take the graph: {'; '.join(faults)}; wanted "
                "operators that it has, because an engine holds the whole graph or none of it. Replace them in the "
                "model, then export again: avedge export."
            )

    def build(self, profile: Profile, cache_file: Path | None) -> tuple[bytes, float, dict[str, str] | None]:
        """Build the engine; returns it with the seconds taken and the timing cache's file name and digest.

        Raises:
            ExportError: TensorRT refuses the profile, or finds no way to build.
        """
        shapes = self._builder.create_optimization_profile()
        for name, sizes in profile.items():
            shapes.set_shape(name, *sizes.shapes)
        if self._config.add_optimization_profile(shapes) < 0:
            raise self._refusal("refuses the optimisation profile", "shapes that the graph can take")
        # Named, because the builder does not keep it alive.
        _cache = timing_cache.load(self._config, cache_file) if cache_file is not None else None
        began = time.perf_counter()
        plan = self._builder.build_serialized_network(self.network, self._config)
        seconds = time.perf_counter() - began
        if plan is None:
            raise self._refusal("could not build the engine", "kernels for every layer")
        if cache_file is None:
            return bytes(plan), seconds, None
        digest = timing_cache.save(self._config, cache_file)
        return bytes(plan), seconds, {"file": cache_file.name, "sha256": digest}

    def _refusal(self, seen: str, wanted: str) -> ExportError:
        return ExportError(
            f"{self._model.name}: {self._trt.__name__} {seen}: {self._logger.last_error}; wanted {wanted}, without "
            "them there is no engine. Change the part of the model that the message names, then export again."
        )


def _tolerances(model: Model, precision: str) -> dict[str, float]:
    """Largest difference allowed of each output, as a share of its peak."""
    from export.thresholds import peak_tolerances

    allowed = peak_tolerances(precision)
    return {tensor.name: allowed[tensor.name] for tensor in model.outputs}


def _fault(error: Any) -> str:
    """One of the parser's errors: operator, node, and TensorRT's words."""
    operator, name = error.node_operator() or "the graph", error.node_name()
    at = f" (node {name})" if name else ""
    return f"operator {operator}{at}: {error.desc()}"


class Log:
    """TensorRT's messages: errors are kept for the exception, the rest is dropped."""

    def __init__(self, trt: ModuleType) -> None:
        """Make the sink that TensorRT writes to."""
        owner = self
        self.errors: list[str] = []

        class Sink(trt.ILogger):  # type: ignore[name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity.name in ("ERROR", "INTERNAL_ERROR") and _NOISE not in message:
                    owner.errors.append(message)

        self.sink = Sink()

    @property
    def last_error(self) -> str:
        """What TensorRT said last; the first words are the place in its own sources."""
        return self.errors[-1] if self.errors else "no message"

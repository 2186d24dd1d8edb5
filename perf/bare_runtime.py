"""An ONNX graph in ONNX Runtime inside this process: session, inputs, and where its time goes."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

    Array = NDArray[Any]

_PROFILED_RUNS, _PROFILED_S = 20, 3.0  # whichever ends first
# What ONNX Runtime's optimiser makes of the operations that a graph has.
_ORIGIN = {"FusedConv": "Conv", "FusedMatMul": "MatMul", "FusedGemm": "Gemm", "QLinearConv": "Conv"}


@dataclass(frozen=True)
class Share:
    """One kind of operation in a profile."""

    operation: str
    ms: float  # of one run
    share: float  # of all operations' time
    count: int  # of nodes


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(
    graph: Path | bytes, threads: int, *, spinning: bool = True, profile: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session on the CPU.

    Args:
        graph: File or content.
        threads: For one operation; operations follow one another.
        spinning: Whether its threads spin while they wait, as they do by default; they take their core from others.
        profile: Beginning of the file name of a profile; None makes none.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    content = str(graph) if isinstance(graph, Path) else graph
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def shapes_of(session: onnxruntime.InferenceSession, batch: int, length: int) -> dict[str, tuple[int, ...]]:
    """Shape of every input: the first axis is the batch, other changing axes have the length."""
    return {
        value.name: (batch, *(axis if isinstance(axis, int) else length for axis in value.shape[1:]))
        for value in session.get_inputs()
    }


def random_inputs(shapes: Mapping[str, tuple[int, ...]], uint8: Sequence[str], seed: int = 0) -> dict[str, Array]:
    """Inputs for timing: pictures of grain, magnitudes and sounds that are nowhere negative."""
    import numpy as np

    draw = np.random.default_rng(seed)
    return {
        name: draw.integers(0, 256, shape, dtype=np.uint8)
        if name in uint8
        else np.abs(draw.standard_normal(shape, dtype=np.float32))
        for name, shape in shapes.items()
    }


def inputs_of(session: onnxruntime.InferenceSession, batch: int, length: int) -> dict[str, Array]:
    """Inputs of a session, for timing."""
    uint8 = [value.name for value in session.get_inputs() if "uint8" in value.type]
    return random_inputs(shapes_of(session, batch, length), uint8)


def profile(graph: Path | bytes, *, batch: int, length: int, threads: int = 1) -> list[Share]:
    """Where the time goes, by kind of operation, longest first: the median over runs of each node.

    Kernels of ONNX Runtime's own (fused, blocked) are counted under the operation that they stand for.
    """
    with tempfile.TemporaryDirectory(prefix="avedge-profile-") as folder:
        session = open_session(graph, threads, profile=Path(folder, "profile"))
        inputs = inputs_of(session, batch, length)
        began = time.perf_counter()
        for number in range(_PROFILED_RUNS):
            if number > 1 and time.perf_counter() - began > _PROFILED_S:
                break
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            operation = event["args"]["op_name"]
            times[_ORIGIN.get(operation, operation), event["name"]].append(event["dur"] / 1000)
    nodes: dict[str, list[float]] = defaultdict(list)
    for (operation, _), durations in times.items():
        nodes[operation].append(statistics.median(durations))
    whole = sum(map(sum, nodes.values()))
    shares = [Share(name, sum(durations), sum(durations) / whole, len(durations)) for name, durations in nodes.items()]
    return sorted(shares, key=lambda share: share.ms, reverse=True)

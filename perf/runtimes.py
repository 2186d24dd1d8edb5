"""The same models in torch eager, TorchScript, torch.compile, ONNX Runtime and TensorRT, on a CPU or a GPU.

Latency at a batch of one and the best throughput over the batches, in fp32 and fp16, against what bounds the device:
its own matrix product for the operations, its copy for weights, inputs and outputs. The sides alternate in every round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.bare_runtime import core_count
from perf.devices import Device, Peak, Precision, highest
from perf.record import Cell, Record, Table
from perf.runtime_sides import EXACT, SHAPES, SIDES, Network, UnavailableError, inputs_for, module_of
from perf.stand import REPOSITORY
from perf.sweep import names_in, numbers_in

if TYPE_CHECKING:
    from torch import nn

    from perf.runtime_sides import Call

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
_SLOW_S = 0.2  # one call at a batch of one: larger batches would tell nothing new for many minutes

Progress = Callable[[str], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf runtimes`."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what to run on (%(default)s)")
    parser.add_argument("--preset", choices=("compact", "paper"), default="compact",
                        help="compact: the committed weights; paper: the papers' sizes, random weights")  # fmt: skip
    parser.add_argument("--repository", type=Path,
                        help=f"fp32 artefacts of the same preset; default: {REPOSITORY} for compact, none for paper "
                        "(make one: avedge export --untrained paper)")  # fmt: skip
    parser.add_argument("--fp16-repository", type=Path, help="the same in fp16: avedge export --precision fp16")
    parser.add_argument("--models", type=names_in, default=tuple(SHAPES), help="comma-separated; default: all six")
    parser.add_argument("--runtimes", type=names_in, default=tuple(SIDES), help="comma-separated; default: all five")
    parser.add_argument("--precisions", type=names_in, default=PRECISIONS, help="comma-separated (fp32,fp16)")
    parser.add_argument("--batches", type=numbers_in, default=(1, 4, 8), help="items in one call (1,4,8)")
    parser.add_argument("--rounds", type=int, default=3, help="each side is measured so often (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.2, help="of one side in one round (%(default)s)")
    parser.add_argument("--compile-s", type=float, default=100.0,
                        help="time for torch.compile; then it is left out (%(default)s)")  # fmt: skip


def measure(args: argparse.Namespace, progress: Progress) -> Record:
    """Measure as the command line says.

    Raises:
        PerfError: CUDA is asked for where there is none (2).
        TrainError: The committed weights are missing or damaged.
    """
    import torch

    from train import environment

    before = torch.get_num_threads()
    torch.set_num_threads(core_count())
    try:
        device = Device(args.device)
        stamp = environment.stamp(environment.command_line())
        progress(f"{device.name}: matrix product and copy")
        peaks = [device.peak()]
        compiling = _Budget(args.compile_s)
        models = {}
        for name in args.models:
            models[name] = _model(name, device, compiling, args, progress)
            peaks.append(device.peak())
        peak = highest(peaks)
        for model in models.values():
            _judge(model, peak)
        settings = {key: getattr(args, key) for key in ("preset", "batches", "rounds", "seconds", "compile_s")}
        figures = {"device": device.name, "peak": asdict(peak), "models": models}
        return Record("runtimes", stamp, settings | {"threads": torch.get_num_threads()}, figures)
    finally:
        torch.set_num_threads(before)


def tables(record: Record) -> list[Table]:
    """What bounds the device, then each model in each runtime."""
    figures = record.figures
    peak = figures["peak"]
    bounds = Table(
        f"{figures['device']}: what bounds it",
        ("", "TFLOP/s", "GB/s"),
        tuple((precision, tflops, peak["gb_per_s"]) for precision, tflops in peak["tflops"].items()),
        digits=2,
    )
    rows: list[tuple[Cell, ...]] = []
    skipped: dict[str, list[str]] = {}
    for name, model in figures["models"].items():
        for side in model["sides"]:
            label = f"{side['runtime']} {side['precision']}"
            if "skipped" in side:
                skipped.setdefault(f"{label}: {side['skipped']}", []).append(name)
                continue
            rows.append(
                (
                    name,
                    label,
                    *(side[f"{percent}_ms"] for percent in ("p50", "p95", "p99")),
                    side["best_items_per_s"],
                    side["best_batch"],
                    100 * side["of_limit_latency"],
                    100 * side["of_limit_throughput"],
                    side["ready_s"],
                )
            )
    columns = (
        "model",
        "runtime",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "best items/s",
        "at batch",
        "% limit",
        "% best",
        "ready s",
    )
    note = (
        "p50, p95, p99: latency at a batch of one. % limit: what the device's matrix product or its copy would need at "
        "least for the operations, or for weights, inputs and outputs, over what was needed; at a batch of one, and at "
        "the best batch. ready: seconds to load or compile and to run each batch once. "
    )
    left_out = " ".join(f"Left out: {reason} ({', '.join(names)})." for reason, names in skipped.items())
    return [bounds, Table("runtimes", columns, tuple(rows), note + left_out, digits=2)]


class _Budget:
    """Seconds that may still be spent."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds


def _model(
    name: str, device: Device, compiling: _Budget, args: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    """One model in every runtime and precision."""
    module = module_of(name, args.preset)
    sides: list[dict[str, Any]] = []
    ready: dict[int, dict[int, Call]] = {}  # calls by place of the side and batch
    for precision in args.precisions:
        for runtime in args.runtimes:
            sides.append({"runtime": runtime, "precision": precision})
            began = time.perf_counter()
            try:
                network = Network(name, module, _repository(args, precision))
                ready[len(sides) - 1] = _prepared(network, runtime, precision, device, compiling, args, progress)
                sides[-1]["ready_s"] = time.perf_counter() - began
            except UnavailableError as reason:
                sides[-1]["skipped"] = str(reason)
    found: dict[tuple[int, int], list[Any]] = {}
    for number in range(args.rounds):
        progress(f"{name}: round {number + 1} of {args.rounds}, {len(ready)} sides")
        for place, calls in ready.items():
            for batch, call in calls.items():
                found.setdefault((place, batch), []).append(device.measured(call, args.seconds))
    for place, calls in ready.items():
        sides[place]["batches"] = [_level(batch, found[place, batch]) for batch in calls]
    return {"cost": asdict(_cost(name, module)), "sides": sides}


def _judge(model: dict[str, Any], peak: Peak) -> None:
    """Hold every level of a model against the limit, and sum its sides up."""
    cost = _Cost(**model["cost"])
    for side in model["sides"]:
        if "batches" in side:
            for level in side["batches"]:
                _hold_against_limit(level, cost, peak, side["precision"])
            side |= _summary(side["batches"])


@dataclass(frozen=True)
class _Cost:
    """What no implementation can do without; bytes in fp32."""

    flops: int  # of one item
    weight_bytes: int
    item_bytes: int  # inputs and outputs of one item, which are fp32 or UINT8 in every precision


def _cost(name: str, module: nn.Module) -> _Cost:
    """Operations by torch's own count, bytes of weights and of what goes in and comes out."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    inputs = tuple(inputs_for(name, 1, Device("cpu")).values())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        answer = module(*inputs)
    outputs = answer if isinstance(answer, tuple) else (answer,)
    return _Cost(
        int(counter.get_total_flops()),
        sum(values.nbytes for values in (*module.parameters(), *module.buffers())),
        sum(values.nbytes for values in (*inputs, *outputs)),
    )


def _hold_against_limit(level: dict[str, Any], cost: _Cost, peak: Peak, precision: Precision) -> None:
    """Add to a level what the device would need at least, and the share of it."""
    weight_bytes = cost.weight_bytes * (0.5 if precision == "fp16" else 1.0)
    batch = level["batch"]
    limit_ms = peak.limit_ms(cost.flops * batch, weight_bytes + cost.item_bytes * batch, precision)
    level["limit_ms"] = limit_ms
    level["of_limit_latency"] = limit_ms / level["p50_ms"]
    level["of_limit_throughput"] = limit_ms / 1000 * level["items_per_s"] / batch


def _summary(levels: list[dict[str, Any]]) -> dict[str, Any]:
    """Latency of the first batch, throughput of the best, and all of them."""
    best = max(levels, key=lambda level: level["items_per_s"])
    first = {key: levels[0][key] for key in ("p50_ms", "p95_ms", "p99_ms", "limit_ms", "of_limit_latency")}
    return first | {
        "best_items_per_s": best["items_per_s"],
        "best_batch": best["batch"],
        "of_limit_throughput": best["of_limit_throughput"],
    }


def _prepared(
    network: Network,
    runtime: str,
    precision: Precision,
    device: Device,
    compiling: _Budget,
    args: argparse.Namespace,
    progress: Progress,
) -> dict[int, Call]:
    """Calls of one side by batch, each run once.

    Raises:
        UnavailableError: It cannot run here.
    """
    if precision == "fp16" and network.name in EXACT:
        raise UnavailableError("sums and phases stay fp32 in every precision")
    compiles = runtime == "torch.compile"
    if compiles and compiling.left <= 0:
        raise UnavailableError(f"the {args.compile_s:g} s for compilations were used up")
    if compiles and device.kind == "cpu" and precision == "fp16":
        raise UnavailableError("fp16 is emulated on a CPU: torch eager shows it")
    began = time.perf_counter()
    progress(f"{network.name}: {runtime} {precision}" + (", compiles" if compiles else ""))
    calls: dict[int, Call] = {}
    try:
        side = SIDES[runtime](network, device, precision)
        # A compilation takes half a minute on a CPU, a second or two on a machine with a GPU.
        for batch in args.batches[:1] if compiles and device.kind == "cpu" else args.batches:
            call = side(inputs_for(network.name, batch, device))
            call()
            calls[batch] = call
            device.wait()
            if device.latency(call, 0.0).p50_ms > 1000 * _SLOW_S:
                break
    except UnavailableError:
        raise
    except Exception as error:  # a runtime may fail in its own way, and the others go on
        raise UnavailableError(f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}") from error
    finally:
        if compiles:
            compiling.left -= time.perf_counter() - began
    return calls


def _repository(args: argparse.Namespace, precision: Precision) -> Path | None:
    """Where the artefacts of this preset and precision are; None where nobody said."""
    given: Path | None = args.repository if precision == "fp32" else args.fp16_repository
    return given or (REPOSITORY if (args.preset, precision) == ("compact", "fp32") else None)


def _level(batch: int, found: list[Any]) -> dict[str, Any]:
    """Medians over the rounds."""
    latencies = {
        f"{percent}_ms": statistics.median(getattr(latency, f"{percent}_ms") for latency, _ in found)
        for percent in ("p50", "p95", "p99")
    }
    return {"batch": batch, "items_per_s": batch * statistics.median(calls for _, calls in found), **latencies}

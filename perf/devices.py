"""A CPU or a CUDA device as torch sees it: what it can do at best, and how calls on it are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from perf.closed_loop import Rates, rates
from perf.errors import PerfError

if TYPE_CHECKING:
    import torch

Kind = Literal["cpu", "cuda"]
Precision = Literal["fp32", "fp16"]
_CALLS = 3  # at least so many in a stretch
_PEAK_S = 0.3  # time for each of the peak's stretches
_CPU_ROWS, _CUDA_ROWS = 1024, 8192
_CPU_FP16_ROWS = 256  # emulated where the processor has no fp16 arithmetic
_CPU_VALUES, _CUDA_VALUES = 2**25, 2**28


@dataclass(frozen=True)
class Peak:
    """What bounds a network on a device."""

    tflops: dict[Precision, float]  # of a square matrix product
    gb_per_s: float  # of a copy; what is read and what is written both count

    def limit_ms(self, flops: float, moved_bytes: float, precision: Precision) -> float:
        """No implementation is faster: the operations at the matrix product's rate, or the bytes at the copy's."""
        return 1000 * max(flops / (self.tflops[precision] * 1e12), moved_bytes / (self.gb_per_s * 1e9))


def highest(peaks: Sequence[Peak]) -> Peak:
    """The best that was seen of each; a half may be computed as fp32, so that its rate is never the smaller one."""
    single = max(peak.tflops["fp32"] for peak in peaks)
    half = max(single, *(peak.tflops["fp16"] for peak in peaks))
    return Peak({"fp32": single, "fp16": half}, max(peak.gb_per_s for peak in peaks))


class Device:
    """Times calls; fp32 means fp32 (TF32 off).

    Args:
        kind: `cpu` or `cuda`.

    Raises:
        PerfError: CUDA is asked for where there is none (2).
    """

    def __init__(self, kind: Kind) -> None:
        import torch

        if kind == "cuda" and not torch.cuda.is_available():
            raise PerfError(
                f"torch {torch.__version__} sees no CUDA device; the comparison runs on the device it is told. "
                "Measure this machine's processor with --device cpu, or run it on a machine with an NVIDIA GPU.",
                exit_code=2,
            )
        self.kind = kind
        if kind == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.benchmark = True  # of fixed shapes, as here

    def wait(self) -> None:
        """Until all that was asked is done."""
        if self.kind == "cuda":
            import torch

            torch.cuda.synchronize()

    def latency(self, call: Callable[[], object], seconds: float) -> Rates:
        """One call after another, each waited for: what a caller sees who has one request at a time."""
        call()
        self.wait()
        latencies: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds or len(latencies) < _CALLS:
            before = time.perf_counter()
            call()
            self.wait()
            latencies.append(time.perf_counter() - before)
        return rates(latencies, sum(latencies))

    def measured(self, call: Callable[[], object], seconds: float) -> tuple[Rates, float]:
        """Latency, and calls a second: on a CPU both come of the same calls."""
        latency = self.latency(call, seconds)
        return latency, 1000 / latency.p50_ms if self.kind == "cpu" else self.calls_per_s(call, seconds)

    def calls_per_s(self, call: Callable[[], object], seconds: float) -> float:
        """Calls queued without waiting, between two events of the GPU; on a CPU one after another."""
        if self.kind == "cpu":
            return 1000 / self.latency(call, seconds).p50_ms
        import torch

        once = self.latency(call, 0.0).p50_ms / 1000
        count = max(_CALLS, round(seconds / once))
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(count):
            call()
        last.record()
        torch.cuda.synchronize()
        return float(1000 * count / first.elapsed_time(last))

    def peak(self) -> Peak:
        """Measure the device's own matrix product and copy."""
        import torch

        cuda = self.kind == "cuda"
        rows: dict[Precision, int] = {"fp32": _CUDA_ROWS, "fp16": _CUDA_ROWS} if cuda else {
            "fp32": _CPU_ROWS, "fp16": _CPU_FP16_ROWS,
        }  # fmt: skip
        types: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}
        tflops: dict[Precision, float] = {}
        for precision, kind in types.items():
            size = rows[precision]
            left, right = (torch.randn(size, size, device=self.kind).to(kind) for _ in range(2))
            out = torch.empty_like(left)
            tflops[precision] = 2 * size**3 * self.calls_per_s(lambda: torch.mm(left, right, out=out), _PEAK_S) / 1e12  # noqa: B023
        source = torch.ones(_CUDA_VALUES if cuda else _CPU_VALUES, device=self.kind)
        target = torch.empty_like(source)
        copied = 2 * source.nbytes * self.calls_per_s(lambda: target.copy_(source), _PEAK_S)
        return Peak(tflops, copied / 1e9)

    @property
    def name(self) -> str:
        """What it calls itself."""
        if self.kind == "cpu":
            return "cpu"
        import torch

        return str(torch.cuda.get_device_name())

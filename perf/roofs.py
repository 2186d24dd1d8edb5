"""What this machine can do at best: its own matrix product in fp32, and its memory's bandwidth."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from perf.bare_runtime import open_session
from perf.flops import GraphWork

Product = Callable[[], object]
_LARGE = 1536  # rows and columns: beyond every cache, 70 ms on one core of 100 GFLOP/s
_TRIAD_VALUES = 2**25  # 128 MiB each of three arrays
_ONCE_S = 0.01  # a shorter call is repeated to at least this long


def products(rows: int, inner: int, columns: int, threads: int) -> dict[str, Product]:
    """The same fp32 product (rows, inner) x (inner, columns) in every library at hand."""
    import torch

    draw = np.random.default_rng(0)
    left = draw.standard_normal((rows, inner), dtype=np.float32)
    right = draw.standard_normal((inner, columns), dtype=np.float32)
    session = open_session(_product_graph(), threads)
    lefts, rights = torch.from_numpy(left), torch.from_numpy(right)
    out = np.empty((rows, columns), np.float32)
    torch_out = torch.from_numpy(np.empty((rows, columns), np.float32))
    return {
        "numpy": lambda: np.matmul(left, right, out=out),
        "torch": lambda: torch.mm(lefts, rights, out=torch_out),
        "onnxruntime": lambda: session.run(None, {"left": left, "right": right}),
    }


def _product_graph() -> bytes:
    from onnx import TensorProto, helper

    left, right, product = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, axes)
        for name, axes in (("left", ["m", "k"]), ("right", ["k", "n"]), ("product", ["m", "n"]))
    )
    node = helper.make_node("MatMul", ["left", "right"], ["product"])
    graph = helper.make_graph([node], "product", [left, right], [product])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


@contextmanager
def library_threads(threads: int) -> Iterator[None]:
    """Numpy's BLAS and torch on so many threads."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def seconds_of(call: Callable[[], object], *, calls: int = 5) -> float:
    """Median time of a call, after one that is not counted."""
    call()
    before = time.perf_counter()
    call()
    repeats = max(1, round(_ONCE_S / max(time.perf_counter() - before, 1e-9)))
    took = []
    for _ in range(calls):
        before = time.perf_counter()
        for _ in range(repeats):
            call()
        took.append((time.perf_counter() - before) / repeats)
    return statistics.median(took)


def sgemm_gflops(threads: int, size: int = _LARGE) -> dict[str, float]:
    """GFLOP/s of a large square product by library."""
    with library_threads(threads):
        made = products(size, size, size, threads)
        return {name: 2 * size**3 / 1e9 / seconds_of(call) for name, call in made.items()}


def gflops_at_own_shapes(work: GraphWork, threads: int) -> float:
    """GFLOP/s that the machine's best library reaches on a network's own matrix products, one after the other.

    Convolutions as the products they amount to, operands ready: nothing is gathered, added or written twice. Narrow
    products cannot reach the rate of large ones, whoever computes them.
    """
    seconds = 0.0
    best: dict[tuple[int, int, int], float] = {}
    with library_threads(threads):
        for node in work.nodes:
            if node.product is None:
                continue
            if node.product not in best:
                calls = products(*node.product, threads).values()
                best[node.product] = min(seconds_of(call, calls=3) for call in calls)
            rows, inner, columns = node.product
            seconds += best[node.product] * node.flops / (2 * rows * inner * columns)
    return work.flops / 1e9 / seconds


def bandwidth_gb_per_s(threads: int, values: int = _TRIAD_VALUES) -> float:
    """GB/s of a = b + s c over arrays that no cache holds; two reads and a write count (STREAM's triad)."""
    import torch

    with library_threads(threads):
        a, b, c = (torch.full((values,), 1.0) for _ in range(3))
        took = seconds_of(lambda: torch.add(b, c, alpha=3.0, out=a))
    return 3 * 4 * values / 1e9 / took

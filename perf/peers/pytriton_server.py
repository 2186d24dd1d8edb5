"""The peer PyTriton: the same tritonserver as ours in front of Python callables with `@batch` and dynamic batching.

After PyTriton's documentation: `Triton.bind` with one callable for each instance (they are threads of this process),
`ModelConfig(max_batch_size, DynamicBatcher)`. Its response cache stays off: it would keep whole answers, and a load
that repeats its inputs would then measure a dictionary.
"""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig

from perf.peers.chains import Chain
from perf.peers.setting import Assignment
from perf.peers.wire import HOST, WORKLOADS

_OUTPUT_SHAPES = {"attention": (-1,), "speech": (-1,), "count": (1,), "density": (-1, -1)}


def main() -> None:
    """Serve until told to stop."""
    assignment = Assignment.from_environment()
    setting, workload = assignment.setting, WORKLOADS[assignment.workload]
    callables = [batch(Chain.assigned().batch) for _ in range(setting.workers)]
    delay_us = round(setting.delay_ms * 1000)
    config = TritonConfig(
        http_address=HOST,
        http_port=assignment.port,
        grpc_address=HOST,
        grpc_port=assignment.grpc_port,
        allow_metrics=False,
        exit_timeout_secs=1,
    )
    security = TritonSecurityConfig(restricted_endpoints=[])  # perf_analyzer asks for the model's config
    with Triton(config=config, security_config=security, workspace=Path(assignment.scratch, "workspace")) as triton:
        triton.bind(
            model_name=workload.name,
            infer_func=callables,
            inputs=[
                Tensor(name=name, dtype=np.dtype(dtype).type, shape=shape) for name, dtype, shape in workload.inputs
            ],
            outputs=[Tensor(name=name, dtype=np.float32, shape=_OUTPUT_SHAPES[name]) for name in workload.outputs],
            config=ModelConfig(
                max_batch_size=setting.batch, batcher=DynamicBatcher(max_queue_delay_microseconds=delay_us)
            ),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an interrupt unwinds it; SIGTERM would not
    main()

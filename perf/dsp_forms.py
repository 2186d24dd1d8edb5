"""The exported forms of the DSP modules: the served files, and exports made here where none is served."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from perf.bare_runtime import open_session
from perf.errors import PerfError
from train.settings import GRIFFIN_LIM_ITERATIONS

if TYPE_CHECKING:
    from perf.dsp_contenders import Array

OURS = "ours, "  # how the names of all forms begin
Form = Callable[..., "Array"]


class Forms:
    """Every exported form of the DSP modules: the served files, and exports made here where none is served."""

    def __init__(self, repository: Path, cores: int) -> None:
        self._repository = repository
        self._made: dict[tuple[str, int | None], tuple[bytes, bytes]] = {}
        self.threads = sorted({1, cores})

    def of(self, name: str, iterations: int | None = None) -> dict[str, Form]:
        """Ways to run a served model, by what they are called; each takes and gives arrays, the last output alone."""
        import numpy as np
        import torch

        graph, script = self._contents(name, iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated; Triton's backend takes nothing else
            module = torch.jit.load(io.BytesIO(script))

        def by_torchscript(*inputs: Array) -> Array:
            with torch.inference_mode():
                found = module(*map(torch.from_numpy, inputs))
            return np.asarray(found[-1] if isinstance(found, tuple) else found)

        forms: dict[str, Form] = {
            f"{OURS}ONNX, {count} thread{'s' if count > 1 else ''}": _by_onnx(graph, count) for count in self.threads
        }
        return forms | {f"{OURS}TorchScript": by_torchscript}

    def _contents(self, name: str, iterations: int | None) -> tuple[bytes, bytes]:
        if iterations is None or iterations == GRIFFIN_LIM_ITERATIONS:
            return self._served(name, "model.onnx"), self._served(name, "model.pt")
        if (name, iterations) not in self._made:
            self._made[name, iterations] = _export_griffin_lim(iterations)
        return self._made[name, iterations]

    def _served(self, name: str, file: str) -> bytes:
        versions = [path for path in (self._repository / name).glob(f"*/{file}") if path.parent.name.isdigit()]
        if not versions:
            raise PerfError(
                f"{self._repository / name} has no version with {file}; what is served is what is measured. Run "
                "avedge export, or give another --repository.",
                4,
            )
        return max(versions, key=lambda path: int(path.parent.name)).read_bytes()


def _by_onnx(graph: bytes, threads: int) -> Form:
    import numpy as np

    # As served; and threads that spin would take their core from the next contender.
    session = open_session(graph, threads, spinning=False)
    names = [value.name for value in session.get_inputs()]
    return lambda *inputs: np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[-1])


def _export_griffin_lim(iterations: int) -> tuple[bytes, bytes]:
    """Griffin-Lim with so many iterations as ONNX and as TorchScript."""
    import torch

    from train.dsp import GriffinLim

    module = GriffinLim(iterations).eval()
    arguments = (torch.rand(2, 257, 20), torch.randn(2, 2, 257, 20))
    free = torch.export.Dim.DYNAMIC
    content = io.BytesIO()
    # The exporter tells its progress on stdout, which belongs to results; TorchScript warns that it is old.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        axes = ({0: free, 2: free}, {0: free, 3: free})
        program = torch.onnx.export(module, arguments, dynamo=True, dynamic_shapes=axes, verbose=False)
        torch.jit.save(torch.jit.freeze(torch.jit.trace(module, arguments, check_trace=False)), content)
    assert program is not None
    return program.model_proto.SerializeToString(), content.getvalue()

"""The embedded server's answer to `backend: "pytorch"`: the container's backend of that name, on the CPU.

Names follow the container's backend: inputs are passed in the config's order, an output is named `<word>__<index>` of
the tuple that the module returns, and options are its upper-case parameters:
https://github.com/triton-inference-server/pytorch_backend (README, "Parameters").
"""

from __future__ import annotations

import torch
from batching import Array, BatchedModel, Declared, Runner, refuse_difference

_INTRA, _INTER = "INTRA_OP_THREAD_COUNT", "INTER_OP_THREAD_COUNT"
_PLAIN = "DISABLE_OPTIMIZED_EXECUTION"
_OPTIONS = frozenset({_INTRA, _INTER, _PLAIN})


def output_index(name: str) -> int:
    """Place of an output in the tuple that the module returns.

    Raises:
        ValueError: the name has no index.
    """
    word, separator, index = name.rpartition("__")
    if not (word and separator and index.isdecimal()):
        raise ValueError(
            f"output {name!r} is not named <word>__<index>; the index says which value of the module it is"
        )
    return int(index)


class TritonPythonModel(BatchedModel):
    """One TorchScript file on libtorch's CPU kernels."""

    def load(self, declared: Declared) -> Runner:
        """Load the module; its answers come in the config's order of outputs."""
        options = declared.options(_OPTIONS)
        if _INTRA in options:
            torch.set_num_threads(int(options[_INTRA]))
        if _INTER in options:
            torch.set_num_interop_threads(int(options[_INTER]))
        optimized = options.get(_PLAIN, "false").lower() != "true"
        indices = [output_index(tensor.name) for tensor in declared.outputs]
        module: torch.jit.ScriptModule = torch.jit.load(str(declared.file), map_location="cpu")
        module.eval()
        schema: torch.FunctionSchema = module.forward.schema  # type: ignore[attr-defined]
        accepted = len(schema.arguments) - 1  # the first is the module itself
        refuse_difference(declared.name, "number of inputs", accepted, len(declared.inputs))

        def run(arrays: list[Array]) -> list[Array]:
            with torch.inference_mode(), torch.jit.optimized_execution(optimized):
                answer = module(*map(torch.from_numpy, arrays))
            values = answer if isinstance(answer, tuple) else (answer,)
            return [values[index].contiguous().numpy() for index in indices]

        return run

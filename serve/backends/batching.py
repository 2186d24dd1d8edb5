"""What both Python-based backends of the embedded server share: reading the config, and running requests as one batch.

    requests ──> one array per input, rows of all requests ──> runner ──> one array per output ──> one response each

The launcher copies this file beside each backend's `model.py`; it runs inside the server's stub process, which is the
only place where `triton_python_backend_utils` exists. Nothing here looks at values: what a tensor means is the
exported graph's business.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

Array = np.ndarray[Any, Any]
Runner = Callable[[list[Array]], list[Array]]  # inputs and outputs in the config's order

# Said by the config for others to read; no runtime option.
INFORMATIONAL_PARAMETERS = frozenset({"contract_digest"})


@dataclass(frozen=True)
class Tensor:
    """One tensor as the config declares it."""

    name: str
    datatype: str  # TYPE_FP32, ...
    shape: tuple[int, ...]  # -1 is any length; starts with -1 for the batch, where the model batches
    dtype: np.dtype[Any]  # the same type in numpy's words

    @classmethod
    def from_config(cls, content: Mapping[str, Any], lead: tuple[int, ...]) -> Tensor:
        """Read one `input` or `output` of a config."""
        datatype = content["data_type"]
        dtype = np.dtype(pb_utils.triton_string_to_numpy(datatype))
        return cls(content["name"], datatype, (*lead, *map(int, content["dims"])), dtype)


@dataclass(frozen=True)
class Declared:
    """One model as its config declares it."""

    name: str
    file: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batches: bool
    parameters: Mapping[str, str]
    graph_level: int  # `optimization.graph.level`; 0 where the config is silent

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, str]) -> Declared:
        """Read what Triton hands to `initialize`."""
        config = json.loads(arguments["model_config"])
        batches = config["max_batch_size"] > 0
        lead = (-1,) if batches else ()
        inputs, outputs = (
            tuple(Tensor.from_config(content, lead) for content in config[side]) for side in ("input", "output")
        )
        return cls(
            name=config["name"],
            file=Path(arguments["model_repository"], arguments["model_version"], config["default_model_filename"]),
            inputs=inputs,
            outputs=outputs,
            batches=batches,
            parameters={key: value["string_value"] for key, value in config["parameters"].items()},
            graph_level=int(config.get("optimization", {}).get("graph", {}).get("level", 0)),
        )

    def options(self, known: frozenset[str]) -> dict[str, str]:
        """The parameters that are options of the runtime.

        Raises:
            ValueError: a parameter that the backend does not know, so that a misspelt one is never silently without
                effect.
        """
        unknown = self.parameters.keys() - known - INFORMATIONAL_PARAMETERS
        if unknown:
            raise ValueError(
                f"{self.name}: unknown parameter {', '.join(sorted(unknown))} in its config; known are "
                f"{', '.join(sorted(known | INFORMATIONAL_PARAMETERS))}. It would have no effect: correct or drop it."
            )
        return {key: value for key, value in self.parameters.items() if key in known}


def refuse_difference(model: str, what: str, seen: object, wanted: object) -> None:
    """Refuse a graph that is not what the config says.

    Raises:
        ValueError: the two differ.
    """
    if seen != wanted:
        raise ValueError(f"{model}: {what} in the file: {seen}; in the config: {wanted}. Export the model again.")


class BatchedModel:
    """The three calls that Triton makes; a backend only says how to load a file into a runner."""

    def load(self, declared: Declared) -> Runner:
        """Load the file and prove that it is what the config declares."""
        raise NotImplementedError

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model; an exception here is the reason the server gives for not loading it."""
        # The process ends with the model. Taking torch apart object by object first took 2 s of a core for each model.
        atexit.register(os._exit, 0)
        self._declared = Declared.from_arguments(args)
        self._runner = self.load(self._declared)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests that Triton's dynamic batcher put together; all have the same lengths."""
        inputs = [self._inputs_of(request) for request in requests]
        if len(inputs) > 1 and self._declared.batches:
            try:
                return self._answer_together(inputs)
            except Exception as error:  # one bad request must not fail its company: each gets its own answer
                pb_utils.Logger.log_warn(f"{self._declared.name}: batch of {len(inputs)} split up after: {error}")
        return [self._answer_alone(arrays) for arrays in inputs]

    def _inputs_of(self, request: Any) -> list[Array]:
        """Views of the request's shared memory, in the config's order."""
        given = {tensor.name(): tensor for tensor in request.inputs()}
        return [given[tensor.name].as_numpy() for tensor in self._declared.inputs]

    def _answer_together(self, inputs: list[list[Array]]) -> list[Any]:
        outputs = self._checked(self._runner([np.concatenate(arrays) for arrays in zip(*inputs, strict=True)]))
        ends = np.cumsum([arrays[0].shape[0] for arrays in inputs])
        starts = [0, *ends[:-1]]
        return [self._response([rows[a:b] for rows in outputs]) for a, b in zip(starts, ends, strict=True)]

    def _answer_alone(self, arrays: list[Array]) -> Any:
        try:
            return self._response(self._checked(self._runner(arrays)))
        except Exception as error:  # whatever the graph refuses is that request's error, not the server's
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"{self._declared.name}: {error}"))

    def _checked(self, outputs: list[Array]) -> list[Array]:
        for tensor, array in zip(self._declared.outputs, outputs, strict=True):
            if array.dtype != tensor.dtype:
                raise ValueError(f"output {tensor.name} is {array.dtype}, the config says {tensor.datatype}")
        return outputs

    def _response(self, outputs: list[Array]) -> Any:
        named = zip(self._declared.outputs, outputs, strict=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor(tensor.name, array) for tensor, array in named])

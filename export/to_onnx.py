"""A module to an ONNX graph that carries the contract's names, types and shapes, simplified, checked and linted."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import onnx
import onnxsim
import torch
from torch import nn

from export.contract import Model, Tensor
from export.errors import ExportError
from export.graph_passes import rewrite
from export.lint import lint
from export.samples import sample_inputs

OPSET = 18
# The exporter warns at each export of libraries that no graph here needs; torch resets levels when it is imported.
logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def export_onnx(module: nn.Module, model: Model, metadata: dict[str, str]) -> onnx.ModelProto:
    """Export one served model.

    Args:
        module: in evaluation mode; takes the model's inputs by position and gives its outputs.
        model: the contract's entry, which names and shapes the graph.
        metadata: stored in the graph's `metadata_props`.

    Raises:
        ExportError: the exporter failed, or the graph breaks the contract or the lint.
    """
    arguments = tuple(sample_inputs(model, batch=2, seed=0).values())
    axes = [{0: torch.export.Dim.DYNAMIC} | _changing_axes(tensor) for tensor in model.inputs]
    try:
        # The exporter tells its progress on stdout, which belongs to results.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                arguments,
                dynamo=True,
                input_names=[tensor.name for tensor in model.inputs],
                output_names=[tensor.name for tensor in model.outputs],
                dynamic_shapes=tuple(axes),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"{model.name} could not be exported to ONNX: {error}") from error
    assert program is not None
    graph: onnx.ModelProto
    graph, same = onnxsim.simplify(program.model_proto)
    if not same:
        raise ExportError(
            f"{model.name}: the simplified graph answers otherwise than the exported one; nothing written."
        )
    graph = rewrite(graph)
    _state_shapes(graph, model)
    _strip_notes(graph)
    onnx.helper.set_model_props(graph, metadata)
    onnx.checker.check_model(graph, full_check=True)
    lint(graph, model)
    return graph


def _changing_axes(tensor: Tensor) -> dict[int, Any]:
    """Axes of one input that change their length, counted with the batch axis."""
    return {place + 1: torch.export.Dim.DYNAMIC for place, axis in enumerate(tensor.shape) if isinstance(axis, str)}


def _state_shapes(graph: onnx.ModelProto, model: Model) -> None:
    """Write the contract's axis names over the exporter's symbols."""
    for values, tensors in ((graph.graph.input, model.inputs), (graph.graph.output, model.outputs)):
        for value, tensor in zip(values, tensors, strict=True):
            dims = value.type.tensor_type.shape.dim
            for dim, axis in zip(dims, ("batch", *tensor.shape), strict=True):
                if isinstance(axis, str):
                    dim.dim_param = axis


def _strip_notes(graph: onnx.ModelProto) -> None:
    """Drop the exporter's notes: stack traces with paths of the machine that exported."""
    del graph.graph.metadata_props[:]
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info, *graph.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]

"""Optimisation profiles: the smallest, usual and largest shape of every input, as the contract allows them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from export.contract import MAX_BATCH_SIZE, PADDED_SAMPLES, Model, is_dynamic, size_of
from export.errors import ExportError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Corner:
    """One point of a profile: how many items of what length."""

    batch: int
    samples: int


@dataclass(frozen=True)
class Range:
    """Shapes of one input, with the batch axis."""

    smallest: Shape
    usual: Shape
    largest: Shape

    @property
    def shapes(self) -> tuple[Shape, Shape, Shape]:
        """All three, ascending."""
        return self.smallest, self.usual, self.largest


Profile = dict[str, Range]


def corners_of(model: Model) -> tuple[Corner, Corner, Corner]:
    """Batches of one to the largest; the padded lengths where lengths change, of which the shortest is the usual."""
    shortest = PADDED_SAMPLES[0]
    longest = PADDED_SAMPLES[-1] if is_dynamic(model.inputs) else shortest
    return Corner(1, shortest), Corner(MAX_BATCH_SIZE // 2, shortest), Corner(MAX_BATCH_SIZE, longest)


def profile_of(model: Model) -> Profile:
    """The contract's profile of a model."""
    corners = corners_of(model)
    return {
        tensor.name: Range(*((c.batch, *(size_of(axis, c.samples) for axis in tensor.shape)) for c in corners))
        for tensor in model.inputs
    }


def require_fit(name: str, profile: Profile, graph: onnx.ModelProto) -> None:
    """Refuse a profile that is not one of the graph; TensorRT itself says so late or not at all.

    Raises:
        ExportError: names the tensor, what the profile says and what the graph says.
    """
    weights = {tensor.name for tensor in graph.graph.initializer}
    inputs = {value.name: value for value in graph.graph.input if value.name not in weights}
    if missing := sorted(inputs.keys() - profile.keys()):
        raise _refusal(name, f"has no shapes for {', '.join(missing)}", f"them for {', '.join(inputs)}")
    if unknown := sorted(profile.keys() - inputs.keys()):
        raise _refusal(name, f"has shapes for {', '.join(unknown)}", f"them for the inputs {', '.join(inputs)} alone")
    for tensor, sizes in profile.items():
        axes = [dim.dim_param or dim.dim_value for dim in inputs[tensor].type.tensor_type.shape.dim]
        for shape in sizes.shapes:
            fits = len(shape) == len(axes) and all(
                size >= 1 and (isinstance(axis, str) or size == axis) for size, axis in zip(shape, axes, strict=True)
            )
            if not fits:
                raise _refusal(name, f"gives {tensor} the shape {shape}", f"one of the graph's form {axes}")
        for small, usual, large in zip(*sizes.shapes, strict=True):
            if not small <= usual <= large:
                raise _refusal(name, f"gives {tensor} {sizes.shapes}", "smallest <= usual <= largest on every axis")


def _refusal(name: str, seen: str, wanted: str) -> ExportError:
    return ExportError(
        f"{name}: the optimisation profile {seen}; wanted {wanted}, because an engine runs the shapes of its profile "
        "and refuses all others. Mend the contract's shapes, then export again: avedge export."
    )

"""ONNX graphs to TensorRT engines, each with a manifest of what it was made of and proof of what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.engines.builder import MANIFEST_FILE, PLAN_FILE, Options, build

__all__ = ["MANIFEST_FILE", "PLAN_FILE", "Options", "build"]


def __getattr__(name: str) -> Any:
    """Import the builder when it is first asked for: the help of `avedge build` needs no ONNX."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from export.engines import builder

    return getattr(builder, name)

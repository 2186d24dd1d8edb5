"""ONNX graphs to TensorRT engines, each with a manifest of what it was made of and proof of what it does."""

from export.engines.builder import MANIFEST_FILE, PLAN_FILE, Options, build
from export.engines.library import Library

__all__ = ["MANIFEST_FILE", "PLAN_FILE", "Library", "Options", "build"]

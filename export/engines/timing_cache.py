"""TensorRT's timing cache: kernels timed once are not timed again, and the next build takes the same ones.

A cache holds for one GPU, driver and TensorRT, so each has a file of its own. TensorRT for RTX times nothing ahead.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Any

from export.engines.library import Gpu
from train.files import write_atomically

log = logging.getLogger(__name__)


def default_path(version: str, gpu: Gpu) -> Path:
    """Where the cache of this TensorRT and this GPU lies, in the user's cache folder."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "avedge"
    words = ("tensorrt", version, gpu.name, gpu.compute_capability, gpu.driver or "", gpu.cuda)
    return folder / (re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words)) + ".timing")


def load(config: Any, path: Path) -> Any:
    """Give the builder's config the cache of a file, or an empty one where the file is absent or of another kind.

    Returns:
        The cache, which must live until the engine is built.
    """
    content = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        log.warning("%s was made by another TensorRT or GPU; kernels are timed anew", path)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def save(config: Any, path: Path) -> str:
    """Write what the builder has timed, whole or not at all; returns the content's SHA-256."""
    content = bytes(config.get_timing_cache().serialize())
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()

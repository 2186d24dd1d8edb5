"""A model repository to try settings on: the newest artefacts linked, the configs of one target changed at will."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritonclient.grpc import model_config_pb2

    Change = Callable[[model_config_pb2.ModelConfig], None]


def copy_repository(source: Path, folder: Path, target: str, change: Change | None = None) -> Path:
    """Make the copy; the source is only read.

    Args:
        source: Triton model repository with exported models.
        folder: Is made; gets one folder for each model, with one config, which is the default too.
        target: Whose configs are copied.
        change: Is given each config, ensembles' as well, and changes it in place.

    Returns:
        The folder.

    Raises:
        ServeError: The source is no repository.
    """
    from google.protobuf import text_format

    from serve.repository import read_repository

    for model in read_repository(source, target):
        own = folder / model.name
        (own / "configs").mkdir(parents=True)
        if model.versions:
            # As version 1 everywhere: perf_analyzer asks the models inside an ensemble for the ensemble's own version.
            (own / "1").symlink_to((model.folder / str(max(model.versions))).resolve())
        if change is not None:
            change(model.config)
        text = text_format.MessageToString(model.config)
        for path in (own / "config.pbtxt", own / "configs" / f"{target}.pbtxt"):
            path.write_text(text)
    return folder

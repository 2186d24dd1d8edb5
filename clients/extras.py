"""Packages that a user may go without: loaded when they are first used, or one line says what to install.

    from clients.extras import cv2          # loads nothing
    cv2.resize(...)                         # loads OpenCV, or raises MissingExtra

The client alone takes a tenth of the room: numbers and pictures as arrays, WAV and FLAC, need none of these.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from clients.errors import ClientError

if TYPE_CHECKING:
    import av
    import cv2

__all__ = ["MissingExtra", "av", "cv2", "require"]

# What each is for, and the extra of this project that brings it.
_PURPOSES = {
    "av": ("PyAV", "media", "it reads and writes video, and sound other than WAV and FLAC"),
    "cv2": ("OpenCV", "media", "it reads and resizes pictures and finds faces"),
    "matplotlib": ("Matplotlib", "plots", "it draws spectrograms and density maps"),
    "gradio": ("Gradio", "web", "the page is made with it"),
}


class MissingExtra(ClientError, ImportError):  # noqa: N818  (as in clients.errors)
    """Something was asked for that needs a package which is not installed."""

    exit_code = 2


def require(module: str) -> ModuleType:
    """Load one of the packages that a user may go without.

    Raises:
        MissingExtra: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise  # it is there, and what is asked of it, or what it needs itself, is not
        name, extra, why = _PURPOSES[package]
        raise MissingExtra(
            f"{name} is not installed here", f"the extra `{extra}`", why, f"pip install 'avedge[{extra}]'"
        ) from error


class _Later:
    """A package in whose place this stands until one of its names is asked for."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(require(self._module), name)


if not TYPE_CHECKING:
    av, cv2 = _Later("av"), _Later("cv2")

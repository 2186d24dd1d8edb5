"""Library and command line for users: numpy, tritonclient and media libraries, never torch.

    from clients import CrowdCounter, SpeechSeparator

Names are loaded when they are asked for, so that `avedge --help` does not wait for gRPC, OpenCV and FFmpeg.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clients.counter import AsyncCrowdCounter, CrowdCounter
    from clients.counting.hearing import Fallback
    from clients.counting.regions import Region
    from clients.crowd_count import CrowdCount, TimedCount
    from clients.errors import (
        BadInput,
        BadSetting,
        ClientError,
        ContractMismatch,
        OutputFailed,
        ServerUnavailable,
        Timeout,
    )
    from clients.extras import MissingExtra
    from clients.separator import (
        FaceIdentity,
        Portrait,
        SeparatedFile,
        SeparatedSpeech,
        SpeechBlock,
        SpeechSeparator,
        find_faces,
    )
    from clients.separator_aio import AsyncSpeechSeparator
    from clients.transport.aio import AsyncConnection
    from clients.transport.connection import DEFAULT_URL, Connection
    from clients.transport.tls import Tls

_HOMES = {
    "DEFAULT_URL": "transport.connection",
    "AsyncConnection": "transport.aio",
    "Connection": "transport.connection",
    "AsyncCrowdCounter": "counter",
    "CrowdCount": "crowd_count",
    "CrowdCounter": "counter",
    "BadInput": "errors",
    "BadSetting": "errors",
    "ClientError": "errors",
    "ContractMismatch": "errors",
    "MissingExtra": "extras",
    "OutputFailed": "errors",
    "ServerUnavailable": "errors",
    "Timeout": "errors",
    "AsyncSpeechSeparator": "separator_aio",
    "FaceIdentity": "separator",
    "Fallback": "counting.hearing",
    "Portrait": "separator",
    "Region": "counting.regions",
    "SeparatedFile": "separator",
    "SeparatedSpeech": "separator",
    "SpeechBlock": "separator",
    "SpeechSeparator": "separator",
    "TimedCount": "crowd_count",
    "find_faces": "separator",
    "Tls": "transport.tls",
}

__all__ = [
    "DEFAULT_URL",
    "AsyncConnection",
    "AsyncCrowdCounter",
    "AsyncSpeechSeparator",
    "BadInput",
    "BadSetting",
    "ClientError",
    "Connection",
    "ContractMismatch",
    "CrowdCount",
    "CrowdCounter",
    "FaceIdentity",
    "Fallback",
    "MissingExtra",
    "OutputFailed",
    "Portrait",
    "Region",
    "SeparatedFile",
    "SeparatedSpeech",
    "ServerUnavailable",
    "SpeechBlock",
    "SpeechSeparator",
    "TimedCount",
    "Timeout",
    "Tls",
    "find_faces",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'clients' has no attribute {name!r}")
    return getattr(importlib.import_module(f"clients.{_HOMES[name]}"), name)

"""Between Gradio and the tabs: what an upload is, whose it is, and how an action ends when it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from clients.web.messages import Upload
from clients.web.sessions import Sessions

AT_ONCE = 2  # questions on the way to the server; the others wait in the order that they came in
PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # of every event: the page is no programming interface

FileData = dict[str, Any]  # Gradio's own description of an upload
Updates = dict[Any, Any]  # components to what changes in them


@dataclass(frozen=True)
class Asking:
    """Whom the tabs ask, and where they keep what they are given."""

    server: Mapping[str, Any]  # what the clients' constructors take
    sessions: Sessions


def upload_of(payload: FileData | None) -> Upload | None:
    """The file that a component holds; Gradio has seen that it lies among the uploads."""
    if not payload:
        return None
    path = Path(payload["path"])
    return Upload(path, payload.get("orig_name") or path.name)


def owner(request: gr.Request) -> str:
    """The open page that an event came from."""
    return str(request.session_hash)


def keep(asking: Asking, purpose: str) -> Callable[[FileData | None, gr.Request], None]:
    """An event that holds what is in a field, and lets go of what was there before."""

    def hold(payload: FileData | None, request: gr.Request) -> None:
        upload = upload_of(payload)
        asking.sessions.hold(owner(request), purpose, [upload.path] if upload else [])

    return hold


def shown(html: str) -> Any:
    """A message that appears."""
    return gr.update(visible=True, value=html)


def no_message() -> Any:
    """The message goes away."""
    return gr.update(visible=False, value="")


def offer_examples(pairs: list[tuple[Path, Path]], fields: list[Any], name: str) -> None:
    """Buttons that fill two fields; nothing where there are no examples."""
    whole = [pair for pair in pairs if all(file.is_file() for file in pair)]
    if whole:
        gr.Examples(
            [[str(file) for file in pair] for pair in whole],
            fields,
            label="Drawn examples",
            example_labels=[f"{name} {number}" for number in range(1, len(whole) + 1)],
            cache_examples=False,
        )

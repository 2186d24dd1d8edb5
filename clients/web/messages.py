"""What the page says when something went wrong: our errors in their four parts, in the page's own words."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

from clients.errors import BadInput, ClientError, printable
from clients.web.sessions import PREFIX

logger = logging.getLogger(__name__)

# The library's words name the command line's options; here the same things are fields, or options of `avedge web`.
_IN_PAGE_WORDS = {
    " with --face-crop": "; then tick “The photo shows the face alone”",
    "choose with --face-index, or give the photos of those who matter with --face": "cut it to the person to hear",
    "give another folder with --output, or free some room": "free some room",
    "another --sound-start": "another start under Options",
    ", and --float32 keeps it": "",
    "--timeout": "the --timeout of `avedge web`",
    "--url": "the --url of `avedge web`",
}
_PRIVATE_PLACE = re.compile(rf"\S*/{PREFIX}\S*/")  # of results, which have no other name than that of their file


class Upload(NamedTuple):
    """One uploaded file: where it lies, and how its owner calls it."""

    path: Path
    name: str


def require_upload(upload: Upload) -> None:
    """Refuse an upload that is gone by now.

    Raises:
        BadInput: it was replaced by another, or an hour has passed.
    """
    if not upload.path.is_file():
        raise BadInput(
            f"{printable(upload.name)} is no longer here",
            "a file that was uploaded within the last hour",
            "the page keeps nothing for longer",
            "choose it again",
        )


def missing(what: str, do: str) -> BadInput:
    """A field was left empty."""
    return BadInput(f"No {what} was given", f"a {what}", "there is nothing to work on without it", do)


def explain(error: Exception, *uploads: Upload | None) -> str:
    """An error as HTML for people; paths on this machine are replaced by the files' own names."""
    if not isinstance(error, ClientError):
        # Where it was, and not what the error says: that may name an upload, which is its owner's affair.
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.error("unexpected %s in the web page, at\n%s", type(error).__name__, where)
        return alert(
            "Something unexpected went wrong here", ["Try again; the other users of this page are unaffected."]
        )
    seen, *others = (_on_page(text, uploads) for text in (error.seen, error.wanted, error.why, error.remedy))
    labels = ("Wanted", "Why it matters", "What to do")
    return alert(seen, [f"<b>{label}:</b> {escape(text)}" for label, text in zip(labels, others, strict=True)])


def alert(title: str, lines: list[str]) -> str:
    """A block that a screen reader announces; the lines are HTML already."""
    body = "".join(f"<li>{line}</li>" for line in lines)
    return f'<div class="ave-alert" role="alert"><p>{escape(title)}.</p><ul>{body}</ul></div>'


def warnings_html(warnings: Iterable[str], *uploads: Upload | None) -> str:
    """What the reader should know of a result; empty where there is nothing."""
    items = "".join(f"<li>{escape(_on_page(text, uploads))}</li>" for text in warnings)
    return f'<ul class="ave-warnings" aria-label="Warnings">{items}</ul>' if items else ""


def _on_page(text: str, uploads: Iterable[Upload | None]) -> str:
    """What the library says, for somebody who sees fields and no options, and knows no path of this machine."""
    for upload in uploads:
        if upload is not None:
            text = text.replace(printable(upload.path), printable(upload.name))
    text = _PRIVATE_PLACE.sub("", text)
    for words, ours in _IN_PAGE_WORDS.items():
        text = text.replace(words, ours)
    return text

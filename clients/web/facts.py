"""Terms and figures as HTML."""

from __future__ import annotations

from html import escape


def facts_html(facts: dict[str, str]) -> str:
    """A list of terms, each with what is said of it."""
    items = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(text)}</dd></div>" for term, text in facts.items())
    return f'<dl class="ave-facts">{items}</dl>'


def clock(seconds: float) -> str:
    """A moment of a video, as players show it: 1:05, or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

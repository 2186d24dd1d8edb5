"""What the clients refuse: one class per reaction of the caller, each with its exit code."""

# ruff: noqa: N818  (the names say what happened; an "Error" behind each would add nothing)

from __future__ import annotations

from pathlib import Path


class ClientError(Exception):
    """Base of all; the message says what was seen, what was wanted, why it matters, and what to do.

    Args:
        seen: what there was, with its values and units; a sentence without its full stop, as the others.
        wanted: what would have been right.
        why: why the difference matters.
        remedy: what the reader can do about it.
    """

    exit_code = 1

    def __init__(self, seen: str, wanted: str, why: str, remedy: str) -> None:
        parts = [printable(part) for part in (seen, wanted, why, remedy)]  # they quote files, servers and libraries
        super().__init__(*parts)
        self.seen, self.wanted, self.why, self.remedy = parts

    def __str__(self) -> str:
        return f"{self.seen}.\n  wanted: {self.wanted}.\n  why:    {self.why}.\n  do:     {self.remedy}."


class BadInput(ClientError):
    """A recording, picture or photo that no answer can be given for."""

    exit_code = 4


class BadSetting(ClientError, ValueError):
    """An address, a certificate or an option that nothing can be done with."""

    exit_code = 2


class ServerUnavailable(ClientError):
    """No server answers, it is not ready, or it is too busy."""

    exit_code = 5


class ContractMismatch(ClientError):
    """The server serves something else than these clients talk to."""

    exit_code = 6


class Timeout(ClientError):
    """The server did not answer within the deadline."""

    exit_code = 7


class OutputFailed(ClientError):
    """A result could not be written; nothing half-written is left."""

    exit_code = 8


def printable(text: str | Path) -> str:
    """The text with everything that could act on a terminal or forge a line of a log written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))

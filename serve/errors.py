"""What serving refuses, in words for the person at the command line."""

from __future__ import annotations

EXIT_NOT_READY = 5
EXIT_MISMATCH = 6


class ServeError(Exception):
    """The server cannot run, or would answer wrongly.

    The message says what was seen, what was wanted, why it matters, and what to do. `exit_code` is 5 when the server
    cannot start or died, 6 when what it would serve is missing or belongs to another contract.
    """

    def __init__(self, message: str, exit_code: int = EXIT_NOT_READY) -> None:
        super().__init__(message)
        self.exit_code = exit_code

"""What a measurement refuses, in words for the person at the command line."""


class PerfError(Exception):
    """A measurement that cannot be made; the message says what was seen, what was wanted, why, and what to do."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code

"""What training and synthesis refuse, in words for the person at the command line."""


class TrainError(Exception):
    """Bad data, settings or weights; the message says what was seen, what was wanted, why, and what to do."""

    exit_code = 4


class UsageError(TrainError):
    """Options that contradict each other."""

    exit_code = 2


class OutputError(TrainError):
    """A result that could not be written: a full disk, a folder without permission."""

    exit_code = 8


class StoppedError(TrainError):
    """A training that was asked to stop and has saved where it was."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

"""What training and synthesis refuse, in words for the person at the command line."""


class TrainError(Exception):
    """Bad data, settings or weights; the message says what was seen, what was wanted, why, and what to do."""

    exit_code = 4

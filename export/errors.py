"""What export refuses."""


class ExportError(Exception):
    """An artefact that cannot be made, or is not equal to its module; nothing was published."""

    exit_code = 6

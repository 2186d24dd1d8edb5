"""A file that appears under its name only when it is whole."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


class WholeFile:
    """Where a file is written until it is whole: hidden, in the same folder.

    Args:
        path: the file wanted; one that is there is replaced at the end.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(f".{secrets.token_hex(8)}.part")

    def finish(self) -> None:
        """Give what was written its name.

        Raises:
            OSError: it cannot be; nothing is left then.
        """
        try:
            os.replace(self.part, self.path)
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing."""
        self.part.unlink(missing_ok=True)

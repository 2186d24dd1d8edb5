"""What a command reads: every input with its name for people and its place among the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Input:
    """One thing to work on."""

    path: Path  # the file to read
    name: str  # as people gave it
    place: Path  # its results, below the output folder and without their endings: Path("monday/talk")

    @classmethod
    def of(cls, path: Path) -> Input:
        """A file that was named by itself."""
        return cls(path, str(path), Path(path.stem))

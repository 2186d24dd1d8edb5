"""What LibriSpeech has: recordings, who reads them, and of which sex."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from train.corpus.layout import Sex
from train.errors import TrainError


@dataclass(frozen=True)
class Recording:
    """One file of the corpus."""

    path: Path
    speaker: str
    sex: Sex


def list_recordings(root: Path) -> list[Recording]:
    """Find the recordings and the sex of who reads them.

    Raises:
        TrainError: neither `speech.csv` nor `SPEAKERS.TXT`, a column or a sex missing, or nothing listed.
    """
    table, speakers = root / "speech.csv", root / "SPEAKERS.TXT"
    if table.is_file():
        found = _list_table(root, table)
    elif speakers.is_file():
        found = _list_tree(root, speakers)
    else:
        raise TrainError(
            f"Neither speech.csv nor SPEAKERS.TXT in {root}; one of them says who reads and of which sex. "
            "Name the folder that holds it with --root."
        )
    if not found:
        raise TrainError(f"No recording is listed below {root}; wanted FLAC files. Is the corpus unpacked?")
    _check(root, found)
    return found


def _check(root: Path, recordings: list[Recording]) -> None:
    """Names become folders, therefore each must be a plain one and mean one thing."""
    sexes: dict[str, str] = {}
    places: set[tuple[str, str]] = set()
    for recording in recordings:
        place = (recording.speaker, recording.path.stem)
        if not re.fullmatch(r"\w[\w-]*", recording.speaker):
            raise TrainError(f"{root} names a speaker {recording.speaker!r}; wanted letters, digits, - and _ only.")
        if sexes.setdefault(recording.speaker, recording.sex) != recording.sex:
            raise TrainError(f"{root} gives {recording.speaker} two sexes; a face is drawn for one. Correct the list.")
        if place in places:
            raise TrainError(f"{root} lists two recordings {place[1]} of {place[0]}; give each file its own name.")
        places.add(place)


def _list_table(root: Path, table: Path) -> list[Recording]:
    found = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            sex = row.get("gender")
            if not row.get("file") or not row.get("speaker") or sex not in ("F", "M"):
                raise TrainError(f"{table}, line {number}: wanted file, speaker and gender F or M, found {row}.")
            found.append(Recording(root / row["file"], row["speaker"], "F" if sex == "F" else "M"))
    return found


def _list_tree(root: Path, speakers: Path) -> list[Recording]:
    """The official layout: `ID | SEX | SUBSET | ...` in SPEAKERS.TXT, <subset>/<id>/<chapter>/*.flac."""
    sexes: dict[str, Sex] = {}
    for line in speakers.read_text(encoding="utf-8").splitlines():
        fields = [field.strip() for field in line.split("|")]
        if not line.startswith(";") and len(fields) >= 3 and fields[1] in ("F", "M"):
            sexes[fields[0]] = "F" if fields[1] == "F" else "M"
    paths = sorted(root.glob("*/*/*/*.flac"))
    unknown = {path.parts[-3] for path in paths} - sexes.keys()
    if unknown:
        raise TrainError(f"{speakers} does not say the sex of {sorted(unknown)[:5]}, {len(unknown)} in all.")
    return [Recording(path, f"libri-{path.parts[-3]}", sexes[path.parts[-3]]) for path in paths]

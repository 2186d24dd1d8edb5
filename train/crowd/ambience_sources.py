"""Recordings that semi-synthetic crowd sounds are mixed of, in two disjoint parts: for training, and for the rest.

    <ambient>/ambient.csv    file, kind; further columns are ignored. Without it every WAV and FLAC below is `people`
                               people         many people: a square, a station, applause
                               people-sparse  few of them: an office, a church
                               street         what is heard whoever is there
    <speech>/speech.csv      file, speaker. Without it every WAV and FLAC below is speech, and the first folder on the
                             way to it, or its own name, is the speaker

Training hears the first 70 % of every ambient recording and 70 % of the speakers, validation and test the rest; which
speakers these are depends on their names alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from train.corpus.recordings import read_recording
from train.errors import TrainError
from train.settings import SAMPLE_RATE_HZ

Wave = NDArray[np.float32]
Part = Literal["training", "held out"]
KINDS = ("people", "people-sparse", "street")

TRAINING_SHARE = 0.7
_SHORTEST_S = 1.0  # of a part of a recording
_MOST_VOICES, _VOICE_S = 256, 15.0  # held in memory: at most 246 MB
_QUIETEST_RMS = 1e-5


@dataclass(frozen=True)
class Sources:
    """Recordings at 16 kHz, each float32 (N,) with RMS 1."""

    people: list[Wave]
    sparse: list[Wave]
    street: list[Wave]  # may be empty
    voices: list[Wave]


def read_sources(ambient: Path, speech: Path, part: Part) -> Sources:
    """Read one part of the recordings.

    Raises:
        TrainError: no recordings, none with people, one speaker only, or a file that is missing, damaged, silent or
            too short.
    """
    kinds: dict[str, list[Wave]] = {kind: [] for kind in KINDS}
    for path, kind in _list_ambient(ambient):
        kinds[kind].append(_unit(_part_of(read_recording(path), part, path), path))
    if not kinds["people"] and not kinds["people-sparse"]:
        raise TrainError(
            f"{ambient} has no recording of the kind people or people-sparse; wanted one at least, because the sound "
            "of a crowd is made of them. Add one, or correct ambient.csv."
        )
    people, sparse = kinds["people"], kinds["people-sparse"]
    voices = [_unit(read_recording(path)[: int(_VOICE_S * SAMPLE_RATE_HZ)], path) for path in _voices(speech, part)]
    return Sources(people or sparse, sparse or people, kinds["street"], voices)


def _part_of(wave: Wave, part: Part, path: Path) -> Wave:
    border = int(TRAINING_SHARE * len(wave))
    kept = wave[:border] if part == "training" else wave[border:]
    if len(kept) < _SHORTEST_S * SAMPLE_RATE_HZ:
        raise TrainError(
            f"{path} is {len(wave) / SAMPLE_RATE_HZ:.1f} s long; wanted 3.4 s or more, because training and validation "
            "must hear different seconds of it. Leave it out or record a longer one."
        )
    return kept


def _unit(wave: Wave, path: Path) -> Wave:
    rms = float(np.sqrt(np.mean(wave**2)))
    if rms < _QUIETEST_RMS:
        raise TrainError(f"{path} is silent; wanted a recording that can be heard. Leave it out.")
    return (wave / rms).astype(np.float32)


def _voices(speech: Path, part: Part) -> list[Path]:
    """Files of the speakers of one part; of a large folder a fixed choice."""
    listed = _list_speech(speech)
    speakers = sorted({speaker for _, speaker in listed}, key=lambda name: (crc32(name.encode()), name))
    if len(speakers) < 2:
        raise TrainError(
            f"{speech} has one speaker only ({speakers[0]}); wanted two at least, because training and validation must "
            "hear different ones. Name a folder with more, or say in speech.csv who speaks."
        )
    border = min(max(1, round(TRAINING_SHARE * len(speakers))), len(speakers) - 1)
    chosen = set(speakers[:border] if part == "training" else speakers[border:])
    files = [path for path, speaker in listed if speaker in chosen]
    return sorted(files, key=lambda path: (crc32(path.name.encode()), path))[:_MOST_VOICES]


# ---- lists ----


def _list_ambient(folder: Path) -> list[tuple[Path, str]]:
    listed = _list(folder, "ambient.csv", "kind", lambda path: "people")
    wrong = next(((path, kind) for path, kind in listed if kind not in KINDS), None)
    if wrong is not None:
        raise TrainError(
            f"{folder / 'ambient.csv'} says {wrong[1]!r} of {wrong[0].name}; wanted one of {', '.join(KINDS)}."
        )
    return listed


def _list_speech(folder: Path) -> list[tuple[Path, str]]:
    return _list(folder, "speech.csv", "speaker", lambda path: Path(path.relative_to(folder).parts[0]).stem)


def _list(folder: Path, table: str, column: str, otherwise: Callable[[Path], str]) -> list[tuple[Path, str]]:
    """Files and what the table's column says of them; without a table all files and what `otherwise` says."""
    if (folder / table).is_file():
        listed = _list_table(folder, folder / table, column)
    else:
        found = (path for path in folder.rglob("*") if path.suffix.lower() in (".wav", ".flac") and path.name[0] != ".")
        listed = [(path, otherwise(path)) for path in sorted(found)]
    if not listed:
        raise TrainError(f"{folder} holds no recording; wanted {table} or WAV and FLAC files. Check the path.")
    return listed


def _list_table(folder: Path, table: Path, column: str) -> list[tuple[Path, str]]:
    listed = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            if not row.get("file") or not row.get(column):
                raise TrainError(f"{table}, line {number}: wanted the columns file and {column}, found {row}.")
            listed.append((folder / row["file"], row[column]))
    return listed

"""Lists of two-speaker mixtures: CSV files that fix target, interferer, places in both, level and face.

The columns are those of the lists that the field exchanges, plus optional ones; paths are relative to a root folder.

    id, corpus, pair, target_file, target_start, target_speaker, target_gender,
    interferer_file, interferer_start, interferer_speaker, interferer_gender, sir_db, target_face
    optional: subset, target_face_index, interferer_face, interferer_face_index
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from train.corpus.layout import Waveform, read_piece
from train.errors import TrainError
from train.files import whole_file
from train.settings import MIXTURE_RMS, SAMPLE_RATE_HZ

PAIRS = ("MM", "MF", "FM", "FF")  # sex of the target, then of the interferer
SUBSETS = ("seen-heard", "unseen-unheard")  # of Table 3


@dataclass(frozen=True)
class Mixture:
    """One row of a list."""

    id: str
    corpus: str
    pair: str  # one of `PAIRS`
    target_file: str
    target_start: float  # seconds
    target_speaker: str
    target_gender: str
    interferer_file: str
    interferer_start: float  # seconds
    interferer_speaker: str
    interferer_gender: str
    sir_db: float  # of the target over the interferer
    target_face: str = ""  # empty: none is known
    subset: str = ""  # one of `SUBSETS`, or empty
    target_face_index: int = 0  # of the stills side by side in `target_face`
    interferer_face: str = ""
    interferer_face_index: int = 0


def write_list(path: Path, rows: Iterable[Mixture]) -> int:
    """Write a list, whole or not at all, row by row: two million need no memory; returns how many there were."""
    written = 0
    with whole_file(path) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Mixture))
        for row in rows:
            writer.writerow(vars(row).values())
            written += 1
        file.detach()  # flushed, and left to be put in its place
    return written


def read_list(path: Path) -> list[Mixture]:
    """Read a list; columns that this project does not know are passed over.

    Raises:
        TrainError: missing, a column or a number missing, or no row in it.
    """
    if not path.is_file():
        raise TrainError(f"No list of mixtures at {path}; make one with `avedge mix`, or name another.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [_row(path, number, row) for number, row in enumerate(csv.DictReader(file), start=2)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainError(f"{path} is not a CSV file in UTF-8 ({error}); see `avedge mix --help`.") from error
    if not rows:
        raise TrainError(f"{path} lists no mixture; wanted at least one row below its header.")
    return rows


def _row(path: Path, number: int, cells: dict[str, str]) -> Mixture:
    known = {field.name: field.type for field in fields(Mixture)}
    kinds = {"float": float, "int": int}
    given = {name: text for name, text in cells.items() if name in known and text not in (None, "")}
    try:
        return Mixture(**{name: kinds.get(str(known[name]), str)(text) for name, text in given.items()})
    except (TypeError, ValueError) as error:
        raise TrainError(f"{path}, line {number}: {error}; see `avedge mix --help` for the columns.") from error


def load_mixture(root: Path, row: Mixture) -> tuple[Waveform, Waveform, Waveform]:
    """Read and mix a row of a list.

    Returns:
        mixture at the level `MIXTURE_RMS`, and target and interferer as they are in it, (31840,) each.

    Raises:
        TrainError: a file is missing or damaged, or a piece is silent.
    """
    target = read_piece(root / row.target_file, round(row.target_start * SAMPLE_RATE_HZ))
    interferer = read_piece(root / row.interferer_file, round(row.interferer_start * SAMPLE_RATE_HZ))
    try:
        return mix(target, interferer, sir_db=row.sir_db)
    except ValueError as error:
        raise TrainError(f"Mixture {row.id}: {error}; leave the row out of the list.") from error


def mix(
    target: Waveform, interferer: Waveform, *, sir_db: float = 0.0, rms: float = MIXTURE_RMS
) -> tuple[Waveform, Waveform, Waveform]:
    """Mix two waveforms of the same length (N,) at a level ratio after each is brought to the same RMS.

    Args:
        target: the wanted voice.
        interferer: the other voice.
        sir_db: level of the target above the interferer.
        rms: level of the mixture.

    Returns:
        mixture, and the target and the interferer as they are in it.

    Raises:
        ValueError: a voice is silent or the lengths differ.
    """
    if target.shape != interferer.shape:
        raise ValueError(f"target has {target.shape} samples and interferer {interferer.shape}; both must be the same")
    levels = [float(np.sqrt(np.mean(np.square(voice, dtype=np.float64)))) for voice in (target, interferer)]
    if min(levels) < 1e-5:
        raise ValueError(f"RMS of target and interferer are {levels}; silence cannot be brought to a level")
    wanted, other = target / levels[0], interferer / levels[1] * 10 ** (-sir_db / 20)
    gain = rms / float(np.sqrt(np.mean(np.square(wanted + other, dtype=np.float64))))
    scaled = (gain * wanted).astype(np.float32), (gain * other).astype(np.float32)
    return scaled[0] + scaled[1], *scaled

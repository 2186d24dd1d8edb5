"""Looks for values in files: whether a picture, a sound or an identity was left anywhere, in whatever form.

Of every array all pieces of sixteen bytes are known, so a part of it is found wherever it begins: raw in any of the
usual types, in hexadecimal or base64, or printed as numbers. Copies of whole files are arrays of bytes like others.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
_PIECE, _WORD = 16, 8  # bytes
_FEWEST_DIFFERENT = 6  # bytes in a piece; zeros and the like are everywhere
_MIXED = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)  # odd numbers, so that nothing is lost
_COARSE_BITS = 24
_PRINTED, _FEWEST_DIGITS = 3, 12  # numbers in a row, and digits in them all; fewer are found anywhere
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}[\s:,]?){24,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{32,}={0,2}")
_NUMBER = r"[-+]?(?:\d{1,12}\.?\d{0,20}|\.\d{1,20})(?:[eE][-+]?\d\d?)?(?![\w.])"
_NUMBERS = re.compile(rf"{_NUMBER}(?:[\s,;\[\]()]+{_NUMBER}){{{_PRINTED - 1},}}")


def stored_forms(values: Values) -> Iterator[Values]:
    """An array as programs are used to write it."""
    yield values
    if values.dtype == np.uint8 and values.ndim == 3:  # a picture
        yield np.ascontiguousarray(values[..., ::-1])  # BGR
        yield np.ascontiguousarray(values.transpose(2, 0, 1))  # plane by plane
        yield values.astype(np.float32)
        yield (values / np.float32(255)).astype(np.float32)
    if values.dtype == np.float32:
        yield from (values.astype(kind) for kind in (np.float64, np.float16))
        yield np.round(np.clip(values, -1, 1) * 32_767).astype(np.int16)


@dataclass(frozen=True)
class _Sequence:
    """The values of an array in a row, and where each lies by its size."""

    values: NDArray[np.float64]
    ordered: NDArray[np.float64]
    places: NDArray[np.intp]

    @classmethod
    def of(cls, array: Values) -> _Sequence:
        values = array.ravel().astype(np.float64)
        places = np.argsort(values, kind="stable")
        return cls(values, values[places], places)

    def holds(self, words: list[str]) -> bool:
        """Whether these numbers stand in it one after the other, as exactly as they are printed."""
        numbers = [float(word) for word in words]
        slacks = [_half_of_the_last_digit(word) for word in words]
        begin, end = np.searchsorted(self.ordered, (numbers[0] - slacks[0], numbers[0] + slacks[0]))
        places = self.places[begin:end]
        places = places[places <= len(self.values) - len(words)]
        for step, (number, slack) in enumerate(zip(numbers, slacks, strict=True)):
            places = places[np.abs(self.values[places + step] - number) <= slack]
        return len(places) > 0


def _half_of_the_last_digit(word: str) -> float:
    digits, _, exponent = word.lower().partition("e")
    return 0.5001 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


@dataclass(frozen=True)
class Traces:
    """The values to look for, each array by its name."""

    arrays: Mapping[str, Values]
    pieces: NDArray[np.uint64]  # a number for each, sorted
    owners: NDArray[np.intp]  # of the pieces, places among the names
    coarse: NDArray[np.bool_]  # whether there is a piece whose number begins so; most content is past by then
    sequences: Mapping[str, _Sequence]

    @classmethod
    def of(cls, arrays: Mapping[str, Values]) -> Traces:
        """Everything that a piece of these arrays can be known by."""
        pieces, owners = [], []
        for number, values in enumerate(arrays.values()):
            for form in stored_forms(values):
                found = _telling(form.tobytes())
                pieces.append(found)
                owners.append(np.full(len(found), number))
        every, whose = np.concatenate(pieces), np.concatenate(owners)
        order = np.argsort(every, kind="stable")
        coarse = np.zeros(1 << _COARSE_BITS, bool)
        coarse[_beginning(every)] = True
        sequences = {name: _Sequence.of(values) for name, values in arrays.items()}
        return cls(dict(arrays), every[order], whose[order], coarse, sequences)

    def in_file(self, path: Path) -> set[str]:
        """Names of the arrays of which the file holds a part."""
        return self.in_content(path.read_bytes())

    def in_content(self, content: bytes) -> set[str]:
        """The same for bytes."""
        found = self._raw(content)
        for run in _HEX.findall(content):
            found |= self._raw(bytes.fromhex(re.sub(rb"[^0-9A-Fa-f]", b"", run).decode()))
        for run in _BASE64.findall(content):
            for skipped in range(4):  # what stands before may look like a part of it
                text = run[skipped:].rstrip(b"=")
                found |= self._raw(base64.b64decode(text[: len(text) // 4 * 4]))
        return found | self._printed(content)

    def _raw(self, content: bytes) -> set[str]:
        names = list(self.arrays)
        found: set[str] = set()
        for start in range(_WORD if len(content) >= _PIECE + _WORD else 0):
            words = np.frombuffer(content, np.uint64, (len(content) - start) // _WORD, start)
            here = _numbered(words[:-1], words[1:])
            here = here[self.coarse[_beginning(here)]]
            first, last = (np.searchsorted(self.pieces, here, side) for side in ("left", "right"))
            for begin, end in zip(*(ends[first < last] for ends in (first, last)), strict=True):
                found |= {names[owner] for owner in self.owners[begin:end]}
        return found

    def _printed(self, content: bytes) -> set[str]:
        """Numbers in a row that are those of an array, as exactly as they are printed."""
        found: set[str] = set()
        for run in _NUMBERS.findall(content.decode("latin-1")):
            words = re.findall(_NUMBER, run)
            for start in range(len(words)):
                found |= self._as_printed(_enough(words[start:]))
        return found

    def _as_printed(self, words: list[str]) -> set[str]:
        return {name for name, sequence in self.sequences.items() if words and sequence.holds(words)}


def _enough(words: list[str]) -> list[str]:
    """The first numbers with as many digits as it takes to know them again; none where there are too few."""
    digits = 0
    for count, word in enumerate(words, 1):
        digits += len(re.split("[eE]", word)[0].lstrip("-+0.").replace(".", ""))
        if digits >= _FEWEST_DIGITS and count >= _PRINTED:
            return words[:count]
    return []


def _telling(content: bytes) -> NDArray[np.uint64]:
    """Numbers of the pieces of some content that are found nowhere else."""
    whole = np.frombuffer(content, np.uint8, len(content) // _PIECE * _PIECE).reshape(-1, _PIECE)
    different = 1 + (np.diff(np.sort(whole, axis=1), axis=1) != 0).sum(axis=1)
    words = whole[different >= _FEWEST_DIFFERENT].reshape(-1).view(np.uint64).reshape(-1, 2)
    return np.unique(_numbered(words[:, 0], words[:, 1]))


def _numbered(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number for a piece of two words."""
    return np.asarray(first * _MIXED[0] + (second ^ (second >> np.uint64(29))) * _MIXED[1])


def _beginning(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.asarray(numbers >> np.uint64(64 - _COARSE_BITS))

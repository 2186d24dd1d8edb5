"""Numbers in documents, and the files under perf/results that they come from; for test_figures.

A document is cut into blocks (a paragraph with its lists, or a table). A block's figures are looked up in the result
files that it links to; where it links to none, in those of the nearest block above it in the same section, then of the
section, then in all of them.
"""

from __future__ import annotations

import bisect
import csv
import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import yaml

from export import contract
from train import settings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "perf" / "results"
Kind = Literal["percent", "db", "time", "plain"]

_UNIT = r"%|per cent|dB|ms|s|MB|kB|MiB|GiB|M|people|GFLOP/s|/s|per second|times|x"
_NUMBER = re.compile(
    r"(?<![\w.,/#-])(?P<sign>[+-]?)(?P<digits>\d{1,3}(?:,\d{3})+|\d+)(?P<decimals>\.\d+)?(?P<exponent>e[+-]?\d+)?"
    rf"(?!\d|\.\d|,\d{{3}}|[xX]\d)(?:\s?(?P<unit>{_UNIT})(?!\w|\.\d))?(?!\w)"
)
# Numbers that name a place or a licence.
_NAMED = re.compile(
    r"(?:sections?|Tables?|Figures?|Eq\.|CC BY|Python|commit|[Ss]ervers before)\s+(?:[\d.]+(?:,|-| to| and)?\s*)*$"
)
_RANGE = re.compile(r"(?<=\d)-(?=\d)")  # 96.2-96.9
_SHARED_UNIT = re.compile(rf"\s*(?:to|and|or)\s+[+-]?[\d,.]*\d\s?(?P<unit>{_UNIT})(?!\w|\.\d)")  # 95.2 to 95.6 %
_KINDS: dict[str, Kind] = {"%": "percent", "per cent": "percent", "dB": "db", "ms": "time", "s": "time"}
_LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]*)\)")
_CODE = re.compile(r"`(?P<code>[^`]*)`")
_SILENT_KEYS = frozenset(("environment", "seed", "schema_version"))
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_GENERATED = re.compile("<!-- performance: begin -->.*<!-- performance: end -->", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """A number as a document prints it."""

    value: float
    decimals: int  # negative: digits before the point that an exponent leaves out
    unit: str

    @property
    def kind(self) -> Kind:
        """What it measures, as far as the unit tells."""
        return _KINDS.get(self.unit, "plain")

    @property
    def text(self) -> str:
        """As printed, more or less."""
        return f"{self.value:,.{max(self.decimals, 0)}f} {self.unit}".strip()

    def moved(self, steps: int) -> Figure:
        """The neighbour that is so many units of the last printed digit away."""
        return replace(self, value=self.value + steps * 10.0**-self.decimals)


@dataclass(frozen=True)
class Cell:
    """A figure and where in its table it stands; in prose each has a row and a column of its own."""

    figure: Figure
    row: int
    column: int
    alone: bool = False  # nothing else stands in its cell of the table
    quoted: bool = False  # its column is a paper's


@dataclass(frozen=True)
class Block:
    """A paragraph, a list or a table of a document, with the result files that stand behind it; none: all of them."""

    place: str  # file and line
    cells: tuple[Cell, ...]
    files: frozenset[Path]
    quotes: bool  # it speaks of a paper

    def with_figure(self, number: int, figure: Figure) -> Block:
        """The same with another figure at one place."""
        cells = list(self.cells)
        cells[number] = replace(cells[number], figure=figure)
        return replace(self, cells=tuple(cells))


class Numbers:
    """Numbers that belong together: of one result file, or of one table or text in it. Times are in seconds."""

    def __init__(self, numbers: Iterable[tuple[float, Kind]]) -> None:
        self._sorted: dict[Kind, list[float]] = {}
        for value, kind in set(numbers):
            self._sorted.setdefault(kind, []).append(value)
        for values in self._sorted.values():
            values.sort()

    def give(self, figure: Figure) -> bool:
        """Whether one of them, rounded, is the figure, and measures the same."""
        return any(self._near(figure, kind, scale) for kind, scale in _SCALES[figure.kind](figure.unit))

    def _near(self, figure: Figure, kind: Kind, scale: float) -> bool:
        slack = 0.5 * 10.0**-figure.decimals * (1 + 1e-6)
        values = self._sorted.get(kind, [])
        place = bisect.bisect_left(values, (figure.value - slack) / scale)
        return place < len(values) and values[place] <= (figure.value + slack) / scale


def _plain_scales(unit: str) -> list[tuple[Kind, float]]:
    scales = {"M": (1e-6,), "MB": (1, 1e-6), "kB": (1, 1e-3), "MiB": (1, 2**-20), "GiB": (1, 2**-30)}
    return [(kind, scale) for scale in scales.get(unit, (1,)) for kind in ("plain", "db")]


# For a figure of some kind: kinds of numbers that may be behind it, and what to multiply them by.
_SCALES: dict[Kind, Callable[[str], list[tuple[Kind, float]]]] = {
    "percent": lambda unit: [("percent", 1), ("plain", 100)],
    "db": lambda unit: [("db", 1)],
    "time": lambda unit: [("time", 1000 if unit == "ms" else 1)],
    "plain": _plain_scales,
}


def unexplained(block: Block, known: frozenset[float], published: Numbers) -> list[Figure]:
    """Figures of a block without a source.

    A figure of a table needs a source that gives its whole row, or its whole column, too: a number that happens to be
    in another experiment is none.

    Args:
        block: what to look at.
        known: sizes, settings and versions of the project, which need no measurement.
        published: the papers' figures; for blocks that speak of a paper.
    """
    cells = [cell for cell in block.cells if not _is_known(cell, known) and not _is_quoted(cell, block, published)]
    files = block.files or frozenset(result_files())
    given = {cell: _givers(files, cell.figure) for cell in cells}
    return [cell.figure for cell in cells if cell.quoted or not _is_supported(cell, given)]


def _is_known(cell: Cell, known: frozenset[float]) -> bool:
    """A setting may stand in a sentence; a cell with nothing but a number is a measurement."""
    return not cell.alone and abs(cell.figure.value) in known


def _is_quoted(cell: Cell, block: Block, published: Numbers) -> bool:
    """A paper's column has the paper's figures; another column of figures has none of them."""
    return (cell.quoted or (block.quotes and not cell.alone)) and published.give(cell.figure)


def _is_supported(cell: Cell, given: dict[Cell, frozenset[int]]) -> bool:
    """Whether one group gives a cell with its row, or with its column; where the rest of the row has one, that one."""
    others = [groups for other, groups in given.items() if other.row == cell.row and other != cell]
    column = [groups for other, groups in given.items() if other.column == cell.column]
    rest = frozenset.intersection(*others) if others else given[cell]
    if rest & given[cell]:
        return True
    return not (rest and len(others) > 3) and bool(frozenset.intersection(*column))


@functools.cache
def _givers(files: frozenset[Path], figure: Figure) -> frozenset[int]:
    return frozenset(number for number, group in enumerate(groups_of(files)) if group.give(figure))


# Documents


def blocks_of(document: Path) -> list[Block]:
    """A document's blocks that have figures."""
    found: list[Block] = []
    for section in _sections(document):
        linked = [_linked_results(document, text) for _, text in section]
        whole = frozenset().union(*linked)
        above: frozenset[Path] = frozenset()
        for (line, text), own in zip(section, linked, strict=True):
            above = own or above
            cells = tuple(_cells(text))
            if cells:
                quotes = re.search("paper|published|printed|Table", text) is not None
                found.append(Block(f"{document.relative_to(ROOT)}:{line}", cells, above or whole, quotes))
    return found


def _sections(document: Path) -> Iterator[list[tuple[int, str]]]:
    """Blocks between two headings, each with the number of its first line; no code, front matter or generated text."""
    section: list[tuple[int, str]] = []
    lines: list[str] = []
    fenced, start = False, 1
    text = _blank(_GENERATED, _blank(_FRONT_MATTER, document.read_text()))
    for number, line in enumerate([*text.splitlines(), "", "# end"], 1):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        heading = line.startswith("#") and not fenced
        code = fenced or fence or (line.startswith("    ") and not lines)
        if not line.strip() or code or heading or (lines and line.startswith("- ")):
            if lines:
                section.append((start, "\n".join(lines)))
            lines = []
        if line.strip() and not code and not heading:
            start = start if lines else number
            lines.append(line)
        if heading:
            yield section
            section = []


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """The text with what the pattern finds emptied; lines keep their numbers."""
    return pattern.sub(lambda found: "\n" * found[0].count("\n"), text)


def _cells(text: str) -> Iterator[Cell]:
    """Figures of a block; a column whose head has a unit gives it to its cells."""
    if not text.startswith("|"):
        yield from (Cell(figure, n, n) for n, figure in enumerate(figures_in(_without_code(text))))
        return
    for number, (row, heads) in enumerate(_table_rows(text.splitlines())):
        for column, (content, head) in enumerate(zip(row, heads, strict=False)):
            quoted = "paper" in (head or heads[max(column - 1, 0)])
            figures = list(figures_in(_without_code(content), _unit_of(head)))
            alone = len(figures) == 1 and not re.search("[A-Za-z]{3}", content)
            yield from (Cell(figure, number, column, alone, quoted) for figure in figures)


def figures_in(text: str, unit: str = "") -> Iterator[Figure]:
    """Every number of a text that looks measured: with decimals, thousands, an exponent or a unit.

    Args:
        text: prose or a cell, without code.
        unit: of the numbers that have none of their own.
    """
    for figure, measured in _all_numbers(text, unit):
        if measured:
            yield figure


def _all_numbers(text: str, unit: str = "") -> Iterator[tuple[Figure, bool]]:
    """Every number, and whether it looks measured."""
    text = _RANGE.sub(" to ", text)
    for found in _NUMBER.finditer(text):
        if _NAMED.search(text[: found.start()]):
            continue
        shared = _SHARED_UNIT.match(text, found.end())
        own = found["unit"] or (shared["unit"] if shared else "") or unit
        digits = (
            found["sign"] + found["digits"].replace(",", "") + (found["decimals"] or "") + (found["exponent"] or "")
        )
        decimals = len(found["decimals"] or ".") - 1 - int((found["exponent"] or "e0")[1:])
        measured = found["decimals"] or found["exponent"] or "," in found["digits"] or found["unit"] or shared
        yield Figure(float(digits), decimals, own), bool(measured)


def _linked_results(document: Path, text: str, *, through: bool = True) -> frozenset[Path]:
    """Result files that a text names: by links, in code, or (once) through another document that it links to."""
    targets = [found["target"].split("#")[0] for found in _LINK.finditer(text)]
    named = [(document.parent / target).resolve() for target in targets if target and "://" not in target]
    named += [ROOT / found["code"] for found in _CODE.finditer(text) if found["code"].startswith("perf/results/")]
    found: set[Path] = set()
    for path in named:
        if path.is_relative_to(RESULTS):
            if not path.exists():
                raise FileNotFoundError(f"{document} names {path}, which is not there")
            found |= set(result_files(path.parent if path.name == "table.md" else path))
        elif through and path.suffix == ".md" and path != document.resolve() and path.parent.name == "docs":
            found |= set(files_of(path))
    return frozenset(found)


def _without_code(text: str) -> str:
    """Text without code and without the targets of links."""
    return _LINK.sub(lambda found: found["text"], _CODE.sub("code", text))


def _table_rows(lines: Iterable[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Cells of every row but the heads, and the heads."""
    heads: list[str] = []
    for line in lines:
        if not line.startswith("|"):
            heads = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not heads:
            heads = cells
        elif not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            yield cells, heads


def _unit_of(head: str) -> str:
    """Unit that a column's head names."""
    found = re.search(r"%|\bdB\b|\bms\b", head)
    return found[0] if found else ""


# Results


def result_files(path: Path = RESULTS) -> list[Path]:
    """Result files at a path: itself, or all below."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in files if file.suffix in (".json", ".csv", ".md")]


@functools.cache
def files_of(document: Path) -> frozenset[Path]:
    """Result files that a document itself links to; documents may link to each other in circles."""
    texts = [text for section in _sections(document) for _, text in section]
    return frozenset().union(*(_linked_results(document, text, through=False) for text in texts))


@functools.cache
def groups_of(files: frozenset[Path]) -> list[Numbers]:
    """Numbers of result files that belong together: of an object, a name in a file or folder, a row, a column."""
    groups: dict[tuple[object, ...], set[tuple[float, Kind]]] = {}
    for file in files:
        for number, places in _grouped(file):
            for place in places:
                groups.setdefault(place, set()).add(number)
    return [Numbers(numbers) for numbers in groups.values()]


@functools.cache
def _grouped(file: Path) -> list[tuple[tuple[float, Kind], list[tuple[object, ...]]]]:
    """Every number of a file with the groups that it is in; those about the file's surroundings left out."""
    if file.suffix == ".md":
        return list(_grouped_text(file))
    if file.suffix == ".json":
        content = json.loads(file.read_text())
    else:
        with file.open(newline="") as opened:
            content = [{key: _number_or_text(value) for key, value in row.items()} for row in csv.DictReader(opened)]
    return [
        (_measured(leaf.value, leaf.key), [(file, leaf.place), (file, leaf.key, "key"), (file.parent, leaf.key)])
        for leaf in _leaves(content, Leaf("", (), 0.0))
    ]


def _grouped_text(file: Path) -> Iterator[tuple[tuple[float, Kind], list[tuple[object, ...]]]]:
    for part, text in enumerate(re.split(r"\n\s*\n", file.read_text())):
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        for number, (row, heads) in enumerate(_table_rows(lines)):
            for column, (cell, head) in enumerate(zip(row, heads, strict=False)):
                for figure, _ in _all_numbers(_without_code(cell), _unit_of(head)):
                    yield _as_source(figure), [(file, part, number, "row"), (file, part, column, "column")]
        for figure, _ in _all_numbers(_without_code("\n".join(line for line in lines if not line.startswith("|")))):
            yield _as_source(figure), [(file, part)]


def _as_source(figure: Figure) -> tuple[float, Kind]:
    return figure.value / (1000 if figure.unit == "ms" else 1), figure.kind


@dataclass(frozen=True)
class Leaf:
    """A number in a JSON file: the nearest name above it, and the path of the object that it belongs to."""

    key: str
    place: tuple[str, ...]
    value: float


def _leaves(content: Any, above: Leaf) -> Iterator[Leaf]:
    if isinstance(content, dict):
        for name, value in content.items():
            if name in _SILENT_KEYS:
                continue
            named = re.search("[A-Za-z]", name)
            inner = replace(above, key=name) if named else above
            if isinstance(value, dict) and re.search("[A-Za-z]", "".join(value)):
                inner = replace(inner, place=(*above.place, name))
            yield from _leaves(value, inner)
    elif isinstance(content, list):
        for number, value in enumerate(content):
            place = (*above.place, str(number)) if isinstance(value, dict) else above.place
            yield from _leaves(value, replace(above, place=place))
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield replace(above, value=float(content))


def _measured(value: float, key: str) -> tuple[float, Kind]:
    words = key.lower().split("_")
    if "db" in words:
        return value, "db"
    seconds = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "seconds": 1.0}.get(words[-1])
    if seconds is not None and words[-2:-1] != ["per"]:
        return value * seconds, "time"
    return value, "percent" if "percent" in words else "plain"


def _number_or_text(text: str | None) -> float | str:
    try:
        return float(text or "")
    except ValueError:
        return text or ""


# What needs no measurement


def known_values() -> frozenset[float]:
    """Numbers that the project itself says: settings, contract, configs, versions, sizes of the committed weights."""
    texts = [path.read_text() for path in sorted((ROOT / "train" / "configs").glob("*.yaml"))]
    configured = [leaf.value for text in texts for leaf in _leaves(yaml.safe_load(text), Leaf("", (), 0.0))]
    said = [leaf.value for module in (settings, contract) for leaf in _leaves(_constants(module), Leaf("", (), 0.0))]
    versions = re.findall(r"\d+\.\d+", (ROOT / "pyproject.toml").read_text())
    weights = [parameters_of(path) for path in (ROOT / "train" / "weights").glob("*.safetensors")]
    return frozenset(map(float, (*configured, *said, *versions, *weights)))


def parameters_of(path: Path) -> int:
    """Trained numbers in a file of weights; statistics of normalisations are none."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(
        math.prod(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )


def _constants(module: ModuleType) -> list[Any]:
    return [value for name, value in vars(module).items() if name.isupper()]


def published() -> Numbers:
    """The papers' figures, from the file that says where each stands."""
    return Numbers(_published(json.loads((RESULTS / "published.json").read_text())))


def _published(content: Any) -> Iterator[tuple[float, Kind]]:
    if isinstance(content, dict):
        for value in content.values():
            yield from _published(value)
    else:
        yield from ((figure.value, figure.kind) for figure, _ in _all_numbers(content))

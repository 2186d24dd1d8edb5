"""Every measured figure in a document is found in a file under perf/results, or is a setting of the project."""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from figures import (
    RESULTS,
    ROOT,
    Block,
    Figure,
    Numbers,
    blocks_of,
    figures_in,
    groups_of,
    known_values,
    parameters_of,
    published,
    unexplained,
)

from perf import report
from perf.commands import MEASUREMENTS

GENERATED = ROOT / "docs" / "performance.md"  # from the results alone; so is the README's section on performance
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path != GENERATED),
    *sorted((ROOT / "train" / "weights").glob("*.md")),
)


@pytest.fixture(scope="module")
def known() -> frozenset[float]:
    return known_values()


@pytest.fixture(scope="module")
def quoted() -> Numbers:
    return published()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_figure_has_a_source(document: Path, known: frozenset[float], quoted: Numbers) -> None:
    missing = [
        f"{block.place}: {figure.text}" for block in blocks_of(document) for figure in unexplained(block, known, quoted)
    ]
    assert not missing, (
        "no result file gives these. A table is checked against the files that it, or the text above it, links to:\n"
        + "\n".join(missing)
    )


def test_the_generated_page_is_that_of_the_results() -> None:
    measured = [word for word in MEASUREMENTS if (RESULTS / f"{word}.json").is_file()]
    assert GENERATED.is_file() == bool(measured), "run `avedge perf report`"
    if measured:
        assert report.run(argparse.Namespace(root=ROOT, check=True)) == 0, "run `avedge perf report`"


def typed_wrongly(figure: Figure, chance: random.Random) -> Figure:
    """The figure with one digit replaced."""
    text = f"{figure.value:.{max(figure.decimals, 0)}f}"
    places = [place for place, digit in enumerate(text) if digit.isdecimal()]
    place = chance.choice(places)
    digit = chance.choice([other for other in "0123456789" if other != text[place]])
    return Figure(float(text[:place] + digit + text[place + 1 :]), figure.decimals, figure.unit)


def mutants(known: frozenset[float], quoted: Numbers) -> Iterator[tuple[Block, int]]:
    """Every block with results of its own, and the place of a figure in it."""
    for document in DOCUMENTS:
        for block in blocks_of(document):
            yield from ((block, number) for number in range(len(block.cells)) if block.files)


def test_a_changed_digit_is_caught(known: frozenset[float], quoted: Numbers) -> None:
    chance = random.Random(5)
    drawn = chance.sample(list(mutants(known, quoted)), 300)
    caught = {"one digit": 0, "last place": 0}
    for block, number in drawn:
        figure = block.cells[number].figure
        changed = {
            "one digit": typed_wrongly(figure, chance),
            "last place": figure.moved(chance.choice((-2, -1, 1, 2))),
        }
        for kind, wrong in changed.items():
            caught[kind] += wrong in unexplained(block.with_figure(number, wrong), known, quoted)
    assert caught["one digit"] > 0.8 * len(drawn)
    assert caught["last place"] > 0.7 * len(drawn)


def test_what_looks_measured_and_what_does_not() -> None:
    def seen(text: str) -> list[tuple[float, str]]:
        return [(figure.value, figure.unit) for figure in figures_in(text)]

    assert seen("4.39 dB and 87.2 %, 1,600 mixtures, 12 ms, 1e-3.") == [
        (4.39, "dB"), (87.2, "%"), (1600, ""), (12, "ms"), (0.001, ""),
    ]  # fmt: skip
    assert seen("95.2 to 95.6 %, 67.5-79.6, -0.5 dB") == [
        (95.2, "%"), (95.6, "%"), (67.5, ""), (79.6, ""), (-0.5, "dB"),
    ]  # fmt: skip
    assert (
        seen("Table 2, section 5.2, Python 3.10 to 3.12, torch 2.13.0, 1024x576, 4 of 5, CC BY 4.0, commit 7659e20")
        == []
    )


def test_a_number_is_found_at_its_printed_precision_and_only_where_it_measures_the_same() -> None:
    numbers = Numbers([(0.8725, "plain"), (4.3912, "db"), (0.01234, "time"), (2_326_754.0, "plain")])
    assert all(numbers.give(f) for f in (Figure(87.2, 1, "%"), Figure(4.39, 2, "dB"), Figure(12.3, 1, "ms")))
    assert numbers.give(Figure(2.3, 1, "M")) and numbers.give(Figure(0.87, 2, ""))
    assert not any(numbers.give(f) for f in (Figure(87.1, 1, "%"), Figure(4.40, 2, "dB"), Figure(4.39, 2, "ms")))
    assert not numbers.give(Figure(0.87, 2, "dB")) and not numbers.give(Figure(12.3, 1, ""))


def test_a_row_must_come_from_one_place(tmp_path: Path) -> None:
    for name, figures in (("one", {"mae": 12.34, "rmse": 23.45}), ("two", {"mae": 34.56, "rmse": 45.67})):
        (tmp_path / f"{name}.json").write_text(json.dumps({name: figures}))
    files = frozenset(tmp_path.glob("*.json"))
    assert any(g.give(Figure(12.3, 1, "")) and g.give(Figure(23.5, 1, "")) for g in groups_of(files))
    assert not any(g.give(Figure(12.3, 1, "")) and g.give(Figure(45.7, 1, "")) for g in groups_of(files))


def test_the_papers_figures_stand_in_the_papers() -> None:
    folder = ROOT.parent / "shared" / "papers"
    if not folder.is_dir():
        pytest.skip("the papers' texts are not here")
    texts = {"FaceFilter": "facefilter.txt", "Crowd": "av-crowd-counting.txt"}
    for paper, tables in json.loads((RESULTS / "published.json").read_text()).items():
        if paper == "what":
            continue
        text = (folder / next(file for word, file in texts.items() if word in paper)).read_text()
        for table in tables.values():
            for row, figures in table.items():
                for printed in re.findall(r"\d+\.\d+", figures):
                    assert re.search(rf"(?<![\d.]){re.escape(printed)}(?!\d)", text), f"{paper}: {row}: {printed}"


def test_the_sizes_of_the_networks_are_those_that_are_told() -> None:
    from train.facefilter.separator import build_separator

    def size(**options: bool) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build_separator("paper", **options).parameters())

    told = json.loads((RESULTS / "networks.json").read_text())
    assert size() == told["facefilter_separator"]["paper"]
    assert size() - size(attention=False) == told["facefilter_separator"]["attention"]
    for name in ("facefilter_separator", "crowd_v", "crowd_av"):
        assert parameters_of(ROOT / "train" / "weights" / f"{name}.safetensors") == told[name]["compact"]

"""Commands, options and programs as the documents print them; for the tests of documents."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import avedge

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "train" / "weights").glob("*.md")))
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_COMMENT = re.compile(r"\s{2,}#.*")


@dataclass(frozen=True)
class Command:
    """An `avedge` command somewhere in a document."""

    page: Path
    text: str
    whole: bool  # in a block of its own; else a part of a sentence, which may leave out what it does not speak of

    @property
    def words(self) -> list[str]:
        """Its words, without `avedge`."""
        return shlex.split(self.text)[1:]

    def __str__(self) -> str:
        return f"{self.page.name}: {self.text}"


def blocks(text: str, kind: str) -> list[str]:
    """Contents of the fenced blocks of a kind, without their indentation."""
    return [
        "".join(line.removeprefix(found[1]) for line in found[3].splitlines(keepends=True))
        for found in _FENCED.finditer(text)
        if found[2] == kind
    ]


def console(page: Path) -> list[str]:
    """The lines that a page's reader types, in order."""
    lines = [line for block in blocks(page.read_text(), "console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), page
    return [_COMMENT.sub("", line[2:]).strip() for line in lines]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    text = _FENCED.sub("", page.read_text())
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def commands(page: Path) -> Iterator[Command]:
    """Every command that names `avedge`."""
    text = page.read_text()
    fenced = [line for found in _FENCED.finditer(text) for line in found[3].splitlines() if found[2] != "python"]
    indented = [line for line in _FENCED.sub("", text).splitlines() if line.startswith("    ")]
    for line in (*fenced, *indented):
        typed = _COMMENT.sub("", line.strip().removeprefix("$ "))
        for part in re.split(r" [|>] |\$\(|\)\"", typed):
            if part.startswith("avedge "):
                yield Command(page, part.strip(), whole=True)
    for span in _SPAN.findall(prose(page)):
        joined = " ".join(span.split())
        if joined.startswith("avedge ") and not set(joined) & set("{}|"):
            yield Command(page, joined, whole=False)


def bare_options(page: Path) -> set[str]:
    """Options in sentences that stand without a command."""
    spans = (" ".join(span.split()) for span in _SPAN.findall(prose(page)))
    words = (word for span in spans if span.startswith("-") for word in span.split())
    return {re.split("[=,]", word)[0] for word in words if re.match(r"--[a-z][\w.-]*$", word.split("=")[0])}


def parser_of(words: list[str]) -> argparse.ArgumentParser:
    """The parser that the words lead to: of a verb, or of its kind."""
    parser = avedge.build_parser(words[0])
    for word in words:
        choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
        if not choices or word not in choices[0]:
            break
        parser = choices[0][word]
    if getattr(parser, "word", ""):  # a measurement, whose options come when it is chosen
        with suppress(SystemExit):
            parser.parse_known_args([])
    return parser


def options_of(words: list[str]) -> set[str]:
    """Every long option that may be typed after these words."""
    return {option for action in parser_of(words)._actions for option in action.option_strings}

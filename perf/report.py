"""One page with plots from the committed results; its top is the README's section on performance.

avedge perf report
avedge perf report --check
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from perf.commands import MEASUREMENTS, module_of
from perf.errors import PerfError
from perf.record import Aim, Record, Table
from train.environment import ROOT
from train.files import write_atomically

RESULTS, PAGE, PICTURES, README = "perf/results", "docs/performance.md", "docs/pictures", "README.md"
BEGIN, END = "<!-- performance: begin -->", "<!-- performance: end -->"
_NOT_CURRENT = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `avedge perf report`."""
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of perf/results, docs and README.md")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; 3 when the page is not that of the results"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page, its plots and the README's section, or see whether they are current."""
    root: Path = args.root
    records = read_records(root / RESULTS)
    readme = (root / README).read_text(encoding="utf-8")
    texts = {root / PAGE: page(records), root / README: with_section(readme, section(records))}
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if args.check:
        for path in stale:
            sys.stdout.write(f"{path.relative_to(root)} is not that of the results: avedge perf report\n")
        return _NOT_CURRENT if stale else 0
    for path in stale:
        write_atomically(path, texts[path].encode())
    for record in records:
        if hasattr(module_of(record.measurement), "plot"):
            (root / PICTURES).mkdir(parents=True, exist_ok=True)
            module_of(record.measurement).plot(record, root / _picture(record))
    sys.stdout.write(f"{root / PAGE}: {len(records)} measurements\n")
    return 0


def read_records(results: Path) -> list[Record]:
    """The committed result of every measurement, in the order of the command line.

    Raises:
        PerfError: There is none, or a file is no result.
    """
    files = [results / f"{word}{preset}.json" for word in MEASUREMENTS for preset in ("", "_paper")]
    records = [Record.read(file) for file in files if file.is_file()]
    if not records:
        raise PerfError(f"{results} has no result; the page is made of them. Measure: avedge perf sweep.", exit_code=4)
    return records


def page(records: Sequence[Record]) -> str:
    """The whole page as Markdown."""
    head = ["# Performance", "", "Made by `avedge perf report` from the files in [perf/results](../perf/results).", ""]
    top = _summary(records, link="../perf/results")
    return "\n".join([*head, top, *(_chapter(record) for record in records)]).rstrip() + "\n"


def section(records: Sequence[Record]) -> str:
    """The README's section: the page's top."""
    more = f"Every measurement with its tables, plots and profiles: [{PAGE}]({PAGE})."
    return "\n".join([BEGIN, _summary(records, link=RESULTS), more, END])


def with_section(readme: str, text: str) -> str:
    """The README with its section replaced.

    Raises:
        PerfError: It has no place for it (4).
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise PerfError(
            f"README.md has no lines {BEGIN} and {END}; the section on performance is written between them. Add them.",
            exit_code=4,
        )
    return before + text + after


def _summary(records: Sequence[Record], *, link: str) -> str:
    """The machine, and every aim with what became of it."""
    machine = records[0].environment["machine"]
    lines = [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['os']}. Every ratio compares two sides that "
        "were measured in turns within one run.",
        "",
        "| aim | figure | wanted | |",
        "|---|--:|--:|---|",
    ]
    for record in records:
        source = f"[{record.name}]({link}/{record.name}.json)"
        lines += [_aim_row(aim, source) for aim in record.aims]
    return "\n".join([*lines, ""])


def _aim_row(aim: Aim, source: str) -> str:
    figure, wanted, outcome = aim.cells()
    return f"| {aim.what} | {figure} | {wanted} | {outcome}, {source} |"


def _chapter(record: Record) -> str:
    module = module_of(record.measurement)
    tables: list[Table] = module.tables(record)
    stamp = record.environment
    commit = (stamp.get("commit") or {}).get("id", "unknown")[:12]
    lines = [
        f"\n## {record.name}: {MEASUREMENTS[record.measurement]}",
        "",
        f"`{stamp['command']}`, commit {commit}, {stamp['measured_at_utc'][:10]}, "
        f"[{record.name}.json](../perf/results/{record.name}.json).",
        "",
        *(f"- {aim.sentence()}" for aim in record.aims),
    ]
    if hasattr(module, "plot"):
        lines += ["", f"![{record.name}]({Path(_picture(record)).relative_to('docs')})"]
    for table in tables:
        lines += ["", table.markdown()]
    return "\n".join(lines)


def _picture(record: Record) -> str:
    return f"{PICTURES}/performance_{record.name}.png"

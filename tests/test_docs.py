"""The documents agree with the program: commands parse, options and links exist, tables are complete."""

from __future__ import annotations

import argparse
import ast
import configparser
import json
import re
from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT, bare_options, blocks, commands, console, options_of, parser_of, prose

import avedge
import clients
from clients.commands.options import SERVER_OPTIONS
from clients.counting.hearing import Fallback
from clients.errors import ClientError

DOCS = ROOT / "docs"
USERS_VERBS = ("separate", "enroll", "count", "doctor", "web")
# Options of other programs, and of configs behind `--`.
FOREIGN = {
    "--allow-client-shm": "tritonserver",
    "--backend-config": "tritonserver",
    "--cache-config": "tritonserver",
    "--model-config-name": "tritonserver",
    "--system-site-packages": "venv",
    "--fit.devices": "config",
    "--fit.steps": "config",
    "--options.resolution": "config",
}


def every_option() -> set[str]:
    """Of all verbs and their kinds."""
    found: set[str] = set()
    for verb in avedge.VERBS:
        parsers = [parser_of([verb.name])]
        while parsers:
            parser = parsers.pop()
            for action in parser._actions:
                found.update(action.option_strings)
                parsers += action.choices.values() if isinstance(action.choices, dict) else []
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_names_a_verb_and_options_that_it_has(page: Path) -> None:
    verbs = {verb.name for verb in avedge.VERBS}
    for command in commands(page):
        words = command.words
        if words[0].startswith("-"):
            assert words[0] in {"--version", "--help"}, command
            continue
        assert words[0] in {*verbs, "VERB"}, command
        if words[0] == "VERB":
            continue
        before = words[: words.index("--")] if "--" in words else words
        given = {word.split("=")[0] for word in before if word.startswith("--")}
        assert given <= options_of(words), f"{command}: {given - options_of(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_whole_command_parses(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(page):
        if command.whole and not {"...", "…"} & set(command.words):
            try:
                avedge.build_parser(command.words[0]).parse_args(command.words)
            except SystemExit:
                pytest.fail(f"{command}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_spoken_of_exists(page: Path) -> None:
    assert bare_options(page) - every_option() - FOREIGN.keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, _, place in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(#([^)\s]*))?\)", page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} points to {target}"
        if place:
            assert place in anchors(path), f"{page.name} points to {target}#{place}"


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_readme_or_a_page_that_is() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = re.findall(r"\]\((?!https?:)([^)#\s]+\.md)", page.read_text())
        waiting += [path for target in targets if (path := (page.parent / target).resolve()) not in reached]
    assert set(DOCS.glob("*.md")) <= reached


def test_python_in_documents_is_python() -> None:
    programs = [(page, program) for page in PAGES for program in blocks(page.read_text(), "python")]
    assert len(programs) > 10
    for page, program in programs:
        ast.parse(program, page.name)


@pytest.mark.parametrize("verb", USERS_VERBS)
def test_the_page_of_commands_has_every_option(verb: str) -> None:
    text = (DOCS / "commands.md").read_text()
    hidden = {"--help", "-h", "--no-color"} if verb != "separate" else {"--help", "-h"}
    long = {option for option in options_of([verb]) if option.startswith("--")}
    assert {option for option in long - hidden if not re.search(rf"{option}\b", text)} == set()


def test_the_page_of_commands_has_every_exit_code() -> None:
    told = dict(re.findall(r"^  (\d+) +(\w.*)$", avedge.EXIT_CODES, re.MULTILINE))
    section = (DOCS / "commands.md").read_text().split("## Exit codes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE)
    assert {code.strip() for row in rows for code in row.split(",")} == set(told)


def test_the_page_of_commands_has_every_reason_to_only_see() -> None:
    text = (DOCS / "commands.md").read_text()
    assert all(f"`{reason.code}`" in text for reason in Fallback)


def test_the_page_of_commands_has_a_file_and_variables_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS / "commands.md"
    (content,) = blocks(page.read_text(), "ini")
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(content)
    (tmp_path / "config.ini").write_text(content)
    monkeypatch.setenv("AVEDGE_CONFIG", str(tmp_path / "config.ini"))
    for option in SERVER_OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    args = parser_of(["count"]).parse_args(["square.jpg"])
    assert args.url == parser["server"]["url"] and args.timeout == 30
    named = set(re.findall(r"`(AVEDGE_\w+)`", page.read_text())) - {"AVEDGE_CONFIG"}
    assert named <= {option.variable for option in SERVER_OPTIONS}


def test_the_library_page_has_every_error_of_the_clients() -> None:
    public = {name: getattr(clients, name) for name in clients.__all__}
    kinds = {name for name, one in public.items() if isinstance(one, type) and issubclass(one, ClientError)}
    section = (DOCS / "library.md").read_text().split("## Errors")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == kinds - {"ClientError"}


def test_the_regions_on_the_page_are_regions(tmp_path: Path) -> None:
    from clients.counting.regions import read_regions

    (text,) = re.findall(r"`(\{\"gate\".*?\})`", (DOCS / "commands.md").read_text())
    (tmp_path / "regions.json").write_text(json.dumps(json.loads(text)))
    assert [region.name for region in read_regions(tmp_path / "regions.json")] == ["gate", "left"]


def test_a_wrong_option_and_a_dead_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`avedge count --tile auto`, `--colour`\n\n```console\n$ avedge separate a.wav --faces b.jpg\n```\n"
    )
    first, second = sorted(commands(page), key=lambda command: command.whole)
    assert "--tile" not in options_of(first.words) and bare_options(page) == {"--colour"}
    with pytest.raises(SystemExit):
        avedge.build_parser("separate").parse_args(second.words)
    assert console(page) == ["avedge separate a.wav --faces b.jpg"]
    page.write_text("# Some *heading*: of two\n\n[x](page.md#some-heading-of-two) [y](page.md#other)\n")
    assert anchors(page) == {"some-heading-of-two"}
    with pytest.raises(AssertionError, match="other"):
        test_every_link_leads_somewhere(page)


def test_parsers_are_those_of_the_program() -> None:
    assert isinstance(parser_of(["train", "crowd"]), argparse.ArgumentParser)
    assert "--config" in options_of(["train", "crowd"]) and "--config" not in options_of(["train"])

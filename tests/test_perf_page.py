"""The page on performance says what the results say, and nothing else."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest

from perf import report, sweep
from perf.commands import MEASUREMENTS, add_arguments, module_of, run
from perf.errors import PerfError
from perf.record import Aim, Record, Table, rounded

MACHINE = {"cpu": "AMD EPYC", "cores": 2, "os": "Debian"}
STAMP = {
    "machine": MACHINE,
    "command": "avedge perf sweep",
    "measured_at_utc": "2026-11-22T23:00:00+00:00",
    "commit": None,
}
AIMS = (
    Aim("served over bare", 0.934, 0.9),
    Aim("griffin_lim over scipy", 1.52, 1.3, at_least=False, because="Half of it is the phase."),
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(f"# avedge\n\n{report.BEGIN}\nold\n{report.END}\n\n## Limits\n")
    figures = {"ensembles": [], "not_served": ["crowd_counting"]}
    Record("sweep", STAMP, {}, figures, AIMS).write(tmp_path / report.RESULTS / "sweep.json")
    return tmp_path


def asked(root: Path, *, check: bool = False) -> int:
    return report.run(argparse.Namespace(root=root, check=check))


def test_page_and_readme_say_every_aim_and_by_how_much_it_is_missed(project: Path) -> None:
    assert asked(project) == 0
    readme, page = (project / "README.md").read_text(), (project / report.PAGE).read_text()
    for text in (readme, page):
        assert "| served over bare | 0.934 | at least 0.900 | met, " in text
        assert "| griffin_lim over scipy | 1.52 | at most 1.30 | missed by 0.220, " in text
    assert "Half of it is the phase." in page
    assert "Not served, so not measured: crowd_counting." in page
    assert readme.startswith("# avedge\n") and readme.endswith("## Limits\n") and "old" not in readme


def test_every_link_leads_to_a_file(project: Path) -> None:
    asked(project)
    assert "(perf/results/sweep.json)" in (project / "README.md").read_text()
    assert "(../perf/results/sweep.json)" in (project / report.PAGE).read_text()


def test_the_same_measurement_of_the_papers_sizes_has_a_chapter_and_a_file_of_its_own(project: Path) -> None:
    larger = Record("sweep", STAMP, {"preset": "paper"}, {"ensembles": [], "not_served": []}, AIMS[:1])
    larger.write(project / report.RESULTS / f"{larger.name}.json")
    asked(project)
    page = (project / report.PAGE).read_text()
    assert "\n## sweep: " in page and "\n## sweep_paper: " in page
    assert "(../perf/results/sweep_paper.json)" in page


def test_a_page_of_other_results_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(project, check=True) == 3
    assert "docs/performance.md is not that of the results" in capsys.readouterr().out
    assert not (project / report.PAGE).exists()
    asked(project)
    assert asked(project, check=True) == 0
    file = project / report.RESULTS / "sweep.json"
    file.write_text(file.read_text().replace("0.934", "0.935"))
    assert asked(project, check=True) == 3


def test_a_readme_without_a_place_for_it_is_refused(project: Path) -> None:
    (project / "README.md").write_text("# avedge\n")
    with pytest.raises(PerfError, match="performance: begin") as caught:
        asked(project)
    assert caught.value.exit_code == 4 and (project / "README.md").read_text() == "# avedge\n"


def test_a_page_without_results_is_refused(project: Path) -> None:
    shutil.rmtree(project / report.RESULTS)
    with pytest.raises(PerfError, match="avedge perf sweep"):
        asked(project)


def test_the_committed_page_is_that_of_the_committed_results(root: Path) -> None:
    assert asked(root, check=True) == 0


def test_every_measurement_is_a_module_with_the_three_calls() -> None:
    for word in MEASUREMENTS:
        module = module_of(word)
        assert all(callable(getattr(module, name)) for name in ("add_arguments", "measure", "tables")), word


def test_a_measurement_is_written_where_the_command_says_and_printed_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record("sweep", STAMP, {}, {"ensembles": [], "not_served": []}, AIMS, complete=False)
    monkeypatch.setattr(sweep, "measure", lambda args, progress: record)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    output = tmp_path / "found.json"
    assert run(parser.parse_args(["sweep", "--output", str(output), "--json"])) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads(output.read_text())
    assert "griffin_lim over scipy: 1.52, wanted at most 1.30: missed by 0.220. Half of it is the phase." in err


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9341, "0.934"), (1.3, "1.30"), (81.06, "81.1"), (1234.5, "1234"), (0.00123, "0.00123"), (0, "0")],
)
def test_figures_keep_three_digits(value: float, text: str) -> None:
    assert rounded(value) == text


def test_a_table_shows_decimals_and_dashes() -> None:
    table = Table("t", ("a", "b", "c"), (("x", 1.26, None), ("y", 3, 0.04)), note="n")
    assert table.markdown() == "**t**\n\n| a | b | c |\n| --- | --: | --: |\n| x | 1.3 | - |\n| y | 3 | 0.0 |\n\nn"

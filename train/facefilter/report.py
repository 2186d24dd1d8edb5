"""Figures beside the paper's: a Markdown table to read, and JSON that says how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.files import write_atomically
from train.reports import add_report, decimal, percent, read_reports, table

# Chung et al. 2020, Table 2: SDRi in dB and speaker isolation accuracy on VoxCeleb2.
TABLE_2: dict[str, tuple[str, float, float]] = {
    "audio_only": ("audio-only, PIT", 0.690, 0.4994),
    "audio_visual": ("audio-visual", 2.348, 0.8056),
    "attention": ("+ attention", 2.413, 0.8089),
    "attention_srl": ("+ attention, L_SRL", 2.528, 0.8020),
}
# Table 3: the same by subset and sexes, the target's first. The mean of its rows is the last row of Table 2.
TABLE_3: dict[str, dict[str, tuple[float, float]]] = {
    "seen-heard": {"MM": (2.084, 0.748), "MF": (3.039, 0.944), "FM": (3.821, 0.938), "FF": (1.930, 0.712)},
    "unseen-unheard": {"MM": (1.256, 0.612), "MF": (3.066, 0.921), "FM": (3.830, 0.945), "FF": (1.198, 0.596)},
}
_COLUMNS = ("mixtures", "n", "SDRi dB", "SI-SDRi dB", "SNRi dB", "accuracy", "95 %", "B", "C")
_OTHERS = {
    "best_permutation": "the better order of the two voices",
    "swapped": "the other face given, the other voice wanted",
    "oracle": "ceiling: a perfect ratio mask, same decoder",
}


def markdown(report: dict[str, Any]) -> str:
    """What `evaluation.evaluate` gave, as Markdown tables for the terminal and for a file."""
    parts = [table(_COLUMNS, _rows(report))]
    for name, title in _OTHERS.items():
        if name in report["overall"]:
            parts += [f"{title[0].upper()}{title[1:]}:", table(_COLUMNS, _rows(report, name))]
    if "swapped" in report["overall"]:
        gap = report["overall"]["swapped"]["si_sdr_gap_db"]
        parts.append(f"SI-SDR against the target falls by {decimal(gap)} dB when the other face is given.")
    if "subsets" in report:
        parts += ["Table 3, the paper's figures (VoxCeleb2) beside:", _table_3(report)]
    parts.append(
        f"Faces drawn from other sound of the speakers: {report['drawn_faces']}, from their sex alone "
        f"{report['drawn_by_sex_alone']} of them. Rows skipped: {len(report['skipped'])}. Mixtures with a measure that "
        f"is undefined: {report['overall']['undefined']}."
    )
    parts.append(
        "accuracy: SDR to the target above SDR to the interferer, with its 95 % interval; B: nearer to the target by "
        "cepstral statistics; C: SI-SDRi above 1 dB."
    )
    return "\n\n".join(parts) + "\n"


def table_2(reports: dict[str, dict[str, Any]]) -> str:
    """The paper's Table 2 with ours beside it, means over the rows of Table 3; by name, the paper's systems first."""
    head = (
        "system", "decoder", "SDRi dB", "accuracy", "SI-SDRi dB", "best order SDRi dB", "ceiling SDRi dB",
        "paper: SDRi dB", "paper: accuracy",
    )  # fmt: skip
    rows = []
    for name, report in reports.items():
        title, paper_db, paper_accuracy = TABLE_2.get(name, (name, None, None))
        ours = report.get("table2", report["overall"])
        figures = (
            decimal(ours["sdri_db"]),
            percent(ours["accuracy"]),
            decimal(ours["si_sdri_db"]),
            decimal(ours.get("best_permutation", {}).get("sdri_db")),
            decimal(report["overall"].get("oracle", {}).get("sdri_db")),
        )
        rows.append((title, report["system"]["decoder"], *figures, decimal(paper_db, 3), percent(paper_accuracy)))
    return table(head, rows)


def write_report(folder: Path, name: str, report: dict[str, Any], command: str) -> Path:
    """Add figures to a folder: `<name>.json`, and `table.md` of all that the folder has.

    Args:
        folder: made where it is missing.
        name: one of `TABLE_2` to stand beside the paper's system, or another for a variation.
        report: what `evaluation.evaluate` gave.
        command: what to type for the same figures.

    Raises:
        TrainError: the folder holds a report that is damaged.
        OSError: it cannot be written.
    """
    path = add_report(folder, name, report, command)
    reports = read_reports(folder, {"overall", "pairs", "system"}, first=tuple(TABLE_2))
    parts = ["# Table 2, ours beside the paper's (VoxCeleb2)", table_2(reports)]
    for name, found in reports.items():
        title = TABLE_2[name][0] if name in TABLE_2 else name
        parts += [f"# {title}", f"`{found['environment']['command']}`", markdown(found)]
    write_atomically(folder / "table.md", "\n\n".join(parts).encode())
    return path


def _rows(report: dict[str, Any], name: str | None = None) -> list[tuple[str, ...]]:
    """Overall and by pair; with a name, of that other output."""
    groups = {"overall": report["overall"], **report["pairs"], **report.get("corpora", {})}
    chosen = {title: group if name is None else group.get(name) for title, group in groups.items()}
    return [_row(title, group) for title, group in chosen.items() if group and group["n"]]


def _row(title: str, group: dict[str, Any]) -> tuple[str, ...]:
    low, high = group["accuracy_interval"]
    return (
        title,
        str(group["n"]),
        *(decimal(group[name]) for name in ("sdri_db", "si_sdri_db", "snri_db")),
        percent(group["accuracy"]),
        f"{100 * low:.1f}-{100 * high:.1f}",
        percent(group["accuracy_b"]),
        percent(group["accuracy_c"]),
    )


def _table_3(report: dict[str, Any]) -> str:
    head = ("subset", "pair", "n", "SDRi dB", "accuracy", "95 %", "paper: SDRi dB", "paper: accuracy")
    rows = []
    for subset, pairs in report["subsets"].items():
        for pair, group in pairs.items():
            if group["n"]:
                low, high = group["accuracy_interval"]
                paper_db, paper_accuracy = TABLE_3[subset][pair]
                ours = (decimal(group["sdri_db"]), percent(group["accuracy"]), f"{100 * low:.1f}-{100 * high:.1f}")
                rows.append((subset, pair, str(group["n"]), *ours, f"{paper_db:.3f}", percent(paper_accuracy)))
    mean = report["table2"]
    paper_db, paper_accuracy = TABLE_2["attention_srl"][1:]
    means = (decimal(mean["sdri_db"]), percent(mean["accuracy"]), "", f"{paper_db:.3f}", percent(paper_accuracy))
    rows.append(("mean of the rows", "", str(mean["n"]), *means))
    return table(head, rows)

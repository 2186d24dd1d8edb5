"""Figures of counting beside the paper's: Markdown tables to read, and JSON that says how it was made.

A folder of reports becomes one `table.md`. A report called `<model>_<setting>`, as `cc_v_low_resolution`, joins that of
`<model>`: section 4 trains a network of its own for low resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.crowd import names
from train.crowd.degrade import SETTINGS, parse_setting
from train.files import whole_file, write_atomically
from train.reports import add_report, decimal, percent, read_reports, table

Figures = dict[str, Any]  # of one setting, as `evaluation.evaluate` gives them
BySetting = Mapping[str, Figures]
Pair = tuple[float, float]  # MAE and RMSE

CURVE = "occlusion.png"
TITLES = {name.replace("-", "_"): title for name, title in names.TITLES.items()}  # by the name of the report
# Sajid et al. 2021, Table 1: MAE and RMSE on DISCO's test split, by `SETTINGS`.
TABLE_1: dict[str, tuple[Pair, ...]] = {
    "mcnn": ((53.40, 84.10), (60.17, 89.35), (53.47, 84.04), (53.92, 84.04), (70.72, 96.11), (70.58, 96.11)),
    "cannet": ((15.41, 28.96), (22.16, 39.60), (13.31, 27.23), (14.20, 28.04), (26.03, 49.11), (33.14, 58.27)),
    "csrnet": ((13.88, 28.79), (17.14, 30.64), (13.79, 28.01), (14.55, 29.15), (35.78, 62.76), (45.88, 75.40)),
    "audiocsrnet": ((14.24, 28.07), (16.88, 31.46), (13.07, 27.45), (13.70, 28.67), (25.06, 51.58), (27.33, 45.16)),
    "cc_v": ((12.97, 25.76), (16.91, 32.82), (13.31, 28.79), (13.92, 29.01), (26.03, 55.72), (27.59, 58.69)),
    "cc_av": ((9.24, 19.81), (11.18, 26.25), (10.15, 19.76), (10.39, 19.79), (20.14, 44.58), (21.17, 40.86)),
}
# Table 2: MAE and RMSE on the test splits.
TABLE_2: dict[str, dict[str, Pair]] = {
    "ShanghaiTech A": {"mcnn": (110.2, 173.2), "csrnet": (68.2, 115.0), "cannet": (62.3, 100.0), "cc_v": (58.7, 81.3)},
    "UCF-QNRF": {"mcnn": (277.0, 426.0), "cannet": (107.0, 183.0), "cc_v": (75.4, 125.6)},
}
# Table 3: MAE and RMSE on DISCO's test split; names as in `train/configs/table3_*.yaml`.
TABLE_3: dict[str, tuple[str, Pair]] = {
    "no_explicit": ("w/o explicit PIR, PCE", (16.0, 28.2)),
    "no_importance": ("w/o PIR branch in AVT", (16.7, 27.6)),
    "no_estimate": ("w/o PCE branch in AVT", (15.5, 28.1)),
    "no_transformer": ("w/o AVT", (18.9, 39.7)),
    "no_co_attention": ("w/o CCM", (17.3, 31.4)),
    "no_fusion_audio": ("w/o A^T in the MSB fusion", (13.9, 25.0)),
    "one_branch": ("only S1 branch in MSB", (14.3, 26.8)),
    "default": ("default (CC-AV)", (9.24, 19.81)),
}
_WANTED = {"settings"}
_OCCLUSION = "occlusion_"


def markdown(by_setting: BySetting) -> str:
    """What `evaluation.evaluate` gave for each setting, as Markdown tables for the terminal and for a file."""
    overview = _overview([(setting, figures) for setting, figures in by_setting.items()], "setting")
    return "\n\n".join([overview, *_details(by_setting)]) + "\n"


def write_report(folder: Path, name: str, report: dict[str, Any], command: str) -> Path:
    """Add figures to a folder: `<name>.json`, and `table.md` and a curve of all that the folder has.

    Args:
        folder: made where it is missing.
        name: a key of `TABLE_1` or `TABLE_3` to stand beside the paper's, or another; see the module's first lines.
        report: `settings`: by name, what `evaluation.evaluate` gave.
        command: what to type for the same figures.

    Raises:
        TrainError: the folder holds a report that is damaged.
        OSError: it cannot be written.
    """
    path = add_report(folder, name, report, command)
    reports = read_reports(folder, _WANTED, first=(*TITLES, *TABLE_3))
    models = _joined(reports)
    rows = [
        (_title(model), figures)
        for model, settings in models.items()
        for setting, figures in settings.items()
        if not setting.startswith(_OCCLUSION)  # the curve has them
    ]
    parts = ["# All figures", _overview(rows, "model")] if rows else []
    if any(set(settings) & (set(SETTINGS) - {"regular"}) for settings in models.values()):
        parts += ["# Table 1: MAE / RMSE by setting", table_1(models), "The paper's are on DISCO."]
    for benchmark in TABLE_2:
        if here := {name: found for name, found in models.items() if _benchmark(found) == benchmark}:
            parts += [f"# Table 2: {benchmark}", table_2(here, benchmark), "The paper's are on the test split."]
    if set(models) & set(TABLE_3):
        parts += ["# Table 3: ablations", table_3(models), _TABLE_3_NOTE]
    if curves := {name: curve for name, found in models.items() if len(curve := _curve(found)) > 1}:
        parts += ["# Figure 6: MAE by the share of the picture that is hidden", figure_6(curves), f"![curve]({CURVE})"]
        _draw(folder / CURVE, curves, models)
    for name, found in reports.items():
        parts += [f"# {name}", f"`{found['environment']['command']}`", *_details(found["settings"])]
    write_atomically(folder / "table.md", ("\n\n".join(parts) + "\n").encode())
    return path


def table_1(models: Mapping[str, BySetting]) -> str:
    """Table 1: MAE / RMSE of every model in every setting, ours above the paper's; and the means over the settings."""
    rows = []
    for name, settings in models.items():
        ours = [(found["mae"], found["rmse"]) if (found := settings.get(setting)) else None for setting in SETTINGS]
        if any(ours):
            rows.append((_title(name), *map(_pair, (*ours, _mean(ours)))))
        if name in TABLE_1:
            rows.append((f"{TITLES[name]}, paper", *map(_pair, (*TABLE_1[name], _mean(TABLE_1[name])))))
    return table(("model", *SETTINGS, "mean"), rows)


def table_2(models: Mapping[str, BySetting], benchmark: str) -> str:
    """Table 2: one data set's figures beside the paper's."""
    rows = []
    for name, settings in models.items():
        if (figures := settings.get("regular")) is None:
            continue
        paper = TABLE_2[benchmark].get(name, (None, None))
        ours = (figures["mae"], figures["rmse"], figures["constant_predictor_mae"])
        beside = (percent(figures["mae_over_constant"]), *(decimal(value, 1) for value in paper))
        rows.append(
            (_title(name), figures["split"], str(figures["n"]), *(decimal(value, 1) for value in ours), *beside)
        )
    head = ("model", "split", "n", "MAE", "RMSE", "constant's MAE", "MAE / constant's", "paper: MAE", "paper: RMSE")
    return table(head, rows)


def table_3(models: Mapping[str, BySetting]) -> str:
    """Table 3: what an ablation adds to the errors of the default, ours and the paper's, in per cent of the default."""
    default = models.get("default", {}).get("regular")
    rows = []
    for name, (title, paper) in TABLE_3.items():
        theirs = [decimal(value) for value in paper]
        increase = [percent(value / whole - 1) for value, whole in zip(paper, TABLE_3["default"][1], strict=True)]
        ours = models.get(name, {}).get("regular")
        cells = ["-"] * 4
        if ours is not None:
            cells[::2] = [decimal(ours[measure]) for measure in ("mae", "rmse")]
            if default is not None:
                cells[1::2] = [percent(ours[measure] / default[measure] - 1) for measure in ("mae", "rmse")]
        beside = [cell for pair in zip(theirs, increase, strict=True) for cell in pair]
        rows.append((title, *cells, *beside))
    head = ("ablation", "MAE", "more", "RMSE", "more", "paper: MAE", "more", "paper: RMSE", "more")
    return table(head, rows)


_TABLE_3_NOTE = (
    "The paper prints 42.3, 44.7, 40.4, 51.1, 46.6, 33.5 and 35.4 % for the MAE: it divides by the ablation's error. "
    "Here all are divided by the default's. The paper's are on DISCO."
)


def figure_6(curves: Mapping[str, Mapping[float, float]]) -> str:
    """Figure 6 as a table; the paper prints no numbers of it."""
    rates = sorted({rate for curve in curves.values() for rate in curve})
    rows = [(_title(name), *(decimal(curve.get(rate), 1) for rate in rates)) for name, curve in curves.items()]
    return table(("model", *(f"{rate:g}" for rate in rates)), rows)


def _joined(reports: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Figures]]:
    """Figures by model and setting, of one model from several files; the first that has a setting counts."""
    models: dict[str, dict[str, Figures]] = {}
    for name, report in reports.items():
        model = name
        for setting in report["settings"]:
            model = model.removesuffix(f"_{setting}")
        for setting, figures in report["settings"].items():
            models.setdefault(model, {}).setdefault(setting, figures)
    return models


def _curve(settings: BySetting) -> dict[float, float]:
    """MAE by the share that is hidden; nothing hidden is also what `regular` shows."""
    hidden = {
        parse_setting(name).occlusion: figures["mae"]
        for name, figures in settings.items()
        if name.startswith(_OCCLUSION)
    }
    if hidden and "regular" in settings:
        hidden.setdefault(0.0, settings["regular"]["mae"])
    return dict(sorted(hidden.items()))


def _draw(path: Path, curves: Mapping[str, Mapping[float, float]], models: Mapping[str, BySetting]) -> None:
    """The curves as a PNG, with the constant predictor's as a dashed line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second to load
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(list(curve), list(curve.values()), marker="o", label=_title(name))
    known = [found["constant_predictor_mae"] for name in curves for found in models[name].values()]
    if known and known[0] is not None:
        axes.axhline(known[0], linestyle="--", color="grey", label="always the training set's mean")
    axes.set(xlabel="share of the picture that is hidden", ylabel="MAE, people", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as file:
        figure.savefig(file, format="png", metadata={"Software": "avedge"})


def _overview(rows: Sequence[tuple[str, Figures]], first: str) -> str:
    """One row of every measure."""
    head = (
        first, "data", "split", "setting", "n", "MAE", "RMSE", "NAE", "GAME(1)", "GAME(2)", "GAME(3)", "constant's MAE",
        "MAE / constant's", "r counts", "r patches",
    )  # fmt: skip
    cells = [
        (
            title,
            figures["data"],
            figures["split"],
            figures["setting"],
            str(figures["n"]),
            *(decimal(figures[name]) for name in ("mae", "rmse", "nae")),
            *(decimal(figures["game"][level]) for level in "123"),
            decimal(figures["constant_predictor_mae"]),
            percent(figures["mae_over_constant"]),
            *(decimal(figures[name]) for name in ("count_correlation", "patch_correlation")),
        )
        for title, figures in rows
    ]
    if first == "setting":  # one column says it
        head, *cells = ((*row[:3], *row[4:]) for row in (head, *cells))
    return table(head, cells)


def _details(by_setting: BySetting) -> list[str]:
    """Errors by density in the first setting, and the intervals of all."""
    first = next(iter(by_setting.values()))
    parts = [f"By the number of people, {first['setting']}:", _by_density(first)]
    return parts + [_interval(figures) for figures in by_setting.values() if "interval" in figures]


def _by_density(figures: Figures) -> str:
    rows = [
        (row["people"], str(row["n"]), *(decimal(row[name], 1) for name in ("mean_people", "mae", "bias")))
        for row in figures["by_density"]
    ]
    return table(("people", "n", "mean", "MAE", "bias"), rows)


def _interval(figures: Figures) -> str:
    interval = figures["interval"]
    return (
        f"{figures['setting']}: count +/- ({interval['absolute']:.1f} people + {percent(interval['relative'])} of the "
        f"count) is to hold {percent(interval['share'])} of the truths; left-out pictures: "
        f"{percent(interval['coverage'])}, {interval['mean_width']:.0f} people wide on average."
    )


def _benchmark(settings: BySetting) -> str | None:
    """The benchmark of Table 2 that a data set's path names."""
    parts = [part.lower() for part in Path(next(iter(settings.values()))["data"]).parts]
    if {"part_a", "part_a_final"} & set(parts):
        return "ShanghaiTech A"
    return "UCF-QNRF" if any("qnrf" in part for part in parts) else None


def _title(name: str) -> str:
    return TITLES.get(name) or (TABLE_3[name][0] if name in TABLE_3 else name)


def _pair(pair: Pair | None) -> str:
    return "-" if pair is None else f"{pair[0]:.2f} / {pair[1]:.2f}"


def _mean(pairs: Sequence[Pair | None]) -> Pair | None:
    """The mean over all settings; None where one is missing."""
    there = [pair for pair in pairs if pair is not None]
    if len(there) < len(pairs):
        return None
    mae, rmse = (sum(values) / len(there) for values in zip(*there, strict=True))
    return mae, rmse

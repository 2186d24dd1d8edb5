"""What `avedge perf roofline` found, as tables, as a plot, and as a sentence about what holds a network back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perf.record import Cell, Record, Table

_SHOWN = 8  # kinds of operations in a profile
_NAMED = 0.02  # a smaller share of the time explains nothing
_LIBRARIES = ("numpy", "torch", "onnxruntime")


def tables(record: Record) -> list[Table]:
    """The roof, the networks under it, int8, and where the time goes."""
    networks = record.figures["networks"]
    found = [_roof(record.figures), _levels(networks)]
    if any(network["int8"] for network in networks.values()):
        found.append(_gains(networks))
    return [*found, *(_profile(name, network) for name, network in networks.items())]


def because(network: dict[str, Any], precision: str, way: str) -> str:
    """Where the time of a network goes, from its profile on one core."""
    shares = network["profile"][precision]
    whole = sum(share["ms"] for share in shares)
    own = network["own_shapes_gflops"]["1"]
    counted = network["gflop_by_operation"]
    computing = [
        f"{share['operation']} {share['share']:.0%} of the time"
        + (f" at {counted[share['operation']] / share['ms'] * 1000:.0f} GFLOP/s" if precision == "fp32" else "")
        for share in shares
        if share["operation"] in counted and share["share"] > _NAMED
    ]
    rest = [share for share in shares if share["operation"] not in counted]
    parts = ", ".join(f"{share['operation']} {share['share']:.0%}" for share in rest[:5])
    idle = sum(share["ms"] for share in rest) / whole
    return (
        f"Profile on one core: {', '.join(computing)}; {idle:.0%} goes to operations without products ({parts}). The "
        f"best library's matrix product at the network's own shapes reaches {own:.0f} GFLOP/s. Measured as {way}."
    )


def plot(record: Record, path: Path) -> None:
    """Each network under the roof: its GFLOP/s over its operations per byte, on one core and on all."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    roof, networks = record.figures["roof"], record.figures["networks"]
    figure, axis = pyplot.subplots(figsize=(7, 4.2))
    colours = [f"C{number}" for number in range(len(networks))]
    intensities = [network["gflop"] * 1000 / network["moved_mb"] for network in networks.values()]
    left, right = min(*intensities, 1) / 2, max(intensities) * 2
    for threads, one in roof.items():
        top, slope = max(one["sgemm_gflops"].values()), one["triad_gb_per_s"]
        bend = top / slope
        edge = max(right, bend * 2)
        axis.loglog([left, bend, edge], [left * slope, top, top], color="grey", label=f"roof, {threads} threads")
    for colour, intensity, (name, network) in zip(colours, intensities, networks.items(), strict=True):
        for cores, marker in {1: "o", record.figures["cores"]: "s"}.items():
            fp32 = [one for one in network["levels"] if one["precision"] == "fp32" and one["cores"] == cores]
            best = max(one["gflops"] for one in fp32)
            axis.loglog([intensity], [best], marker, color=colour, label=name if cores == 1 else None)
    axis.set(xlabel="operations per byte moved", ylabel="GFLOP/s")
    axis.set_title("circle: one core, square: all", fontsize="small")
    axis.legend(fontsize="x-small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _roof(figures: dict[str, Any]) -> Table:
    rows = tuple(
        (threads, *(one["sgemm_gflops"][library] for library in _LIBRARIES), one["triad_gb_per_s"])
        for threads, one in figures["roof"].items()
    )
    columns = ("threads", "numpy GFLOP/s", "torch GFLOP/s", "ONNX Runtime GFLOP/s", "triad GB/s")
    return Table("this machine's matrix product and memory", columns, rows)


def _levels(networks: dict[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            f"{name} {level['precision']}",
            level["way"],
            level["batch"],
            level["items_per_s"],
            *(level[f"{percent}_ms"] for percent in ("p50", "p95", "p99")),
            level["gflops"],
            100 * level["of_sgemm"],
            100 * level["of_own_shapes"],
        )
        for name, network in networks.items()
        for level in network["levels"]
    ]
    columns = ("network", "cores", "batch", "items/s", "p50 ms", "p95 ms", "p99 ms", "GFLOP/s", "% sgemm", "% own")
    note = (
        "% sgemm: of the fastest library's large fp32 product on as many cores, in the same round. % own: of the "
        "fastest library's products at this network's own shapes for a batch of one, where convolutions are products "
        "whose operands lie ready; over 100: larger batches or blocked convolutions beat it."
    )
    return Table("networks", columns, tuple(rows), note)


def _gains(networks: dict[str, Any]) -> Table:
    rows = tuple(
        (name, gain["way"], gain["batch"], gain["times_fp32"])
        for name, network in networks.items()
        for gain in network["int8"]
    )
    return Table("int8 over fp32", ("network", "cores", "batch", "times"), rows, digits=2)


def _profile(name: str, network: dict[str, Any]) -> Table:
    counted = network["gflop_by_operation"]
    rows: list[tuple[Cell, ...]] = []
    for precision, shares in network["profile"].items():
        for share in shares[:_SHOWN]:
            gflop = counted.get(share["operation"])
            rate = gflop / share["ms"] * 1000 if gflop else None
            rows.append((f"{share['operation']} {precision}", share["count"], share["ms"], 100 * share["share"], rate))
    title = f"{name}: {network['gflop']:.3f} GFLOP, {network['weight_mb']:.1f} MB of weights; one core, batch 1"
    return Table(title, ("operation", "nodes", "ms", "% of time", "GFLOP/s"), tuple(rows), digits=2)

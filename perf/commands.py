"""`avedge perf`: one measurement, its figures as JSON in perf/results/, and tables of them."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from perf.record import Record, Table

_SOME_FAILED = 3
_WIDTH = 110  # columns of the tables where there is no terminal to ask

# Each is a module `perf.<word>` with add_arguments(parser), measure(args, progress) -> Record and
# tables(record) -> list[Table]; it may have plot(record, path).
MEASUREMENTS: dict[str, str] = {
    "sweep": "closed loop: every ensemble at several numbers of requests in flight",
    "tune": "batching, instances, threads, queue delay and cache: the sweeps that the configs were chosen from",
    "limit": "what serving costs over the same graphs in bare ONNX Runtime",
    "peers": "the same models behind PyTriton, LitServe and FastAPI",
    "dsp": "STFT and Griffin-Lim against librosa, torch and scipy",
    "roofline": "the networks against this machine's own matrix product, and int8 against fp32",
    "scale": "throughput and memory against concurrency, batch and length",
    "rate": "Poisson arrivals: the largest rate that holds a p95 objective",
    "runtimes": "torch eager, TorchScript, torch.compile, ONNX Runtime and TensorRT, on a CPU or a GPU",
    "accuracy": "the evaluation sets through the server, against torch",
}
REPORT, REPORT_HELP = "report", "one page with plots from the committed results; the README's performance section"


class _Lazy(argparse.ArgumentParser):
    """A measurement's own options are asked for when it is chosen: its module may take a second to load."""

    word = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.word:
            word, self.word = self.word, ""
            module_of(word).add_arguments(self)
            self.description = module_of(word).__doc__
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The measurements and the options that all share."""
    # With the help and the errors of the whole command line.
    lazy: type[_Lazy] = type("Lazy", (_Lazy, type(parser)), {})
    words = parser.add_subparsers(dest="measurement", metavar="measurement", required=True, parser_class=lazy)
    for word, text in (*MEASUREMENTS.items(), (REPORT, REPORT_HELP)):
        own = words.add_parser(word, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        own.word = word
        if word != REPORT:
            own.add_argument("--output", type=Path, help=f"the result as JSON; default: perf/results/{word}.json")
            own.add_argument(
                "--json", action="store_true", help="the result as one line of JSON on stdout, tables on stderr"
            )


def module_of(word: str) -> ModuleType:
    """The module behind a word of the command line."""
    return importlib.import_module(f"perf.{word}")


def run(args: argparse.Namespace) -> int:
    """Measure, write the result, print it; 3 when a part gave no figures. A missed aim is told, and is no failure."""
    from rich.console import Console

    from train.environment import ROOT

    log = Console(stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else _WIDTH)
    module = module_of(args.measurement)
    if args.measurement == REPORT:
        code: int = module.run(args)
        return code
    record: Record = module.measure(args, log.print)
    output = args.output or ROOT / "perf" / "results" / f"{args.measurement}.json"
    record.write(output)
    out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
    show(module.tables(record), record, log if args.json else out)
    log.print(f"written: {output}", soft_wrap=True)
    if args.json:
        sys.stdout.write(json.dumps(record.as_json()) + "\n")
    return 0 if record.complete else _SOME_FAILED


def show(tables: Sequence[Table], record: Record, console: Console) -> None:
    """Print tables, their notes and what became of the aims."""
    for table in tables:
        console.print(_rich(table))
        if table.note:
            console.print(table.note)
    for aim in record.aims:
        console.print(aim.sentence())


def _rich(table: Table) -> Any:
    from rich.table import Table as Rich

    shown = Rich(box=None, header_style="bold", title=table.title, title_justify="left", pad_edge=False)
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if number else "left")
    for row in table.texts():
        shown.add_row(*row)
    return shown

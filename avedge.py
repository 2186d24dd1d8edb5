"""avedge: speech separation by a face and audio-visual crowd counting, from training to a served answer.

First steps:  avedge demo        everything once, on this machine
              avedge serve       then: avedge separate talk.wav --face photo.jpg
                                       avedge count square.jpg --sound square.wav
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True)
class Verb:
    """One subcommand; its module is imported only when it is asked for."""

    name: str
    module: str
    help: str
    infix: str = ""  # `add_evaluate_arguments`, `run_evaluate`: where one module holds several verbs


VERBS = (
    Verb("demo", "avedge_demo", "synthetic samples, export, serve, both clients and a short load test, in one folder"),
    Verb("doctor", "avedge_doctor", "what is installed, what can run here, and whether the server answers"),
    Verb("separate", "clients.commands.separate", "one person's voice out of a recording, by a photo of the face"),
    Verb("count", "clients.commands.count", "people in a photo, with its sound where there is any"),
    Verb("serve", "serve.commands", "start Triton on this machine with the exported models"),
    Verb("export", "export.commands", "ONNX and TorchScript files of every model, proven equal and published"),
    Verb("build", "export.engines.commands", "TensorRT engines of the published graphs, with a manifest beside each"),
    Verb("lint", "export.lint_repository", "hold every published graph against the rules and its manifest"),
    Verb("rollback", "export.rollback", "an older release of all models is out again, or the withdrawn one comes back"),
    Verb("perf", "perf.commands", "one measurement: server, peers, runtimes, accuracy; or the page of all"),
    Verb("synthesize", "train.synthetic.commands", "make synthetic talkers or crowd scenes"),
    Verb("prepare", "train.corpus.commands", "bring VoxCeleb2 or LibriSpeech into the layout for training", "prepare"),
    Verb("mix", "train.corpus.commands", "draw fixed lists of two-speaker mixtures from a corpus", "mix"),
    Verb("train", "train.commands", "train a model by its config"),
    Verb("evaluate", "avedge_evaluate", "judge trained weights, in torch or through the server"),
)
VERSION = "0.1.0"
OUR_PACKAGES = ("train", "export", "serve", "clients", "perf", "avedge_demo", "avedge_doctor", "avedge_evaluate")
EXIT_UNEXPECTED, EXIT_OUTPUT, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 8, 130, 143


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The command line; only the chosen verb's module is imported and asked for its options."""
    parser = argparse.ArgumentParser(
        prog="avedge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"avedge {VERSION}")
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)
    for verb in VERBS:
        subparser = verbs.add_parser(verb.name, help=verb.help, formatter_class=argparse.RawDescriptionHelpFormatter)
        if verb.name == chosen:
            module = importlib.import_module(verb.module)
            subparser.description = module.__doc__
            add, carry_out = (
                (f"add_{verb.infix}_arguments", f"run_{verb.infix}") if verb.infix else ("add_arguments", "run")
            )
            getattr(module, add)(subparser)
            subparser.set_defaults(run=getattr(module, carry_out))
            subparser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code.

    0 done; 1 unexpected; 2 wrong usage; 3 some inputs failed; 4 bad input; 5 server absent or not ready; 6 another
    contract or model than wanted; 7 too late; 8 output could not be written; 130 and 143 interrupted and terminated.
    """
    words = sys.argv[1:] if argv is None else argv
    chosen = next((word for word in words if not word.startswith("-")), None)
    arguments = build_parser(chosen).parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for package in OUR_PACKAGES:  # libraries stay quiet: the exporter alone would say 300 lines
        logging.getLogger(package).setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code: int = arguments.run(arguments)
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; say nothing more, also not while Python closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OUTPUT
    except Exception as error:
        if arguments.debug:
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    """Say what went wrong; our own errors carry their exit code and a message for people."""
    code = getattr(error, "exit_code", None)
    if code is not None:
        sys.stderr.write(f"avedge: {error}\n")
        return int(code)
    if isinstance(error, OSError):
        sys.stderr.write(f"avedge: {error}. Check that the path exists, is writable and has room.\n")
        return EXIT_OUTPUT
    sys.stderr.write(f"avedge: unexpected {type(error).__name__}: {error}. Run again with --debug and report it.\n")
    return EXIT_UNEXPECTED


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    """Let SIGTERM unwind the stack, so that context managers stop what they started."""
    raise SystemExit(EXIT_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())

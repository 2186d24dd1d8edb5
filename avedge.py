"""avedge: speech separation by a face and audio-visual crowd counting, from training to a served answer.

First steps:  avedge demo        everything once, on this machine
              avedge serve       then: avedge separate talk.wav --face photo.jpg
                                       avedge count square.jpg --sound square.wav
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import re
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn


@dataclass(frozen=True)
class Verb:
    """One subcommand; its module is imported only when it is asked for."""

    name: str
    module: str
    help: str
    infix: str = ""  # `add_evaluate_arguments`, `run_evaluate`: where one module holds several verbs

    @property
    def extra(self) -> str:
        """Of this project, what brings the packages that the verb needs; empty where the client's own suffice."""
        return _EXTRAS.get(self.module.partition(".")[0], "")


VERBS = (
    Verb("demo", "avedge_demo", "synthetic samples, export, serve, both clients and a short load test, in one folder"),
    Verb("doctor", "avedge_doctor", "what is installed, what can run here, and whether the server answers"),
    Verb("separate", "clients.commands.separate", "one person's voice out of a recording, by a photo of the face"),
    Verb("enroll", "clients.commands.enroll", "store a face, so that its voice can be separated without the photo"),
    Verb("count", "clients.commands.count", "people in a photo, with its sound where there is any"),
    Verb("web", "clients.web.command", "a page in the browser: separate a voice and count a crowd, on this machine"),
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
    Verb("completion", "clients.commands.completion", "a script that lets bash, zsh or fish complete these words"),
)
VERSION = "0.1.0"
_EXTRAS = {
    "train": "train", "avedge_evaluate": "train", "export": "export", "serve": "serve",
    "perf": "export,peers", "avedge_demo": "export,peers",
}  # fmt: skip
OUR_PACKAGES = ("train", "export", "serve", "clients", "perf", "avedge_demo", "avedge_doctor", "avedge_evaluate")
EXIT_UNEXPECTED, EXIT_USAGE, EXIT_OUTPUT, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 8, 130, 143
EXIT_CODES = """exit codes:
  0    done
  1    unexpected failure; --debug shows where
  2    wrong usage
  3    some inputs or parts failed, the others are done
  4    bad input: a recording, photo or file that no answer can be given for
  5    the server does not answer, is not ready, or is too busy
  6    another model, version or artefact than wanted, or wrong answers
  7    no answer within --timeout
  8    a result could not be written; nothing half-written is left
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)"""
_UNKNOWN = re.compile(r"unrecognized arguments: (.+)|invalid choice: '([^']+)'")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they stand, and every default that there is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        told = not text or "default" in text.lower() or isinstance(action.default, bool)
        return text if told or action.default in (None, argparse.SUPPRESS, "", []) else f"{text} (%(default)s)"


class Parser(argparse.ArgumentParser):
    """Help that begins with what the verb does and examples; errors of one line, with what was probably meant."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{**options, "formatter_class": Formatter})  # type: ignore[arg-type]

    def format_help(self) -> str:
        """What it does, examples, usage, arguments."""
        description, self.description = (self.description or "").strip(), None
        try:
            rest = super().format_help()
        finally:
            self.description = description
        if re.search(rf"^ *{self.prog} ", description, re.MULTILINE) is None:
            from clients.commands.examples import EXAMPLES

            examples = "\n".join(f"  {line}" for line in EXAMPLES.get(self.prog, ()))
            told = textwrap.fill(description, 118) if "\n" not in description else description
            description = "\n\n".join(part for part in (told, examples) if part)
        return f"{description}\n\n{rest}".lstrip()

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, what was probably meant, and where help is."""
        wrong = _UNKNOWN.search(message)
        meant = [like for word in (wrong[1] or wrong[2]).split() if (like := self._like(word))] if wrong else []
        hint = f". Did you mean {' '.join(meant)}?" if meant else ""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}{hint}\n`{self.prog} --help` shows examples and every option.\n")

    def _like(self, word: str) -> str | None:
        """The known word nearest to an unknown one."""
        import difflib  # only for who has mistyped

        return next(iter(difflib.get_close_matches(word.split("=")[0], list(self._words()), n=1)), None)

    def _words(self) -> Iterator[str]:
        """Everything that may be typed here or in the verb that was chosen."""
        for action in self._actions:
            yield from action.option_strings
            yield from map(str, action.choices or ())
            if isinstance(action.choices, dict):
                for parser in action.choices.values():
                    yield from parser._words()


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The command line; only the chosen verb's module is imported and asked for its options."""
    parser = Parser(prog="avedge", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"avedge {VERSION}")
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)
    for verb in VERBS:
        subparser = verbs.add_parser(verb.name, help=verb.help)
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
    """Run one verb; returns the exit code, one of `EXIT_CODES`.

    Args:
        argv: verb and options; None for those of this process, which is ended here where nothing else ends it well.
    """
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        from clients.commands.completion import complete

        complete(build_parser)
    _prepare_streams()
    if argv is not None:
        return _code_of(argv)
    try:
        code = _code_of(sys.argv[1:])
    except SystemExit as ended:
        _leave_threads(ended.code)
        raise
    _leave_threads(code)
    return code


def _code_of(words: list[str]) -> int:
    try:
        return _carry_out(words)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; say nothing more, also not while Python closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OUTPUT
    except Exception as error:
        if "--debug" in words:
            raise
        return _explain(_told(error, words))


def _carry_out(words: list[str]) -> int:
    parser = build_parser(_chosen(words))
    if not words:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for package in OUR_PACKAGES:  # libraries stay quiet: the exporter alone would say 300 lines
        logging.getLogger(package).setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _terminate)
    code: int = arguments.run(arguments)
    return code


def _chosen(words: list[str]) -> str | None:
    """The verb, whatever stands before it."""
    return next((word for word in words if not word.startswith("-")), None)


def _prepare_streams() -> None:
    """Standard streams that are open, and can write every name.

    Where one was closed, the next file to be opened would take its place, and what is said would go into a result.
    """
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(free)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error has it


def _leave_threads(code: object) -> None:
    """End the process here where a run that was broken off has left threads at work.

    An interpreter that goes while a library is at work in one takes the process with it, with a signal in place of the
    exit code.
    """
    workers = sys.modules.get("clients.commands.workers")
    if workers is None or workers.all_ended():
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else EXIT_UNEXPECTED)


def _told(error: Exception, words: list[str]) -> Exception:
    """Where the verb lacks a package, which extra brings it; any other error as it is."""
    verb = next((verb for verb in VERBS if verb.name == _chosen(words)), None)
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if verb is None or not verb.extra or not package or package in OUR_PACKAGES or hasattr(error, "exit_code"):
        return error
    from clients.extras import MissingExtra

    return MissingExtra(
        f"The package {package} is not installed here",
        f"the extra `{verb.extra}`",
        f"avedge {verb.name} works with it",
        f"pip install 'avedge[{verb.extra}]', or from the project's folder: pip install -e '.[{verb.extra}]'",
    )


def _explain(error: Exception) -> int:
    """Say what went wrong; our own errors carry their exit code and a message for people."""
    code = getattr(error, "exit_code", None)
    if code is not None:
        said = str(error)
    elif isinstance(error, OSError):
        code, said = EXIT_OUTPUT, f"{error}. Check that the path exists, is writable and has room."
    else:
        said = f"unexpected {type(error).__name__}: {error}. Run again with --debug and report it."
        code = EXIT_UNEXPECTED
    with suppress(OSError):  # of a full disk that standard error goes to
        sys.stderr.write(f"avedge: {said}\n")
    return int(code)


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    """Let SIGTERM unwind the stack, so that context managers stop what they started."""
    raise SystemExit(EXIT_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())

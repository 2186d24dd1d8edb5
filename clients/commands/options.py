"""Options that several verbs share, each declared once; the server's come from a flag, the environment or a file.

A flag wins over the environment, and that over the file `~/.config/avedge/config.ini` (or the one that AVEDGE_CONFIG
names):

    [server]
    url = 192.168.1.20:8001
    timeout = 30
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.commands.resume import Identity

if TYPE_CHECKING:
    from clients.contract import ServedModel

MAX_JOBS = 64
_SECTION = "server"


@dataclass(frozen=True)
class ServerOption:
    """One thing to know of the server."""

    name: str
    default: str
    parse: Callable[[str], Any]
    metavar: str
    help: str

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"AVEDGE_{self.name.upper().replace('-', '_')}"


def add_batch_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """The options of commands that work through many inputs."""
    group = parser.add_argument_group("results")
    group.add_argument(
        "--output", "-o", type=Path, default=Path(output), metavar="DIR", help="folder for the results (%(default)s)"
    )
    group.add_argument(
        "--overwrite", action="store_true", help="make results again that are there already; else they are skipped"
    )
    group.add_argument(
        "--jobs", "-j", type=jobs, default=1, metavar="N", help="inputs worked on at the same time (%(default)s)"
    )
    group.add_argument("--json", action="store_true", help="one JSON object per input on standard output, nothing else")
    group.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
    group.add_argument("--no-color", action="store_true", help="no colours, as where NO_COLOR is set")
    add_server_arguments(parser)


def add_server_arguments(parser: argparse.ArgumentParser, timeout_s: float | None = None) -> None:
    """Where the server is and how it is spoken to.

    Args:
        parser: gets the options.
        timeout_s: another default for --timeout.
    """
    group = parser.add_argument_group(
        "server", "Each may stand in the environment too, as AVEDGE_URL, or in ~/.config/avedge/config.ini."
    )
    try:
        given = _from_file()
    except ValueError as error:
        parser.error(str(error))
    for option in SERVER_OPTIONS:
        default, source = option.default, ""
        if option.name == "timeout" and timeout_s is not None:
            default = f"{timeout_s:g}"
        if option.name in given:
            default, source = given[option.name]
        if os.environ.get(option.variable):
            default, source = os.environ[option.variable], option.variable
        try:
            value = option.parse(default)
        except (ValueError, argparse.ArgumentTypeError) as error:
            parser.error(f"{source}: {error}")
        shown = f"{default}, from {source}" if source else default
        group.add_argument(
            f"--{option.name}",
            type=option.parse,
            default=value,
            metavar=option.metavar,
            help=f"{option.help} ({shown})".replace("%", "%%"),
        )


def server_of(args: argparse.Namespace) -> dict[str, Any]:
    """What a client's constructor takes of the shared options: `CrowdCounter(**server_of(args))`."""
    return {"url": args.url, "timeout_s": args.timeout}


def settings_of(args: argparse.Namespace, *models: ServedModel) -> dict[str, Any]:
    """Everything of a command line that decides a result, for `Batch.run`; a file counts by what is in it.

    Args:
        args: what was parsed.
        models: what the server says of the models that are asked.
    """
    chosen = {name: value for name, value in vars(args).items() if name not in _DECIDE_NOTHING}
    found: dict[str, Any] = {name: _content_of(value) for name, value in chosen.items()}
    served = {model.name: {"versions": model.versions, "facts": dict(model.facts)} for model in models}
    return found | {"model": served}


def _content_of(value: Any) -> Any:
    """A value of an option, where it is a file its size and digest."""
    if isinstance(value, (list, tuple)):
        return [_content_of(one) for one in value]
    identity = Identity.of(value) if isinstance(value, Path) else None
    return [identity.bytes, identity.sha256] if identity else value


def _from_file() -> dict[str, tuple[str, str]]:
    """What the configuration file says: name to value and source.

    Raises:
        ValueError: it cannot be read, or names something that there is not.
    """
    named = os.environ.get("AVEDGE_CONFIG")
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = Path(named) if named else home / "avedge" / "config.ini"
    if not named and not path.is_file():
        return {}
    import configparser  # only where there is a file to read

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    known = {option.name for option in SERVER_OPTIONS}
    unknown = [f"[{name}]" for name in parser.sections() if name != _SECTION]
    values = dict(parser[_SECTION]) if parser.has_section(_SECTION) else {}
    unknown += [name for name in values if name not in known]
    if unknown:
        raise ValueError(f"{path}: {', '.join(unknown)} is not known; known are {', '.join(sorted(known))} in [server]")
    return {name: (value, str(path)) for name, value in values.items()}


def seconds(text: str) -> float:
    """A number of seconds above 0, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def jobs(text: str) -> int:
    """How many inputs at the same time, for argparse."""
    value = int(text)
    if not 1 <= value <= MAX_JOBS:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to {MAX_JOBS}")
    return value


SERVER_OPTIONS = (
    ServerOption("url", "127.0.0.1:8001", str, "HOST:PORT", "Triton's gRPC front end"),
    ServerOption("timeout", "60", seconds, "S", "seconds that one request may take"),
)
# What is worked on, how it is told, and where the server is.
_DECIDE_NOTHING = frozenset(
    {"verb", "run", "debug", "inputs", "output", "overwrite", "jobs", "json", "quiet", "no_color"}
    | {option.name.replace("-", "_") for option in SERVER_OPTIONS}
)

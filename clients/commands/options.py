"""Options that several verbs share, each declared once; the server's come from a flag, the environment or a file.

A flag wins over the environment, and that over the file `~/.config/avedge/config.ini` (or the one that AVEDGE_CONFIG
names):

    [server]
    url = grpcs://edge.example:8001
    timeout = 30
    tls-ca = ~/certificates/ca.pem
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.commands.resume import MODEL, Identity

if TYPE_CHECKING:
    from clients.client import ServedClient
    from clients.contract import ServedModel

MAX_JOBS = 64
SHARED_MEMORY = ("auto", "always", "never")
_SECTION = "server"


@dataclass(frozen=True)
class ServerOption:
    """One thing to know of the server."""

    name: str
    default: str | None
    parse: Callable[[str], Any]
    metavar: str
    help: str
    several: bool = False  # may be given several times

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"AVEDGE_{self.name.upper().replace('-', '_')}"


def add_batch_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """The options of commands that work through many inputs."""
    group = parser.add_argument_group("results")
    group.add_argument(
        "--output", "-o", type=named, default=Path(output), metavar="DIR", help="folder for the results (%(default)s)"
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
            value = None if default is None else option.parse(default)
        except (ValueError, argparse.ArgumentTypeError) as error:
            parser.error(f"{source}: {error}")
        group.add_argument(
            f"--{option.name}",
            type=option.parse,
            default=value,
            metavar=option.metavar,
            help=option.help + _default_told(value, source),
            action=_Joined if option.several else "store",
        )


def _default_told(value: Any, source: str) -> str:
    """The default in the words of a help text, with where it comes from."""
    if value is None:
        return ""
    told = "%(default)g" if isinstance(value, float) else "%(default)s"
    return f" ({told}{', from ' + source.replace('%', '%%') if source else ''})"


def server_of(args: argparse.Namespace) -> dict[str, Any]:
    """What a client's constructor takes of the shared options: `CrowdCounter(**server_of(args))`."""
    from clients.transport.tls import Tls

    files = (args.tls_ca, args.tls_cert, args.tls_key)
    return {
        "url": args.url,
        "timeout_s": args.timeout,
        "tls": Tls(*files) if any(files) else None,
        "shared_memory": {"auto": "auto", "always": True, "never": False}[args.shared_memory],
    }


class _Joined(argparse.Action):
    """An option that is given several times: its values with commas between them, in place of the default."""

    def __call__(self, parser: object, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        given = getattr(namespace, f"_{self.dest}", ())
        setattr(namespace, f"_{self.dest}", (*given, value))
        setattr(namespace, self.dest, ",".join((*given, value)))


def settings_of(args: argparse.Namespace, client: ServedClient, *models: ServedModel) -> dict[str, Any]:
    """Everything of a command line that decides a result, for `Batch.run`; a file counts by what is in it.

    Args:
        args: what was parsed.
        client: whose server is asked which versions it has.
        models: what the server says of the models that are asked.
    """
    chosen = {name: value for name, value in vars(args).items() if name not in _DECIDE_NOTHING}
    found: dict[str, Any] = {name: _content_of(value) for name, value in chosen.items()}
    served = {model.name: {"versions": client.release(model), "facts": dict(model.facts)} for model in models}
    return found | {MODEL: served}


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
    home = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    path = Path(named) if named else home / "avedge" / "config.ini"
    if not named and not os.path.isfile(path):  # nobody's home, or one that this user may not look into
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


def memory(text: str) -> str:
    """How shared memory is used, for argparse."""
    if text not in SHARED_MEMORY:
        raise argparse.ArgumentTypeError(f"{text} is not one of {', '.join(SHARED_MEMORY)}")
    return text


def named(text: str) -> Path:
    """A path, for argparse; an empty one, as of a variable that is not set, would be the folder at hand."""
    if not text:
        raise argparse.ArgumentTypeError("a name is empty")
    return Path(text)


def file(text: str) -> Path:
    """A path, for argparse; the environment and files know `~` too."""
    return Path(os.path.expanduser(text))  # unlike Path's, it leaves alone whose home it does not know


def jobs(text: str) -> int:
    """How many inputs at the same time, for argparse."""
    value = int(text)
    if not 1 <= value <= MAX_JOBS:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to {MAX_JOBS}")
    return value


SERVER_OPTIONS = (
    ServerOption(
        "url", "127.0.0.1:8001", str, "URL",
        "where Triton is: host:port for gRPC, grpcs:// within TLS, http:// or https://; several, with commas or by "
        "several --url, share the work", several=True,
    ),
    ServerOption("timeout", "60", seconds, "S", "seconds that one request may take"),
    ServerOption("tls-ca", None, file, "FILE", "PEM certificate of who vouches for the server"),
    ServerOption("tls-cert", None, file, "FILE", "PEM certificate of this client, where the server wants one"),
    ServerOption("tls-key", None, file, "FILE", "its private key"),
    ServerOption(
        "shared-memory", "auto", memory, "WHEN",
        "auto, always or never: whether tensors go to a server on this machine through shared memory",
    ),
)  # fmt: skip
# What is worked on, how it is told, and where the server is.
_DECIDE_NOTHING = frozenset(
    {"verb", "run", "debug", "inputs", "output", "overwrite", "jobs", "json", "quiet", "no_color", "_url"}
    | {option.name.replace("-", "_") for option in SERVER_OPTIONS}
)

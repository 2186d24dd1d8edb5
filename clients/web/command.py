"""The web page on this machine: bring out one person's voice, or count a crowd, in the browser.

  avedge web                                  http://127.0.0.1:7860, answered by the server at 127.0.0.1:8001
  avedge web --open                           the same, and the page opens in the browser
  avedge web --url gpu-box:8001 --port 8080   another server, another port

The page works offline: nothing is fetched from or sent to any other machine than the one behind --url. What is uploaded
lies in a folder that only this user can read, and is removed when the page is closed, when something else is chosen in
its place, after an hour, and when this command ends.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from clients.commands.options import add_server_arguments, server_of
from clients.errors import BadSetting

EXAMPLES = Path("demo/samples")
_PORT = 7860


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge web`."""
    group = parser.add_argument_group("page")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine alone)")
    group.add_argument("--port", type=port, default=_PORT, help="%(default)s; 0 chooses a free one")
    group.add_argument("--allow-remote", action="store_true", help="let --host be an address that others reach")
    group.add_argument("--open", action="store_true", help="open the page in the browser")
    group.add_argument(
        "--examples", type=Path, default=EXAMPLES, metavar="DIR", help="samples of `avedge demo` to offer (%(default)s)"
    )
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; 0 then.

    Raises:
        BadSetting: an address that may not be listened on, a port that is taken, or a server's address or certificate
            that cannot be right.
        MissingExtra: Gradio is not installed.
    """
    require_host(args.host, args.allow_remote)
    server = server_of(args)
    _require_server(server)
    listening = _listen(args.host, args.port)
    from clients.web.site import Site

    public = not _is_loopback(args.host)
    with (
        listening,
        Site(server, examples=args.examples, host=args.host, public=public, debug=args.debug) as site,
    ):
        address = f"http://{_in_url(args.host)}:{listening.getsockname()[1]}"
        sys.stdout.write(f"The page: {address}  (server {args.url}). Ctrl-C stops.\n")
        sys.stdout.flush()
        site.serve(listening, opened=address if args.open else None)
    return 0


def require_host(host: str, allowed: bool) -> None:
    """Refuse to listen for other machines unless asked to, and warn when asked to.

    Raises:
        BadSetting: an address that other machines reach without --allow-remote, or no address at all.
    """
    if _is_loopback(host):
        return
    if not allowed:
        raise BadSetting(
            f"{host} can be reached by other machines",
            "an address of this machine alone, such as 127.0.0.1",
            "the page asks nobody who they are, and takes pictures and voices without encryption",
            "leave --host out, put a proxy with TLS and a login before it, or say --allow-remote",
        )
    sys.stderr.write(f"Warning: {host} can be reached by other machines; the page has no login and no encryption.\n")


def _require_server(server: Mapping[str, Any]) -> None:
    """Refuse now what would be refused at every question; nobody is asked yet."""
    from clients.counter import CrowdCounter

    CrowdCounter(**server).close()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError as error:
        raise BadSetting(
            f"--host is {host!r}", "an IP address, or localhost", "the page listens on it", "say --host 127.0.0.1"
        ) from error


def _listen(host: str, number: int) -> socket.socket:
    """The socket, taken before anything is loaded, so that a taken port is said at once."""
    try:
        return socket.create_server((host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise BadSetting(
            f"Port {number} of {host} cannot be listened on: {error.strerror or error}",
            "a free port",
            "the page is served there",
            "give another --port (0 chooses a free one), or stop what holds it",
        ) from error


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def port(text: str) -> int:
    """A port's number; the function's name is in the message for what is none."""
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{number} is no port; wanted 1 to 65535, or 0 for a free one")
    return number

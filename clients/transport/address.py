"""Where a server is: `host:port` for gRPC, or a URL that names the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from clients.errors import BadSetting, printable

DEFAULT_URL = "127.0.0.1:8001"

# scheme: (is it HTTP, is it within TLS, the port where none is given)
_SCHEMES = {
    "grpc": (False, False, None),
    "grpcs": (False, True, None),
    "http": (True, False, 80),
    "https": (True, True, 443),
}


@dataclass(frozen=True)
class Address:
    """One endpoint."""

    host: str
    port: int
    http: bool = False
    secure: bool = False  # within TLS
    path: str = ""  # in front of HTTP's own paths, where a proxy wants one

    @property
    def target(self) -> str:
        """Host and port, as gRPC takes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine by its name or number."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:  # a name, be it 127.example.org
            return False

    def __str__(self) -> str:
        scheme = {(False, False): "", (False, True): "grpcs://", (True, False): "http://", (True, True): "https://"}
        return scheme[self.http, self.secure] + self.target + self.path


def addresses_of(url: str | Sequence[str], *, secure: bool = False) -> tuple[Address, ...]:
    """The endpoints that a URL, several with commas between them, or a sequence of them stand for; each one once.

    Args:
        url: each `host:port` (gRPC), `grpc://`, `grpcs://`, `http://` or `https://`; the last two may have a path.
        secure: certificates are given: `host:port` then means TLS, and `grpc://` and `http://` are refused.

    Raises:
        BadSetting: nothing can be reached by it.
    """
    words = [word.strip() for text in ([url] if isinstance(url, str) else url) for word in text.split(",")]
    if not words:
        raise _bad("No URL was given", "one host:port or several")
    return tuple(dict.fromkeys(_address_of(word, secure) for word in words))


def _address_of(word: str, secure: bool) -> Address:
    named = f"The URL {printable(word.rpartition('@')[2])!r}"  # a password before it belongs on no terminal
    scheme, parts = _split(word, named)
    http, within_tls, usual_port = _SCHEMES[scheme]
    if not parts.hostname or any(sign.isspace() for sign in word):
        raise _bad(f"{named} has {'spaces in it' if parts.hostname else 'no host'}", "host:port")
    try:
        port = usual_port if parts.port is None else parts.port
    except ValueError as error:  # urlsplit's, for letters and for more than 65535
        raise _bad(f"{named} has a port that is no number from 1 to 65535", "a port from 1 to 65535") from error
    if not port:
        raise _bad(f"{named} has {'no port' if port is None else 'the port 0'}", "host:port")
    if parts.username is not None or parts.query or parts.fragment:
        raise _bad(f"{named} has a user, a query or a fragment", "a host, a port and nothing else")
    path = parts.path.rstrip("/")
    if path and not http:
        raise _bad(f"{named} has a path, which gRPC does not know", "host:port")
    if not _can_be_sent(parts.hostname, path):
        raise _bad(f"{named} has a host or a path that cannot be sent", "a name of a host, and a path in ASCII")
    if secure and "://" in word and not within_tls:
        raise _bad(f"{named} means a connection without TLS, and certificates were given", "grpcs:// or https://")
    return Address(parts.hostname, port, http, within_tls or secure, path)


def _split(word: str, named: str) -> tuple[str, SplitResult]:
    """The scheme and the parts."""
    try:
        parts = urlsplit(word if "://" in word else f"grpc://{word}")
    except ValueError as error:
        raise _bad(f"{named} is none: {error}", "host:port") from error
    if parts.scheme not in _SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise _bad(f"{named} begins with {parts.scheme}://", f"host:port, or one of {known}")
    return parts.scheme, parts


def _can_be_sent(host: str, path: str) -> bool:
    """Whether a host can be looked up at all (no empty part, none above 63 letters), and HTTP can carry the path."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return path.isascii() and path.isprintable()


def _bad(seen: str, wanted: str) -> BadSetting:
    return BadSetting(
        seen,
        wanted,
        "no server can be reached by it",
        f"give another --url, such as {DEFAULT_URL} (gRPC) or http://127.0.0.1:8000",
    )

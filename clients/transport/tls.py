"""Certificates of a connection: whom the client trusts, and who it is."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.errors import BadSetting, printable
from clients.transport.address import Address
from clients.transport.failures import CallFailed

_REFUSAL_TIMEOUT_S = 1.0  # a server that does not accept a client says so at once
_MAX_BYTES = 1 << 20  # bundles of every public authority have about 200 KB


@dataclass(frozen=True)
class Tls:
    """PEM files for TLS, and for mutual TLS where the server wants to know its clients.

    Args:
        root_certificate: of the authorities that may vouch for the server; None for those that this machine trusts.
        certificate: of this client, with the authorities between it and the root.
        private_key: of this client's certificate, without a pass phrase.
    """

    root_certificate: str | Path | None = None
    certificate: str | Path | None = None
    private_key: str | Path | None = None

    def check(self) -> None:
        """See that every file can be read, and that key and certificate belong together.

        Raises:
            BadSetting: one of them is missing or says something else.
        """
        self.context()

    def context(self) -> ssl.SSLContext:
        """For HTTP.

        Raises:
            BadSetting: a file is missing or says something else.
        """
        roots, certificate, key = self.contents()
        try:
            # Bundles name authorities in comments, in any alphabet; a certificate itself is ASCII.
            context = ssl.create_default_context(cadata=roots.decode("ascii", "ignore") if roots else None)
        except ssl.SSLError as error:
            raise _bad("root certificate", self.root_certificate, "is no PEM certificate") from error
        if certificate and key:
            self._load_own(context)
        return context

    def credentials(self) -> Any:
        """For gRPC.

        Raises:
            BadSetting: a file is missing or says something else.
        """
        import grpc

        self.check()  # gRPC itself says nothing of a garbled file until much later
        roots, certificate, key = self.contents()
        return grpc.ssl_channel_credentials(roots, key, certificate)

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Root certificate, certificate and private key.

        Raises:
            BadSetting: a file is missing, or a certificate came without its key.
        """
        if (self.certificate is None) != (self.private_key is None):
            given, lacking = ("certificate", "private key") if self.certificate else ("private key", "certificate")
            raise BadSetting(
                f"A client's {given} came without its {lacking}",
                "both, or none of them",
                "a client proves who it is by a certificate and its key together",
                f"give the {lacking} too",
            )
        return (
            _read("root certificate", self.root_certificate),
            _read("certificate", self.certificate),
            _read("private key", self.private_key),
        )

    def _load_own(self, context: ssl.SSLContext) -> None:
        try:
            # A pass phrase would be asked for on the terminal; an empty one makes it an error.
            context.load_cert_chain(str(self.certificate), str(self.private_key), password="")
        except ssl.SSLError as error:
            wrong = str(error.reason or error).replace("_", " ").lower()
            raise _bad(
                "certificate", self.certificate, f"does not go with the private key {_name(self.private_key)}: {wrong}"
            ) from error


def told_by_tls(failure: CallFailed, address: Address, tls: Tls, timeout_s: float) -> CallFailed:
    """A failure to connect, with the reason of a server that does not accept this client, which libraries may lose."""
    if not address.secure or failure.is_untrusted:
        return failure
    refusal = _refusal(address, tls, min(timeout_s, _REFUSAL_TIMEOUT_S))
    return failure if refusal is None else CallFailed("UNAVAILABLE", refusal)


def _refusal(address: Address, tls: Tls, timeout_s: float) -> str | None:
    """Why a server does not go on with this client after TLS; None if it does, or for other reasons.

    With TLS 1.3 a server looks at the client's certificate when the client is through with the handshake, and says what
    it thinks of it. gRPC's server just closes the connection, where it would have spoken first.
    """
    context = tls.context()
    context.set_alpn_protocols(["http/1.1" if address.http else "h2"])
    try:
        with (
            socket.create_connection((address.host, address.port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as secured,
        ):
            is_closed = not secured.recv(1)
    except ssl.SSLError as error:
        return str(error)
    except ConnectionError:
        is_closed = True
    except OSError:
        return None
    if not is_closed or address.http:
        return None
    if tls.certificate is None:
        return "certificate required: the server went away after the handshake, and this client has shown none"
    return "certificate not accepted: the server went away when it had seen this client's"


def _read(noun: str, path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _bad(noun, path, f"cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES or b"-----BEGIN " not in content:
        raise _bad(noun, path, "is no PEM file")
    return content


def _name(path: str | Path | None) -> str:
    return printable(path or "of this machine")


def _bad(noun: str, path: str | Path | None, wrong: str) -> BadSetting:
    return BadSetting(
        f"The {noun} {_name(path)} {wrong}",
        "PEM files (-----BEGIN CERTIFICATE-----) that belong together, the key without a pass phrase",
        "without them nobody can tell who is at the other end",
        "check the paths, and `openssl x509 -noout -text -in FILE` for what a certificate says",
    )

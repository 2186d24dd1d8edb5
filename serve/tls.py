"""Encryption of the gRPC front end: whose certificate the server shows, and whose certificates it asks clients for.

Triton encrypts gRPC alone. Wherever it is on, HTTP and metrics listen on this machine's loopback and nowhere else.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from serve.errors import ServeError

_EXIT_USAGE = 2


@dataclass(frozen=True)
class ServerTls:
    """Files in PEM form.

    Attributes:
        certificate: the server's, for the name or address by which clients call it.
        key: the certificate's private key, without a passphrase.
        client_ca: certificates that a client's own must be signed by; None lets in clients without one.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def options(self) -> list[str]:
        """The server's command line for it."""
        options = ["--grpc-use-ssl=true", f"--grpc-server-cert={self.certificate.resolve()}"]
        options.append(f"--grpc-server-key={self.key.resolve()}")
        if self.client_ca is not None:
            options += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={self.client_ca.resolve()}"]
        return options

    def check(self) -> None:
        """Refuse files with which Triton would start and then let nobody in.

        Raises:
            ServeError: with exit code 2; a file that cannot be read, is none of these, or belongs to another.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise _refusal(
                f"{self.certificate} and {self.key} are no certificate with its private key", error
            ) from error
        if self.client_ca is None:
            return
        try:
            context.load_verify_locations(self.client_ca)
        except OSError as error:
            raise _refusal(f"{self.client_ca} holds no certificates to trust", error) from error


def _refusal(seen: str, error: Exception) -> ServeError:
    return ServeError(
        f"{seen} ({error}); wanted PEM files, the key without a passphrase: with others the server starts, but no "
        "client can connect. Make some as docs/tls.md says, or name the right ones.",
        _EXIT_USAGE,
    )

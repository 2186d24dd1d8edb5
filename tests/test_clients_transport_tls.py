"""TLS and mutual TLS by gRPC and HTTP: who is let in, and whether the error tells why not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import pytest
import trustme
from fake_http import serving_http
from fake_triton import serving
from test_clients_transport_endpoints import OUTPUTS, numbered, numbers, voice

from clients.errors import BadSetting, ServerUnavailable
from clients.transport.aio import AsyncConnection
from clients.transport.connection import Connection
from clients.transport.tls import Tls

PAST = datetime.now(timezone.utc) - timedelta(days=2)


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and the files of those that it vouches for."""

    ca: trustme.CA
    folder: Path

    @property
    def root(self) -> Path:
        path = self.folder / "root.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return path

    def issue(self, name: str, *hosts: str, not_after: datetime | None = None) -> tuple[Path, Path]:
        """Certificate and private key."""
        before = None if not_after is None else not_after - timedelta(days=30)
        issued = self.ca.issue_cert(*(hosts or ("client",)), not_before=before, not_after=not_after)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        for number, part in enumerate(issued.cert_chain_pems):
            part.write_to_path(str(certificate), append=number > 0)
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(trustme.CA(organization_name="ours"), tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(trustme.CA(organization_name="others"), tmp_path_factory.mktemp("others"))


@contextmanager
def by_grpc(pair: tuple[Path, Path], wants_client_of: Authority | None) -> Iterator[str]:
    certificate, key = (path.read_bytes() for path in pair)
    root = wants_client_of.root.read_bytes() if wants_client_of else None
    credentials = grpc.ssl_server_credentials([(key, certificate)], root, wants_client_of is not None)
    with serving(voice(), credentials=credentials) as place:
        yield f"grpcs://{place}"


@contextmanager
def by_http(pair: tuple[Path, Path], wants_client_of: Authority | None) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, pair))
    if wants_client_of:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(wants_client_of.root))
    with serving_http(voice(), context) as place:
        yield f"https://{place}"


both = pytest.mark.parametrize("way", [by_grpc, by_http])


def ask(url: str, tls: Tls | None) -> list[float]:
    with Connection(url, tls=tls, timeout_s=10) as connection:
        connection.served("facefilter")
        return numbers(connection.infer_all("facefilter", numbered(3), OUTPUTS))


@both
def test_a_server_that_its_authority_vouches_for_is_trusted(way: object, ours: Authority) -> None:
    with way(ours.issue("server", "127.0.0.1"), None) as url:  # type: ignore[operator]
        assert ask(url, Tls(ours.root)) == [0, 1, 2]


@both
def test_a_bundle_may_name_its_authorities_in_any_alphabet(way: object, ours: Authority, tmp_path: Path) -> None:
    (tmp_path / "bundle.pem").write_bytes("# Főtanúsítvány\n".encode() + ours.root.read_bytes())
    with way(ours.issue("server", "127.0.0.1"), None) as url:  # type: ignore[operator]
        assert ask(url, Tls(tmp_path / "bundle.pem")) == [0, 1, 2]


def test_host_and_port_with_certificates_mean_tls(ours: Authority) -> None:
    with by_grpc(ours.issue("server", "127.0.0.1"), None) as url:
        assert ask(url.removeprefix("grpcs://"), Tls(ours.root)) == [0, 1, 2]


@both
def test_mutual_tls_lets_its_own_clients_in(way: object, ours: Authority) -> None:
    with way(ours.issue("server", "127.0.0.1"), ours) as url:  # type: ignore[operator]
        assert ask(url, Tls(ours.root, *ours.issue("client"))) == [0, 1, 2]


@both
def test_asyncio_speaks_mutual_tls(way: object, ours: Authority) -> None:
    async def work(url: str) -> list[float]:
        async with AsyncConnection(url, tls=Tls(ours.root, *ours.issue("client"))) as connection:
            return numbers(await connection.infer_all("facefilter", numbered(3), OUTPUTS))

    with way(ours.issue("server", "127.0.0.1"), ours) as url:  # type: ignore[operator]
        assert asyncio.run(work(url)) == [0, 1, 2]


@both
def test_a_server_of_another_authority_is_not_trusted(way: object, ours: Authority, others: Authority) -> None:
    with way(others.issue("server", "127.0.0.1"), None) as url:  # type: ignore[operator]
        for tls in (Tls(ours.root), None):
            with pytest.raises(ServerUnavailable, match="do not trust each other") as caught:
                ask(url, tls)
            assert caught.value.why == "nobody vouches for the server's certificate"
            assert "root certificate" in caught.value.remedy


@both
def test_a_servers_expired_certificate_is_told_as_such(way: object, ours: Authority) -> None:
    with (
        way(ours.issue("expired", "127.0.0.1", not_after=PAST), None) as url,  # type: ignore[operator]
        pytest.raises(ServerUnavailable, match="do not trust each other") as caught,
    ):
        ask(url, Tls(ours.root))
    assert caught.value.why == "the server's certificate has expired"


@both
def test_a_certificate_for_another_host_is_told_as_such(way: object, ours: Authority) -> None:
    with (
        way(ours.issue("elsewhere", "triton.example"), None) as url,  # type: ignore[operator]
        pytest.raises(ServerUnavailable, match="do not trust each other") as caught,
    ):
        ask(url, Tls(ours.root))
    assert caught.value.why == "the server's certificate is for another host"


@pytest.mark.parametrize(
    ("way", "client", "why"),
    [
        (by_grpc, "none", "the server wants a certificate of its clients"),
        (by_http, "none", "the server wants a certificate of its clients"),
        (by_grpc, "of another authority", "the server does not accept this client's certificate"),
        (by_http, "of another authority", "the server does not accept this client's certificate"),
        (by_grpc, "expired", "the server does not accept this client's certificate"),  # gRPC's server does not say more
        (by_http, "expired", "this client's certificate has expired"),
    ],
)
def test_mutual_tls_lets_nobody_else_in_and_says_why(
    way: object, client: str, why: str, ours: Authority, others: Authority
) -> None:
    pair: tuple[Path | None, Path | None] = (None, None)
    if client != "none":
        pair = others.issue("stranger") if client == "of another authority" else ours.issue("late", not_after=PAST)
    with (
        way(ours.issue("server", "127.0.0.1"), ours) as url,  # type: ignore[operator]
        pytest.raises(ServerUnavailable, match="do not trust each other") as caught,
    ):
        ask(url, Tls(ours.root, *pair))
    assert caught.value.why == why


def test_asyncio_says_why_mutual_tls_does_not_let_it_in(ours: Authority) -> None:
    async def work(url: str) -> None:
        async with AsyncConnection(url, tls=Tls(ours.root)) as connection:
            await connection.served("facefilter")

    with (
        by_grpc(ours.issue("server", "127.0.0.1"), ours) as url,
        pytest.raises(ServerUnavailable, match="do not trust each other") as caught,
    ):
        asyncio.run(work(url))
    assert caught.value.why == "the server wants a certificate of its clients"


@both
def test_a_server_without_tls_is_told_as_such(way: object, ours: Authority) -> None:
    serve, scheme = (serving, "grpcs") if way is by_grpc else (serving_http, "https")
    with serve(voice()) as place, pytest.raises(ServerUnavailable) as caught:  # type: ignore[operator]
        ask(f"{scheme}://{place}", Tls(ours.root))
    assert caught.value.why == "the server speaks without TLS"


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"root certificate .*absent.pem cannot be read: No such file"):
        Connection("a:1", tls=Tls(tmp_path / "absent.pem"))


def test_a_file_that_is_garbled_is_named(tmp_path: Path, ours: Authority) -> None:
    certificate, key = ours.issue("client")
    garbled = tmp_path / "garbled.pem"
    for content in (b"", b"\x00\xff" * 99, b"-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n"):
        garbled.write_bytes(content)
        with pytest.raises(BadSetting, match=r"root certificate .*garbled.pem"):
            Connection("a:1", tls=Tls(garbled))
        with pytest.raises(BadSetting, match=r"certificate .*garbled.pem"):
            Connection("https://a:1", tls=Tls(ours.root, garbled, key))
        with pytest.raises(BadSetting, match=r"garbled.pem"):
            Connection("a:1", tls=Tls(ours.root, certificate, garbled))


def test_a_key_of_another_certificate_is_refused(ours: Authority) -> None:
    certificate, _ = ours.issue("one")
    _, key = ours.issue("two")
    with pytest.raises(BadSetting, match="key values mismatch"):
        Connection("a:1", tls=Tls(ours.root, certificate, key))


def test_a_certificate_without_its_key_is_refused(ours: Authority) -> None:
    certificate, key = ours.issue("client")
    with pytest.raises(BadSetting, match="certificate came without its private key"):
        Connection("a:1", tls=Tls(ours.root, certificate))
    with pytest.raises(BadSetting, match="private key came without its certificate"):
        Connection("a:1", tls=Tls(ours.root, private_key=key))

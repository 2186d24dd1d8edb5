"""TLS and restricted protocols as the deployment has them, on the embedded server: who is let in, and to what."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from deploy_files import DEPLOY, server_arguments
from toy_repository import add_doubling, add_doubling_twice
from tritonclient.utils import InferenceServerException

import avedge
from clients import Connection, ContractMismatch, ServerUnavailable, Tls
from serve import commands
from serve.errors import ServeError
from serve.launcher import EmbeddedTriton
from serve.tls import ServerTls

TIMEOUT_S = 10.0
# What of the deployment's command line says who may do what; addresses and paths are the test's own.
SHARED_OPTIONS = ("--grpc-restricted-protocol", "--http-restricted-api", "--model-control-mode", "--allow-")

Client = grpcclient.InferenceServerClient


def make_certificates(folder: Path, *names: str, days: int = 365) -> Path:
    environment = os.environ | {"AVEDGE_CERTIFICATE_DAYS": str(days)}
    script = DEPLOY / "certificates.sh"
    subprocess.run([script, folder, *names], env=environment, capture_output=True, check=True)
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    add_doubling(folder)
    add_doubling_twice(folder)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path, certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    arguments = server_arguments(tmp_path_factory.mktemp("arguments"))
    options = [word for word in arguments if word.startswith(SHARED_OPTIONS)]
    assert len(options) == 5
    tls = ServerTls(certificates / "server.pem", certificates / "server.key", certificates / "ca.pem")
    with EmbeddedTriton(repository, stop_timeout_s=0, tls=tls, more_options=options) as running:
        yield running


def client_of(server: EmbeddedTriton, folder: Path, *, trusted: Path | None = None, host: str = "127.0.0.1") -> Client:
    """A client with the certificate of a folder that trusts that folder's authority, or another's."""
    return Client(
        f"{host}:{server.grpc_url.rpartition(':')[2]}",
        ssl=True,
        root_certificates=str((trusted or folder) / "ca.pem"),
        private_key=str(folder / "client.key"),
        certificate_chain=str(folder / "client.pem"),
    )


def ask(client: Client, model: str = "double") -> np.ndarray:
    values = np.arange(4, dtype=np.float32)[None]
    tensor = grpcclient.InferInput("x", values.shape, "FP32")
    tensor.set_data_from_numpy(values)
    with client:
        return client.infer(model, [tensor], client_timeout=TIMEOUT_S).as_numpy("y")


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Status and words with which a call fails."""
    with pytest.raises(InferenceServerException) as refused:
        call()
    return str(refused.value.status()).rsplit(".", 1)[-1], str(refused.value.message())


def test_a_client_with_a_certificate_of_the_authority_is_answered(server: EmbeddedTriton, certificates: Path) -> None:
    for host in ("127.0.0.1", "localhost"):
        answer = ask(client_of(server, certificates, host=host), "quadruple")
        np.testing.assert_array_equal(answer, [[0, 4, 8, 12]])


def test_others_are_refused_before_they_can_ask(server: EmbeddedTriton, certificates: Path, tmp_path: Path) -> None:
    strangers = make_certificates(tmp_path / "strangers")
    expired = tmp_path / "expired"
    shutil.copytree(certificates, expired)
    make_certificates(expired, days=-1)  # by the same authority, valid until yesterday
    roots = str(certificates / "ca.pem")
    clients = {
        "without TLS": Client(server.grpc_url),
        "without a certificate": Client(server.grpc_url, ssl=True, root_certificates=roots),
        "of another authority": client_of(server, strangers, trusted=certificates),
        "expired": client_of(server, expired, trusted=certificates),
    }
    for who, client in clients.items():
        status, words = refusal(lambda client=client: ask(client))  # type: ignore[misc]
        assert status == "UNAVAILABLE", (who, words)


def test_a_client_refuses_a_server_that_it_does_not_trust(
    server: EmbeddedTriton, certificates: Path, tmp_path: Path
) -> None:
    strangers = make_certificates(tmp_path / "strangers")
    assert refusal(lambda: ask(client_of(server, certificates, trusted=strangers)))[0] == "UNAVAILABLE"
    # 127.0.0.2 is this machine, too, but the certificate is for 127.0.0.1 and localhost
    assert refusal(lambda: ask(client_of(server, certificates, host="127.0.0.2")))[0] == "UNAVAILABLE"


def test_restricted_protocols_are_refused_even_to_holders_of_certificates(
    server: EmbeddedTriton, certificates: Path
) -> None:
    with client_of(server, certificates) as client:
        restricted: dict[str, Callable[[], object]] = {
            "index": client.get_model_repository_index,
            "load": lambda: client.load_model("double"),
            "unload": lambda: client.unload_model("double"),
            "system memory": lambda: client.register_system_shared_memory("region", "/region", 8),
            "system memory status": client.get_system_shared_memory_status,
            "cuda memory status": client.get_cuda_shared_memory_status,
            "trace": client.get_trace_settings,
            "trace change": lambda: client.update_trace_settings(settings={"trace_level": ["TENSORS"]}),
            "log": client.get_log_settings,
            "log change": lambda: client.update_log_settings({"log_verbose_level": 9}),
        }
        for what, call in restricted.items():
            status, words = refusal(call)
            assert status == "UNAVAILABLE" and "restricted" in words, (what, words)


def test_our_client_says_that_a_restricted_server_does_not_tell_why(server: EmbeddedTriton, certificates: Path) -> None:
    tls = Tls(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
    with Connection(server.grpc_url, tls=tls) as connection:
        with pytest.raises(ServerUnavailable, match="absent .*is not ready, or not there"):
            connection.served("absent")
        with pytest.raises(ContractMismatch, match="contract_version"):  # the config of a model that is there is told
            connection.served("double")


def test_what_clients_and_measurements_need_is_open(server: EmbeddedTriton, certificates: Path) -> None:
    with client_of(server, certificates) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("double")
        assert client.get_server_metadata().name and client.get_model_metadata("double").inputs
        assert client.get_model_config("double").config.max_batch_size == 8
        assert client.get_inference_statistics("double").model_stats


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/double/load"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/v2/logging"),
    ],
)
def test_http_keeps_the_same_shut(server: EmbeddedTriton, method: str, path: str) -> None:
    request = urllib.request.Request(server.http_url + path, data=b"{}" if method == "POST" else None, method=method)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=TIMEOUT_S)
    assert refused.value.code == 403


def test_the_certificates_are_for_what_they_should_be(tmp_path: Path) -> None:
    folder = make_certificates(tmp_path / "new", "gpu.example", "192.168.1.2", "::1")
    for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
        for asked in ("sslserver", "sslclient"):
            command = ["openssl", "verify", "-CAfile", folder / "ca.pem", "-purpose", asked, folder / f"{name}.pem"]
            done = subprocess.run(command, capture_output=True, check=False)
            assert (done.returncode == 0) == (asked == purpose), (name, asked)
    for key in folder.glob("*.key"):
        assert key.stat().st_mode & 0o077 == 0, "a key is for its owner alone"
    text = subprocess.run(
        ["openssl", "x509", "-in", folder / "server.pem", "-noout", "-ext", "subjectAltName"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in ("DNS:localhost", "DNS:gpu.example", "IP Address:127.0.0.1", "IP Address:192.168.1.2"):
        assert name in text


def test_a_second_run_keeps_the_authority_and_one_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_certificates(tmp_path / "new")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    make_certificates(folder, "other.example")
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(before) == set(after) == {"ca.key", "ca.pem", "server.key", "server.pem", "client.key", "client.pem"}
    assert {name for name in before if before[name] == after[name]} == {"ca.key", "ca.pem"}
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with pytest.raises(subprocess.CalledProcessError):
        make_certificates(folder, "no,such=name,x")
    assert not list((tmp_path / "temporary").iterdir()), "keys are left behind"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == after
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "server.pem", folder / "server.key")


def test_a_first_run_that_fails_leaves_no_half_authority(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        make_certificates(tmp_path / "new", days=0)
    assert not list((tmp_path / "new").iterdir())
    assert (make_certificates(tmp_path / "new") / "server.pem").is_file()


def test_files_that_do_not_belong_together_are_refused_before_the_start(certificates: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", certificates / "server.key", "-out", locked, "-passout", "pass:x"]
    subprocess.run(command, check=True)
    pem, key = certificates / "server.pem", certificates / "server.key"
    for tls in (
        ServerTls(pem, certificates / "client.key"),
        ServerTls(pem, tmp_path / "missing.key"),
        ServerTls(pem, locked),
        ServerTls(tmp_path / "empty.pem", key),
        ServerTls(pem, key, tmp_path / "empty.pem"),
        ServerTls(pem, key, tmp_path / "missing.pem"),
    ):
        with pytest.raises(ServeError, match="wanted PEM files") as refused:
            tls.check()
        assert refused.value.exit_code == 2


def test_the_deployments_options_for_tls_are_the_launchers(certificates: Path, tmp_path: Path) -> None:
    tls = ServerTls(certificates / "server.pem", certificates / "server.key", certificates / "ca.pem")
    ours = {option.split("=")[0] for option in tls.options()}
    deployed = dict(word.split("=", 1) for word in server_arguments(tmp_path) if "=" in word)
    assert ours <= set(deployed)
    assert deployed["--grpc-use-ssl"] == deployed["--grpc-use-ssl-mutual"] == "true"


def test_http_and_metrics_stay_on_loopback_wherever_grpc_listens(repository: Path, certificates: Path) -> None:
    tls = ServerTls(certificates / "server.pem", certificates / "server.key")
    with EmbeddedTriton(repository, host="127.0.0.2", stop_timeout_s=0, tls=tls) as elsewhere:
        assert elsewhere.grpc_url.startswith("127.0.0.2:")
        for url in (elsewhere.http_url + "/v2/health/ready", elsewhere.metrics_url):
            assert url.startswith("http://127.0.0.1:")
            assert urllib.request.urlopen(url, timeout=TIMEOUT_S).status == 200
            with pytest.raises(urllib.error.URLError):
                urllib.request.urlopen(url.replace("127.0.0.1", "127.0.0.2"), timeout=TIMEOUT_S)


@pytest.mark.parametrize("words", [["--tls-cert", "a.pem"], ["--tls-key", "a.key"], ["--tls-ca", "ca.pem"]])
def test_a_part_of_the_servers_options_for_tls_is_refused(words: list[str]) -> None:
    with pytest.raises(ServeError, match="wanted at least the first two") as refused:
        commands.run(avedge.build_parser("serve").parse_args(["serve", *words]))
    assert refused.value.exit_code == 2

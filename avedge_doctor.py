"""What is installed, what can run here, and whether the server answers as the trained networks do.

  avedge doctor                                                  everything, with the server on this machine
  avedge doctor --url edge:8001 --json                           another machine's server, as one JSON object
  avedge doctor --url edge:8001 --repository model_repository    with the repository that it serves at hand

A drawn face, picture and sound go through the server, and its answers are held against torch's. These belong to the
weights that were exported: they stand in the repository. Without the repository of a server elsewhere, they are those
of the demonstration's weights; of other weights it can only be said that they answer.

Exit codes: 0 when the server answers and agrees; 5 when it does not answer or is not ready; 6 when it serves something
else than these clients talk to, or answers wrongly; 7 when it is too slow. What is missing on this machine is told and
changes nothing, because not every stage runs everywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.commands.options import add_server_arguments, server_of
from clients.errors import ClientError, ContractMismatch, printable

if TYPE_CHECKING:
    from clients import Connection
    from clients.contract import ServedModel
    from clients.transport.tls import Tls
    from export.golden import Golden

SCHEMA_VERSION = 1
EXIT_OK = 0
REPOSITORY = Path("model_repository")
SAFE_TRITON = "2.73"  # of the container 26.09
_TIMEOUT_S = 10.0
_MARKS = {True: "ok", False: "--", None: "??"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `ok` is None where nothing could be said."""

    name: str
    ok: bool | None
    detail: str
    exit_code: int = EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge doctor`."""
    parser.add_argument(
        "--repository",
        type=Path,
        metavar="DIR",
        help=f"model repository of the server; where the server is this machine, default: {REPOSITORY}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_server_arguments(parser, timeout_s=_TIMEOUT_S)


def run(args: argparse.Namespace) -> int:
    """Look at everything; the exit code is that of the first thing that is wrong with the server."""
    findings = []
    for finding in (*_machine(args.repository or REPOSITORY), *_server(args)):
        findings.append(finding)
        if not args.json:  # as they come: a server that is away takes its time to say so
            sys.stdout.write(f"{_MARKS[finding.ok]:3} {finding.name:34} {_indented(finding.detail)}\n")
            sys.stdout.flush()
    code = next((finding.exit_code for finding in findings if finding.exit_code), EXIT_OK)
    if args.json:
        checks = [{key: value for key, value in asdict(finding).items() if key != "exit_code"} for finding in findings]
        told = {"schema_version": SCHEMA_VERSION, "checks": checks, "exit_code": code}
        sys.stdout.write(json.dumps(told) + "\n")
    return code


def _indented(detail: str) -> str:
    """Long words under their own column; a server may say anything, but not to the terminal."""
    return ("\n" + " " * 39).join(map(printable, detail.split("\n")))


def _machine(repository: Path) -> Iterator[Finding]:
    """Packages, what serves here, media, memory, GPU, artefacts and the load generator."""
    from serve import machine_checks
    from serve.checks import EMBEDDED_TARGETS, environment_report

    found = machine_checks.gpus()
    for check in (
        *machine_checks.package_checks(),
        *environment_report(),
        machine_checks.media_check(),
        machine_checks.shared_memory_check(),
        machine_checks.gpu_check(found),
        machine_checks.engine_check(repository, found),
    ):
        yield Finding(check.name, check.ok, check.detail)
    for target in EMBEDDED_TARGETS:
        yield _tried(f"artefacts of {target}", partial(_artefacts, repository, target))
    yield _tried("perf_analyzer", _analyzer)


def _artefacts(repository: Path, target: str) -> str:
    from serve.checks import check_repository

    return f"{len(check_repository(repository, target))} models"


def _analyzer() -> str:
    from perf.analyzer import find_analyzer

    with tempfile.TemporaryDirectory() as scratch:
        return find_analyzer(Path(scratch)).version


def _tried(name: str, check: Callable[[], str]) -> Finding:
    """The check's answer, or its error in words."""
    try:
        return Finding(name, True, check())
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        return Finding(name, False, str(error))


def _server(args: argparse.Namespace) -> Iterator[Finding]:
    """Every ensemble: whether it is what the clients talk to, and answers as torch does."""
    from clients import Connection, CrowdCounter, SpeechSeparator

    given = server_of(args)
    yield from _releases(args.url, given["tls"], args.timeout)
    repository = args.repository or (REPOSITORY if _is_here(args.url) else None)
    asked: tuple[tuple[str, type[Any], dict[str, Any]], ...] = (
        ("separation", SpeechSeparator, {}),
        ("counting by picture and sound", CrowdCounter, {}),
        ("counting by the picture", CrowdCounter, {"with_sound": False}),
    )
    told: set[str] = set()
    for name, kind, options in asked:
        try:
            with kind(**given) as client, Connection(**given) as connection:
                served = client.check(**options)
                yield _golden(name, connection, served, client.release(served), repository)
        except ClientError as error:
            detail = "the same" if str(error) in told else str(error)
            told.add(str(error))
            yield Finding(name, False, detail, error.exit_code)


def _releases(url: str, tls: Tls | None, timeout_s: float) -> Iterator[Finding]:
    """Which Triton answers at each address, and whether that release may be reached from other machines."""
    from tritonclient.utils import InferenceServerException

    from clients.transport.address import addresses_of
    from clients.transport.grpc_wire import credentials_for, open_client
    from serve.machine_checks import is_older

    for address in addresses_of(url, secure=tls is not None):
        if address.http:  # its answers are checked below all the same
            continue
        with closing(open_client(address, credentials_for(address, tls))) as client:
            try:
                version = str(client.get_server_metadata(client_timeout=timeout_s).version)
            except InferenceServerException:
                continue  # told below, with what to do
        old = is_older(version, SAFE_TRITON)
        note = f"; before {SAFE_TRITON} it has known faults, so nobody but this machine should reach it" if old else ""
        yield Finding(f"Triton at {address}", address.is_loopback or not old, f"{version}{note}")


def _is_here(url: str) -> bool:
    """Whether all of the server's addresses are this machine."""
    from clients.transport.address import addresses_of

    return all(address.is_loopback for address in addresses_of(url))


def _golden(
    name: str,
    connection: Connection,
    served: ServedModel,
    versions: Mapping[str, tuple[str, ...]],
    repository: Path | None,
) -> Finding:
    """The golden input through the server, held against what torch said to it."""
    from export import golden

    ensemble, began = served.name, time.monotonic()
    outputs = [tensor.name for tensor in served.outputs]
    answer = connection.infer(ensemble, golden.inputs_of(ensemble), outputs)
    took = f"{time.monotonic() - began:.2f} s"
    newest = ", ".join(f"{model} {'/'.join(of_it)}" for model, of_it in versions.items() if model != ensemble)
    seen = f"answered in {took}; versions: {newest or 'kept to itself'}"
    wanted, precision = _wanted(ensemble, versions, repository)
    if wanted is None:
        wanted, of_release = golden.shipped(ensemble), False
    else:
        of_release = True
    compared = golden.compare(golden.figures_of(ensemble, answer), wanted.figures)
    if compared.holds(precision):
        whose = "this release's weights" if of_release else "the demonstration's weights"
        return Finding(name, True, f"as torch does with {whose}, within {compared.share:.1e}; {seen}")
    if of_release:
        return Finding(
            name,
            False,
            f"wrong answer: {compared.sentence}, allowed are {golden.TOLERANCES[precision]:g} for {precision}; {seen}",
            ContractMismatch.exit_code,
        )
    return Finding(name, None, f"{seen}; not the demonstration's weights ({compared.sentence}), so nothing more can be "
                   "said: give the --repository that it serves")  # fmt: skip


def _wanted(
    ensemble: str, versions: Mapping[str, tuple[str, ...]], repository: Path | None
) -> tuple[Golden | None, str]:
    """The golden answer of the very release that is served, and its precision, where the repository has it."""
    from export import golden

    holder = golden.HOLDERS[ensemble]
    served = versions.get(holder, ())
    if repository is None or len(served) != 1:
        return None, "int8"
    try:
        manifest = json.loads((repository / holder / served[0] / "manifest.json").read_text(encoding="utf-8"))
        return golden.of_manifest(manifest, ensemble), str(manifest["precision"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, "int8"

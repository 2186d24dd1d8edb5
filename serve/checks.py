"""Refusals before the start: an environment or a repository that would give wrong answers, or none.

Each check raises a `ServeError`; `environment_report` asks all those about the environment and collects the answers.
"""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from serve.engine_checks import PLAN_FILE, check_engine
from serve.errors import EXIT_MISMATCH, ServeError
from serve.release_checks import at_rest, check_one_release
from serve.repository import ServedModel, read_repository
from serve.runtime import DISTRIBUTION, PYTHON_VERSION, find_wheel, shared_python_folder

# Target of `--model-config-name`, and the library that its models run on.
EMBEDDED_TARGETS = {"onnxruntime": "onnxruntime", "torchscript": "torch"}
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Check:
    """Answer to one question about this machine."""

    name: str
    ok: bool
    detail: str


def check_wheel() -> str:
    """The Triton that pip installs is there, in the version that this launcher knows."""
    wheel = find_wheel()
    missing = [path for path in (wheel.tritonserver, wheel.libraries, wheel.python_backend) if not path.exists()]
    if missing:
        raise ServeError(
            f"{DISTRIBUTION} is installed without {missing[0]}; wanted the whole wheel, whose server is started. "
            f"Install it anew: pip install --force-reinstall {DISTRIBUTION}."
        )
    return str(wheel.tritonserver)


def check_stub() -> str:
    """The wheel has a stub, the process that hosts a model, for this Python."""
    wheel = find_wheel()
    if not wheel.stub.is_file():
        there = ", ".join(sorted(path.name for path in wheel.stubs.glob("3.*")))
        raise ServeError(
            f"This is Python {PYTHON_VERSION}; wanted one of {there}, for which {DISTRIBUTION} has a process that "
            "hosts models. Make the virtual environment with one of these."
        )
    return f"for Python {PYTHON_VERSION}"


def check_shared_python() -> str:
    """This Python has the shared library that the stub loads."""
    folder = shared_python_folder()
    if folder is None:
        raise ServeError(
            f"The Python at {sys.base_prefix} has no libpython{PYTHON_VERSION}.so.1.0; wanted a Python built with its "
            "shared library, which Triton's model processes load. Use the system's Python with its libpython package, "
            "or build one with --enable-shared (pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared)."
        )
    return str(folder)


def check_numpy(version: str | None = None) -> str:
    """Numpy is older than 2: under numpy 2 this server's outputs are empty, without an error.

    Args:
        version: numpy's version; that of this environment when None.
    """
    seen = version or metadata.version("numpy")
    if int(seen.split(".")[0]) >= 2:
        raise ServeError(
            f"numpy {seen} is installed; wanted numpy below 2, because the embedded server's Python backend was built "
            "for numpy 1 and returns empty outputs on numpy 2 without any error. Install it: pip install 'numpy<2'."
        )
    return seen


def check_library(target: str) -> str:
    """The library that the target's models run on is installed."""
    library = EMBEDDED_TARGETS[target]
    if util.find_spec(library) is None:
        raise ServeError(
            f"{library} is not installed; wanted for the target {target}, whose models run on it. "
            f"Install it (pip install {library}), or serve another target."
        )
    return metadata.version(library)


_ENVIRONMENT: tuple[tuple[str, Callable[[], str]], ...] = (
    ("embedded Triton", check_wheel),
    ("Triton's host for this Python", check_stub),
    ("shared library of this Python", check_shared_python),
    ("numpy below 2", check_numpy),
)


def check_environment(target: str) -> None:
    """Refuse an environment that would give wrong answers, or none.

    Raises:
        ServeError: the first check that fails.
    """
    for _, check in _ENVIRONMENT:
        check()
    check_library(target)


def environment_report() -> list[Check]:
    """Every check of the environment with its answer; nothing is raised."""
    targets = [(f"target {target}", lambda target=target: check_library(target)) for target in EMBEDDED_TARGETS]
    return [_answered(name, check) for name, check in (*_ENVIRONMENT, *targets)]


def _answered(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except ServeError as error:
        return Check(name, False, str(error))


def check_repository(repository: Path, target: str) -> list[ServedModel]:
    """Refuse a repository whose artefacts are missing, damaged, of several releases, or not of its configs' contract.

    Returns:
        Every model, in the order of names.

    Raises:
        ServeError: with exit code 6, naming all models concerned.
    """
    with at_rest(repository):
        models = read_repository(repository, target)
        _check_present(models, repository, target)
        check_one_release(models, repository)
        _check_one_contract(models, repository)
        for model in models:
            if not model.is_ensemble:
                for version in model.versions:
                    _check_version(model, version)
    return models


def _check_present(models: Sequence[ServedModel], repository: Path, target: str) -> None:
    """Every model has a version, and every version its file."""
    missing = [model.name for model in models if not model.versions or any(_missing_files(model))]
    if missing:
        raise ServeError(
            f"{repository} has no {target} files for {', '.join(missing)}; wanted one for every model, because an "
            "ensemble answers only when all its models are there. Make them: avedge export.",
            EXIT_MISMATCH,
        )


def _missing_files(model: ServedModel) -> list[Path]:
    folders = [model.folder / str(version) for version in model.versions]
    files = folders if model.is_ensemble else [folder / model.config.default_model_filename for folder in folders]
    return [path for path in files if not path.exists()]


def _check_one_contract(models: Sequence[ServedModel], repository: Path) -> None:
    """All configs were generated from the same contract."""
    digests = {model.name: model.contract_digest for model in models}
    if len(set(digests.values())) != 1 or None in digests.values():
        listed = ", ".join(f"{name} {digest or 'none'}" for name, digest in digests.items())
        raise ServeError(
            f"The configs in {repository} come from different contracts ({listed}); wanted one contract, because "
            "models of two contracts misread each other's tensors. Make them again: avedge export.",
            EXIT_MISMATCH,
        )


def _check_version(model: ServedModel, version: int) -> None:
    """A version's manifest names the config's contract and the digest of the very file that is there."""
    folder = model.folder / str(version)
    manifest = _read_manifest(folder / MANIFEST)
    if manifest.get("contract_digest") != model.contract_digest:
        raise ServeError(
            f"{folder} was exported for contract {manifest.get('contract_digest')}, its config says "
            f"{model.contract_digest}; wanted the same, because the tensors may differ in shape or meaning. "
            "Export again: avedge export.",
            EXIT_MISMATCH,
        )
    if (exported := manifest.get("model", model.name)) != model.name:
        raise ServeError(
            f"{folder} is a version of {exported}; wanted one of {model.name}, whose place it takes. "
            "It was moved by hand: move it back, or export again: avedge export.",
            EXIT_MISMATCH,
        )
    name = model.config.default_model_filename
    wanted = _digest_in(manifest, name)
    seen = _sha256(folder / name)
    if seen != wanted:
        raise ServeError(
            f"{folder / name} has the digest {seen[:12]}…, its manifest says {(wanted or 'nothing')[:12]}…; wanted "
            "the file that export proved equal to its network, this one is damaged or was put there by hand. "
            "Export again: avedge export.",
            EXIT_MISMATCH,
        )
    if name == PLAN_FILE:
        check_engine(folder, manifest)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError(f"a {type(manifest).__name__} instead of an object")
    except (OSError, ValueError) as error:
        raise ServeError(
            f"{path} cannot be read ({error}); wanted the manifest that export writes beside every file, without it "
            "the file's origin is unknown. Export again: avedge export.",
            EXIT_MISMATCH,
        ) from error
    return manifest


def _digest_in(manifest: dict[str, Any], name: str) -> str | None:
    """Digest of a file as the manifest has it; None where it has none."""
    try:
        return str(manifest["artefacts"][name]["sha256"])
    except (KeyError, TypeError):
        return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_port(host: str, port: int, purpose: str) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        ServeError: it is in use, or not this machine's to give.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server itself will: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"Port {port} on {host} cannot be had for {purpose} ({error.strerror}); wanted a free one, else "
                "clients would talk to whatever listens there. Stop the other program, or choose another port."
            ) from error

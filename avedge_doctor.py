"""What is installed, which targets can run here, and whether the server answers and agrees with the clients.

avedge doctor
avedge doctor --url 127.0.0.1:8001 --json
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from clients.errors import ClientError

PACKAGES = (
    "numpy", "tritonclient", "nvidia-pytriton", "onnxruntime", "torch", "onnx", "tensorrt", "tensorrt-rtx",
    "espeakng-loader",
)  # fmt: skip
EXIT_OK = 0


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge doctor`."""
    parser.add_argument("--url", default="127.0.0.1:8001", help="gRPC endpoint of the server (%(default)s)")
    parser.add_argument("--timeout", type=float, default=10.0, dest="timeout_s", help="seconds for each call")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="Triton model repository")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Look at everything; the exit code is that of the server's checks, 0 when it answers and agrees."""
    machine = [*_installed(), *_embedded(), *_targets(arguments.repository), _analyzer()]
    server, code = _server(arguments.url, arguments.timeout_s)
    findings = [*machine, *server]
    if arguments.json:
        sys.stdout.write(json.dumps({"checks": [asdict(finding) for finding in findings], "exit_code": code}) + "\n")
    else:
        for finding in findings:
            sys.stdout.write(f"{'ok' if finding.ok else '--':3} {finding.name:34} {_indented(finding.detail)}\n")
    return code


def _indented(detail: str) -> str:
    """Long words under their own column."""
    return detail.replace("\n", "\n" + " " * 39)


def _installed() -> list[Finding]:
    """Versions of what the stages need; an absent one is no fault where its stage is not used."""
    found = [Finding("Python", sys.version_info >= (3, 10), platform.python_version())]
    for package in PACKAGES:
        try:
            found.append(Finding(package, True, metadata.version(package)))
        except metadata.PackageNotFoundError:
            found.append(Finding(package, False, "not installed"))
    return found


def _embedded() -> list[Finding]:
    from serve.checks import environment_report

    return [Finding(check.name, check.ok, check.detail) for check in environment_report()]


def _targets(repository: Path) -> list[Finding]:
    """Whether each target's artefacts are there and whole, and a GPU for the one that needs it."""
    from serve.checks import EMBEDDED_TARGETS, check_repository

    def whole(target: str) -> Finding:
        return _tried(f"artefacts of {target}", lambda: f"{len(check_repository(repository, target))} models")

    found = [whole(target) for target in EMBEDDED_TARGETS]
    gpu = shutil.which("nvidia-smi") is not None
    detail = (
        "an NVIDIA driver is here" if gpu else "no NVIDIA driver here; engines are built and served on a GPU machine"
    )
    return [*found, Finding("target tensorrt", gpu, detail)]


def _analyzer() -> Finding:
    from perf.analyzer import find_analyzer

    with tempfile.TemporaryDirectory() as scratch:
        return _tried("perf_analyzer", lambda: find_analyzer(Path(scratch)).version)


def _server(url: str, timeout_s: float) -> tuple[list[Finding], int]:
    """Ask the server one small question of each kind, as the clients would."""
    checks: tuple[tuple[str, Callable[[str, float], str]], ...] = (
        ("separation through the server", _separate),
        ("counting through the server", _count),
    )
    found, code = [], EXIT_OK
    for name, check in checks:
        try:
            found.append(Finding(name, True, check(url, timeout_s)))
        except ClientError as error:
            same = any(str(error) == earlier.detail for earlier in found)
            found.append(Finding(name, False, "the same" if same else str(error)))
            code = code or error.exit_code
    return found, code


def _separate(url: str, timeout_s: float) -> str:
    """Two seconds of noise and a grey face: the answer must be finite and as long."""
    import numpy as np

    from clients import SpeechSeparator

    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    grey = np.full((224, 224, 3), 110, np.uint8)
    with SpeechSeparator(url, timeout_s=timeout_s) as separator:
        answer = separator.separate(noise, grey, sample_rate_hz=16_000, face_crop=True)
    return f"answered {len(answer.speech)} samples at {answer.sample_rate_hz} Hz"


def _count(url: str, timeout_s: float) -> str:
    """A grey picture, with silence: both ensembles must answer."""
    import numpy as np

    from clients import CrowdCounter

    grey = np.full((576, 1024, 3), 128, np.uint8)
    with CrowdCounter(url, timeout_s=timeout_s) as counter:
        seen = counter.count(grey)
    return f"answered {seen.count:.1f} people on a grey picture"


def _tried(name: str, check: Callable[[], str]) -> Finding:
    """The check's answer, or its error in words."""
    try:
        return Finding(name, True, check())
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        return Finding(name, False, str(error))

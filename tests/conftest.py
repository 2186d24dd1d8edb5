"""What every test file may use."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from serve.launcher import EmbeddedTriton

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # where a test loads ONNX Runtime itself
# A shell starts background jobs deaf to Ctrl-C, and processes of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The files with the longest tests, longest first: begun last, they would leave the other process without work.
LONGEST = (
    "test_readme.py",
    "test_perf_peers.py",
    "test_own_weights.py",
    "test_web_page.py",
    "test_perf_limit.py",
    "test_publish.py",
    "test_voxceleb2_commands.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    turns = {name: turn for turn, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turns.get(item.path.name, len(turns)))


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    """Tiny sizes run faster on one thread, and several test processes may share the machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Give SIGTERM and SIGINT back: a command or a training run within a test takes them over."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """Give the levels of our loggers back: a command within a test sets them."""
    from avedge import OUR_PACKAGES

    loggers = [logging.getLogger(package) for package in OUR_PACKAGES]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and photographs beside the project, where there are any."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real recordings and photographs at ../shared/data")
    return folder


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model repository with every committed weight exported; made once, and anew when the code has changed."""
    command = [sys.executable, "-m", "avedge", "export", "--repository", "model_repository", "--if-needed"]
    with (tmp_path_factory.getbasetemp().parent / "export.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes one exports, the others wait for it
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ROOT / "model_repository"


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's samples."""
    from train.synthetic.samples import make_samples

    folder = tmp_path_factory.mktemp("samples")
    make_samples(folder)
    return folder


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[EmbeddedTriton]:
    """The embedded Triton with everything that is exported, on free ports."""
    from serve.launcher import EmbeddedTriton

    with EmbeddedTriton(repository) as started:
        yield started


@pytest.fixture(scope="session")
def made_talkers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic talkers in each split, none of whom any weights were trained on."""
    from train.synthetic.talkers import synthesize_talkers

    folder = tmp_path_factory.mktemp("talkers") / "made"
    synthesize_talkers(folder, 4, seed=2026)
    return folder

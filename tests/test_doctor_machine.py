"""What `avedge doctor` says of this machine: packages, FFmpeg, shared memory, GPU, engines."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from serve import machine_checks

Usage = namedtuple("Usage", "total used free")


def versions(monkeypatch: pytest.MonkeyPatch, **found: str) -> dict[str, machine_checks.Check]:
    def version(name: str) -> str:
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(machine_checks.metadata, "version", version)
    return {check.name: check for check in machine_checks.package_checks()}


def test_an_old_package_is_told_with_the_fault_of_its_release(monkeypatch: pytest.MonkeyPatch) -> None:
    found = versions(monkeypatch, torch="2.9.1", onnx="1.22.0", pillow="12.2.0")
    assert not found["torch"].ok and "2.9.1; wanted 2.11 or later" in found["torch"].detail
    assert not found["pillow"].ok and found["onnx"].ok
    assert not found["gradio"].ok and found["gradio"].detail == "not installed"


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("2.9.1", "2.11", True),
        ("2.13.0+cpu", "2.11", False),
        ("14", "14", False),
        ("14.0.0", "14", False),
        ("13.9", "14", True),
        ("12", "12.3", True),
        ("1.26.4", "1.26", False),
    ],
)
def test_releases_are_compared_by_their_numbers(version: str, than: str, older: bool) -> None:
    assert machine_checks.is_older(version, than) == older


@pytest.mark.parametrize(("version", "ok"), [("2.6.2", False), ("2.6.3", False), ("2.6.6", True)])
def test_a_malicious_release_is_told(monkeypatch: pytest.MonkeyPatch, version: str, ok: bool) -> None:
    check = versions(monkeypatch, lightning=version)["lightning"]
    assert check.ok == ok and ("malicious" in check.detail) != ok


def test_what_is_installed_here_is_new_enough() -> None:
    assert [check for check in machine_checks.package_checks() if "wanted" in check.detail] == []
    assert machine_checks.media_check().ok


@pytest.mark.parametrize(("free_mb", "ok"), [(64, False), (255, False), (256, True), (8_000, True)])
def test_little_shared_memory_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_mb: int, ok: bool) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, free_mb << 20))
    check = machine_checks.shared_memory_check(tmp_path)
    assert check.ok == ok and f"{free_mb} MB free" in check.detail and ("--shm-size" in check.detail) != ok
    assert not machine_checks.shared_memory_check(tmp_path / "none").ok


def test_gpus_are_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 580.12, 23034 MiB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine_checks.gpus() == ["NVIDIA L4, 580.12, 23034 MiB"]
    program.write_text("#!/bin/sh\nexit 9\n")  # a driver that does not fit its module
    assert machine_checks.gpus() == [] and not machine_checks.gpu_check([]).ok


def engines(tmp_path: Path, **gpus: str) -> Path:
    for model, gpu in gpus.items():
        for version, name in (("2", "old"), ("10", gpu)):
            folder = tmp_path / model / version
            folder.mkdir(parents=True)
            facts = {"library_version": "10.16.1", "gpu": {"name": name}}
            (folder / "model.plan.json").write_text(json.dumps(facts))
    return tmp_path


def test_engines_must_be_for_the_gpu_that_is_here(tmp_path: Path) -> None:
    repository = engines(tmp_path, crowd_v="NVIDIA L4", crowd_av="NVIDIA L4")
    here = ["NVIDIA L4, 580.12, 23034 MiB"]
    shutil.copytree(repository / "crowd_v" / "2", repository / "crowd_v" / "2.kept")  # no version's name
    check = machine_checks.engine_check(repository, here)
    assert check.ok and check.detail == "2 by TensorRT 10.16.1 for NVIDIA L4"
    assert "not in this machine" in machine_checks.engine_check(repository, ["NVIDIA L40, 580, 1 MiB"]).detail
    (repository / "crowd_v/10/model.plan.json").write_text(
        json.dumps({"library_version": "11.0.0", "gpu": {"name": "NVIDIA L4"}})
    )
    assert "wanted one release" in machine_checks.engine_check(repository, here).detail
    assert "none in" in machine_checks.engine_check(tmp_path / "none", here).detail

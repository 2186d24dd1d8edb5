"""The house rule: who may import whom."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

PACKAGES = ("train", "export", "serve", "clients", "perf")
MAY_IMPORT = {
    "train": set(),
    "export": {"train"},
    "serve": set(),
    "clients": set(),
    "perf": {"clients", "serve", "train"},
}


def imported_packages(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: imports are absolute here"
            names.add(node.module.split(".")[0])
    return names & {*PACKAGES, "avedge"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_whom_it_may(root: Path, package: str) -> None:
    files = list((root / package).rglob("*.py"))
    assert files
    for file in files:
        extra = imported_packages(file) - MAY_IMPORT[package] - {package}
        assert not extra, f"{file.relative_to(root)} imports {', '.join(sorted(extra))}"


def test_the_command_line_imports_nothing_before_a_verb_is_chosen(root: Path) -> None:
    top = ast.parse((root / "avedge.py").read_text()).body
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", ["clients", "perf.commands", "serve.commands", "export.contract", "export.configs"])
def test_light_modules_load_no_torch(root: Path, module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_no_file_bears_the_name_of_a_library_that_it_uses(root: Path) -> None:
    for package in PACKAGES:
        for file in (root / package).rglob("*.py"):
            used = {
                alias.name.split(".")[0]
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.Import)
                for alias in node.names
            }
            assert file.stem not in used, file


def test_a_client_install_brings_no_torch() -> None:
    required = metadata.requires("avedge") or []
    base = {re.split(r"[^A-Za-z0-9-]", line)[0] for line in required if "extra ==" not in line}
    assert "tritonclient" in base
    assert not base & {"torch", "lightning", "onnx", "onnxruntime", "nvidia-pytriton"}

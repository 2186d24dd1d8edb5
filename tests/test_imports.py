"""The house rule: who may import whom."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from fake_triton import FakeTriton, crowd_of, same_voice, serving
from packaging.requirements import Requirement

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


HEAVY = {"torch", "lightning", "onnx", "onnxruntime", "nvidia-pytriton", "opencv-python-headless", "av", "matplotlib"}


def base_packages() -> dict[str, metadata.Distribution]:
    """What `pip install` of this project brings without extras, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [("avedge", frozenset({""}))]
    while waiting:
        name, extras = waiting.pop()
        found[name] = metadata.distribution(name)
        for needed in map(Requirement, found[name].requires or ()):
            asked = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
            if asked and needed.name not in found:
                waiting.append((needed.name, frozenset({"", *needed.extras})))
    del found["avedge"]
    return found


def test_a_client_install_brings_no_torch_and_nothing_else_that_is_heavy() -> None:
    packages = base_packages()
    assert {"numpy", "tritonclient", "grpcio", "soundfile"} <= set(packages)
    assert not set(packages) & HEAVY


def test_a_client_install_is_small() -> None:
    """As packed; perf_analyzer, which tritonclient's wheel lays beside Python's packages, is not counted."""
    sizes = {
        name: sum(file.size or 0 for file in package.files or () if file.parts[0] != "..")
        for name, package in base_packages().items()
    }
    assert 60e6 < sum(sizes.values()) < 110e6, sizes


WITHOUT_EXTRAS = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"cv2", "av", "matplotlib", "gradio", "torch", "PIL", "scipy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import numpy as np
from clients import CrowdCounter, SpeechSeparator
from clients.extras import MissingExtra

url, recording, photo = sys.argv[1:]
noise = np.random.default_rng(0)
face, picture = (noise.integers(0, 255, (*size, 3), np.uint8) for size in ((224, 224), (576, 1024)))
with SpeechSeparator(url) as separator, CrowdCounter(url) as counter:
    assert len(separator.separate(recording, face, face_crop=True).speech) == 16_000
    assert counter.count(picture, recording).count > 0
    for work, extra in [
        (lambda: counter.count(photo), "media"),
        (lambda: counter.count(picture[::2, ::2]), "media"),
        (lambda: separator.separate(recording, face), "media"),
        (lambda: counter.count(picture).plot(photo), "plots"),
    ]:
        try:
            work()
        except MissingExtra as error:
            assert error.remedy == f"pip install 'avedge[{extra}]'", error
        else:
            raise AssertionError(extra)
"""


def test_a_client_without_extras_separates_and_counts_and_names_the_extra_that_the_rest_needs(
    root: Path, tmp_path: Path
) -> None:
    recording, photo = tmp_path / "talk.wav", tmp_path / "square.png"
    soundfile.write(recording, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    cv2.imwrite(str(photo), np.zeros((300, 400, 3), np.uint8))
    crowd = crowd_of(np.full((72, 128), 0.01))
    fake = FakeTriton({"facefilter": same_voice, "crowd_counting": crowd, "crowd_counting_vision": crowd})
    with serving(fake) as url:
        words = [sys.executable, "-c", WITHOUT_EXTRAS, url, str(recording), str(photo)]
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr

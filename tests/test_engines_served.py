"""An engine whose manifest does not vouch for it is refused before any server starts."""

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve import checks, commands
from serve.engine_checks import check_release
from serve.errors import EXIT_MISMATCH, ServeError

DIGEST = "0123456789abcdef"
GRAPH = b"a graph"
IMAGE = "nvcr.io/nvidia/tritonserver:26.09-py3"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def add_engine(repository: Path, name: str, **changed: Any) -> Path:
    """One model with an engine, as `avedge build` publishes it; returns the engine's manifest."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    plan = f"engine of {name}".encode()
    facts = {
        "library": "tensorrt",
        "library_version": "11.4.0.106",
        "onnx_sha256": sha(GRAPH),
        "plan_sha256": sha(plan),
        "contract_digest": DIGEST,
        "flags": ["STRONGLY_TYPED"],
        "parity": {"1 x 31840": {"y": 1e-4}},
        **changed,
    }
    files = {"model.onnx": GRAPH, "model.plan": plan, "model.plan.json": json.dumps(facts).encode()}
    for file, content in files.items():
        (folder / file).write_bytes(content)
    artefacts = {file: {"sha256": sha(content)} for file, content in files.items()}
    manifest = {"contract_digest": DIGEST, "model": name, "artefacts": artefacts}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder.parent / "config.pbtxt").write_text(
        f'name: "{name}" backend: "tensorrt" platform: "tensorrt_plan" default_model_filename: "model.plan" '
        'input { name: "x" data_type: TYPE_FP32 dims: 4 } output { name: "y" data_type: TYPE_FP32 dims: 4 } '
        "max_batch_size: 8 instance_group { count: 1 kind: KIND_GPU } "
        f'parameters {{ key: "contract_digest" value {{ string_value: "{DIGEST}" }} }}'
    )
    return folder / "model.plan.json"


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(ServeError) as refused:
        act()
    assert refused.value.exit_code == EXIT_MISMATCH
    return str(refused.value)


def test_engines_that_their_manifests_vouch_for_pass(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_engine(tmp_path, name)
    models = checks.check_repository(tmp_path, "tensorrt")
    assert check_release(models, IMAGE) == "11.4.0.106"


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another graph": ({"onnx_sha256": sha(b"other")}, r"names the graph \(model.onnx\) .*it is of another network"),
    "another engine": ({"plan_sha256": sha(b"other")}, r"names the engine \(model.plan\)"),
    "another contract": ({"contract_digest": "feedfeed"}, "names the contract feedfeed; wanted .*" + DIGEST),
    "no graph named": ({"onnx_sha256": None}, r"names the graph \(model.onnx\) none"),
    "built for desktops": ({"library": "tensorrt_rtx"}, "was built by tensorrt_rtx; wanted tensorrt"),
    "never proven": ({"parity": None, "parity_missing": "no GPU"}, r"never run against its graph \(no GPU\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_engine_at_odds_with_its_version_is_refused(tmp_path: Path, fault: str) -> None:
    import re

    changed, message = FAULTS[fault]
    add_engine(tmp_path, "one", **changed)
    said = refusal(lambda: checks.check_repository(tmp_path, "tensorrt"))
    assert re.search(message, said) and "avedge build" in said


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"library": '])
def test_an_engine_without_a_readable_manifest_is_refused(tmp_path: Path, content: bytes | None) -> None:
    manifest = add_engine(tmp_path, "one")
    manifest.unlink() if content is None else manifest.write_bytes(content)
    said = refusal(lambda: checks.check_repository(tmp_path, "tensorrt"))
    assert "one/1/model.plan.json cannot be read" in said


def test_a_damaged_engine_is_refused(tmp_path: Path) -> None:
    plan = add_engine(tmp_path, "one").with_name("model.plan")
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    assert "one/1/model.plan has the digest" in refusal(lambda: checks.check_repository(tmp_path, "tensorrt"))


def test_engines_of_two_tensorrt_releases_are_refused_with_the_models_of_each(tmp_path: Path) -> None:
    add_engine(tmp_path, "one")
    add_engine(tmp_path, "two", library_version="11.3.0.99")
    models = checks.check_repository(tmp_path, "tensorrt")
    assert "11.3.0.99: two; 11.4.0.106: one" in refusal(lambda: check_release(models, IMAGE))


def test_engines_of_another_release_than_the_containers_are_refused(tmp_path: Path) -> None:
    add_engine(tmp_path, "one", library_version="10.3.0")
    models = checks.check_repository(tmp_path, "tensorrt")
    assert "built by TensorRT 10.3.0; wanted 11.x" in refusal(lambda: check_release(models, IMAGE))
    assert check_release(models, "nvcr.io/nvidia/tritonserver:26.05-py3") == "10.3.0"
    assert check_release(models, "registry.example/triton:own") == "10.3.0"  # nothing can be known of it


@pytest.mark.parametrize("version", [None, "eleven"])
def test_an_engine_that_names_no_release_is_refused(tmp_path: Path, version: str | None) -> None:
    add_engine(tmp_path, "one", library_version=version, flags=None)
    models = checks.check_repository(tmp_path, "tensorrt")
    assert f"built by TensorRT {version}; wanted 11.x" in refusal(lambda: check_release(models, IMAGE))


def test_an_engine_made_for_newer_releases_may_go_into_their_container(tmp_path: Path) -> None:
    add_engine(tmp_path, "one", library_version="10.16.1.11", flags=["STRONGLY_TYPED", "VERSION_COMPATIBLE"])
    assert check_release(checks.check_repository(tmp_path, "tensorrt"), IMAGE) == "10.16.1.11"


def test_serve_looks_at_the_engines_before_it_names_the_container(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    commands.add_arguments(parser)
    arguments = parser.parse_args(["--target", "tensorrt", "--repository", str(tmp_path)])
    add_engine(tmp_path, "one")
    with pytest.raises(ServeError, match="docker run"):
        commands.run(arguments)
    add_engine(tmp_path, "two", parity=None)
    assert "two/1/model.plan: its manifest says that it was never run" in refusal(lambda: commands.run(arguments))

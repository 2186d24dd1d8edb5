"""`avedge build`: engines of published graphs, written or published whole, and listed layer by layer."""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_graphs import sum_graph

from export import publish
from export.contract import contract_digest
from export.engines import commands, timing_cache
from export.engines.library import Gpu
from export.errors import ExportError

NAME = "crowd_density_sum"


def graph() -> bytes:
    content: bytes = sum_graph().SerializeToString()
    return content


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model repository with one published model."""
    facts = {"model": NAME, "precision": "fp32", "contract_digest": contract_digest()}
    files = {"model.onnx": graph(), "model.pt": b"a script"}
    publish.publish(tmp_path / "r", {NAME: publish.stage(tmp_path / "r" / NAME, files, facts)})
    return tmp_path / "r"


def parsed(models: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commands.add_arguments(parser)
    return parser.parse_args(["--repository", str(models), *words])


def build(models: Path, *words: str) -> int:
    return commands.run(parsed(models, "--library", "tensorrt_rtx", "--models", NAME, *words))


def test_the_verbs_help_needs_no_library(root: Path) -> None:
    code = "import sys, export.engines.commands; sys.exit(bool({'onnx', 'torch', 'tensorrt_rtx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_an_engine_is_written_with_its_manifest_and_its_layers_are_told(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(models, "--output", str(tmp_path / "engines")) == 0
    told = capsys.readouterr().out
    assert f"{NAME}, fp32: tensorrt_rtx" in told and "fp32" in told.splitlines()[1]
    facts = json.loads((tmp_path / "engines" / f"{NAME}.plan.json").read_text())
    plan = tmp_path / "engines" / f"{NAME}.plan"
    assert hashlib.sha256(plan.read_bytes()).hexdigest() == facts["plan_sha256"]
    for file in (plan, plan.with_name(f"{NAME}.plan.json")):
        assert commands.run(parsed(models, "--inspect", str(file))) == 0
        assert "fp32   REDUCE               the_sum" in capsys.readouterr().out


def test_a_proof_publishes_nothing_and_its_json_is_one_object(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(models, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["version"] is None and answer["engines"][NAME]["layers"]["by_precision"]["fp32"]["products"] == 1
    assert publish.versions(models / NAME) == [1]


def engine_of(content: bytes) -> dict[str, bytes]:
    """What a build gives, as far as publishing looks at it."""
    return {
        "model.plan": b"engine",
        "model.plan.json": json.dumps({"onnx_sha256": hashlib.sha256(content).hexdigest()}).encode(),
    }


def test_engines_are_published_as_a_new_version_beside_the_same_files(models: Path) -> None:
    assert commands._publish(models, {NAME: engine_of(graph())}) == 2
    manifest = publish.newest_manifest(models / NAME)
    assert manifest is not None and manifest["precision"] == "fp32"
    assert set(manifest["artefacts"]) == {"model.onnx", "model.pt", "model.plan", "model.plan.json"}
    assert (models / NAME / "2" / "model.onnx").read_bytes() == graph()


def test_an_engine_of_another_graph_is_not_published(models: Path) -> None:
    with pytest.raises(ExportError, match="another graph than the engine was built of"):
        commands._publish(models, {NAME: engine_of(b"an older graph")})
    assert publish.versions(models / NAME) == [1] and not list((models / NAME).glob(".tmp-*"))


def test_a_damaged_graph_is_refused(models: Path) -> None:
    file = models / NAME / "1" / "model.onnx"
    file.chmod(0o644)
    file.write_bytes(graph() + b"\0")
    with pytest.raises(ExportError, match="model.onnx has the digest"):
        build(models)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "nobody", "--library", "tensorrt_rtx"], "no model 'nobody'"),
        (["--models", NAME], "asks for a part of the engines"),
        (["--models", "crowd_v", "--library", "tensorrt_rtx"], "no whole version of crowd_v with a model.onnx"),
        (["--inspect", "nowhere.plan"], "nowhere.plan.json cannot be read as an engine's manifest"),
    ],
)
def test_wrong_wishes_are_refused_in_words(models: Path, words: list[str], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        commands.run(parsed(models, *words))


def test_a_timing_cache_has_a_file_for_each_gpu_and_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gpu = Gpu("NVIDIA L4", "8.9", "570.1", "13.0")
    paths = {
        timing_cache.default_path(v, g) for v in ("10.3.0", "11.4.0") for g in (gpu, Gpu("Orin", "8.7", None, "12.6"))
    }
    assert len(paths) == 4 and all(path.parent == tmp_path / "avedge" for path in paths)
    assert all(path.suffix == ".timing" and " " not in path.name for path in paths)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_timing_cache_is_kept_and_a_damaged_one_is_begun_anew(tmp_path: Path) -> None:
    import tensorrt_rtx as trt

    config: Any = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR)).create_builder_config()
    file = tmp_path / "cache" / "one.timing"
    kept = timing_cache.load(config, file)
    assert kept is not None and timing_cache.save(config, file) == hashlib.sha256(file.read_bytes()).hexdigest()
    timing_cache.load(config, file)
    file.write_bytes(b"damaged")
    timing_cache.load(config, file)
    timing_cache.save(config, file)
    assert file.read_bytes() != b"damaged" and list(file.parent.iterdir()) == [file]

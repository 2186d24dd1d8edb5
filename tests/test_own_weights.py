"""Weights of one's own: the page's three commands, from a checkpoint to an answer of the served version."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpcclient
import yaml
from test_deploy_docs import ENVIRONMENT, blocks, commands, run_as_printed, serving
from tiny_crowds import NARROW

from export.errors import ExportError
from export.recipe import NETWORKS, WEIGHTS, Recipe, own_networks, require_names, weights_of
from train.crowd.models import build_counter, load_counter, save_counter
from train.synthetic.scenes import synthesize_scenes

ROOT = Path(__file__).resolve().parents[1]
# The page's own config with a network of a hundredth of the size and two steps.
TINY = {"batch_size": 2, "start_from": None, "fit": {"steps": 2, "validate_every_steps": 2, "warmup_steps": 1}}


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Data, the page's config, and in runs/own a finished training that has lost its weights."""
    synthesize_scenes(tmp_path / "data" / "own", {"train": 4, "val": 2}, seed=5)
    (tmp_path / "train").symlink_to(ROOT / "train")
    (config,) = (yaml.safe_load(text) for text in blocks("own_weights.md", "yaml"))
    config = {**config, **TINY, "fit": {**config["fit"], **TINY["fit"]}}  # type: ignore[dict-item]
    config["options"] |= NARROW
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    run_as_printed("avedge train crowd --config own.yaml", tmp_path)
    (tmp_path / "runs" / "own" / "crowd_v.safetensors").unlink()
    return tmp_path


@pytest.mark.slow
def test_three_commands_lead_from_a_checkpoint_to_a_served_version(workplace: Path) -> None:
    train, export, serve = commands("own_weights.md")
    run_as_printed(train, workplace)
    done = subprocess.run(
        shlex.split(export), cwd=workplace, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = "of runs/own: crowd_v; the demonstration's: facefilter_identity, facefilter_separator, crowd_av"
    assert told in done.stderr and told in (ROOT / "docs" / "own_weights.md").read_text()
    assert done.stdout.startswith("version 1 of 8 models")
    report = json.loads((workplace / "runs" / "own" / "export.json").read_text())
    assert report["version"] == 1 and report["models"]["crowd_v"]["tensors"]["model.onnx"]

    picture = np.random.default_rng(3).integers(0, 256, (1, 576, 1024, 3), np.uint8)
    own = load_counter(workplace / "runs" / "own" / "crowd_v.safetensors")
    with torch.no_grad():
        wanted = own(torch.from_numpy(picture))[0].numpy()
        others = load_counter(WEIGHTS / "crowd_v.safetensors")(torch.from_numpy(picture))[0].numpy()
    with serving(serve, workplace) as ready, grpcclient.InferenceServerClient(ready["grpc_url"]) as client:
        tensor = grpcclient.InferInput("picture", picture.shape, "UINT8")
        tensor.set_data_from_numpy(picture)
        density = client.infer("crowd_v", [tensor], client_timeout=60).as_numpy("density")
    np.testing.assert_allclose(density.ravel(), wanted.ravel(), atol=1e-4 * np.abs(wanted).max())
    assert np.abs(others.ravel() - density.ravel()).max() > 0.01 * np.abs(density).max()

    _publish_again(workplace / "model_repository")
    assert "1" in run_as_printed("avedge rollback", workplace)
    assert "2" in run_as_printed("avedge rollback --undo", workplace)


def _publish_again(repository: Path) -> None:
    """The same files as a second release."""
    from export import publish
    from export.contract import MODELS

    staged = {}
    for model in MODELS:
        folder = repository / model.name / "1"
        manifest = json.loads((folder / "manifest.json").read_text())
        files = {name: (folder / name).read_bytes() for name in manifest.pop("artefacts")}
        staged[model.name] = publish.stage(repository / model.name, files, manifest)
    publish.publish(repository, staged)


def test_the_program_for_weights_from_elsewhere_writes_what_export_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = blocks("own_weights.md", "python")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "own").mkdir(parents=True)
    trained = build_counter("crowd_v", "compact", reduction="unshuffle")
    torch.save(trained.state_dict(), "mine.pt")
    exec(compile(program, "own_weights.md", "exec"), {})
    read = load_counter(tmp_path / "runs" / "own" / "crowd_v.safetensors", model="crowd_v")
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), read.parameters(), strict=True))


def add(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    save_counter(folder / f"{name}.safetensors", build_counter("crowd_v", "compact", **NARROW))


def test_a_folder_with_some_networks_is_filled_up_with_the_demonstrations(tmp_path: Path) -> None:
    add(tmp_path, "crowd_v")
    assert own_networks(tmp_path) == ["crowd_v"]
    assert weights_of("crowd_v", tmp_path) == tmp_path / "crowd_v.safetensors"
    assert weights_of("crowd_av", tmp_path) == WEIGHTS / "crowd_av.safetensors"
    assert set(own_networks(WEIGHTS)) == set(NETWORKS)


def test_a_folder_without_any_gets_none(tmp_path: Path) -> None:
    assert weights_of("crowd_v", tmp_path) == tmp_path / "crowd_v.safetensors"  # and loading says that it is missing


def test_a_release_is_not_current_when_weights_of_either_kind_changed(tmp_path: Path) -> None:
    digests = {Recipe().source_digest()}
    for name in ("crowd_v", "crowd_av"):
        add(tmp_path, name)
        digests.add(Recipe(weights=tmp_path).source_digest())
    assert len(digests) == 3


def test_a_name_that_is_no_networks_is_refused_before_others_are_served_in_its_place(tmp_path: Path) -> None:
    add(tmp_path, "crowd_v")
    require_names(tmp_path)
    add(tmp_path, "crowd-av")
    with pytest.raises(ExportError, match=re.escape("Saw crowd-av.safetensors")):
        require_names(tmp_path)
    require_names(WEIGHTS)

"""What an export is made of, what it refuses to publish, and random networks that measure speed."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper

from export import precision
from export.artefacts import converted, export_all, make
from export.contract import MODELS, model_named
from export.errors import ExportError
from export.modules import untrained_module
from export.recipe import Recipe
from export.samples import sample_inputs

IDENTITY = model_named("facefilter_identity")
UNTRAINED = Recipe(untrained="compact")


def publish_by_hand(repository: Path, recipe: Recipe, source: str) -> None:
    """Whole versions with nothing in them."""
    for model in MODELS:
        folder = repository / model.name / "1"
        folder.mkdir(parents=True)
        files = ("model.onnx", "model.pt")
        for name in files:
            (folder / name).write_bytes(b"")
        facts = {"source_digest": source, "release": recipe.release, "tasks_judged": recipe.tasks}
        (folder / "manifest.json").write_text(json.dumps({**facts, "artefacts": dict.fromkeys(files, {})}))


def versions_in(repository: Path) -> list[Path]:
    return [*repository.glob("*/[0-9]*"), *repository.glob("*/.tmp-*"), *repository.glob("*/.hidden-*")]


def test_a_release_is_current_for_the_same_sources_precision_and_kind_of_weights_alone(tmp_path: Path) -> None:
    recipe = Recipe(precision="fp16", tasks=True)
    publish_by_hand(tmp_path, recipe, "abc")
    assert recipe.is_current(tmp_path, "abc") and replace(recipe, tasks=False).is_current(tmp_path, "abc")
    assert not recipe.is_current(tmp_path, "abd")
    for other in (replace(recipe, precision="fp32"), replace(recipe, untrained="paper"), replace(recipe, engines=True)):
        assert not other.is_current(tmp_path, "abc")


def test_a_release_whose_tasks_were_not_judged_is_not_current_where_that_is_asked_for(tmp_path: Path) -> None:
    publish_by_hand(tmp_path, Recipe(), "abc")
    assert Recipe().is_current(tmp_path, "abc") and not Recipe(tasks=True).is_current(tmp_path, "abc")


def test_random_networks_are_not_published_over_trained_ones(tmp_path: Path) -> None:
    publish_by_hand(tmp_path, Recipe(), "abc")
    before = versions_in(tmp_path)
    with pytest.raises(ExportError, match=r"holds trained networks.*--repository"):
        export_all(tmp_path, UNTRAINED, "abc")
    assert versions_in(tmp_path) == before


@pytest.mark.parametrize("name", ["facefilter_identity", "facefilter_separator"])
def test_random_networks_are_the_same_each_time_and_answer_otherwise_to_other_inputs(name: str) -> None:
    model = model_named(name)
    first, again = (untrained_module(model, "compact") for _ in range(2))
    given = sample_inputs(model, batch=3, seed=5)
    with torch.no_grad():
        answer, repeated = (module(*given.values()) for module in (first, again))
    answer, repeated = (found[0] if isinstance(found, tuple) else found for found in (answer, repeated))
    assert torch.equal(answer, repeated) and torch.isfinite(answer).all()
    spread = (answer - answer.mean(dim=0)).square().mean().sqrt()
    assert spread > 1e-3 * answer.square().mean().sqrt()


def test_a_random_network_says_so_in_its_graph_and_is_held_against_torch() -> None:
    made = make(IDENTITY, UNTRAINED, None)
    assert made.facts["untrained"] == "compact" and made.facts["weights_sha256"] == ""
    assert made.facts["precision"] == "fp32" and set(made.parities) == {"model.onnx", "model.pt"}


def test_signal_processing_stays_as_it_is_in_every_precision() -> None:
    graph = onnx.ModelProto()
    for model in (model for model in MODELS if model.exact):
        for wanted in precision.PRECISIONS:
            assert converted(graph, model, wanted, []) is graph


def test_a_conversion_that_answers_otherwise_is_refused_and_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = precision.convert

    def faulty(graph: onnx.ModelProto, *rest: object) -> onnx.ModelProto:
        lower = sound(graph, *rest)  # type: ignore[arg-type]
        weights = next(tensor for tensor in lower.graph.initializer if len(tensor.dims) == 4)
        values = numpy_helper.to_array(weights).copy()
        values[: len(values) // 2] *= 1.5
        weights.CopyFrom(numpy_helper.from_array(values, weights.name))
        return lower

    monkeypatch.setattr(precision, "convert", faulty)
    with pytest.raises(
        ExportError, match=r"facefilter_identity/model.onnx: identity differs from torch .* nothing publ"
    ):
        export_all(tmp_path, replace(UNTRAINED, precision="fp16"), "abc")
    assert versions_in(tmp_path) == []

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export import contract
from export.commands import uncalibrated
from export.configs import ARTEFACTS, SCHEDULING, config_files, write_configs
from export.contract import ENSEMBLES, MODELS, TARGETS
from export.modules import WEIGHTS, weights_digest
from train import settings


def parsed(repository: Path, name: str, target: str) -> model_config_pb2.ModelConfig:
    path = repository / name / ("config.pbtxt" if target == "tensorrt" else f"configs/{target}.pbtxt")
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def tensors(config: model_config_pb2.ModelConfig) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(t.name.split("__")[0], t.data_type, tuple(t.dims)) for t in (*config.input, *config.output)]


def test_committed_configs_are_byte_for_byte_what_the_contract_gives(root: Path) -> None:
    files = config_files()
    for path, content in files.items():
        assert (root / "model_repository" / path).read_bytes() == content, f"{path}: run `avedge export --configs-only`"
    committed = {p.relative_to(root / "model_repository") for p in (root / "model_repository").rglob("*.pbtxt")}
    assert committed == set(files)


@pytest.mark.parametrize("part", [*MODELS, *ENSEMBLES], ids=lambda part: part.name)
def test_every_target_offers_the_same_tensors(root: Path, part: contract.Model | contract.Ensemble) -> None:
    configs = [parsed(root / "model_repository", part.name, target) for target in TARGETS]
    assert all(tensors(config) == tensors(configs[0]) for config in configs)
    assert {config.max_batch_size for config in configs} == {contract.MAX_BATCH_SIZE}


@pytest.mark.parametrize("target", TARGETS)
def test_a_served_model_names_its_artefact_and_its_instances(root: Path, target: contract.Target) -> None:
    for model in MODELS:
        config = parsed(root / "model_repository", model.name, target)
        assert config.default_model_filename == ARTEFACTS[target]
        assert [group.count for group in config.instance_group] == [SCHEDULING[target][model.name].instances]
        assert config.dynamic_batching.default_queue_policy.max_queue_size == 0  # a bound here crashes old servers


@pytest.mark.parametrize("target", TARGETS)
def test_ensembles_wire_tensors_that_exist_and_fit(root: Path, target: contract.Target) -> None:
    repository = root / "model_repository"
    for ensemble in ENSEMBLES:
        config = parsed(repository, ensemble.name, target)
        known = {t.name: (t.data_type, tuple(t.dims)) for t in config.input}
        for step in config.ensemble_scheduling.step:
            model = parsed(repository, step.model_name, target)
            assert set(step.input_map) == {t.name for t in model.input}
            for tensor in model.input:
                assert known[step.input_map[tensor.name]] == (tensor.data_type, tuple(tensor.dims))
            outputs = {t.name: (t.data_type, tuple(t.dims)) for t in model.output}
            known |= {outer: outputs[inner] for inner, outer in step.output_map.items()}
        for tensor in config.output:
            assert known[tensor.name] == (tensor.data_type, tuple(tensor.dims))


def test_a_served_config_tells_a_client_all_it_needs(root: Path) -> None:
    facts = {
        k: v.string_value for k, v in parsed(root / "model_repository", "facefilter", "tensorrt").parameters.items()
    }
    assert facts["padded_samples"] == "31840,63840,127840"
    assert facts["sample_rate_hz"] == "16000" and facts["hop_samples"] == "160" and facts["halo_frames"] == "40"
    assert all(settings.frames_of(int(n)) % 200 == 0 for n in facts["padded_samples"].split(","))


def test_only_the_identity_is_cached(root: Path) -> None:
    cached = {m.name for m in MODELS if parsed(root / "model_repository", m.name, "onnxruntime").response_cache.enable}
    assert cached == {"facefilter_identity"}


def test_configs_are_rewritten_only_where_they_differ(tmp_path: Path) -> None:
    write_configs(tmp_path)
    touched = tmp_path / "facefilter" / "config.pbtxt"
    kept = tmp_path / "crowd_v" / "config.pbtxt"
    touched.write_text("name: 'stale'")
    before = kept.stat().st_mtime_ns
    write_configs(tmp_path)
    assert touched.read_bytes() == config_files()[Path("facefilter/config.pbtxt")]
    assert kept.stat().st_mtime_ns == before


def test_a_length_that_is_no_multiple_of_the_hop_is_refused() -> None:
    with pytest.raises(ValueError, match="31841 is not a multiple of 160"):
        settings.frames_of(31_841)


def test_density_and_patch_sizes_follow_from_the_picture() -> None:
    assert (settings.DENSITY_HEIGHT, settings.DENSITY_WIDTH) == (72, 128)
    assert settings.PATCH_EMBEDDING == 144 and settings.PATCHES * settings.PATCH_EMBEDDING == 72 * 128


def test_the_digest_follows_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    before = contract.contract_digest()
    monkeypatch.setattr(contract, "MODELS", contract.MODELS[1:])
    assert contract.contract_digest() != before


def test_an_unknown_model_is_answered_with_the_list() -> None:
    with pytest.raises(KeyError, match="crowd_density_sum"):
        contract.model_named("crowd_sum")


def test_the_served_intervals_are_those_of_the_committed_weights() -> None:
    assert uncalibrated(WEIGHTS) == []


def test_an_interval_of_other_weights_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = weights_digest(contract.model_named("crowd_v"), WEIGHTS)[:16]
    monkeypatch.setattr(settings, "CROWD_V_INTERVAL", settings.CountInterval(digest, 0.9, 0.2, 4.0))
    assert uncalibrated(WEIGHTS) == []
    monkeypatch.setattr(settings, "CROWD_V_INTERVAL", settings.CountInterval("0" * 16, 0.9, 0.2, 4.0))
    assert uncalibrated(WEIGHTS) == ["crowd_v"]

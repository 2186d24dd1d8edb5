"""FaceFilter's training and evaluation, end to end on a handful of talkers; and what the committed weights can do."""

import json

import numpy as np
import pytest
import torch

from train.checkpoint import save_weights
from train.errors import TrainError
from train.facefilter.data import MatchingBatches, MixtureBatches, TalkerBank, augment_face, read_bank
from train.facefilter.evaluation import evaluate_talkers, load_pipeline
from train.facefilter.identity import FACE_IDENTITY, FACE_PRESETS, build_face_identity, load_face_identity
from train.facefilter.separator import SEPARATOR, Separator, load_separator
from train.facefilter.train_identity import IdentityTraining, train_identity
from train.facefilter.train_separator import SeparatorTraining, train_separator
from train.fit import load_settings

SMALL_RUN = ["--fit.steps=2", "--fit.validate_every_steps=2", "--fit.warmup_steps=1", "--fit.precision=32-true"]


@pytest.mark.parametrize("name", ["identity_compact", "identity_paper"])
def test_identity_configs_are_typed_and_open_with_their_command(root, name):
    path = root / "train" / "configs" / f"{name}.yaml"
    assert f"# avedge train identity --config train/configs/{name}.yaml" in path.read_text()
    assert load_settings(IdentityTraining, path).preset == name.split("_")[1]


@pytest.mark.parametrize("name", ["facefilter_compact", "facefilter_paper"])
def test_separator_configs_are_typed_and_open_with_their_command(root, name):
    path = root / "train" / "configs" / f"{name}.yaml"
    assert f"# avedge train facefilter --config train/configs/{name}.yaml" in path.read_text()
    assert load_settings(SeparatorTraining, path).preset == name.split("_")[1]


def test_training_writes_weights_that_load_and_the_face_network_stays_as_it_was(root, made_talkers, tmp_path):
    configs = root / "train" / "configs"
    places = [
        f"--data={made_talkers}",
        f"--run_folder={tmp_path / 'run'}",
        f"--face_weights={tmp_path / 'face.safetensors'}",
    ]
    places.append(f"--voice_weights={tmp_path / 'voice.safetensors'}")
    train_identity(load_settings(IdentityTraining, configs / "identity_compact.yaml", [*places, *SMALL_RUN]))
    before = (tmp_path / "face.safetensors").read_bytes()
    options = ["--options={channels: 8, features: 4, mask_blocks: 2}", "--identity_weight=1", "--mixtures_per_batch=1"]
    weights = f"--weights={tmp_path / 'separator.safetensors'}"
    settings = load_settings(
        SeparatorTraining,
        configs / "facefilter_compact.yaml",
        [*places, *options, weights, "--face_variants=1", *SMALL_RUN],
    )
    learner = train_separator(settings)
    loaded = load_separator(settings.weights)
    for name, value in learner.separator.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value)
    assert (tmp_path / "face.safetensors").read_bytes() == before


def test_weights_of_another_model_are_refused_by_name(tmp_path):
    path = tmp_path / "face.safetensors"
    save_weights(path, build_face_identity("compact"), model=FACE_IDENTITY, options=FACE_PRESETS["compact"])
    assert load_face_identity(path).pool == 2
    with pytest.raises(TrainError, match="holds 'facefilter_identity', wanted 'facefilter_separator'"):
        load_separator(path)


def test_the_speaker_loss_without_its_network_is_refused(root):
    config = root / "train" / "configs" / "facefilter_compact.yaml"
    with pytest.raises(ValueError, match="identity_weight is 1.0; it needs voice_weights"):
        load_settings(SeparatorTraining, config, ["--identity_weight=1.0"])


def test_matching_batches_have_different_talkers_and_one_level(made_talkers):
    faces, waveforms = next(iter(MatchingBatches(read_bank(made_talkers, "train"), 4, seed=0)))
    assert faces.shape == (4, 224, 224, 3) and faces.dtype == torch.uint8 and waveforms.shape == (4, 31_840)
    torch.testing.assert_close(waveforms.square().mean(dim=1).sqrt(), torch.full((4,), 0.1 / 2**0.5), atol=1e-4, rtol=0)
    again = next(iter(MatchingBatches(read_bank(made_talkers, "train"), 4, seed=0)))
    assert torch.equal(faces, again[0]) and torch.equal(waveforms, again[1])


def test_mixture_batches_take_both_talkers_of_each_mixture_in_turn(made_talkers):
    bank = read_bank(made_talkers, "train")
    identities = torch.arange(4.0).view(4, 1, 1).expand(4, 2, 1024)
    mixture, target, identity = next(iter(MixtureBatches(bank, identities, 3, seed=0, sir_range_db=6.0)))
    assert mixture.shape == target.shape == (6, 31_840) and identity.shape == (6, 1024)
    torch.testing.assert_close(mixture[0::2], mixture[1::2])
    torch.testing.assert_close(target[0::2] + target[1::2], mixture[0::2], atol=1e-6, rtol=0)
    torch.testing.assert_close(mixture.square().mean(dim=1).sqrt(), torch.full((6,), 0.1), atol=1e-5, rtol=0)
    assert (identity[0::2, 0] != identity[1::2, 0]).all()


def test_mixtures_of_too_few_talkers_are_refused(made_talkers):
    bank = read_bank(made_talkers, "train")
    few = TalkerBank(bank.talkers[:2], bank.voices[:2], bank.faces[:2])
    with pytest.raises(TrainError, match="1 women and 1 men"):
        MixtureBatches(few, torch.zeros(2, 1, 1024), 1, seed=0)


def test_augmented_faces_keep_shape_and_type_and_change():
    face = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    augmented = augment_face(face, np.random.default_rng(1))
    assert augmented.shape == face.shape and augmented.dtype == np.uint8 and (augmented != face).any()


def test_evaluation_of_a_mask_of_one_half_improves_nothing_and_is_json(made_talkers, tmp_path):
    separator = Separator(channels=4, features=4, mask_blocks=1)
    torch.nn.init.zeros_(separator.mask_estimator[-1].weight)
    torch.nn.init.zeros_(separator.mask_estimator[-1].bias)  # sigmoid(0) everywhere: the mixture at half its level
    options = {"channels": 4, "features": 4, "mask_blocks": 1}
    save_weights(tmp_path / "facefilter_separator.safetensors", separator, model=SEPARATOR, options=options)
    face = tmp_path / "facefilter_identity.safetensors"
    save_weights(face, build_face_identity("compact"), model=FACE_IDENTITY, options=FACE_PRESETS["compact"])
    report = json.loads(json.dumps(evaluate_talkers(made_talkers, tmp_path, per_pair=1)))
    assert report["mixtures"] == report["overall"]["count"] == 4
    assert report["overall"]["sdri_db"] == pytest.approx(0, abs=0.05)
    assert report["overall"]["si_sdri_db"] == pytest.approx(0, abs=0.05)
    assert report["overall"]["accuracy"] == report["overall"]["accuracy_interferer_face"]


def test_committed_weights_choose_the_voice_by_the_face_of_talkers_never_seen(root, made_talkers):
    report = evaluate_talkers(made_talkers, root / "train" / "weights", per_pair=6)
    different = report["different_sex"]
    assert different["count"] == 12
    assert different["accuracy"] >= 0.8 and different["sdri_db"] > 2
    assert different["accuracy_interferer_face"] <= 0.2
    assert report["matching"]["two_way"] > 0.7


def test_committed_weights_are_small_and_answer_silence_with_silence(root):
    folder = root / "train" / "weights"
    for name in ("facefilter_identity", "facefilter_separator", "facefilter_voice_identity"):
        assert (folder / f"{name}.safetensors").stat().st_size <= 10_000_000
    voice = load_pipeline(folder)(torch.zeros(1, 16_000), torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert voice.shape == (1, 16_000) and torch.isfinite(voice).all() and voice.abs().max() < 1e-6

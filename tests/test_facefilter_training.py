"""FaceFilter's batches and trainings, end to end on a handful of talkers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from train.checkpoint import save_weights
from train.corpus.layout import read_speakers
from train.errors import TrainError
from train.facefilter.data import Bank, Identities, MatchingBatches, MixtureBatches, augment_face
from train.facefilter.identity import FACE_IDENTITY, FACE_PRESETS, build_face_identity, load_face_identity
from train.facefilter.separator import load_audio_only, load_separator
from train.facefilter.train_identity import IdentityTraining, train_identity
from train.facefilter.train_separator import SeparatorTraining, train_separator
from train.fit import load_settings

SYSTEMS = ("audio_only", "face", "attention", "attention_srl")
SMALL_RUN = ["--fit.steps=2", "--fit.validate_every_steps=2", "--fit.warmup_steps=1", "--fit.precision=32-true"]
SMALL_NETWORK = ["--options={channels: 8, features: 4, mask_blocks: 2}", "--mixtures_per_batch=1"]


@pytest.fixture(scope="module")
def bank(made_talkers):
    return Bank(made_talkers, "train")


@pytest.fixture(scope="module")
def identities(made_talkers, tmp_path_factory):
    """Weights of both identity networks after two steps."""
    folder = tmp_path_factory.mktemp("identity")
    config = "train/configs/identity_compact.yaml"
    places = [f"--face_weights={folder / 'facefilter_identity.safetensors'}", f"--run_folder={folder / 'run'}"]
    places += [f"--voice_weights={folder / 'voice.safetensors'}", f"--sources=[{{root: {made_talkers}}}]"]
    train_identity(load_settings(IdentityTraining, config, [*places, *SMALL_RUN, "--fit.workers=0"]))
    return folder


def settings_of(system, made_talkers, identities, folder, *changes):
    """The config of a system, made small."""
    overrides = [f"--sources=[{{root: {made_talkers}}}]", f"--run_folder={folder / 'run'}"]
    kind = "audio_only" if system == "audio_only" else "separator"
    overrides.append(f"--weights={folder / f'facefilter_{kind}.safetensors'}")
    if system != "audio_only":
        overrides.append(f"--face_weights={identities / 'facefilter_identity.safetensors'}")
    if system == "attention_srl":
        overrides.append(f"--voice_weights={identities / 'voice.safetensors'}")
    config = f"train/configs/table2_{system}_compact.yaml"
    return load_settings(SeparatorTraining, config, [*overrides, *SMALL_RUN, *SMALL_NETWORK, *changes])


@pytest.mark.parametrize("preset", ["compact", "paper"])
@pytest.mark.parametrize("name", ["identity", *(f"table2_{system}" for system in SYSTEMS)])
def test_configs_are_typed_and_open_with_their_command(root, name, preset):
    path = root / "train" / "configs" / f"{name}_{preset}.yaml"
    kind, settings = ("identity", IdentityTraining) if name == "identity" else ("facefilter", SeparatorTraining)
    assert f"# avedge train {kind} --config train/configs/{name}_{preset}.yaml" in path.read_text()
    assert load_settings(settings, path).preset == preset


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_trains_and_its_weights_load_alone(system, made_talkers, identities, tmp_path):
    settings = settings_of(system, made_talkers, identities, tmp_path)
    learner = train_separator(settings)
    loaded = (load_audio_only if system == "audio_only" else load_separator)(settings.weights)
    for name, value in learner.separator.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value)
    beside = tmp_path / "facefilter_identity.safetensors"
    if system == "audio_only":
        assert not beside.exists()
    else:
        assert beside.read_bytes() == (identities / "facefilter_identity.safetensors").read_bytes()


def test_options_beyond_the_paper_train_too(made_talkers, identities, tmp_path):
    beyond = ["--loss.target=phase_sensitive", "--loss.waveform_weight=0.01", "--sir_range_db=5"]
    settings = settings_of("attention", made_talkers, identities, tmp_path, *beyond, "--store_identities=false")
    assert (settings.loss.target, settings.sir_range_db, settings.store_identities) == ("phase_sensitive", 5.0, False)
    train_separator(settings)
    load_separator(settings.weights)


def test_a_system_without_its_networks_is_refused(made_talkers, identities, tmp_path):
    settings = settings_of("attention_srl", made_talkers, identities, tmp_path)
    with pytest.raises(ValueError, match="identity_weight is 0.05; it needs voice_weights"):
        replace(settings, voice_weights=None)
    with pytest.raises(ValueError, match="system is face; it needs face_weights"):
        replace(settings, face_weights=None)


def test_weights_of_another_model_are_refused_by_name(tmp_path):
    path = tmp_path / "face.safetensors"
    save_weights(path, build_face_identity("compact"), model=FACE_IDENTITY, options=FACE_PRESETS["compact"])
    assert load_face_identity(path).pool == 2
    with pytest.raises(TrainError, match="holds 'facefilter_identity', wanted 'facefilter_separator'"):
        load_separator(path)


def test_matching_batches_have_different_speakers_one_level_and_depend_on_the_step_alone(bank):
    batches = MatchingBatches([bank], 4, seed=0)
    faces, waveforms = batches.batch(3)
    assert faces.shape == (4, 224, 224, 3) and faces.dtype == torch.uint8 and waveforms.shape == (4, 31_840)
    torch.testing.assert_close(waveforms.square().mean(dim=1).sqrt(), torch.full((4,), 0.1 / 2**0.5), atol=1e-4, rtol=0)
    batches.batch(0)
    shares = [batches.batch(3, part, 2) for part in range(2)]
    assert torch.equal(faces, torch.cat([share[0] for share in shares]))
    assert torch.equal(waveforms, torch.cat([share[1] for share in shares]))
    assert not torch.equal(waveforms, batches.batch(4)[1])


def test_mixture_batches_are_sums_of_their_voices_and_depend_on_the_step_alone(bank):
    batches = MixtureBatches([bank], None, [1.0], 4, seed=0, sir_range_db=6.0)
    whole = batches.batch(7)
    assert whole.mixture.shape == (4, 31_840) and whole.voices.shape == (4, 2, 31_840)
    assert whole.faces.shape == (4, 2, 224, 224, 3) and whole.faces.dtype == torch.uint8
    torch.testing.assert_close(whole.voices.sum(dim=1), whole.mixture, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole.mixture.square().mean(dim=1).sqrt(), torch.full((4,), 0.1), atol=1e-5, rtol=0)
    levels_db = 20 * whole.voices.square().mean(dim=2).sqrt().log10()
    assert (levels_db[:, 0] - levels_db[:, 1]).abs().max() <= 6.01
    for part in range(2):
        share = batches.batch(7, part, 2)
        for got, wanted in zip(share, whole, strict=True):
            assert torch.equal(got, wanted[2 * part : 2 * part + 2])


def test_stored_identities_are_those_of_the_stills(bank):
    torch.manual_seed(0)
    network = build_face_identity("compact").eval()
    stored = Identities(network, bank, variants=1, seed=0)
    rng = np.random.default_rng(5)
    still = bank.still(bank.speakers[1], 0, np.random.default_rng(5))
    with torch.no_grad():
        torch.testing.assert_close(stored.draw(1, 0, rng), network(torch.from_numpy(still[None]))[0])


def test_voices_read_from_disk_are_those_in_memory(made_talkers, bank):
    speaker = bank.speakers[0]
    on_disk = Bank(made_talkers, "train", memory_gib=0.0)
    assert on_disk.voices is None and bank.voices is not None
    pieces = [each.piece(speaker, 1, np.random.default_rng(2)) for each in (bank, on_disk)]
    np.testing.assert_allclose(pieces[0], pieces[1], atol=1e-4)


def test_mixtures_of_too_few_speakers_are_refused(made_talkers):
    few = Bank(made_talkers, "val")
    few.by_sex = {"F": [0], "M": [1]}
    with pytest.raises(TrainError, match="1 women and 1 men"):
        MixtureBatches([few], None, [1.0], 1, seed=0)


def test_a_voice_that_is_silent_is_named(made_talkers):
    silent = Bank(made_talkers, "val")
    assert silent.voices is not None
    for voice in silent.voices.values():
        voice[:] = 0
    speaker = read_speakers(made_talkers, "val")[0]
    with pytest.raises(TrainError, match=r"\.flac is silent wherever it was tried"):
        silent.piece(speaker, 0, np.random.default_rng(0))


def test_augmented_faces_keep_shape_and_type_and_change():
    face = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    augmented = augment_face(face, np.random.default_rng(1))
    assert augmented.shape == face.shape and augmented.dtype == np.uint8 and (augmented != face).any()

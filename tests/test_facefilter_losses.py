"""FaceFilter's losses and measures against closed forms."""

import math

import numpy as np
import pytest
import torch

from train.dsp import Stft, fast_spectrum, fast_waveform
from train.facefilter.identity import MatchingLoss, build_speech_identity
from train.facefilter.losses import (
    SpeakerRepresentationLoss,
    permutation_invariant,
    phase_sensitive_target,
    separation_costs,
    waveform_loss,
)
from train.facefilter.metrics import matching_accuracy, sdr_db, si_sdr_db, wilson_interval


def test_separation_loss_is_zero_only_for_equal_magnitudes():
    target = torch.rand(2, 257, 20, generator=torch.Generator().manual_seed(0))
    assert (separation_costs(target, target, epsilon=1.0) == 0).all()
    changed = target.clone()
    changed[1, 100, 7] += 0.01
    costs = separation_costs(target, changed, epsilon=1.0)
    assert costs.shape == (2,) and costs[0] == 0 and costs[1] > 0


def test_separation_loss_is_equation_2_with_epsilon_at_unit_rms():
    rng = np.random.default_rng(0)
    target, separated = rng.random((2, 257, 5)), rng.random((2, 257, 5))
    by_hand = np.mean(np.log((target + 0.05) / (separated + 0.05)) ** 2)  # 0.5 at unit RMS is 0.05 at RMS 0.1
    loss = separation_costs(torch.from_numpy(target), torch.from_numpy(separated), epsilon=0.5)
    assert float(loss.mean()) == pytest.approx(by_hand, rel=1e-12)


def test_speaker_representation_loss_is_zero_for_the_same_speech_and_reaches_the_mask():
    torch.manual_seed(0)
    network = build_speech_identity("compact")
    loss = SpeakerRepresentationLoss(network).train()
    magnitude = torch.rand(2, 257, 100)
    other = torch.rand(2, 257, 100, requires_grad=True)
    assert float(loss(magnitude, magnitude)) == pytest.approx(0, abs=1e-5)
    loss(magnitude, other).backward()
    assert other.grad is not None and other.grad.abs().sum() > 0
    assert not network.training and all(parameter.grad is None for parameter in network.parameters())


def test_speaker_representation_loss_does_not_hear_the_level():
    torch.manual_seed(0)
    loss = SpeakerRepresentationLoss(build_speech_identity("compact"))
    magnitude = 10 * torch.rand(2, 257, 100) + 1  # far above the floor of the logarithm
    assert float(loss(magnitude, 2 * magnitude)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("similarity", ["cosine", "inverse_euclidean"])
def test_matching_loss_of_perfect_pairs_is_below_chance(similarity):
    identities = torch.eye(8, 1024)
    loss = MatchingLoss(similarity).requires_grad_(False)
    assert float(loss(identities, identities)) < 0.1 * math.log(8)
    assert float(loss(identities, identities.roll(1, 0))) > math.log(8)


def test_matching_loss_has_its_closed_form():
    identities = torch.eye(8, 1024)
    by_hand = -math.log(math.exp(5) / (math.exp(5) + 7 * math.exp(-5)))  # 10 cos - 5 is 5 or -5
    assert float(MatchingLoss()(identities, identities).detach()) == pytest.approx(by_hand, rel=1e-3)


def test_matching_accuracy_equals_the_share_of_random_draws():
    rng = np.random.default_rng(0)
    similarity = torch.from_numpy(rng.standard_normal((12, 12)) + 0.8 * np.eye(12))
    for ways in (2, 5):
        wins = 0
        for _ in range(2000):
            i = rng.integers(12)
            others = rng.choice([j for j in range(12) if j != i], ways - 1, replace=False)
            wins += bool((similarity[i, i] > similarity[i, others]).all())
        assert matching_accuracy(similarity, ways) == pytest.approx(wins / 2000, abs=0.04)
    assert matching_accuracy(torch.eye(6), 6) == 1
    with pytest.raises(ValueError, match="13-way matching needs 2 to 12"):
        matching_accuracy(similarity, 13)


def test_sdr_forgives_a_filter_and_si_sdr_only_a_gain():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal(16_000)
    noise = rng.standard_normal(16_000)
    filtered = np.convolve(reference, [1.0, 0.0, 0.5, -0.3])[:16_000]
    noisy = torch.from_numpy(2 * reference + 0.2 * noise)  # 20 dB
    assert float(si_sdr_db(noisy, torch.from_numpy(reference))) == pytest.approx(20, abs=0.3)
    assert float(sdr_db(torch.from_numpy(filtered), torch.from_numpy(reference))) > 40
    assert float(si_sdr_db(torch.from_numpy(filtered), torch.from_numpy(reference))) < 10


def test_wilson_interval_of_sixty_in_a_thousand_percent():
    low, high = wilson_interval(600, 1000)
    assert (low, high) == (pytest.approx(0.5693, abs=5e-4), pytest.approx(0.6299, abs=5e-4))


def test_the_waveform_loss_is_minus_the_si_sdr_of_torchmetrics_and_finite_at_its_ends():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 3, 4000, generator=generator)
    estimate = (0.3 * target + torch.randn(2, 3, 4000, generator=generator)).requires_grad_()
    loss = waveform_loss(estimate, target)
    assert float(loss.detach()) == pytest.approx(-float(si_sdr_db(estimate.detach(), target).mean()), abs=1e-3)
    for extreme in (target.clone(), torch.zeros_like(target)):
        waveform_loss(extreme.requires_grad_(), target).backward()
        assert extreme.grad is not None and extreme.grad.isfinite().all()


def test_the_phase_sensitive_target_comes_nearest_under_the_mixtures_phase():
    generator = torch.Generator().manual_seed(0)
    target, other = (torch.randn(1, 257, 30, dtype=torch.complex64, generator=generator) for _ in range(2))
    mixture = target + other
    phase = mixture / mixture.abs()

    def error(magnitude):
        return float((magnitude * phase - target).abs().square().sum())

    best = phase_sensitive_target(target, mixture)
    assert (best >= 0).all() and (best <= target.abs() + 1e-5).all()
    assert error(best) < error(target.abs())
    assert all(error(best) <= error((best + shift).clamp(min=0)) for shift in (-0.01, 0.01))


def test_permutation_invariant_training_takes_the_better_order_of_each_mixture():
    cost = torch.tensor([[[1.0, 5.0], [5.0, 2.0]], [[4.0, 1.0], [2.0, 4.0]]])
    mean, swapped = permutation_invariant(cost)
    assert swapped.tolist() == [False, True] and float(mean) == pytest.approx((1.5 + 1.5) / 2)


def test_fast_transforms_are_each_others_inverse_and_torchs_own():
    waveform = torch.randn(2, 3, 3200, generator=torch.Generator().manual_seed(0))
    spectrum = fast_spectrum(waveform)
    assert spectrum.shape == (2, 3, 257, 21)
    torch.testing.assert_close(fast_waveform(spectrum, 3200), waveform, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(Stft()(waveform[0])[0], spectrum[0].abs(), atol=1e-4, rtol=1e-4)

"""The measures of separation against independent references and closed forms."""

import json
import math

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import scipy.signal
import torch

from train.facefilter.metrics import bootstrap_interval, chance_of_winning, sdr_db, snr_db, wilson_interval
from train.facefilter.scoring import score, score_outputs, summarise
from train.facefilter.voiceprint import BANDS, COEFFICIENTS, Voiceprint, cosines

SAMPLES = 8_000


def noise(seed, *, colour=(1.0,), samples=SAMPLES):
    white = np.random.default_rng(seed).standard_normal(samples)
    return torch.from_numpy(scipy.signal.lfilter([1.0], colour, white))


def bss_eval_sdr_db(estimate, reference, taps=512):
    """Vincent et al. 2006: the estimate's energy in and out of the span of the reference's first 512 shifts."""
    reference, estimate = reference.numpy(), estimate.numpy()
    lags = scipy.signal.correlate(reference, reference)[len(reference) - 1 :][:taps]
    cross = scipy.signal.correlate(estimate, reference)[len(reference) - 1 :][:taps]
    filtered = scipy.signal.convolve(reference, scipy.linalg.solve_toeplitz(lags, cross))
    error = np.pad(estimate, (0, taps - 1)) - filtered
    return 10 * math.log10(np.sum(filtered**2) / np.sum(error**2))


@pytest.mark.parametrize("level", [0.01, 0.3, 3.0])
def test_sdr_is_the_projection_on_512_shifts_of_the_reference(level):
    reference = noise(1, colour=(1.0, -1.6, 0.8))
    echo = 0.4 * torch.roll(reference, 300)
    estimate = 0.7 * reference + echo + level * noise(2)
    found = float(sdr_db(estimate, reference))
    assert found == pytest.approx(bss_eval_sdr_db(estimate, reference), abs=1e-6)
    assert float(sdr_db(0.01 * estimate, reference)) == pytest.approx(found, abs=1e-6)


def test_a_row_without_an_sdr_is_nan_and_loses_no_other_row():
    voice, zeros = noise(1), torch.zeros(SAMPLES, dtype=torch.float64)
    noisy = voice + 0.1 * noise(2)
    found = sdr_db(torch.stack([noisy, zeros, noisy]), torch.stack([voice, voice, zeros]))
    assert float(found[0]) == pytest.approx(bss_eval_sdr_db(noisy, voice), abs=1e-6)
    assert found[1:].isnan().all()


def test_a_reference_without_high_tones_still_has_an_sdr():
    low = torch.from_numpy(
        scipy.signal.sosfiltfilt(scipy.signal.cheby2(20, 120, 0.2, output="sos"), noise(3).numpy()).copy()
    )
    assert math.isfinite(float(sdr_db(low + 0.1 * noise(4), low)))
    assert float(sdr_db(low, low)) > 60


def test_snr_counts_a_wrong_level_as_noise():
    voice = noise(1)
    assert float(snr_db(0.9 * voice, voice)) == pytest.approx(20, abs=1e-6)


def test_the_chance_of_winning_is_that_of_drawing():
    assert chance_of_winning(0, 199, 200) == 1
    assert chance_of_winning(1, 199, 200) == 0
    assert chance_of_winning(50, 100, 2) == pytest.approx(0.5)
    draws = np.random.default_rng(0).permuted(np.tile(np.arange(20), (20_000, 1)), axis=1)[:, :4]
    assert chance_of_winning(3, 20, 5) == pytest.approx(float((draws >= 3).all(axis=1).mean()), abs=0.02)


def test_the_redrawn_interval_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(0.7, 0.2, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == (pytest.approx(values.mean() - half, abs=3e-3), pytest.approx(values.mean() + half, abs=3e-3))


def test_the_cepstrum_is_scipys():
    spectrum = np.random.default_rng(0).standard_normal(BANDS)
    wanted = scipy.fft.dct(spectrum, norm="ortho")[1 : COEFFICIENTS + 1]
    np.testing.assert_allclose(cosines().numpy() @ spectrum, wanted, atol=1e-12)


def test_a_voiceprint_hears_no_level_and_keeps_to_the_louder_voice():
    deep, bright = noise(1, colour=(1.0, -0.9)).float(), noise(2, colour=(1.0, 0.5)).float()
    prints = Voiceprint()(torch.stack([deep, 0.05 * deep, bright, deep + 0.2 * bright, bright + 0.2 * deep]))
    torch.testing.assert_close(prints[0], prints[1], atol=1e-3, rtol=0)
    assert prints[3] @ prints[0] > prints[3] @ prints[2]
    assert prints[4] @ prints[2] > prints[4] @ prints[0]
    assert (Voiceprint()(torch.zeros(1, SAMPLES)) == 0).all()


def two_voices():
    target, interferer = noise(1, colour=(1.0, -0.9)).float(), noise(2, colour=(1.0, 0.5)).float()
    return target + interferer, target, interferer


def test_the_mixture_improves_nothing_and_the_interferer_is_the_wrong_voice():
    mixture, target, interferer = two_voices()
    same = score(mixture, target, interferer, mixture)
    assert all(same[name] == pytest.approx(0, abs=1e-9) for name in ("sdri_db", "si_sdri_db", "snri_db"))
    wrong = score(mixture, target, interferer, interferer)
    right = score(mixture, target, interferer, target + 0.1 * interferer)
    assert wrong["margin_db"] < 0 and wrong["margin_b"] < 0 and wrong["si_sdri_db"] < -10
    assert right["margin_db"] > 0 and right["margin_b"] > 0
    assert right["snri_db"] == pytest.approx(20, abs=1e-3)


def test_two_voices_without_a_face_are_judged_by_the_first_and_by_the_better_order():
    mixture, target, interferer = two_voices()
    outputs = {"given": np.stack([(interferer + 0.1 * target).numpy(), (target + 0.1 * interferer).numpy()])}
    figures = score_outputs(mixture.numpy(), target.numpy(), interferer.numpy(), outputs)
    assert figures["given"]["margin_db"] < 0 < figures["best_permutation"]["margin_db"]
    in_order = {"given": outputs["given"][::-1].copy()}
    figures = score_outputs(mixture.numpy(), target.numpy(), interferer.numpy(), in_order)
    assert figures["given"] == figures["best_permutation"]


def test_with_the_other_face_the_other_voice_is_wanted():
    mixture, target, interferer = two_voices()
    outputs = {"given": target.numpy()[None], "swapped": (interferer + 0.1 * target).numpy()[None]}
    swapped = score_outputs(mixture.numpy(), target.numpy(), interferer.numpy(), outputs)["swapped"]
    assert swapped["margin_db"] > 0 and swapped["si_sdri_db"] > 10
    assert swapped["si_sdr_gap_db"] > 40


def test_a_sum_counts_what_is_undefined_as_wrong_and_out_of_the_means():
    mixture, target, interferer = two_voices()
    rows = [
        {"given": score(mixture, target, interferer, voice)}
        for voice in (target + 0.1 * interferer, interferer + 0.1 * target, torch.zeros(SAMPLES))
    ]
    total = json.loads(json.dumps(summarise(rows), allow_nan=False))
    assert (total["n"], total["undefined"]) == (3, 1)
    assert total["accuracy"] == total["accuracy_b"] == total["accuracy_c"] == pytest.approx(1 / 3)
    assert total["accuracy_interval"] == list(wilson_interval(1, 3))
    assert total["sdri_db"] == pytest.approx(np.mean([row["given"]["sdri_db"] for row in rows[:2]]))


def test_a_sum_of_nothing_has_no_figures():
    assert summarise([]) == summarise([]) | {"n": 0, "sdri_db": None, "accuracy": None, "accuracy_interval": None}

"""The benchmark's degradations against closed forms and against PIL."""

from __future__ import annotations

import numpy as np
import pytest

from train.crowd.degrade import (
    SETTINGS,
    Degradation,
    degraded,
    parse_setting,
    picture_rng,
    random_degradation,
)
from train.errors import TrainError

GREY = np.full((240, 320, 3), 128, np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def every_value() -> np.ndarray:
    return np.arange(3 * 16 * 256, dtype=np.uint8).reshape(16, 256, 3)  # wraps: all 256 values in it


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.2, 0.37, 0.999, 1.0, 1.5])
def test_brightness_is_exactly_that_of_pil(factor: float) -> None:
    image = pytest.importorskip("PIL.Image")
    enhance = pytest.importorskip("PIL.ImageEnhance")
    expected = np.asarray(enhance.Brightness(image.fromarray(every_value())).enhance(factor))
    assert np.array_equal(degraded(every_value(), Degradation(brightness=factor), rng()), expected)


def test_brightness_multiplies_and_cuts_to_an_integer() -> None:
    assert np.array_equal(degraded(every_value(), Degradation(brightness=0.25), rng()), every_value() // 4)


@pytest.mark.parametrize("sigma", [5, 25, 50])
def test_noise_has_the_asked_deviation_and_no_mean(sigma: float) -> None:
    noise = degraded(np.full((768, 1024, 3), 128, np.uint8), Degradation(noise=sigma), rng()).astype(float) - 128
    if sigma < 30:  # nothing is clipped: rounding alone adds a twelfth of a squared level
        assert noise.std() == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.005)
    assert abs(noise.mean()) < 4 * sigma / np.sqrt(noise.size) + 0.1
    within = np.mean(np.abs(noise) <= sigma)
    from scipy.stats import norm

    assert within == pytest.approx(norm.cdf(1 + 0.5 / sigma) * 2 - 1, abs=0.003)
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.005
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.005


def test_noise_is_clipped_and_never_wraps() -> None:
    black, white = (degraded(np.full_like(GREY, value), Degradation(noise=50), rng()) for value in (0, 255))
    assert black.max() < 255 and np.mean(black == 0) == pytest.approx(0.5, abs=0.01)
    assert white.min() > 0 and np.mean(white == 255) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.25, 0.5, 0.9, 1.0])
def test_the_black_share_is_the_occlusion_rate(rate: float) -> None:
    hidden = (degraded(GREY, Degradation(occlusion=rate), rng()) == 0).all(axis=2)
    rounding = 0.5 * (1 / 240 + 1 / 320) + 1e-4
    assert hidden.mean() == pytest.approx(rate, abs=rounding)
    rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
    assert hidden.sum() == rows.size * columns.size  # one rectangle
    if 0.2 < rate < 1:  # of the picture's own shape
        assert columns.size / rows.size == pytest.approx(320 / 240, rel=0.02)


def test_the_black_box_lies_anywhere() -> None:
    tops = [
        np.flatnonzero((degraded(GREY, Degradation(occlusion=0.25), rng(seed)) == 0).any(axis=(1, 2)))[0]
        for seed in range(300)
    ]
    assert np.mean(tops) == pytest.approx(60, abs=6) and np.std(tops) == pytest.approx(120 / 12**0.5, rel=0.15)


def test_drawn_light_is_uniform_and_drawn_noise_is_uniform_in_power() -> None:
    light = [degraded(GREY[:8, :8], Degradation(brightness=0.2, drawn=True), rng(seed)).mean() for seed in range(500)]
    assert np.max(light) <= 0.2 * 128 and np.mean(light) == pytest.approx(0.1 * 128 - 0.5, rel=0.08)
    patch = np.full((24, 24, 3), 128, np.uint8)
    deviations = [degraded(patch, Degradation(noise=25, drawn=True, brightness=0), rng(seed)) for seed in range(50)]
    assert all(picture.max() < 128 for picture in deviations)  # brightness comes first, the noise lies upon it
    powers = [float(np.mean(picture.astype(float) ** 2)) * 2 for picture in deviations]  # half of the noise is cut off
    assert np.mean(powers) == pytest.approx(25**2 / 2, rel=0.25) and np.std(powers) > 0.15 * 25**2


def test_a_box_hides_the_noise_too() -> None:
    assert not degraded(GREY, Degradation(noise=50, occlusion=1.0), rng()).any()


def test_a_picture_is_degraded_alike_in_any_order_and_the_original_stays() -> None:
    names = ["IMG_1", "IMG_2", "IMG_3"]
    setting = Degradation(brightness=0.2, noise=25, occlusion=0.3, drawn=True)
    before = GREY.copy()
    forwards = {name: degraded(GREY, setting, picture_rng(7, name)) for name in names}
    backwards = {name: degraded(GREY, setting, picture_rng(7, name)) for name in reversed(names)}
    assert all(np.array_equal(forwards[name], backwards[name]) for name in names)
    assert not np.array_equal(forwards["IMG_1"], forwards["IMG_2"])
    assert not np.array_equal(forwards["IMG_1"], degraded(GREY, setting, picture_rng(8, "IMG_1")))
    assert np.array_equal(GREY, before)


def test_the_six_settings_are_those_of_table_1() -> None:
    values = {name: (s.resolution, s.brightness, s.noise, s.drawn, s.occlusion) for name, s in SETTINGS.items()}
    assert values == {
        "regular": ("regular", 1.0, 0, False, 0),
        "low_resolution": ("low", 1.0, 0, False, 0),
        "noise_25": ("regular", 1.0, 25, False, 0),
        "noise_50": ("regular", 1.0, 50, False, 0),
        "dark_25": ("regular", 0.2, 25, True, 0),
        "dark_50": ("regular", 0.2, 50, True, 0),
    }
    assert np.array_equal(degraded(GREY, SETTINGS["regular"], rng()), GREY)


def test_a_name_gives_its_setting_and_another_one_is_refused() -> None:
    assert parse_setting("noise_50") == Degradation(noise=50)
    assert parse_setting("occlusion_0.5") == Degradation(occlusion=0.5)
    for wrong in ("noise_75", "occlusion_", "occlusion_1.5", "occlusion_nan", ""):
        with pytest.raises(TrainError, match=f"no setting '{wrong}'; wanted regular, low_resolution"):
            parse_setting(wrong)
    with pytest.raises(TrainError, match="noise is -1; wanted a number from 0"):
        Degradation(noise=-1)


def test_training_sees_every_kind_and_many_pictures_as_they_are() -> None:
    generator = rng()
    drawn = [random_degradation(generator) for _ in range(2000)]
    assert np.mean([d == SETTINGS["regular"] for d in drawn]) == pytest.approx(0.4, abs=0.04)
    assert {d.noise for d in drawn} == {0, 25, 50}
    assert np.mean([d.drawn for d in drawn]) == pytest.approx(0.2, abs=0.04)
    rates = [d.occlusion for d in drawn if d.occlusion]
    assert np.mean(rates) == pytest.approx(0.5, abs=0.05) and min(rates) < 0.02 and max(rates) > 0.98

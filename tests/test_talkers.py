"""Synthetic talkers: voices follow their hidden numbers, and a detector finds the faces."""

import csv
from dataclasses import replace

import cv2
import numpy as np
import pytest

from train.corpus.layout import read_piece, read_speakers, read_stills
from train.errors import TrainError
from train.synthetic.faces import CROP_GREY, Box, crop_face, draw_look, draw_portrait
from train.synthetic.speech import Synthesizer, Voice, colour, scale_formants
from train.synthetic.talkers import draw_person, make_talker, synthesize_talkers

TEXT = "Our new captain never mentioned the broken telescope behind the railway station."


def voice(f0_hz=120.0, formant_ratio=1.0, **options):
    return Voice(
        **{
            "f0_hz": f0_hz,
            "formant_ratio": formant_ratio,
            "rate_wpm": 165.0,
            "intonation": 0.2,
            "tilt_db_per_octave": 0.0,
            "breath": 0.0,
            "accent": "en-us",
            **options,
        }
    )


def speak(wanted):
    with Synthesizer() as synthesizer:
        return synthesizer.say(TEXT, wanted)


def median_f0_hz(waveform):
    """Median over voiced frames of the autocorrelation's highest peak between 60 and 400 Hz."""
    found = []
    loud = 0.3 * np.sqrt(np.mean(waveform**2))
    for start in range(0, len(waveform) - 800, 400):
        frame = waveform[start : start + 800] - waveform[start : start + 800].mean()
        if np.sqrt(np.mean(frame**2)) < loud:
            continue
        correlation = np.correlate(frame, frame, "full")[799:]
        correlation *= 800 / np.arange(800, 0, -1)  # fewer products at longer lags
        lag = 40 + int(np.argmax(correlation[40:267]))
        if correlation[lag] > 0.6 * correlation[0]:
            found.append(16_000 / lag)
    return float(np.median(found))


def smooth_spectrum(waveform, frequencies_hz):
    """Long-term log spectrum at given frequencies, smoothed over 300 Hz so that harmonics vanish."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 1024)[::256] * np.hanning(1024)
    power = np.mean(np.abs(np.fft.rfft(frames)) ** 2, axis=0)
    smooth = np.convolve(power, np.hanning(21) / np.hanning(21).sum(), mode="same")
    return np.log(np.interp(frequencies_hz, np.fft.rfftfreq(1024, 1 / 16_000), smooth))


@pytest.mark.parametrize(("f0_hz", "formant_ratio"), [(95.0, 0.95), (140.0, 1.0), (210.0, 1.15), (260.0, 1.2)])
def test_measured_pitch_follows_the_hidden_pitch_whatever_the_vocal_tract(f0_hz, formant_ratio):
    assert median_f0_hz(speak(voice(f0_hz, formant_ratio))) == pytest.approx(f0_hz, rel=0.08)


def test_scaling_formants_multiplies_frequencies():
    time_s = np.arange(22_050) / 22_050
    scaled = scale_formants(np.sin(2 * np.pi * 1000 * time_s).astype(np.float32), 22_050, 1.2)
    spectrum = np.abs(np.fft.rfft(scaled * np.hanning(len(scaled))))
    assert np.argmax(spectrum) * 16_000 / len(scaled) == pytest.approx(1200, abs=2)
    assert len(scaled) == pytest.approx(16_000 / 1.2, abs=2)


def test_a_shorter_vocal_tract_moves_the_spectrum_up_and_leaves_pitch_and_pace():
    longer, shorter = speak(voice(150.0, 1.0)), speak(voice(150.0, 1.2))
    frequencies_hz = np.geomspace(300, 4500, 300)
    shifts = np.geomspace(0.9, 1.4, 101)
    reference = smooth_spectrum(longer, frequencies_hz)
    agreement = [np.corrcoef(reference, smooth_spectrum(shorter, frequencies_hz * shift))[0, 1] for shift in shifts]
    assert shifts[int(np.argmax(agreement))] == pytest.approx(1.2, rel=0.04)
    assert len(shorter) == pytest.approx(len(longer), rel=0.06)


def test_tilt_softens_the_high_frequencies_and_breath_fills_them():
    rng = np.random.default_rng(0)
    spoken = speak(voice())
    bands_hz = np.array([500.0, 5000.0])
    slopes = {}
    for name, wanted in {
        "plain": voice(),
        "soft": voice(tilt_db_per_octave=-6.0),
        "breathy": voice(breath=0.3),
    }.items():
        low, high = smooth_spectrum(colour(spoken, wanted, rng), bands_hz)
        slopes[name] = 10 / np.log(10) * (high - low)
    assert slopes["soft"] - slopes["plain"] == pytest.approx(-6 * np.log2(10), abs=1)
    assert slopes["breathy"] > slopes["plain"] + 1


def test_the_same_voice_says_the_same_whatever_was_said_before_it_elsewhere():
    first = speak(voice())
    speak(voice(230.0, 1.1, accent="en-gb-scotland"))
    np.testing.assert_array_equal(first, speak(voice()))


def test_an_unknown_accent_is_refused_by_name():
    with pytest.raises(TrainError, match="no voice 'xx-none'.*en-us"):
        speak(voice(accent="xx-none"))


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_talker_is_the_same_for_the_same_seed_and_another_for_another(made_talkers, tmp_path):
    for folder, seed in (("again", 2026), ("other", 8)):
        make_talker(tmp_path / folder, "train", 1, seed)
    made = files_of(made_talkers / "train-0001")
    again, other = (files_of(tmp_path / folder / "train-0001") for folder in ("again", "other"))
    assert len(made) == 12 and made == again
    assert made.keys() == other.keys() and all(made[path] != other[path] for path in made)


def test_the_data_do_not_depend_on_the_number_of_processes(tmp_path):
    for jobs in (1, 2):
        synthesize_talkers(tmp_path / str(jobs), 2, seed=5, val_talkers=2, test_talkers=3, jobs=jobs)
    one, two = (files_of(tmp_path / str(jobs)) for jobs in (1, 2))
    assert one == two
    assert len(one) == 2 + 7 * 12  # two tables, and six voices and pictures each


def test_no_talker_is_in_two_splits_and_two_videos_of_those_trained_on_are_withheld(made_talkers):
    splits = {split: read_speakers(made_talkers, split) for split in ("train", "seen", "val", "test")}
    names = {split: {one.name for one in speakers} for split, speakers in splits.items()}
    assert names["train"] == names["seen"] and len(names["train"] | names["val"] | names["test"]) == 12
    assert {one.sex for one in splits["test"]} == {"F", "M"}
    videos = {split: {clip.video for clip in speakers[0].clips} for split, speakers in splits.items()}
    assert {split: len(found) for split, found in videos.items()} == {"train": 4, "seen": 2, "val": 6, "test": 6}
    assert not videos["train"] & videos["seen"]


def test_voices_and_stills_are_what_the_index_and_the_hidden_numbers_say(made_talkers):
    with (made_talkers / "talkers.csv").open(newline="") as file:
        hidden = {row["name"]: row for row in csv.DictReader(file)}
    for speaker in read_speakers(made_talkers, "train"):
        for clip in speaker.clips:
            voice = read_piece(clip.voice(made_talkers), 0, clip.samples)
            assert 2 * 16_000 < clip.samples < 8 * 16_000
            assert median_f0_hz(voice) == pytest.approx(float(hidden[speaker.name]["f0_hz"]), rel=0.15)
            assert read_stills(clip.stills(made_talkers)).shape == (2, 224, 224, 3)


def test_the_stills_of_a_video_share_their_background_and_those_of_two_videos_do_not():
    look = draw_look("F", 0.0, 0.0, 0.0, np.random.default_rng(0))
    corners = [
        draw_portrait(look, np.random.default_rng(number), scene=np.random.default_rng(scene)).picture[:60, :60]
        for number, scene in ((1, 7), (2, 7), (3, 8))
    ]
    colours = [corner.mean(axis=(0, 1)) for corner in corners]
    # light and exposure change from picture to picture, the mixture of red, green and blue hardly
    same, other = (np.abs(colours[0] / colours[0].sum() - one / one.sum()).max() for one in colours[1:])
    assert same < 0.03 < other


def test_an_existing_folder_is_never_overwritten_and_too_few_talkers_are_refused(made_talkers, tmp_path):
    with pytest.raises(TrainError, match="exists already"):
        synthesize_talkers(made_talkers, 4, seed=7)
    with pytest.raises(TrainError, match="'test': 1.*at least 2"):
        synthesize_talkers(tmp_path / "few", 4, seed=7, test_talkers=1)
    assert not (tmp_path / "few").exists()


def test_a_talker_that_fails_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "train.synthetic.talkers.draw_person",
        lambda sex, rng: replace(draw_person(sex, rng), voice=voice(accent="xx-none")),
    )
    with pytest.raises(TrainError, match="xx-none"):
        synthesize_talkers(tmp_path / "made", 2, seed=1)
    assert not list(tmp_path.iterdir())


def test_sexes_differ_in_pitch_on_average_and_overlap():
    rng = np.random.default_rng(0)
    women, men = ([draw_person(sex, rng).voice.f0_hz for _ in range(300)] for sex in ("F", "M"))
    assert np.median(women) > 1.4 * np.median(men)
    assert np.min(women) < np.max(men)


def test_the_crop_follows_the_published_rule():
    # Each pixel says where it is: red counts columns, green counts rows.
    rows, columns = np.mgrid[0:200, 0:240]
    picture = np.stack([columns, rows, np.full_like(rows, 7)], axis=2).astype(np.uint8)
    crop = crop_face(picture, Box(left=100, top=60, width=40, height=50)).astype(float)
    # s = 25, middle (120, 85): x from 85 to 155, y from 60 to 130, so 70 pixels become 224
    centres = (np.arange(224) + 0.5) * 70 / 224 - 0.5
    np.testing.assert_allclose(crop[112, :, 0], centres + 85, atol=1)
    np.testing.assert_allclose(crop[:, 112, 1], centres + 60, atol=1)


def test_the_crop_is_grey_outside_the_picture():
    crop = crop_face(np.zeros((100, 100, 3), np.uint8), Box(left=0, top=0, width=60, height=60))
    assert (crop[100, :20] == CROP_GREY).all() and (crop[100, 100:150] == 0).all()


def test_a_face_detector_finds_at_least_95_percent_of_drawn_portraits_in_a_bigger_picture():
    rng = np.random.default_rng(11)
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")
    found = 0
    for number in range(40):
        look = draw_look("FM"[number % 2], *rng.normal(size=3).clip(-2, 2), rng)
        portrait = draw_portrait(look, rng)
        scene = np.full((600, 800, 3), 128, np.uint8)
        scene[60:540, 160:640] = portrait.picture
        x, y = 160 + portrait.face.left + portrait.face.width / 2, 60 + portrait.face.top + portrait.face.height / 2
        boxes = detector.detectMultiScale(cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY), 1.1, 3, minSize=(80, 80))
        found += any(abs(bx + w / 2 - x) < 30 and abs(by + h / 2 - y) < 40 for bx, by, w, h in boxes)
    assert found >= 38


def test_portraits_of_one_person_differ_but_keep_the_look():
    look = draw_look("F", 0.0, 0.0, 0.0, np.random.default_rng(0))
    first, second = (draw_portrait(look, np.random.default_rng(seed)) for seed in (1, 2))
    assert np.abs(first.picture.astype(float) - second.picture).mean() > 10
    ratios = [portrait.face.width / portrait.face.height for portrait in (first, second)]
    assert ratios[0] == pytest.approx(ratios[1], rel=0.02)

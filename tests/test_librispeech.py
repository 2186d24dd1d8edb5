"""LibriSpeech with drawn faces: voices are measured and perturbed as said, and the corpus holds what its index says."""

import csv
import json

import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from train.corpus.drawn_faces import draw_stills, face_for_voice, seed_of
from train.corpus.layout import read_speakers, read_stills
from train.corpus.librispeech import Options, draw_splits, prepare_librispeech
from train.corpus.librispeech_files import list_recordings
from train.corpus.measure import VoiceMeasure, analyse_voice, measure_voice, track_pitch
from train.corpus.perturb import Variant, draw_variants, perturb, shift_pitch
from train.errors import TrainError
from train.synthetic.speech import Synthesizer, Voice, colour, sentence


def speak(seed, *, f0_hz=120.0, formant_ratio=1.0, tilt_db_per_octave=-1.0, sentences=2):
    rng = np.random.default_rng(seed)
    voice = Voice(f0_hz, formant_ratio, 165.0, 0.2, tilt_db_per_octave, 0.02, "en-us")
    with Synthesizer() as synthesizer:
        parts = [colour(synthesizer.say(sentence(rng), voice), voice, rng) for _ in range(sentences)]
    return np.concatenate(parts)


def vowel(f0_hz, formants_hz=(600, 1400, 2500, 3500), seconds=2.0):
    """Pulses through resonators: pitch and formants are exactly known."""
    pulses = np.zeros(int(16000 * seconds))
    pulses[np.round(np.arange(1, f0_hz * seconds - 1) * 16000 / f0_hz).astype(int)] = 1
    sound = scipy.signal.lfilter([1], [1, -0.95], pulses)
    for hz in formants_hz:
        radius, angle = np.exp(-np.pi * 90 / 16000), 2 * np.pi * hz / 16000
        sound = scipy.signal.lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], sound)
    noise = np.random.default_rng(0).standard_normal(len(sound)) * 1e-3
    return (0.1 * sound / sound.std() + noise * 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six talkers of two recordings, one damaged and one short file beside; two perturbed voices each."""
    folder = tmp_path_factory.mktemp("libri")
    rows = []
    for number in range(6):
        sex = "FM"[number % 2]
        f0_hz, ratio = (205.0, 1.15) if sex == "F" else (118.0, 1.0)
        for take in range(1 + (number < 4)):
            path = folder / f"{number}-{take}.flac"
            soundfile.write(path, speak(10 * number + take, f0_hz=f0_hz, formant_ratio=ratio), 16000)
            rows.append((path.name, f"s-{number}", sex))
    (folder / "bad.flac").write_bytes(b"fLaC, but not really")
    soundfile.write(folder / "short.flac", np.zeros(16000, np.float32), 16000)
    soundfile.write(folder / "silent.flac", np.zeros(64000, np.float32), 16000)
    rows += [(f"{name}.flac", "s-0", "F") for name in ("bad", "short", "silent")]
    with (folder / "speech.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "speaker", "gender"), *rows])
    options = Options(held_out=2, validation=2, variants=2)
    report = prepare_librispeech(folder, folder / "made", options)
    return folder, options, report


@pytest.mark.parametrize("f0_hz", [75.0, 110.0, 160.0, 230.0, 330.0])
def test_the_pitch_of_pulses_is_found_within_half_a_percent(f0_hz):
    track_hz, voiced = track_pitch(vowel(f0_hz).astype(np.float64))
    assert voiced.mean() > 0.9
    assert float(np.median(track_hz[voiced])) == pytest.approx(f0_hz, rel=0.005)


@pytest.mark.parametrize(("f0_hz", "ratio"), [(95.0, 0.95), (120.0, 1.0), (190.0, 1.15), (240.0, 1.2)])
def test_an_espeak_voice_measures_as_it_was_ordered(f0_hz, ratio):
    spoken = speak(1, f0_hz=f0_hz, formant_ratio=ratio, sentences=3)
    measured = measure_voice(spoken)
    assert measured.tract == pytest.approx(ratio, rel=0.05)
    assert measured.f0_hz == pytest.approx(f0_hz, rel=0.05)  # its melody moves the median


@pytest.mark.parametrize("ratio", [0.9, 0.95, 1.06, 1.12])
def test_a_resampled_voice_measures_as_its_analysis_foretells(ratio):
    spoken = speak(2, sentences=3)
    scaled = soxr.resample(spoken, 16000 * ratio, 16000)
    foretold, measured = analyse_voice(spoken).measure(pitch=ratio, formants=ratio), measure_voice(scaled)
    assert measured.f0_hz == pytest.approx(foretold.f0_hz, rel=0.02)
    assert measured.tract == pytest.approx(foretold.tract, rel=0.035)
    assert measured.tilt_db_per_octave == pytest.approx(foretold.tilt_db_per_octave, abs=0.7)


def test_a_filter_of_two_decibels_an_octave_is_measured():
    slopes = [measure_voice(speak(3, tilt_db_per_octave=tilt)).tilt_db_per_octave for tilt in (-3.0, -1.0)]
    assert slopes[1] - slopes[0] == pytest.approx(2.0, abs=0.3)


def test_scores_mean_what_they_mean_for_synthetic_talkers():
    assert VoiceMeasure(200 * 2**0.22, 1.0, -7.0).scores("F")[0] == pytest.approx(1)
    assert VoiceMeasure(122 * 2**-0.28, 1.0, -7.0).scores("M")[0] == pytest.approx(-1)
    softer, brighter = (VoiceMeasure(122, 1.0, tilt).scores("M")[2] for tilt in (-8.0, -6.0))
    assert softer > brighter
    assert VoiceMeasure(122, 1.05, -7.0).scores("M")[1] > VoiceMeasure(122, 0.95, -7.0).scores("M")[1]
    assert VoiceMeasure(400, 2.0, -30.0).scores("M") == (2.5, 2.5, 2.5)


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (np.zeros(32000), "voiced"),
        (np.zeros(0), "only 0.00 s"),
        (np.full(32000, np.nan), "no numbers"),
        (np.full(32000, 0.5), "voiced"),
    ],
)
def test_what_is_no_voice_is_refused_with_the_reason(waveform, reason):
    with pytest.raises(ValueError, match=reason):
        measure_voice(waveform.astype(np.float32))


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.15, 1.3])
def test_shifting_the_pitch_leaves_formants_and_duration(factor):
    sound = vowel(120.0)
    shifted = shift_pitch(sound.astype(np.float64), factor)
    before, after = measure_voice(sound), measure_voice(shifted.astype(np.float32))
    assert len(shifted) == len(sound)
    assert after.f0_hz == pytest.approx(factor * before.f0_hz, rel=0.02)
    assert after.tract == pytest.approx(before.tract, rel=0.03)


def test_a_perturbed_voice_keeps_its_level_and_gets_all_three():
    spoken = speak(4, sentences=3)
    variant = Variant(pitch=1.15, formants=0.95, tilt_db_per_octave=1.5)
    changed = perturb(spoken, variant)
    wanted = analyse_voice(spoken).measure(pitch=1.15, formants=0.95, tilt_db_per_octave=1.5)
    measured = measure_voice(changed)
    assert len(changed) == pytest.approx(len(spoken) / 0.95, rel=0.001)
    assert np.sqrt(np.mean(changed**2)) == pytest.approx(np.sqrt(np.mean(spoken**2)), rel=0.01)
    assert measured.f0_hz == pytest.approx(wanted.f0_hz, rel=0.04)
    assert measured.tract == pytest.approx(wanted.tract, rel=0.06)
    assert measured.tilt_db_per_octave == pytest.approx(wanted.tilt_db_per_octave, abs=0.8)


def test_variants_are_spread_over_the_whole_range():
    drawn = draw_variants(8, np.random.default_rng(0))
    for values in (
        [np.log2(one.pitch) / 0.28 for one in drawn],
        [np.log(one.formants) / 0.075 for one in drawn],
        [one.tilt_db_per_octave / 2 for one in drawn],
    ):
        assert sorted(int((value + 1) * 4) for value in values) == list(range(8))
    assert draw_variants(0, np.random.default_rng(0)) == []


def test_faces_are_the_same_for_the_same_voice_and_follow_it():
    low, high = VoiceMeasure(100, 1.0, -7.0), VoiceMeasure(150, 1.0, -7.0)

    def draw(measure, seed):
        return draw_stills(measure, "M", seed_of("somebody"), np.random.default_rng(seed), 2)

    first, again, other = draw(low, 1), draw(low, 1), draw(high, 1)
    assert np.array_equal(first, again)
    assert first[0].shape == (224, 224, 3) and first[0].dtype == np.uint8
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_a_face_for_evaluation_takes_one_recording_or_several():
    parts = [speak(5, sentences=1), speak(6, sentences=1)]
    joined = face_for_voice(np.concatenate(parts), "M", seed=7)
    assert np.array_equal(face_for_voice(parts, "M", seed=7), joined)
    assert not np.array_equal(face_for_voice(parts, "M", seed=8), joined)
    with pytest.raises(TrainError, match=r"No face can be drawn from 1\.0 s"):
        face_for_voice(np.zeros(16000, np.float32), "M", seed=7)


def test_splits_are_disjoint_balanced_and_whole(made):
    folder, options, report = made
    splits = draw_splits(list_recordings(folder), options)
    assert sorted(splits) == [f"s-{number}" for number in range(6)]
    for split in ("test", "val", "train"):
        names = [name for name, found in splits.items() if found == split]
        assert sorted(int(name[-1]) % 2 for name in names) == [0, 1]
        assert {one.name.split("@")[0] for one in read_speakers(folder / "made", split)} == set(names)
    assert report["splits"]["train"]["speakers"] == 2 * (1 + 2)


def test_every_clip_has_its_voice_and_stills(made):
    folder = made[0] / "made"
    for split in ("train", "seen", "val", "test"):
        for speaker in read_speakers(folder, split):
            for clip in speaker.clips:
                sound, rate_hz = soundfile.read(clip.voice(folder))
                assert (len(sound), rate_hz) == (clip.samples, 16000) and clip.samples >= 2.2 * 16000
                assert read_stills(clip.stills(folder)).shape == (clip.faces, 224, 224, 3)


def test_what_is_withheld_is_in_no_training_clip(made):
    folder = made[0] / "made"
    own = {one.name: one for one in read_speakers(folder, "train")}
    for speaker in read_speakers(folder, "seen"):
        for clip in speaker.clips:
            (kept,) = (one for one in own[speaker.name].clips if f"{one.video}-end" == clip.video)
            whole, _ = soundfile.read(made[0] / f"{kept.video}.flac")
            parts = [soundfile.read(one.voice(folder))[0] for one in (kept, clip)]
            assert np.allclose(np.concatenate(parts), whole, atol=1e-4)


def test_a_held_out_speaker_with_one_recording_has_two_videos(made):
    folder = made[0] / "made"
    held_out = [*read_speakers(folder, "test"), *read_speakers(folder, "val")]
    assert all(len({clip.video for clip in speaker.clips}) == 2 for speaker in held_out)


def test_variants_have_names_and_voices_of_their_own(made):
    folder = made[0] / "made"
    speakers = read_speakers(folder, "train")
    measured = {
        one.name: measure_voice(soundfile.read(one.clips[0].voice(folder), dtype="float32")[0]) for one in speakers
    }
    for name, found in measured.items():
        if "@" in name:
            base, variant = name.split("@p")
            pitch, formants = (float(number) for number in variant.split("f"))
            assert found.f0_hz / measured[base].f0_hz == pytest.approx(pitch, rel=0.06)
            assert found.tract / measured[base].tract == pytest.approx(formants, rel=0.05)


def test_what_is_left_out_is_counted_by_trouble(made):
    assert dict(made[2]["left_out"]) == {"damaged": 1, "too short": 1, "too little voice": 1}
    json.dumps(made[2])


def test_the_corpus_is_the_same_for_any_number_of_processes(made, tmp_path):
    folder, options, _ = made
    prepare_librispeech(folder, tmp_path / "again", Options(options.held_out, options.validation, 2, jobs=2))
    first, again = (
        {path.relative_to(top): path for path in top.rglob("*.*") if path.is_file()}
        for top in (folder / "made", tmp_path / "again")
    )
    assert first.keys() == again.keys()
    assert all(path.read_bytes() == again[name].read_bytes() for name, path in first.items())


def test_the_official_tree_is_read(tmp_path):
    (tmp_path / "SPEAKERS.TXT").write_text(
        "; comment\n14   | F | train-clean-360  | 25.03 | Kristin\n26 | M | x | 1 | D\n"
    )
    chapter = tmp_path / "train-clean-360" / "14" / "208"
    chapter.mkdir(parents=True)
    (chapter / "14-208-0000.flac").write_bytes(b"")
    (found,) = list_recordings(tmp_path)
    assert (found.speaker, found.sex, found.path.name) == ("libri-14", "F", "14-208-0000.flac")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (None, "Neither speech.csv nor SPEAKERS.TXT"),
        ("file,speaker,gender\n", "No recording is listed"),
        ("file,speaker,gender\na.flac,s,X\n", "line 2: wanted file, speaker and gender"),
        ("file,speaker\na.flac,s\n", "line 2: wanted file, speaker and gender"),
        ("file,speaker,gender\na.flac,../s,F\n", "wanted letters, digits"),
        ("file,speaker,gender\na.flac,s,F\nb.flac,s,M\n", "two sexes"),
        ("file,speaker,gender\na/x.flac,s,F\nb/x.flac,s,F\n", "two recordings"),
        ("file,speaker,gender\na.flac,s,F\nb.flac,t,M\n", "none is left for training"),
    ],
)
def test_a_bad_list_is_named(tmp_path, table, reason):
    if table is not None:
        (tmp_path / "speech.csv").write_text(table)
    with pytest.raises(TrainError, match=reason):
        prepare_librispeech(tmp_path, tmp_path / "out", Options(held_out=2, validation=0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"held_out": 3}, {"validation": -2}, {"variants": -1}, {"jobs": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(TrainError, match="wanted"):
        Options(**options)


def test_nothing_is_left_when_no_recording_can_be_used(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.flac").write_bytes(b"no sound")
    (tmp_path / "speech.csv").write_text("file,speaker,gender\na.flac,a,F\nb.flac,b,M\nc.flac,c,F\nd.flac,d,M\n")
    with pytest.raises(TrainError, match=r"could be used.*damaged.*4"):
        prepare_librispeech(tmp_path, tmp_path / "out", Options(held_out=0, validation=0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.flac", "b.flac", "c.flac", "d.flac", "speech.csv"]


def test_a_folder_that_exists_is_not_touched(made):
    folder, options, _ = made
    with pytest.raises(TrainError, match="exists already"):
        prepare_librispeech(folder, folder / "made", options)


@pytest.mark.slow
def test_two_halves_of_real_recordings_measure_alike(shared_data):
    """What decides whether a face that is drawn from one half helps to find the voice in the other."""
    longest = {}
    for row in csv.DictReader((shared_data / "speech" / "speech.csv").open()):
        if float(row["seconds"]) > max(10.0, longest.get(row["speaker"], ("", "", 0.0))[2]):
            longest[row["speaker"]] = (row["file"], row["gender"], float(row["seconds"]))
    for sex in ("F", "M"):
        scores = []
        for name, _, _ in [one for one in longest.values() if one[1] == sex][:40]:
            sound, _ = soundfile.read(shared_data / "speech" / name, dtype="float32")
            scores.append([measure_voice(half).scores(sex) for half in np.array_split(sound, 2)])
        first, second = np.array(scores).transpose(1, 2, 0)  # each (3, speakers)
        agreement = [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(first, second, strict=True)]
        assert min(agreement[:2]) > 0.6 and agreement[2] > 0.85, (sex, agreement)


@pytest.mark.slow
def test_the_pitch_is_what_pyin_hears():
    spoken = speak(1, f0_hz=190.0, formant_ratio=1.15)
    track_hz, _, _ = librosa.pyin(soxr.resample(spoken, 16000, 8000), fmin=60, fmax=420, sr=8000, frame_length=512)
    assert measure_voice(spoken).f0_hz == pytest.approx(float(np.nanmedian(track_hz)), rel=0.03)

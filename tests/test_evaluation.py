"""Judging lists of mixtures: any sound, any face, bad rows, the systems' options, the report."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile
import soxr
import torch

import avedge
from train.checkpoint import save_weights
from train.corpus.layout import write_stills
from train.corpus.mixtures import Mixture, read_list, write_list
from train.corpus.recordings import read_recording
from train.errors import TrainError
from train.facefilter.commands import _decoder
from train.facefilter.evaluation import Options, evaluate, mean_of_rows
from train.facefilter.identity import FACE_IDENTITY, FACE_PRESETS, build_face_identity
from train.facefilter.listed import Loaded, Skipped, evenly, load, read_face, requests_for
from train.facefilter.report import TABLE_2, TABLE_3, markdown, table_2, write_report
from train.facefilter.separator import AUDIO_ONLY, SEPARATOR, AudioOnlySeparator, Separator
from train.facefilter.systems import Decoder, FaceSystem, find_weights, load_system

RATE = 16_000
SMALL = {"channels": 4, "features": 4, "mask_blocks": 1}


def buzz(f0_hz, seed, seconds=4.0):
    """A voice of sorts: harmonics under four resonances, in syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(f0_hz * (1 + 0.03 * np.sin(2 * np.pi * 0.7 * time))) / RATE
    harmonics = np.arange(1, int(7000 / f0_hz)) * f0_hz
    formants = sum(np.exp(-(((harmonics - place) / 150.0) ** 2)) for place in (500, 1500, 2500, 3500))
    levels = (formants + 0.05) / harmonics**0.5
    tones = sum(level * np.sin(k * phase) for k, level in enumerate(levels, start=1))
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6))
    return (0.1 * syllables * tones / np.std(tones) + 1e-3 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two people with two recordings each, and stills of one of them."""
    root = tmp_path_factory.mktemp("recordings")
    for name, f0_hz in (("her", 210.0), ("him", 110.0)):
        (root / name).mkdir()
        for take in (1, 2):
            soundfile.write(root / name / f"{take}.flac", buzz(f0_hz, take), RATE)
    stills = [np.full((224, 224, 3), level, np.uint8) for level in (40, 120, 200)]
    write_stills(root / "her" / "2.jpg", stills)
    return root


ROW = Mixture("row", "made", "FM", "her/1.flac", 0.5, "her", "F", "him/1.flac", 1.0, "him", "M", 0.0)
SEEN = replace(ROW, id="seen", target_face="her/2.jpg", target_face_index=1)


def loaded(root, row, **options):
    found = load(requests_for(root, [row], **options)[0])
    assert isinstance(found, Loaded), found
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with tiny untrained networks."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_weights(folder / f"{SEPARATOR}.safetensors", Separator(**SMALL), model=SEPARATOR, options=SMALL)
    face = build_face_identity("compact")
    save_weights(folder / f"{FACE_IDENTITY}.safetensors", face, model=FACE_IDENTITY, options=FACE_PRESETS["compact"])
    return folder


@pytest.fixture(scope="module")
def blind_weights(tmp_path_factory):
    """A folder with a tiny untrained network without a face."""
    folder = tmp_path_factory.mktemp("blind")
    torch.manual_seed(0)
    path = folder / f"{AUDIO_ONLY}.safetensors"
    save_weights(path, AudioOnlySeparator(**SMALL), model=AUDIO_ONLY, options=SMALL)
    return folder


def run(capsys, *words):
    code = avedge.main(["evaluate", "facefilter", *map(str, words)])
    return code, *capsys.readouterr()


def test_a_recording_is_the_same_whatever_its_rate_channels_and_format(tmp_path):
    voice = buzz(120.0, 0, seconds=2.0)
    fast = soxr.resample(voice, RATE, 44_100, quality="VHQ")
    stereo = np.stack([1.5 * fast, 0.5 * fast], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 44_100, subtype="FLOAT")
    with av.open(str(tmp_path / "coded.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono", bit_rate=192_000)
        frame = av.AudioFrame.from_ndarray(fast[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44_100, 0  # so that the delay of the encoder is written down, and skipped
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    inner = slice(400, -400)
    np.testing.assert_allclose(read_recording(tmp_path / "stereo.wav")[: len(voice)][inner], voice[inner], atol=2e-3)
    coded = read_recording(tmp_path / "coded.m4a")[: len(voice)]
    assert np.corrcoef(coded[inner], voice[inner])[0, 1] > 0.99


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "missing"), (b"", "not a recording"), (b"RIFF" + bytes(50), "not a recording"), (b"#!/bin/sh\n", "not a")],
)
def test_what_is_no_recording_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "voice.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainError, match=rf"voice\.wav.*{words}"):
        read_recording(path)


def test_a_row_is_mixed_at_its_level_from_its_places(recordings):
    row = loaded(recordings, replace(SEEN, sir_db=6.0))
    whole = read_recording(recordings / "her/1.flac")[8_000:39_840]
    assert row.mixture.shape == (31_840,)
    assert np.corrcoef(row.target, whole)[0, 1] == pytest.approx(1, abs=1e-6)
    assert 20 * np.log10(row.target.std() / row.interferer.std()) == pytest.approx(6, abs=0.05)
    np.testing.assert_allclose(row.target + row.interferer, row.mixture, atol=1e-6)


def test_the_still_that_the_row_names_is_taken_and_any_picture_becomes_square(recordings, tmp_path):
    assert loaded(recordings, SEEN).face.mean() == pytest.approx(120, abs=3)
    assert loaded(recordings, SEEN).drawn == 0
    wide = np.zeros((300, 500, 3), np.uint8)
    wide[:, 100:400] = (10, 20, 250)  # BGR, the middle square
    cv2.imwrite(str(tmp_path / "photo.png"), wide)
    face = read_face(tmp_path / "photo.png", 0)
    assert face.shape == (224, 224, 3)
    np.testing.assert_allclose(face.mean(axis=(0, 1)), (250, 20, 10), atol=1)
    with pytest.raises(TrainError, match="wanted still 3"):
        read_face(recordings / "her/2.jpg", 3)


def test_a_drawn_face_knows_nothing_of_the_two_seconds_that_are_mixed(recordings, tmp_path):
    voice = buzz(210.0, 5, seconds=6.0)
    faces = []
    for number, heard in enumerate((voice[16_000:47_840], buzz(90.0, 9)[:31_840])):
        changed = voice.copy()
        changed[16_000:47_840] = heard
        (tmp_path / str(number)).mkdir()
        soundfile.write(tmp_path / str(number) / "her.flac", changed, RATE)
        soundfile.write(tmp_path / str(number) / "him.flac", buzz(110.0, 1), RATE)
        row = replace(ROW, target_file="her.flac", target_start=1.0, interferer_file="him.flac")
        faces.append(loaded(tmp_path / str(number), row))
    assert (faces[0].target != faces[1].target).any()
    assert (faces[0].face == faces[1].face).all()
    assert (faces[0].drawn, faces[0].blindly) == (1, 0)


def test_a_face_is_drawn_from_the_speakers_other_recordings_where_the_list_names_any(recordings):
    other = replace(ROW, id="other", target_file="her/2.flac")
    alone, helped = (load(requests_for(recordings, rows)[0]) for rows in ([ROW], [ROW, other]))
    assert (alone.face != helped.face).any()
    assert requests_for(recordings, [ROW, other])[0].target.others == ("her/2.flac",)


def test_a_speaker_of_whom_nothing_else_is_heard_gets_a_face_of_the_sex(tmp_path):
    for name in ("her", "him"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "1.flac", buzz(200.0, 1, seconds=2.0), RATE)
    found = loaded(tmp_path, replace(ROW, target_start=0.0, interferer_start=0.0))
    assert (found.drawn, found.blindly) == (1, 1)


def test_more_photos_are_other_stills_of_the_speaker_and_not_of_the_clip_that_is_heard(recordings):
    own = replace(SEEN, id="own", target_face="her/1.jpg")
    found = requests_for(recordings, [SEEN, replace(SEEN, target_face_index=2), own], photos=3)[0]
    assert found.target.stills == (("her/2.jpg", 1), ("her/2.jpg", 2))
    assert loaded(recordings, ROW, photos=3).face.shape == (3, 224, 224, 3)


def bad_rows(root):
    soundfile.write(root / "short.flac", buzz(200.0, 0, seconds=1.5), RATE)
    soundfile.write(root / "silent.flac", np.zeros(40_000), RATE)
    (root / "corrupt.flac").write_bytes(b"fLaC" + bytes(200))
    (root / "corrupt.jpg").write_bytes(b"\xff\xd8\xff")
    return {
        "missing": replace(SEEN, id="missing", target_file="nobody.flac"),
        "too short": replace(SEEN, id="too short", target_file="short.flac", target_start=0.0),
        "silence": replace(SEEN, id="silence", interferer_file="silent.flac", interferer_start=0.0),
        "not a recording": replace(SEEN, id="not a recording", interferer_file="corrupt.flac"),
        "no picture": replace(SEEN, id="no picture", target_face="corrupt.jpg"),
        "pair is 'MX'": replace(SEEN, id="pair is 'MX'", pair="MX"),
        "wanted numbers": replace(SEEN, id="wanted numbers", sir_db=float("nan")),
        "too short: it holds": replace(SEEN, id="too short: it holds", target_start=-1.0),
    }


def test_bad_rows_are_named_and_skipped_and_the_rest_is_judged(recordings, weights, tmp_path, capsys):
    rows = bad_rows(recordings)
    write_list(tmp_path / "list.csv", [*rows.values(), SEEN])
    words = ("--mixtures", tmp_path / "list.csv", "--root", recordings, "--weights", weights, "--json", "--jobs", 0)
    code, out, err = run(capsys, *words)
    assert code == 3 and out.count("\n") == 1
    report = json.loads(out)
    assert report["overall"]["n"] == report["pairs"]["FM"]["n"] == 1
    assert report["pairs"]["MM"] == report["pairs"]["MM"] | {"n": 0, "sdri_db": None, "accuracy_interval": None}
    assert [row["id"] for row in report["skipped"]] == list(rows)
    for row in report["skipped"]:
        assert row["id"] in row["reason"]
    assert "Traceback" not in err


def test_a_list_with_no_row_to_judge_is_bad_input(recordings, weights, tmp_path, capsys):
    write_list(tmp_path / "list.csv", [replace(SEEN, target_file="nobody.flac")])
    code, out, err = run(capsys, "--mixtures", tmp_path / "list.csv", "--root", recordings, "--weights", weights)
    assert (code, out) == (4, "")
    assert "None of 1 mixtures could be judged" in err and "nobody.flac is missing" in err


@pytest.mark.parametrize("content", [b"id,corpus\n\xff\xfe\x00", b"id,pair\na,MM\n", b""])
def test_what_is_no_list_is_bad_input(tmp_path, capsys, content):
    (tmp_path / "list.csv").write_bytes(content)
    code, out, err = run(capsys, "--mixtures", tmp_path / "list.csv")
    assert (code, out) == (4, "") and "list.csv" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "Nothing to judge on"),
        (("--data", "x", "--root", "y"), "give it alone"),
        (("--data", "x", "--limit", 0), "wanted at least 1"),
        (("--data", "x", "--through-server", "--both-faces"), "leave out --through-server"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(capsys, words, why):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "") and why in err


def test_the_first_rows_of_every_subset_and_pair_are_taken_in_turn():
    rows = [replace(ROW, id=f"{pair}{number}", pair=pair) for pair in ("MM", "FF") for number in range(5)]
    assert [row.id for row in evenly([*rows, replace(ROW, subset="seen-heard")], 6)] == [
        "MM0", "MM1", "MM2", "FF0", "FF1", "row",
    ]  # fmt: skip


def test_decoders_are_called_by_their_names():
    assert (_decoder("mixture-phase"), _decoder("griffin-lim:30")) == (0, 30)
    assert (Decoder(0).name, Decoder(5).name) == ("mixture-phase", "griffin-lim:5")
    for wrong in ("griffin-lim", "griffin-lim:-1", "random"):
        with pytest.raises(argparse.ArgumentTypeError, match=wrong):
            _decoder(wrong)


def tiny_system(folder, **options):
    decoder = Decoder(0)
    return load_system(find_weights(folder), decoder, **options), decoder


def test_with_both_faces_the_two_voices_add_up_to_the_mixture(recordings, weights):
    system, _ = tiny_system(weights, both_faces=True)
    row = loaded(recordings, SEEN, both=True)
    mixture, faces, others = row.mixture[None], [row.face], [row.other_face]
    voices = system.separate(mixture, faces, others)[0, 0], system.separate(mixture, others, faces)[0, 0]
    np.testing.assert_allclose(voices[0] + voices[1], row.mixture, atol=1e-5)
    assert np.abs(voices[0]).max() > 1e-3


def test_the_same_still_several_times_is_the_same_face(recordings, weights):
    system, _ = tiny_system(weights)
    still = loaded(recordings, SEEN).face
    torch.testing.assert_close(system.identities([still]), system.identities([np.repeat(still, 3, axis=0)]))


def test_a_mask_of_one_half_improves_nothing(recordings):
    separator = Separator(**SMALL)
    for parameter in separator.mask_estimator[-1].parameters():
        torch.nn.init.zeros_(parameter)  # sigmoid(0) everywhere: the mixture at half its level
    decoder = Decoder(0)
    system = FaceSystem(build_face_identity("compact").eval(), separator.eval(), decoder)
    report = evaluate(recordings, [SEEN], system, decoder, Options(oracle=True))
    assert report["overall"]["sdri_db"] == pytest.approx(0, abs=1e-3)
    assert report["overall"]["si_sdri_db"] == pytest.approx(0, abs=1e-3)
    assert report["overall"]["oracle"]["sdri_db"] > 8


@pytest.mark.slow
def test_worker_processes_and_batches_change_no_figure(recordings, weights):
    rows = [replace(SEEN, id=str(number), target_start=number / 10) for number in range(17)]
    system, decoder = tiny_system(weights)
    together, by_workers = (evaluate(recordings, rows, system, decoder, Options(jobs=jobs)) for jobs in (0, 1))
    assert together["overall"] == by_workers["overall"] and together["overall"]["n"] == 17
    alone = [evaluate(recordings, [row], system, decoder, among=rows)["overall"]["sdri_db"] for row in rows[-2:]]
    rest = evaluate(recordings, rows[:-2], system, decoder)["overall"]["sdri_db"]
    assert together["overall"]["sdri_db"] == pytest.approx((15 * rest + sum(alone)) / 17, abs=1e-4)


def test_a_system_without_a_face_is_judged_in_both_orders(recordings, blind_weights, tmp_path, capsys):
    write_list(tmp_path / "list.csv", [SEEN])
    words = ("--mixtures", tmp_path / "list.csv", "--root", recordings, "--weights", blind_weights, "--jobs", 0)
    code, out, _ = run(capsys, *words, "--json", "--decoder", "mixture-phase")
    report = json.loads(out)
    assert code == 0 and report["system"]["kind"] == "audio_only"
    assert report["overall"]["best_permutation"]["n"] == 1
    code, _, err = run(capsys, *words, "--swap")
    assert code == 2 and "audio only" in err


def test_silence_in_is_silence_out(root):
    decoder = Decoder(10)
    system = load_system(find_weights(root / "train" / "weights"), decoder)
    face = [np.full((1, 224, 224, 3), 128, np.uint8)]
    voice = system.separate(np.zeros((1, 31_840), np.float32), face, face)
    assert voice.shape == (1, 1, 31_840) and np.isfinite(voice).all() and np.abs(voice).max() < 1e-6


def test_the_papers_rows_have_its_own_mean():
    rows = [row for pairs in TABLE_3.values() for row in pairs.values()]
    assert len(rows) == 8
    assert (round(np.mean([row[0] for row in rows]), 3), round(np.mean([row[1] for row in rows]), 4)) == (2.528, 0.802)
    assert TABLE_2["attention_srl"][1:] == (2.528, 0.802)
    as_ours = [dict.fromkeys(("si_sdri_db", "snri_db", "accuracy_b", "accuracy_c")) for _ in rows]
    for row, (sdri_db, accuracy) in zip(as_ours, rows, strict=True):
        row |= {"n": 1000, "sdri_db": sdri_db, "accuracy": accuracy}
    mean = mean_of_rows([*as_ours, {"n": 0}])
    assert (mean["rows"], mean["n"]) == (8, 8000)
    assert (mean["sdri_db"], mean["accuracy"]) == (pytest.approx(2.528, abs=5e-4), pytest.approx(0.802, abs=5e-5))


def test_reports_of_several_systems_become_one_table(recordings, weights, blind_weights, tmp_path):
    other = replace(SEEN, id="2", corpus="elsewhere", subset="unseen-unheard", target_start=1.0)
    rows = [replace(SEEN, subset="seen-heard"), other]
    for folder, name in ((weights, "attention"), (blind_weights, "audio_only")):
        system, decoder = tiny_system(folder)
        report = evaluate(recordings, rows, system, decoder, Options(oracle=True))
        path = write_report(tmp_path / "results", name, report, f"avedge evaluate facefilter --weights {name}")
        assert "| unseen-unheard   |   FM |  1 |" in markdown(report) and "3.830" in markdown(report)
        assert "| elsewhere |" in markdown(report) and report["corpora"]["elsewhere"]["n"] == 1
    written = json.loads(path.read_text())
    assert written["environment"]["command"] == "avedge evaluate facefilter --weights audio_only"
    assert {"commit", "machine", "packages", "measured_at_utc"} <= set(written["environment"])
    table = (tmp_path / "results" / "table.md").read_text()
    assert "| audio-only, PIT |" in table and "| + attention" in table and "49.9 %" in table and "80.9 %" in table
    assert table.index("audio-only") < table.index("+ attention")
    (tmp_path / "results" / "attention.json").write_text("{")
    with pytest.raises(TrainError, match=r"attention\.json is not a report"):
        write_report(tmp_path / "results", "audio_only", report, "again")
    assert "audio-visual" not in table_2({"attention": written})
    assert "| griffin_lim_5 | mixture-phase |" in table_2({"griffin_lim_5": written})


def test_weights_are_found_by_folder_or_by_file_and_their_lack_is_told(weights, blind_weights, tmp_path):
    separator = weights / f"{SEPARATOR}.safetensors"
    assert find_weights(weights) == find_weights(separator)
    assert find_weights(separator, Path("face")).identity == Path("face")
    assert find_weights(blind_weights).identity is None
    with pytest.raises(TrainError, match="No facefilter_separator and no facefilter_audio_only"):
        find_weights(tmp_path)
    with pytest.raises(TrainError, match="No weights at"):
        find_weights(tmp_path / "none.safetensors")


def test_the_shared_list_is_judged_whole_in_each_corpus(shared_data, weights):
    rows = evenly(read_list(shared_data / "mixtures.csv"), 8) + read_list(shared_data / "mixtures.csv")[-4:]
    found = [load(request) for request in requests_for(shared_data, rows)]
    assert not [row for row in found if isinstance(row, Skipped)]
    assert {row.drawn for row in found[-4:]} == {0} and {row.drawn for row in found[:8]} == {1}

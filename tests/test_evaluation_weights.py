"""What the committed weights do on talkers that nobody trained on, in torch and through the server."""

import json

import numpy as np
import pytest
import torch

import avedge
from serve.launcher import EmbeddedTriton
from train.corpus.lists import write_lists
from train.facefilter.data import Bank
from train.facefilter.identity import load_face_identity, load_speech_identity
from train.facefilter.matching import evaluate_matching


@pytest.fixture(scope="module")
def listed(made_talkers):
    """Three mixtures of each pair and subset."""
    write_lists(made_talkers, {"test": 3})
    return made_talkers


def judge(capsys, *words):
    code = avedge.main(["evaluate", "facefilter", "--jobs", "0", "--json", *map(str, words)])
    out = capsys.readouterr().out
    return code, json.loads(out)


def test_the_face_chooses_the_voice_and_another_face_another_one(root, listed, capsys):
    code, report = judge(capsys, "--data", listed, "--weights", root / "train" / "weights", "--swap")
    assert code == 0 and report["overall"]["n"] == 24
    assert set(report["subsets"]) == {"seen-heard", "unseen-unheard"} and report["table2"]["rows"] == 8
    assert report["drawn_faces"] == 0 and report["skipped"] == []
    for pair in ("MF", "FM"):
        figures = report["pairs"][pair]
        assert {"n", "sdri_db", "si_sdri_db", "accuracy", "accuracy_interval"} <= set(figures)
        assert figures["accuracy"] >= 0.8 and figures["sdri_db"] > 2
        assert figures["swapped"]["accuracy"] >= 0.8 and figures["swapped"]["si_sdr_gap_db"] > 5


def test_the_server_gives_the_same_figures(server: EmbeddedTriton, root, listed, capsys):
    words = ("--data", listed, "--limit", 8)
    _, in_torch = judge(capsys, *words, "--weights", root / "train" / "weights")
    code, served = judge(capsys, *words, "--through-server", server.grpc_url)
    assert code == 0 and served["system"]["kind"] == "served"
    for pair, figures in in_torch["pairs"].items():
        assert figures["n"] == 2
        for name in ("sdri_db", "si_sdri_db", "snri_db"):
            assert served["pairs"][pair][name] == pytest.approx(figures[name], abs=0.1)
        assert served["pairs"][pair]["accuracy"] == figures["accuracy"]


def test_no_server_is_told_with_its_own_code(listed, capsys):
    words = ("--data", listed, "--through-server", "127.0.0.1:9")
    assert avedge.main(["evaluate", "facefilter", *map(str, words)]) == 5
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_faces_find_their_voices_among_others(root, listed, capsys):
    weights = root / "train" / "weights"
    code = avedge.main(["evaluate", "identity", "--data", str(listed), "--weights", str(weights), "--pieces", "4"])
    report = json.loads(capsys.readouterr().out)
    assert code == 0 and (report["speakers"], report["pieces"]) == (4, 16)
    low, high = report["2_way"]["interval"]
    assert report["2_way"]["accuracy"] > 0.7 and low <= report["2_way"]["accuracy"] <= high
    assert report["10_way"]["chance"] == 0.1 and report["10_way"]["accuracy"] < report["2_way"]["accuracy"] + 1e-9
    assert report["200_way"] is None  # sixteen voices
    assert report["2_way_pairs"]["MF"]["accuracy"] > 0.8


def test_networks_that_tell_nobody_apart_find_nobody(root, listed):
    weights = root / "train" / "weights"
    face = load_face_identity(weights / "facefilter_identity.safetensors")
    voice = load_speech_identity(weights / "facefilter_voice_identity.safetensors")
    torch.nn.init.zeros_(face.head[-1].weight)
    report = evaluate_matching(face, voice, Bank(listed, "test"), pieces=2)
    chance = report["2_way"]["accuracy"]
    assert chance == pytest.approx(0.5, abs=0.1)  # one and the same face for all
    for parameter in voice.head[-1].parameters():
        torch.nn.init.zeros_(parameter)
    report = evaluate_matching(face, voice, Bank(listed, "test"), pieces=2)
    assert report["2_way"]["accuracy"] == 0  # a tie is lost
    assert np.isfinite(report["2_way"]["interval"]).all()

"""The requests that perf_analyzer sends are real samples in the served form, to the byte."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile

from clients.contract import ServedModel, TensorSpec
from clients.errors import ContractMismatch
from export.contract import ENSEMBLES, PADDED_SAMPLES, Ensemble, size_of
from perf import inputs, media
from perf.errors import PerfError


def _served(ensemble: Ensemble, **facts: str) -> ServedModel:
    """The ensemble as a server would state it."""
    tensors = tuple(
        TensorSpec(tensor.name, tensor.datatype, tuple(axis if isinstance(axis, int) else -1 for axis in tensor.shape))
        for tensor in ensemble.inputs
    )
    return ServedModel(ensemble.name, ("1",), tensors, (), ensemble.facts | facts)


NAMED = {ensemble.name: ensemble for ensemble in ENSEMBLES}
# Fed without asking the server; `facefilter_enrolled` wants the served identities and is in the live test.
FED_FROM_FILES = ("facefilter", "crowd_counting", "crowd_counting_vision")
NO_CONNECTION: Any = None


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stereo recordings of 5 s at 44.1 kHz, a square face crop, and three scenes with 0.7 s of sound each."""
    folder = tmp_path_factory.mktemp("samples")
    random = np.random.default_rng(5)
    for index in (1, 2):
        soundfile.write(folder / f"mixture_{index}.wav", 0.02 * random.standard_normal((220_500, 2)), 44_100)
    cv2.imwrite(str(folder / "face_1.png"), random.integers(0, 255, (224, 224, 3), np.uint8))
    for index, shape in enumerate([(300, 400, 3), (900, 500, 3), (576, 1024, 3)]):
        cv2.imwrite(str(folder / f"scene_{index}.jpg"), random.integers(0, 255, shape, np.uint8))
        soundfile.write(folder / f"scene_{index}.wav", 0.1 * random.standard_normal(11_200), 16_000)
    return folder


@pytest.mark.parametrize("name", FED_FROM_FILES)
def test_every_request_has_the_contracts_names_types_and_shapes(name: str, samples: Path) -> None:
    requests = inputs.requests_for(NO_CONNECTION, _served(NAMED[name]), samples, None)
    assert len(requests) >= 3
    for request in requests:
        for tensor in NAMED[name].inputs:
            array = request[tensor.name]
            assert array.shape == tuple(size_of(axis, min(PADDED_SAMPLES)) for axis in tensor.shape)
            assert array.dtype == {"FP32": np.float32, "UINT8": np.uint8}[tensor.datatype]
            assert tensor.low <= array.min() and array.max() <= tensor.high


@pytest.mark.parametrize("name", FED_FROM_FILES)
def test_what_is_written_for_perf_analyzer_is_the_requests_to_the_byte(
    name: str, samples: Path, tmp_path: Path
) -> None:
    requests = inputs.requests_for(NO_CONNECTION, _served(NAMED[name]), samples, None)
    inputs.write_input_data(tmp_path / "inputs.json", requests)
    written = json.loads((tmp_path / "inputs.json").read_text())["data"]
    assert len(written) == len(requests)
    for entry, request in zip(written, requests, strict=True):
        assert entry.keys() == request.keys()
        for tensor_name, tensor in entry.items():
            raw = np.frombuffer(base64.b64decode(tensor["content"]["b64"]), request[tensor_name].dtype)
            assert np.array_equal(raw.reshape(tensor["shape"]), request[tensor_name])


def test_mixtures_come_at_the_level_that_the_server_states(samples: Path) -> None:
    for request in inputs.requests_for(NO_CONNECTION, _served(NAMED["facefilter"]), samples, 63_840):
        assert request["mixture"].shape == (63_840,)
        assert np.sqrt(np.mean(request["mixture"] ** 2)) == pytest.approx(0.1, rel=1e-5)


def test_pairs_are_distinct_and_begin_with_the_files_of_the_same_number() -> None:
    arrays = {"picture": [np.array([i]) for i in range(4)], "sound": [np.array([i]) for i in range(4)]}
    requests = inputs._combine(arrays)
    pairs = [(int(request["picture"][0]), int(request["sound"][0])) for request in requests]
    assert pairs[:4] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert len(set(pairs)) == len(pairs) == 16


def test_a_recording_is_cut_into_its_full_stretches_and_a_short_one_padded() -> None:
    sound = np.arange(10, dtype=np.float32)
    assert [list(clip) for clip in media.cut(sound, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [list(clip) for clip in media.cut(sound, 12)] == [[*range(10), 0, 0]]
    assert len(media.cut(sound, 10)) == 1


def test_missing_samples_are_named(tmp_path: Path) -> None:
    with pytest.raises(PerfError, match=r"No mixture_\*\.wav") as caught:
        inputs.requests_for(NO_CONNECTION, _served(NAMED["facefilter"]), tmp_path, None)
    assert caught.value.exit_code == 4
    with pytest.raises(PerfError, match="avedge demo"):
        inputs.requests_for(NO_CONNECTION, _served(NAMED["facefilter"]), tmp_path / "absent", None)


def test_an_input_of_no_known_kind_is_named(samples: Path) -> None:
    strange = ServedModel("strange", ("1",), (TensorSpec("lidar", "FP32", (3,)),), (), {})
    with pytest.raises(PerfError, match="wants lidar; a sweep can make mixture") as caught:
        inputs.requests_for(NO_CONNECTION, strange, samples, None)
    assert caught.value.exit_code == 6


def test_a_server_whose_facts_and_shapes_disagree_is_refused(samples: Path) -> None:
    torn = _served(NAMED["facefilter"], face_size="112")
    with pytest.raises(PerfError, match=r"\(112, 112, 3\).*\(224, 224, 3\)") as caught:
        inputs.requests_for(NO_CONNECTION, torn, samples, None)
    assert caught.value.exit_code == 6


def test_a_server_that_states_no_facts_is_refused(samples: Path) -> None:
    silent = ServedModel("facefilter", ("1",), _served(NAMED["facefilter"]).inputs, (), {})
    with pytest.raises(ContractMismatch, match="sample_rate_hz is None"):
        inputs.requests_for(NO_CONNECTION, silent, samples, None)

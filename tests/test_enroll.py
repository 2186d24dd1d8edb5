"""A face's identity: made on request only, stored without the photo, refused where it does not belong."""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
from fake_triton import FakeTriton, committed_config, serving
from safetensors import safe_open
from safetensors.numpy import save_file
from separation_parts import FACE, PORTRAIT, fake_separation, identity_of, noise, portrait

from clients.commands import enroll as enroll_command
from clients.commands import separate as separate_command
from clients.errors import BadInput, BadSetting, ContractMismatch, OutputFailed
from clients.separation.identity import FaceIdentity
from clients.separator import SpeechSeparator
from clients.separator_aio import AsyncSpeechSeparator


def run(command: ModuleType, *words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture(scope="module")
def fake() -> FakeTriton:
    return fake_separation()


@pytest.fixture(scope="module")
def url(fake: FakeTriton) -> Iterator[str]:
    with serving(fake) as address:
        yield address


@pytest.fixture
def identity(url: str) -> FaceIdentity:
    with SpeechSeparator(url) as separator:
        return separator.enroll(PORTRAIT)


def other_network(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same face network after another training."""
    return {"identity": np.roll(identity_of(inputs)["identity"], 1)}


def test_an_identity_is_what_the_face_network_says_of_the_crop(
    url: str, fake: FakeTriton, identity: FaceIdentity
) -> None:
    with SpeechSeparator(url) as separator:
        crop = separator.separate(noise(16_000), PORTRAIT, sample_rate_hz=16_000).face
    assert crop is not None
    np.testing.assert_array_equal(identity.values, identity_of({"face": crop})["identity"])
    assert identity.contract_digest and identity.model_version == "1" and identity.created.endswith("+00:00")


def test_a_stored_identity_comes_back_whole_and_only_its_owner_may_read_it(
    tmp_path: Path, identity: FaceIdentity
) -> None:
    identity.save(tmp_path / "anna.identity")
    back = FaceIdentity.load(tmp_path / "anna.identity")
    np.testing.assert_array_equal(back.values, identity.values)
    np.testing.assert_array_equal(back.probe, identity.probe)
    assert (back.contract_digest, back.model_version, back.created) == (
        identity.contract_digest,
        identity.model_version,
        identity.created,
    )
    assert stat.S_IMODE((tmp_path / "anna.identity").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["anna.identity"]


def test_the_file_holds_numbers_and_where_they_come_from_and_nothing_else(
    tmp_path: Path, identity: FaceIdentity
) -> None:
    identity.save(tmp_path / "a.identity")
    with safe_open(tmp_path / "a.identity", framework="np") as file:
        assert set(file.keys()) == {"identity", "probe"}
        assert set(file.metadata()) == {"format", "contract_digest", "model_version", "created"}
    assert (tmp_path / "a.identity").stat().st_size < 9_000, "no room for a picture"
    assert str(identity.values[0]) not in json.dumps(identity.to_dict())


def test_the_enrolled_face_is_what_the_server_gets(url: str, fake: FakeTriton, identity: FaceIdentity) -> None:
    fake.requests.clear()
    with SpeechSeparator(url) as separator:
        result = separator.separate(noise(16_000), identity=identity, sample_rate_hz=16_000)
    sent = [request for request in fake.requests if "mixture" in request]
    np.testing.assert_array_equal(sent[0]["identity"], identity.values)
    assert result.face is None and result.to_dict()["chosen_by"] == "identity"
    assert result.model.name == "facefilter_enrolled"


def test_a_face_and_an_identity_at_once_are_refused(url: str, identity: FaceIdentity) -> None:
    with SpeechSeparator(url) as separator, pytest.raises(BadSetting, match="each chooses the voice alone"):
        separator.separate(noise(16_000), FACE, identity=identity, sample_rate_hz=16_000)


def test_an_identity_of_another_contract_is_refused_with_what_to_do(url: str, identity: FaceIdentity) -> None:
    other = replace(identity, contract_digest="0123456789abcdef")
    with SpeechSeparator(url) as separator, pytest.raises(ContractMismatch, match="0123456789abcdef") as caught:
        separator.separate(noise(16_000), identity=other, sample_rate_hz=16_000)
    assert "avedge enroll" in caught.value.remedy and caught.value.exit_code == 6


def test_an_identity_of_another_size_is_refused(identity: FaceIdentity) -> None:
    config = committed_config("facefilter_enrolled")
    config.input[1].dims[:] = [512]
    fake = fake_separation()
    fake.configs["facefilter_enrolled"] = config
    with serving(fake) as url, SpeechSeparator(url) as separator, pytest.raises(ContractMismatch, match="with 512"):
        separator.check(identity)


def test_an_identity_of_another_training_is_refused_though_the_contract_is_the_same(identity: FaceIdentity) -> None:
    with (
        serving(fake_separation(facefilter_identity=other_network)) as url,
        SpeechSeparator(url) as separator,
        pytest.raises(ContractMismatch, match="has changed since the identity was made") as caught,
    ):
        separator.check(identity)
    assert "enroll the photo again" in caught.value.remedy


def test_a_client_that_lives_longer_than_the_networks_weights_notices(identity: FaceIdentity) -> None:
    fake = fake_separation()

    async def later(url: str) -> FaceIdentity:
        async with AsyncSpeechSeparator(url) as separator:
            await separator.check(await separator.enroll(PORTRAIT))
            fake.answers["facefilter_identity"] = other_network
            with pytest.raises(ContractMismatch, match="has changed since"):
                await separator.separate(noise(16_000), identity=identity, sample_rate_hz=16_000)
            return await separator.enroll(PORTRAIT)

    with serving(fake) as url, SpeechSeparator(url) as separator:
        separator.check(identity)
        of_asyncio = asyncio.run(later(url))
        with pytest.raises(ContractMismatch, match="has changed since"):
            separator.separate(noise(16_000), identity=identity, sample_rate_hz=16_000)
        for made_later in (of_asyncio, separator.enroll(PORTRAIT)):
            separator.check(made_later)
            assert abs(np.dot(made_later.values, identity.values)) < 0.5


def test_a_server_that_names_no_versions_is_no_reason_not_to_enroll(monkeypatch: pytest.MonkeyPatch) -> None:
    described = FakeTriton.ModelMetadata

    def unversioned(fake: FakeTriton, request: Any, context: Any) -> Any:
        answer = described(fake, request, context)
        del answer.versions[:]
        return answer

    monkeypatch.setattr(FakeTriton, "ModelMetadata", unversioned)
    with serving(fake_separation()) as url, SpeechSeparator(url) as separator:
        made = separator.enroll(PORTRAIT)
        assert made.model_version == "" and separator.check(made)
    assert made in [made] and made != replace(made) and len({made, made}) == 1, "as keys and in lists, each is itself"


def test_an_identity_of_the_same_network_in_half_precision_is_taken(identity: FaceIdentity) -> None:
    def rounded(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"identity": np.float32(np.float16(identity_of(inputs)["identity"]))}

    with serving(fake_separation(facefilter_identity=rounded)) as url, SpeechSeparator(url) as separator:
        assert separator.check(identity).name == "facefilter_enrolled"


class Canary:
    """What a pickle would do when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("canary",))


def of_type(kind: str, size: int, words: dict[str, str]) -> bytes:
    """A file as safetensors makes it, of a type that NumPy may not know."""
    described = {"dtype": kind, "shape": [4], "data_offsets": [0, 4 * size]}
    behind = {**described, "data_offsets": [4 * size, 8 * size]}
    head = json.dumps({"__metadata__": words, "identity": described, "probe": behind}).encode()
    return len(head).to_bytes(8, "little") + head + bytes(8 * size)


def test_what_is_no_identity_is_refused_and_nothing_in_it_is_run(
    tmp_path: Path, identity: FaceIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = tmp_path / "good.identity"
    identity.save(good)
    words = {"format": "avedge identity 1", "contract_digest": "a", "model_version": "1", "created": "now"}
    vector = identity.values
    damaged: dict[str, bytes | dict[str, np.ndarray]] = {
        "cut": good.read_bytes()[:-100],
        "pickle": pickle.dumps(Canary()),
        "text": b"hello",
        "large": bytes(2_000_000),
        "not finite": {"identity": vector * np.float32(np.nan), "probe": vector},
        "long": {"identity": 2 * vector, "probe": vector},
        "flat": {"identity": vector.reshape(32, 32), "probe": vector},
        "double": {"identity": vector.astype(np.float64), "probe": vector},
        "uneven": {"identity": vector, "probe": vector[:1] / abs(vector[0])},
        "half": {"identity": vector},
    }
    for name, content in damaged.items():
        path = tmp_path / f"{name}.identity"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file(content, path, metadata=words)
        with pytest.raises(BadInput, match="is not a face's identity"):
            FaceIdentity.load(path)
    for kind, size in (("BF16", 2), ("F8_E4M3", 1), ("F16", 2), ("I8", 1)):
        path.write_bytes(of_type(kind, size, words))
        with pytest.raises(BadInput, match=f"identity has the type {kind}, not F32"):
            FaceIdentity.load(path)
    save_file({"identity": vector, "probe": vector}, good, metadata={"format": "other"})
    with pytest.raises(BadInput, match="its format is 'other'"):
        FaceIdentity.load(good)
    with pytest.raises(BadInput, match="There is no file"):
        FaceIdentity.load(tmp_path / "absent.identity")
    assert not (tmp_path / "canary").exists()


def test_the_command_enrolls_and_the_identity_separates(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(enroll_command, PORTRAIT, "--url", url, "-o", tmp_path / "people", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    stored = tmp_path / "people" / "grace_hopper.identity"
    assert said["command"] == "enroll" and said["outputs"] == {"identity": str(stored)}
    assert said["result"]["values"] == 1024 and said["result"]["face_box"]["width"] > 200
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    soundfile.write(tmp_path / "talk.wav", noise(16_000), 16_000)
    words = [tmp_path / "talk.wav", "--identity", stored, "--url", url, "-o", tmp_path / "out", "--json"]
    assert run(separate_command, *words) == 0
    assert json.loads(capsys.readouterr().out)["result"]["chosen_by"] == "identity"


def test_a_stored_identity_is_not_replaced_unless_told(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = tmp_path / "grace_hopper.identity"
    stored.write_text("earlier")
    assert run(enroll_command, PORTRAIT, "--url", url, "-o", tmp_path) == OutputFailed.exit_code
    assert "is there already" in capsys.readouterr().err and stored.read_text() == "earlier"
    assert run(enroll_command, PORTRAIT, "--url", url, "-o", tmp_path, "--overwrite") == 0
    assert FaceIdentity.load(stored).model_version == "1"


def test_of_several_faces_one_has_to_be_chosen_and_they_are_listed(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    both = np.hstack([portrait(), portrait()[:, ::-1]])
    cv2.imwrite(str(tmp_path / "both.png"), cv2.cvtColor(both, cv2.COLOR_RGB2BGR))
    assert run(enroll_command, tmp_path / "both.png", "--url", url, "-o", tmp_path / "people") == 4
    said = capsys.readouterr().err
    assert "2 faces were found" in said and "0: 2" in said and "1: 2" in said and "--face-index" in said
    assert run(enroll_command, tmp_path / "both.png", "--face-index", 1, "--url", url, "-o", tmp_path / "people") == 0


def test_an_identity_of_another_contract_ends_the_command_before_any_work(
    tmp_path: Path, url: str, identity: FaceIdentity, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(identity, contract_digest="0123456789abcdef").save(tmp_path / "old.identity")
    soundfile.write(tmp_path / "talk.wav", noise(16_000), 16_000)
    words = [tmp_path / "talk.wav", "--identity", tmp_path / "old.identity", "--url", url, "-o", tmp_path / "out"]
    assert run(separate_command, *words) == ContractMismatch.exit_code
    assert "enroll the photo again" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_an_identity_and_another_choice_of_a_face_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--face", "a.jpg"], ["--every-face"], ["--face-index", "1"], ["--face-crop"]):
        with pytest.raises(SystemExit) as caught:
            run(separate_command, "talk.wav", "--identity", "a.identity", *more)
        assert caught.value.code == 2

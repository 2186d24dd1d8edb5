"""Which WAV and FLAC files reach their decoder, and which are refused before it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from media_bombs import with_samples
from media_files import RATE_HZ, noise, tone

from clients.errors import BadInput
from clients.media.sound import load_sound, open_sound

PLAIN_GUID = bytes.fromhex("000000001000800000aa00389b71")


def wav(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(tag + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for tag, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def form(kind: int = 1, channels: int = 1, bits: int = 16, more: bytes = b"") -> tuple[bytes, bytes]:
    width = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", kind, channels, RATE_HZ, RATE_HZ * width, width, bits) + more


DATA = (b"data", np.rint(tone(RATE_HZ) * 32767).astype("<i2").tobytes())


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes it an error to open anything."""

    def opened(*args: object) -> None:
        raise AssertionError("the decoder was asked")

    monkeypatch.setattr(soundfile, "SoundFile", opened)


@pytest.mark.parametrize("kind", ["MS_ADPCM", "IMA_ADPCM", "ULAW", "ALAW", "GSM610"])
def test_compressed_wav_does_not_reach_its_decoder(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    soundfile.write(tmp_path / "a.wav", tone(RATE_HZ), RATE_HZ, format="WAV", subtype=kind)
    request.getfixturevalue("no_decoder")
    with pytest.raises(BadInput, match=r"is a WAV of type [A-Z0-9_]+\.\n  wanted: PCM_U8, PCM_16"):
        open_sound(tmp_path / "a.wav")


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (wav(form(), DATA, form(0x11)), "two formats"),
        (wav(form(), form(0x11), DATA), "two formats"),
        (wav(DATA, form()), "sound before its format"),
        (wav((b"fmt ", b"\x01\x00\x01\x00"), DATA), "a format of 4 bytes"),
        (wav(form(bits=12), DATA), "samples of 12 bits"),
        (wav(form(kind=3, bits=16), DATA), "samples of 16 bits"),
        (wav(form(0xFFFE, more=struct.pack("<HHIH", 22, 16, 4, 0x11) + PLAIN_GUID), DATA), "type IMA_ADPCM"),
        (wav(form(0xFFFE, more=struct.pack("<HHIH", 22, 16, 4, 1) + bytes(14)), DATA), "type unknown"),
        (wav(form(0xFFFE), DATA), "type unknown"),
        (wav(form(0x1234), DATA), "type 0x1234"),
        (wav(form()), "promises a chunk of sound, it holds none"),
    ],
)
def test_a_strange_structure_does_not_reach_its_decoder(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(BadInput, match=said):
        open_sound(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "data",
    [
        wav(form(), DATA),
        wav((b"LIST", b"INFOodd"), form(), DATA, (b"id3 ", bytes(7))),
        wav(form(0xFFFE, more=struct.pack("<HHIH", 22, 16, 4, 1) + PLAIN_GUID), DATA),
        wav(form(), DATA) + b"tail that is no chunk",
        wav(form(), DATA)[:40] + b"\xff\xff\xff\xff" + DATA[1],  # written to a pipe
    ],
)
def test_plain_samples_are_read_whatever_stands_around_them(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    np.testing.assert_allclose(load_sound(tmp_path / "a.wav").samples[:RATE_HZ], tone(RATE_HZ), atol=1e-4)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
def test_all_plain_kinds_are_read(tmp_path: Path, kind: str, subtype: str) -> None:
    stereo = np.stack([noise(0.5), noise(0.5, seed=1)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, RATE_HZ, format=kind, subtype=subtype)
    step = {"PCM_U8": 1 / 128, "PCM_16": 1 / 32768}.get(subtype, 1e-6)
    np.testing.assert_allclose(load_sound(tmp_path / "a.wav").samples, stereo.mean(axis=1), atol=step)


def test_an_rf64_cut_short_says_what_it_promised(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(RATE_HZ), RATE_HZ, format="RF64", subtype="PCM_16")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:20_000])
    with pytest.raises(BadInput, match="promises 32000 bytes of sound, it holds 19"):
        open_sound(tmp_path / "a.wav")


def test_a_flac_that_was_written_to_a_pipe_does_not_know_its_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(2.0), RATE_HZ)
    whole = load_sound(tmp_path / "a.flac").samples
    (tmp_path / "a.flac").write_bytes(with_samples((tmp_path / "a.flac").read_bytes(), 0))
    with open_sound(tmp_path / "a.flac") as reader:
        assert reader.samples is None
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(1_000))), whole)

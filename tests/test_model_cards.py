"""Every committed network has a card that Hugging Face reads, with what a stranger must know before using it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from figures import parameters_of

WEIGHTS = Path(__file__).resolve().parents[1] / "train" / "weights"
FILES = sorted(WEIGHTS.glob("*.safetensors"))
PARTS = ("Intended use.", "Trained", "Figures", "Limits.", "Bias.", "Not for")


def card(file: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    empty, front, text = file.with_suffix(".md").read_text().split("---\n", 2)
    assert empty == ""
    facts: dict[str, Any] = yaml.safe_load(front)
    return facts, text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_front_matter_is_what_the_hub_reads_and_what_the_file_is(file: Path) -> None:
    facts, _ = card(file)
    assert facts["license"] == "apache-2.0" and facts["library_name"] == "pytorch"
    for key in ("tags", "metrics"):
        assert facts[key] and all(isinstance(word, str) for word in facts[key])
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", name) for name in facts.get("datasets", []))
    assert (facts["model"], facts["file"]) == (file.stem, file.name)
    assert facts["parameters"] == parameters_of(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_card_says_what_for_from_what_how_well_and_where_it_fails(file: Path) -> None:
    _, text = card(file)
    places = [text.find(f"**{part}") for part in PARTS]
    assert min(places) >= 0, [part for part, place in zip(PARTS, places, strict=True) if place < 0]
    assert places == sorted(places), "in this order"
    assert all(len(part) > 60 for part in re.split(r"\*\*(?:Intended use|Trained|Limits|Bias)", text)[1:])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_real_data_stands_with_its_licence(file: Path) -> None:
    facts, text = card(file)
    for name, licence in (("LibriSpeech", "CC BY 4.0"), ("ShanghaiTech", "BSD 2-Clause")):
        trained = text[text.find("**Trained") : text.find("**Figures")]
        assert name not in trained or licence in trained, name
        assert name != "LibriSpeech" or ("openslr/librispeech_asr" in facts.get("datasets", [])) == (name in trained)
    assert "avedge train" in text or "its card" in text


def test_the_list_of_weights_names_every_card() -> None:
    text = (WEIGHTS / "README.md").read_text()
    assert all(f"[card]({file.stem}.md)" in text for file in FILES)

"""Damaged media end in an answer or in our one exception, whatever bytes are hit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from media_fuzz import LOADERS

MUTATIONS = 300
MOST_MB = 256


@pytest.fixture(scope="module")
def outcome(root: Path) -> dict[str, Any]:
    """Each format damaged many times, in a process of its own, which a fault in a decoder would end."""
    command = [sys.executable, "tests/media_fuzz.py", "--mutations", str(MUTATIONS)]
    done = subprocess.run(
        command, cwd=root, env={"PYTHONPATH": "."}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("ending", LOADERS)
def test_damage_is_answered_or_refused(outcome: dict[str, Any], ending: str) -> None:
    assert outcome[ending]["damaged"] == MUTATIONS
    assert outcome[ending]["refused"] > MUTATIONS // 20, "damage must be noticed now and then"


def test_damage_takes_no_memory(outcome: dict[str, Any]) -> None:
    assert max(one["highest_mb"] for one in outcome.values()) < MOST_MB

"""What the server makes of one recording's windows and one picture's tiles: batches, and a face that repeats.

Its own statistics say how many requests travelled in one execution, and how many were answered from the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perf import media
from perf.served import Server

RECORDING_S = 120
TILES = 3  # per side
_RATE_HZ = 16_000


def measure(server: Server, samples: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Separate two minutes twice with one face, and count one picture in tiles.

    Returns:
        For each, its seconds, and for each model requests, executions, average batch and cache hits.
    """
    import numpy as np

    from clients import CrowdCounter, SpeechSeparator

    progress(f"together: a recording of {RECORDING_S} s and a picture of {TILES} x {TILES} tiles")
    clips = [media.read_sound(path, _RATE_HZ) for path in sorted(samples.glob("mixture_*.wav"))]
    recording = np.resize(np.concatenate(clips), RECORDING_S * _RATE_HZ).astype(np.float32)
    face, scene = samples / "face_1.png", samples / "scene_1.jpg"
    with SpeechSeparator(server.url) as separator, CrowdCounter(server.url) as counter:
        return {
            "recording": _watched(
                server,
                "facefilter",
                lambda: separator.separate(recording, face, sample_rate_hz=_RATE_HZ, face_crop=True),
            ),
            "picture": _watched(server, "crowd_counting_vision", lambda: counter.count(scene, tiles=TILES)),
        }


def _watched(server: Server, ensemble: str, call: Callable[[], object]) -> dict[str, Any]:
    steps = server.steps(ensemble)
    before, began = server.counters(steps), time.perf_counter()
    call()
    seconds = time.perf_counter() - began
    shares = server.shares(before, server.counters(steps))
    kept = ("requests", "executions", "average_batch", "cache_hits")
    return {"seconds": seconds, "models": {share.model: {key: asdict(share)[key] for key in kept} for share in shares}}

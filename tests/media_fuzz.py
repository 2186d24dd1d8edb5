"""Damages small media files at random and reads them by our own code, in a process of its own.

    python tests/media_fuzz.py --mutations 100000 --seed 1

Prints one JSON object: for each format how many files were damaged and refused, and the most memory that was held.
Anything but an answer or BadInput ends the process with a traceback; the file that did it is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile
from media_files import RATE_HZ, flat, noise, tone, write_video

from clients.errors import BadInput
from clients.media.picture import load_picture
from clients.media.sound import load_sound
from clients.media.video import VideoReader, read_frames


def watch(path: Path) -> None:
    """Read a video in every way."""
    with VideoReader(path) as reader:
        for _ in reader.seconds(0.1):
            pass
        for _ in reader.frames(None, 0.2):
            pass
    for _ in read_frames(path):
        pass


LOADERS: dict[str, Callable[[Path], Any]] = {
    "wav": load_sound,
    "flac": load_sound,
    "mp3": load_sound,
    "m4a": load_sound,
    "png": load_picture,
    "jpg": load_picture,
    "mp4": watch,
    "mkv": watch,
}


def write_sample(path: Path) -> None:
    """A small whole file of the kind that its ending names."""
    kind = path.suffix[1:]
    if kind in ("wav", "flac"):
        soundfile.write(path, tone(RATE_HZ, 0.3), RATE_HZ)
    elif kind in ("png", "jpg"):
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    elif kind in ("mp3", "m4a"):
        sound = path.with_suffix(".mkv")
        write_video(sound, [flat(9)], sound=noise(0.3), sound_codec="libmp3lame" if kind == "mp3" else "aac")
        copy_sound(sound, path)
    else:
        write_video(path, [flat(40 * number) for number in range(6)], rate=10, sound=noise(0.6))


def copy_sound(source: Path, target: Path) -> None:
    import av

    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        stream = container.streams.audio[0]
        copy = output.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)


def damaged(whole: np.ndarray, rng: np.random.Generator) -> bytes:
    """A few bytes replaced, most of them in the head, where the structure is; sometimes the end is gone."""
    hit = whole.copy()
    for _ in range(rng.integers(1, 6)):
        reach = min(len(hit), 200) if rng.random() < 0.5 else len(hit)
        hit[rng.integers(reach)] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
    return hit[: rng.integers(1, len(hit)) if rng.random() < 0.2 else len(hit)].tobytes()


def fuzz(folder: Path, ending: str, mutations: int, rng: np.random.Generator) -> dict[str, Any]:
    path = folder / f"a.{ending}"
    write_sample(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    LOADERS[ending](path)  # the whole one is no bad input
    refused = 0
    for _ in range(mutations):
        path.write_bytes(damaged(whole, rng))
        try:
            LOADERS[ending](path)
        except BadInput:
            refused += 1
    return {"damaged": mutations, "refused": refused, "highest_mb": highest_mb()}


def highest_mb() -> float:
    """The most memory that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=300, help="of each format")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--formats", nargs="+", choices=sorted(LOADERS), default=list(LOADERS))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    rng = np.random.default_rng(args.seed)
    json.dump({ending: fuzz(folder, ending, args.mutations, rng) for ending in args.formats}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

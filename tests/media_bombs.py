"""Files that promise far more than they hold, and what it costs to refuse them.

    python tests/media_bombs.py FOLDER

reads every one of them by our own code, each once, and prints one JSON object: by the file's name what was said, the
CPU time in seconds, and by how many MB the memory in use grew at its highest.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import soundfile
from media_files import RATE_HZ, flat, noise, tone, write_video

from clients.errors import BadInput
from clients.media.picture import load_picture
from clients.media.sound import load_sound, open_sound
from clients.media.video import VideoReader


def png_chunk(tag: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def png(width: int, height: int, *, pixels: bool = True, before: bytes = b"", behind: bytes = b"") -> bytes:
    """A black picture of one bit per pixel."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    packer, row = zlib.compressobj(1), bytes(1 + (width + 7) // 8)
    packed = [packer.compress(row * min(100, height - start)) for start in range(0, height if pixels else 0, 100)]
    data = png_chunk(b"IDAT", b"".join(packed) + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + head + before + data + behind + png_chunk(b"IEND", b"")


def animated_png(pictures: int) -> bytes:
    control = [
        png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 64, 64, 0, 0, 1, 10, 0, 0)) for number in range(pictures)
    ]
    pixels = zlib.compress(bytes(9) * 64)
    later = b"".join(
        control[number] + png_chunk(b"fdAT", struct.pack(">I", number) + pixels) for number in range(1, pictures)
    )
    return png(64, 64, before=png_chunk(b"acTL", struct.pack(">II", pictures, 0)) + control[0], behind=later)


def animated_gif(pictures: int) -> bytes:
    one = b"\x21\xf9\x04\0\1\0\0\0\x2c" + struct.pack("<HHHHB", 0, 0, 64, 64, 0) + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + bytes(6) + one * pictures + b";"


def animated_webp(pictures: int) -> bytes:
    head = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + (63).to_bytes(3, "little") * 2
    body = b"WEBP" + head + (b"ANMF" + struct.pack("<I", 16) + bytes(16)) * pictures
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg(width: int, height: int, scans: int = 1) -> bytes:
    """A small picture whose head says another size, and whose last pass over the pixels is repeated."""
    data = cv2.imencode(".jpg", flat(9), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    frame, last = data.index(b"\xff\xc2"), data.rindex(b"\xff\xda")
    sized = data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 : last]
    return sized + data[last:-2] * scans + data[-2:]


def wav(*, channels: int = 1, rate_hz: int = RATE_HZ, size: int = 3_200, before: bytes = b"", kind: int = 1) -> bytes:
    form = struct.pack("<HHIIHH", kind, channels, rate_hz, rate_hz * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16)
    head = b"RIFF" + struct.pack("<I", min(0xFFFFFFFF, 36 + size)) + b"WAVE" + before
    return head + b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + bytes(3_200)


def write_silence(path: Path, hours: int) -> None:
    with soundfile.SoundFile(path, "w", 4_000, 1, "PCM_16") as file:
        for _ in range(hours):
            file.write(np.zeros(4_000 * 3_600, np.int16))


def with_samples(flac: bytes, samples: int) -> bytes:
    """A FLAC whose head says that it holds so many."""
    place = 4 + 4 + 14  # the last 32 of 36 bits, behind the sizes and the rate
    return flac[: place - 1] + bytes([flac[place - 1] & 0xF0]) + struct.pack(">I", samples) + flac[place + 4 :]


def write_mov_of_png(path: Path, width: int, height: int, said: tuple[int, int]) -> None:
    """Pictures of a size in a file that says another one."""
    with av.open(str(path), "w") as container:
        stream = container.add_mux_stream("png", rate=25, width=said[0], height=said[1])
        for number in range(2):
            packet = av.Packet(png(width, height))
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            container.mux(packet)


def patched(data: bytes, tag: bytes, offset: int, *numbers: int) -> bytes:
    """An MP4 with other numbers so many bytes behind a box's name."""
    place = data.index(tag) + 4 + offset
    return data[:place] + struct.pack(f">{len(numbers)}I", *numbers) + data[place + 4 * len(numbers) :]


def nested(boxes: int) -> bytes:
    """An MP4 of boxes, each around all that follow."""
    head = struct.pack(">I4s", 16, b"ftyp") + b"isom" + bytes(4)
    return head + b"".join(struct.pack(">I4s", 8 * left, b"moov") for left in range(boxes, 0, -1))


def write_bombs(folder: Path) -> None:
    """Every file that is to be refused."""
    files = {
        "head_65500x65500.png": png(65_500, 65_500, pixels=False),
        "real_30000x30000.png": png(30_000, 30_000),
        "line_1x1000000000.png": png(1, 10**9, pixels=False),
        "promise_7000x7000.png": png(7_000, 7_000, pixels=False),
        "animated.png": animated_png(100_000),
        "animated.gif": animated_gif(100_000),
        "animated.webp": animated_webp(100_000),
        "head_65500x65500.jpg": jpeg(65_500, 65_500),
        "promise_7000x7000.jpg": jpeg(7_000, 7_000),
        "thousand_scans.jpg": jpeg(64, 48, 1_000),
        "channels_65535.wav": wav(channels=65_535),
        "four_gibibytes.wav": wav(size=0xFFFFFFFE),
        "rate_1_hz.wav": wav(rate_hz=1),
        "rate_10_mhz.wav": wav(rate_hz=10_000_000),
        "million_chunks.wav": wav(before=b"junk\0\0\0\0" * 1_000_000),
        "adpcm.wav": wav(kind=0x11),
        "million_within_each_other.mp4": nested(1_000_000),
        "empty.wav": b"",
        "empty.png": b"",
        "empty.mp4": b"",
    }
    whole = write_video(folder / "whole.mp4", [flat(9)] * 10).read_bytes()
    parts = write_video(folder / "parts.mp4", [flat(9)] * 10, container={"movflags": "frag_keyframe+empty_moov"})
    files |= {
        # Behind the name of the box: the size of all samples and their number; the number alone; width and height.
        "samples_of_one_size.mp4": patched(whole, b"stsz", 4, 1, 0xFFFFFFF0),
        "samples_in_a_run.mp4": patched(parts.read_bytes(), b"trun", 0, 0, 0xFFFFFFF0),
        "says_16384x16384.mp4": patched(whole, b"stsd", 40, 16_384 << 16 | 16_384),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    write_silence(folder / "24_hours_of_silence.flac", 24)
    write_silence(folder / "whole.flac", 1)
    longer = with_samples((folder / "whole.flac").read_bytes(), 25 * 3_600 * 4_000)
    (folder / "25_hours_by_its_head.flac").write_bytes(longer)
    write_mov_of_png(folder / "real_16000x16000.mov", 16_000, 16_000, (16_000, 16_000))
    write_mov_of_png(folder / "hidden_16000x16000.mov", 16_000, 16_000, (160, 120))
    write_video(folder / "million_per_second.mp4", [flat(9)] * 10, rate=1_000_000)
    for name in ("parts.mp4", "whole.mp4", "whole.flac"):
        (folder / name).unlink()
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")


def listen(path: Path) -> None:
    with open_sound(path) as reader:
        for _ in reader.blocks():
            pass


def watch(path: Path) -> None:
    with VideoReader(path) as reader:
        for _ in reader.frames():
            pass


LOADERS: dict[str, tuple[Callable[[Path], Any], ...]] = {
    ".wav": (load_sound, listen),
    ".flac": (load_sound, listen),
    ".mp4": (watch, load_sound),
    ".mov": (watch, load_sound),
}


def memory_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measured(load: Callable[[Path], Any], path: Path) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before, began = memory_mb("VmRSS"), time.process_time()
    try:
        load(path)
        said = "nothing"
    except BadInput as error:
        said = str(error)
    return {"said": said, "cpu_s": time.process_time() - began, "grown_mb": memory_mb("VmHWM") - before}


def warm_up(folder: Path) -> None:
    """Load what is loaded at the first use."""
    soundfile.write(folder / "warm.flac", tone(RATE_HZ), RATE_HZ)
    cv2.imwrite(str(folder / "warm.png"), flat(9))
    write_video(folder / "warm.mp4", [flat(9)] * 5, sound=noise(0.2))
    for path in folder.glob("warm.*"):
        for load in LOADERS.get(path.suffix, (load_picture,)):
            load(path)
        path.unlink()


def main() -> int:
    folder = Path(sys.argv[1])
    warm_up(folder)
    found = {}
    for path in sorted(folder.iterdir()):
        for load in LOADERS.get(path.suffix, (load_picture,)):
            found[f"{path.name} by {load.__name__}"] = measured(load, path)
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

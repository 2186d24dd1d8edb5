"""The web page as a process of its own, and what a user does in it."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt
import soundfile
from PIL import Image

from clients import SpeechSeparator
from serve.launcher import EmbeddedTriton

if TYPE_CHECKING:
    from playwright.sync_api import Page


# Elements beyond the screen's right edge that nothing narrower scrolls or cuts. The page itself clips what is too wide,
# so that its own width tells nothing.
BEYOND = """() => {
  const held = (e) => e && (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX) || held(e.parentElement));
  const beyond = (e) => e.getBoundingClientRect().right > innerWidth + 1 && !held(e.parentElement);
  return [...document.querySelectorAll('body *')].filter(beyond).map((e) => e.outerHTML.slice(0, 80));
}"""


@contextmanager
def served_page(root: Path, folder: Path, url: str) -> Iterator[str]:
    """`avedge web` as a process of its own, whose uploads lie below the folder; gives its address.

    In the end nothing was said on its terminal, and nothing lies in the folder.
    """
    command = [sys.executable, "-m", "avedge", "web", "--port", "0", "--url", url, "--examples", str(folder / "none")]
    environment = os.environ | {"TMPDIR": str(folder), "http_proxy": "http://127.0.0.1:9"}
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield line.split()[2]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            said.seek(0)
            assert said.read() == ""
            assert not list(folder.glob("*")), "uploads were left behind"


def write_video(path: Path, pictures: list[npt.NDArray[np.uint8]], sound: npt.NDArray[np.float32]) -> Path:
    """Five pictures a second (BGR), and a sound of 16 kHz."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=5, options={"g": "5", "preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def give(page: Page, field: str, path: Path) -> None:
    """Upload into a field, and wait until the page has it."""
    group = page.get_by_role("group", name=field)
    group.locator("input[type=file]").set_input_files(path)
    group.get_by_role("button", name=re.compile("Remove|Clear")).wait_for()


def voice_of(page: Page) -> tuple[npt.NDArray[np.float64], int, str]:
    """What the page offers to download: samples, rate and file name."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the voice").click()
    samples, rate_hz = soundfile.read(io.BytesIO(Path(download.value.path()).read_bytes()))
    return samples, rate_hz, download.value.suggested_filename


def expected_voice(server: EmbeddedTriton, tmp_path: Path, *given: Path, **options: int) -> npt.NDArray[np.float64]:
    with SpeechSeparator(server.grpc_url) as separator:
        separator.separate(*given, **options).save(tmp_path / "expected.wav")
    return soundfile.read(tmp_path / "expected.wav")[0]


def write_picture(path: Path, page: Page) -> None:
    """The page as it is, in 256 colours, which a README takes faster."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(700)  # until players and pictures have drawn themselves
    whole = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    whole.convert("RGB").quantize(256, kmeans=1).save(path, optimize=True)

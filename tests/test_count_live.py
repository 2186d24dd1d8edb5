"""Cameras and streams: told at once; Ctrl-C, a time, a lost server or camera ends them, with whole files each time."""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from fake_triton import FakeTriton, crowd_of, serving
from tiny_videos import RATE_HZ, pitch_hz, tones, write_video

from clients.commands import count as count_command
from clients.commands import count_live
from clients.errors import BadInput
from clients.media.video import VideoSecond

DENSITY = np.zeros((72, 128), np.float32)
DENSITY[:, :90] = 0.001  # within a picture of 128x96, in the frame of 1024x576


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    count_command.add_arguments(parser)
    return count_command.run(parser.parse_args([str(word) for word in words]))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def fake() -> FakeTriton:
    return FakeTriton({"crowd_counting": crowd_of(DENSITY), "crowd_counting_vision": crowd_of(DENSITY)})


@pytest.fixture
def url(fake: FakeTriton) -> Iterator[str]:
    with serving(fake) as address:
        yield address


class Pictures:
    """A camera that gives a picture every so often, and does what the test wants before some of them."""

    def __init__(self, step_s: float = 0.5, **before: Callable[[], None]) -> None:
        self.name, self.sound_rate_hz = "camera 0", None
        self._step_s, self._before = step_s, before
        self.given = 0

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def seconds(self, every_s: float = 1.0, sound_s: float = 1.0) -> Iterator[VideoSecond]:
        for number in range(10_000):
            self._before.get(f"picture_{number}", lambda: None)()
            self.given += 1
            yield VideoSecond(number * self._step_s, np.full((96, 128, 3), 90, np.uint8), None)
            time.sleep(0.002)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)  # the main thread hears it in its own time


def unplugged() -> None:
    raise BadInput("Camera 0 gives no more pictures", "a camera that stays plugged in", "it is over", "check it")


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pictures]:
    def plug_in(**options: Any) -> Pictures:
        pictures = Pictures(**options)
        monkeypatch.setattr(count_live, "_opened", lambda args: pictures)
        return pictures

    return plug_in


def whole(folder: Path, rows: int, *, video: bool = True) -> None:
    """Table, plot and video are there, and nothing else, and tell of so many pictures."""
    expected = ["camera-0.counted.mp4", "camera-0.counts.csv", "camera-0.counts.png"]
    assert names(folder) == (expected if video else expected[1:])
    assert len(table(folder / "camera-0.counts.csv")) == rows
    assert cv2.imread(str(folder / "camera-0.counts.png")) is not None
    if video:
        with av.open(str(folder / "camera-0.counted.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == rows


def test_ctrl_c_ends_a_camera_with_whole_files_of_what_was_seen(
    tmp_path: Path, url: str, camera: Callable[..., Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    camera(picture_6=interrupt)
    assert run("--camera", 0, "--every", 1, "--url", url, "-o", tmp_path, "--video", "--json") == 130
    whole(tmp_path, 3)
    *samples, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["sample"]["time_s"] for one in samples] == [0, 1, 2]
    assert last["status"] == "done" and last["result"]["ended_by"] == "interrupt" and last["input"] == "camera 0"


def test_sigterm_ends_it_as_cleanly(tmp_path: Path, url: str, camera: Callable[..., Pictures]) -> None:
    camera(picture_3=lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(0.05)))
    assert run("--camera", 0, "--every", 0.5, "--url", url, "-o", tmp_path, "--quiet") == 143
    whole(tmp_path, 3, video=False)


def test_ctrl_c_is_heard_soon_however_seldom_pictures_are_counted(
    tmp_path: Path, url: str, camera: Callable[..., Pictures]
) -> None:
    pictures = camera(picture_5=interrupt)
    assert run("--camera", 0, "--every", 3_600, "--url", url, "-o", tmp_path) == 130
    assert pictures.given <= 7
    whole(tmp_path, 1, video=False)


def test_ctrl_c_before_the_first_picture_leaves_nothing(
    tmp_path: Path, url: str, camera: Callable[..., Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    camera(picture_0=interrupt)
    assert run("--camera", 0, "--url", url, "-o", tmp_path, "--video") == 130
    assert names(tmp_path) == [] and capsys.readouterr().err == ""


@pytest.mark.parametrize("seen", [0, 3])
def test_a_camera_that_fails_after_ctrl_c_was_ended_by_it(
    tmp_path: Path, url: str, camera: Callable[..., Pictures], seen: int
) -> None:
    camera(**{f"picture_{seen}": lambda: (interrupt(), unplugged())})
    assert run("--camera", 0, "--every", 0.5, "--url", url, "-o", tmp_path) == 130
    assert len(names(tmp_path)) == (2 if seen else 0)


@pytest.mark.parametrize("seen", [0, 3])
def test_ctrl_c_ends_a_camera_that_hangs_within_two_seconds(
    tmp_path: Path, url: str, camera: Callable[..., Pictures], seen: int
) -> None:
    gone, hanging = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        gone.wait(30)

    camera(**{f"picture_{seen}": hang})
    asked: list[float] = []

    def ask() -> None:
        hanging.wait(10)
        asked.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=ask).start()
    assert run("--camera", 0, "--every", 0.5, "--url", url, "-o", tmp_path) == 130
    assert time.monotonic() - asked[0] < 2
    gone.set()
    if seen:
        whole(tmp_path, seen, video=False)
    assert len(names(tmp_path)) == (2 if seen else 0)


def test_ctrl_c_twice_leaves_at_once(
    tmp_path: Path, url: str, fake: FakeTriton, camera: Callable[..., Pictures]
) -> None:
    camera()
    fake.delay_s = 20
    for delay_s in (0.4, 0.7):
        threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    assert run("--camera", 0, "--url", url, "-o", tmp_path) == 130
    assert time.monotonic() - began < 15
    assert names(tmp_path) == []


def test_the_time_that_was_asked_for_ends_it(
    tmp_path: Path, url: str, camera: Callable[..., Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    camera()
    assert run("--camera", 0, "--every", 1, "--duration", 5, "--url", url, "-o", tmp_path, "--video") == 0
    whole(tmp_path, 5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "     0.0 s  6.5 people  (picture alone: there is no sound track)"
    assert len([line for line in lines if " s  " in line]) == 5, "one line for each counted picture"


def test_a_camera_that_is_unplugged_leaves_what_it_gave(
    tmp_path: Path, url: str, camera: Callable[..., Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    camera(picture_4=unplugged)
    assert run("--camera", 0, "--every", 0.5, "--url", url, "-o", tmp_path, "--video") == 4
    whole(tmp_path, 4)
    assert "camera 0: warning: it ended early: Camera 0 gives no more pictures" in capsys.readouterr().err


def test_a_camera_that_gives_nothing_is_bad_input_and_leaves_nothing(
    tmp_path: Path, url: str, camera: Callable[..., Pictures]
) -> None:
    camera(picture_0=unplugged)
    assert run("--camera", 0, "--url", url, "-o", tmp_path, "--video") == 4
    assert names(tmp_path) == []
    assert run("--camera", tmp_path / "absent", "--url", url, "-o", tmp_path) == 4


def test_a_server_that_goes_away_leaves_what_it_answered(
    tmp_path: Path, url: str, fake: FakeTriton, camera: Callable[..., Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    camera(picture_3=lambda: fake.failures.extend([(av_status(), "gone")] * 50))
    words = ("--camera", 0, "--every", 0.5, "--url", url, "-o", tmp_path, "--json", "--timeout", 2)
    assert run(*words) in (5, 7)
    whole(tmp_path, 3, video=False)
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["result"]["ended_by"] == "failure" and last["warnings"][0].startswith("it ended early: ")


def av_status() -> Any:
    import grpc

    return grpc.StatusCode.UNAVAILABLE


def test_earlier_results_of_a_camera_are_kept_unless_told_otherwise(
    tmp_path: Path, url: str, camera: Callable[..., Pictures]
) -> None:
    camera()
    words = ("--camera", 0, "--duration", 2, "--url", url, "-o", tmp_path)
    assert run(*words) == 0
    before = (tmp_path / "camera-0.counts.csv").stat().st_mtime_ns
    assert run(*words) == 8
    assert (tmp_path / "camera-0.counts.csv").stat().st_mtime_ns == before
    assert run(*words, "--overwrite") == 0


@contextmanager
def broadcasting(file: Path, seconds: float) -> Iterator[str]:
    """A stream over HTTP that plays a file once, at its own pace, to whoever asks."""
    content = file.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            step = 188 * 8
            try:
                for start in range(0, len(content), step):
                    self.wfile.write(content[start : start + step])
                    self.wfile.flush()
                    time.sleep(seconds * step / len(content))
            except OSError:
                pass  # the listener has gone

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://viewer:s3cret@127.0.0.1:{server.server_port}/street.ts"
        finally:
            server.shutdown()


@pytest.mark.slow
def test_a_network_stream_is_seen_and_heard_told_at_once_and_ended_by_ctrl_c(tmp_path: Path) -> None:
    def pitch_of(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        density = np.zeros((72, 128), np.float32)
        density[0, 0] = pitch_hz(inputs["sound"])
        return crowd_of(density)(inputs)

    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    file = write_video(
        tmp_path / "street.ts", seconds=30, picture_at=lambda t: np.roll(noise, int(t * 8)), sound=tones([800.0] * 30)
    )
    fake = FakeTriton({"crowd_counting": pitch_of, "crowd_counting_vision": crowd_of(DENSITY)})
    with serving(fake) as url, broadcasting(file, 30) as address:
        words = ["--stream", address, "--url", url, "--output", str(tmp_path / "out"), "--json", "--video"]
        child = subprocess.Popen(
            [sys.executable, "-m", "avedge", "count", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None and child.stderr is not None
        seen = [json.loads(child.stdout.readline()) for _ in range(3)]
        assert child.poll() is None, "it goes on"
        child.send_signal(signal.SIGINT)
        rest, complaints = child.stdout.read(), child.stderr.read()
        assert child.wait(30) == 130, complaints
    host = address.rpartition("@")[2].partition("/")[0]
    *samples, last = [*seen, *map(json.loads, rest.splitlines())]
    assert {one["sample"]["fallback_reason"] for one in samples} == {None}
    assert [one["sample"]["count"] for one in samples] == pytest.approx([800] * len(samples), abs=2)
    assert last["result"]["ended_by"] == "interrupt" and last["result"]["samples"] == len(samples)
    assert last["input"] == f"http://{host}/street.ts"
    assert "s3cret" not in json.dumps([samples, last]) + complaints
    assert names(tmp_path / "out") == [
        f"{host.replace(':', '-')}-street.ts.{end}" for end in ("counted.mp4", "counts.csv", "counts.png")
    ]
    assert not any("s3cret" in name for name in names(tmp_path / "out"))


def test_no_address_but_of_the_network_is_opened(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("file:///etc/passwd", "concat:a|b", "street.ts", "pipe:0", "rtsp://[::1/half"):
        assert run("--stream", address, "--url", url, "-o", tmp_path) == 4
    assert "is no address of a stream" in capsys.readouterr().err
    assert names(tmp_path) == [] and RATE_HZ == 16_000

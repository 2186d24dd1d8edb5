"""The pages of commands and of the library are run as printed, against the real server, on files of the names there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest
import soundfile
from doc_pages import ROOT, blocks, console
from fake_triton import serving
from separation_parts import fake_separation, make_video, two_people

import avedge
from serve.launcher import EmbeddedTriton

COMMANDS, LIBRARY = ROOT / "docs" / "commands.md", ROOT / "docs" / "library.md"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # with `avedge` on it


@pytest.fixture(scope="module")
def media(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call meeting.wav, anna.jpg and so on, of the demonstration's samples."""
    folder = tmp_path_factory.mktemp("media")
    mixture, _ = soundfile.read(samples / "mixture_2.wav", dtype="float32")
    soundfile.write(folder / "meeting.wav", mixture, 16_000)
    soundfile.write(folder / "lecture.wav", soundfile.read(samples / "mixture_3.wav")[0], 16_000)
    portrait = cv2.imread(str(samples / "portrait_2.png"))
    cv2.imwrite(str(folder / "anna.jpg"), portrait)
    upsampled = np.repeat(mixture[:32_000], 3)[: 44_100 * 2]  # of any sound; the rate is the container's
    make_video(folder / "interview.mp4", [cv2.cvtColor(portrait, cv2.COLOR_BGR2RGB)] * 10, upsampled)
    two_people(folder / "debate.mp4", upsampled)
    scene = cv2.imread(str(samples / "scene_3.jpg"))
    cv2.imwrite(str(folder / "square.jpg"), scene)
    soundfile.write(folder / "square.wav", soundfile.read(samples / "scene_3.wav")[0], 16_000)
    make_video(
        folder / "market.mp4", [cv2.cvtColor(scene, cv2.COLOR_BGR2RGB)] * 15, np.tile(upsampled, 2)[: 44_100 * 3]
    )
    for day in ("monday", "tuesday"):
        (folder / "photos" / day).mkdir(parents=True)
        cv2.imwrite(str(folder / "photos" / day / "square.jpg"), scene)
    (regions,) = re.findall(r"`(\{\"gate\".*?\})`", COMMANDS.read_text())
    (folder / "regions.json").write_text(regions)
    return folder


@pytest.fixture
def workplace(media: Path, server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with them, from which the commands find the server."""
    for file in media.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "model_repository").symlink_to(ROOT / "model_repository")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVEDGE_URL", server.grpc_url)
    return tmp_path


def typed(command: str, folder: Path) -> tuple[int, str, str]:
    """A line of a page; in this process, unless a shell has to see to it."""
    words = shlex.split(command)
    if words[0] != "avedge":
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=os.environ | {"PATH": PATH}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = avedge.main(words[1:])
    return code, out.getvalue(), err.getvalue()


@pytest.mark.slow
def test_every_command_of_the_page_works_as_printed(workplace: Path) -> None:
    lines = console(COMMANDS)
    assert lines[0] == "avedge serve"  # this is the fixture
    for line in lines[1:]:
        code, out, err = typed(line, workplace)
        assert code == 0, f"{line}\n{out[-1_000:]}{err[-2_000:]}"
    there = {str(path.relative_to(workplace)) for path in workplace.rglob("*") if path.is_file()}
    assert files_on_the_page() <= {Path(name).name for name in there}
    assert {"people/anna.identity", "out/photos/monday/square.density.png", "out/piped/stdin.voice.wav"} <= there
    assert (workplace / "out" / "half" / "market.counts.csv").read_text().count("sound_off") == 4


def files_on_the_page() -> set[str]:
    """Names in the first column of the tables of what comes out, and in the text on counting."""
    text = COMMANDS.read_text()
    named = set(re.findall(r"`((?:meeting|interview|debate|market|square)\.[\w.]+)`", text))
    return {name for name in named if name.count(".") > 1}


def test_json_has_the_keys_on_the_page(workplace: Path) -> None:
    page = COMMANDS.read_text().split("## JSON")[1].split("\n## ")[0]
    told = set(re.findall(r"`(\w+)`", page))
    for line in (
        "avedge separate meeting.wav --face anna.jpg --output json",
        "avedge separate debate.mp4 --every-face --output json",
        "avedge separate market.mp4 --output json",
        "avedge enroll anna.jpg --output json",
        "avedge count square.jpg --tiles 2 --flip --region gate=0,0,99,0,99,99 --output json --alarm 1",
        "avedge count market.mp4 --output json",
    ):
        code, out, _ = typed(f"{line} --json", workplace)
        for record in map(json.loads, out.splitlines()):
            wrong = record["status"] == "failed"
            assert wrong == (code != 0) == ("separate market" in line)
            keys = {*record, *record.get("result", {}), *record.get("sample", {}), *record.get("error", {})}
            for voice in record.get("result", {}).get("voices", ()):
                keys |= voice.keys()
            assert keys - told == set(), line


def programs() -> list[object]:
    """Every program of the page, known by the heading above it and its number there."""
    found, sections = [], re.split(r"^## ", LIBRARY.read_text(), flags=re.MULTILINE)
    for section in sections:
        heading = section.splitlines()[0].strip().lower().replace(" ", "_")
        numbered = enumerate(blocks(section, "python"), 1)
        found += [pytest.param(program, id=f"{heading}_{number}") for number, program in numbered]
    return found


@pytest.mark.parametrize("program", programs())
def test_every_program_of_the_library_page_works_as_printed(
    workplace: Path, server: EmbeddedTriton, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared(program, server)
    run(program)
    said = capsys.readouterr()
    assert said.out.strip() or "save(" in program
    assert not said.err


def prepared(program: str, server: EmbeddedTriton) -> Callable[[str], None]:
    """How a program is run: with the addresses of this server in the place of the usual ones."""

    def plain(text: str) -> None:
        found = text.replace("127.0.0.1:8001", server.grpc_url).replace("http://127.0.0.1:8000", server.http_url)
        exec(compile(found, "library.md", "exec"), {"__name__": "__main__"})

    def within_tls(text: str) -> None:
        subprocess.run([ROOT / "serve" / "deploy" / "certificates.sh", "certificates"], capture_output=True, check=True)
        certificate, key, root = (
            Path("certificates", name).read_bytes() for name in ("server.pem", "server.key", "ca.pem")
        )
        credentials = grpc.ssl_server_credentials([(key, certificate)], root, require_client_auth=True)
        with serving(fake_separation(), credentials=credentials) as place:
            plain(text.replace("localhost:8001", f"localhost:{place.rpartition(':')[2]}"))

    return within_tls if "Tls(" in program else plain

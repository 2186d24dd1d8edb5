"""The web page's parts without a browser: what is held and let go, and what is said."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from clients.errors import BadInput, OutputFailed, ServerUnavailable
from clients.separator import Portrait, find_faces
from clients.web.facts import clock, facts_html
from clients.web.messages import Upload, explain, require_upload, warnings_html
from clients.web.separate_work import write_face_views
from clients.web.sessions import Sessions, private_folder


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path)


def upload(folder: Path, name: str = "photo.png") -> Path:
    """A file where Gradio would put it: in a folder of its own."""
    path = folder / name.replace(".", "-") / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"pixels")
    return path


def test_what_takes_anothers_place_lets_go_of_it(sessions: Sessions, tmp_path: Path) -> None:
    first, second = upload(tmp_path, "first.png"), upload(tmp_path, "second.png")
    sessions.hold("anna", "photo", [first])
    sessions.hold("anna", "photo", [first])
    assert first.is_file()
    sessions.hold("anna", "photo", [second])
    assert not first.parent.exists() and second.is_file()
    sessions.hold("anna", "photo", [])
    assert not list(tmp_path.iterdir())


def test_a_file_of_two_users_stays_until_both_have_left(sessions: Sessions, tmp_path: Path) -> None:
    shared, own = upload(tmp_path), upload(tmp_path, "own.png")
    sessions.hold("anna", "photo", [shared])
    sessions.hold("ben", "photo", [shared])
    sessions.hold("ben", "recording", [own])
    sessions.forget("anna")
    assert shared.is_file() and own.is_file()
    sessions.forget("ben")
    sessions.forget("nobody")
    assert not list(tmp_path.iterdir())


def test_results_have_folders_of_their_own_that_nobody_can_guess(sessions: Sessions, tmp_path: Path) -> None:
    first, other = sessions.new_folder("anna", "voice"), sessions.new_folder("ben", "voice")
    (first / "voice.wav").write_bytes(b"sound")
    second = sessions.new_folder("anna", "voice")
    assert not first.exists() and second.is_dir() and other.is_dir()
    assert len({first.name, second.name, other.name}) == 3
    assert second.stat().st_mode & 0o077 == 0


def test_an_action_that_ends_after_its_page_was_closed_leaves_nothing(sessions: Sessions, tmp_path: Path) -> None:
    folder, photo = sessions.new_folder("anna", "voice"), upload(tmp_path)
    sessions.forget("anna")
    assert not folder.exists()
    sessions.hold("anna", "photo", [photo])
    sessions.remember("anna", photo, ())
    with pytest.raises(BadInput, match="The page was closed"):
        sessions.new_folder("anna", "voice")
    assert sessions.recall("anna", photo) is None and not list(tmp_path.iterdir())


def test_a_long_question_goes_on_until_it_is_stopped_or_its_page_closed(sessions: Sessions) -> None:
    sessions.begin("anna")
    assert sessions.may_go_on("anna")
    sessions.stop("anna")
    assert not sessions.may_go_on("anna") and sessions.may_go_on("ben")
    sessions.begin("anna")
    assert sessions.may_go_on("anna")
    sessions.forget("anna")
    assert not sessions.may_go_on("anna")


def test_the_pages_own_examples_are_spared(sessions: Sessions, tmp_path: Path) -> None:
    example = upload(tmp_path)
    sessions.spare_what_is_there()
    sessions.hold("anna", "photo", [example])
    sessions.forget("anna")
    assert example.is_file()


def test_faces_are_remembered_for_their_upload_and_not_for_long(tmp_path: Path) -> None:
    sessions, photo = Sessions(tmp_path, faces_s=0.2), tmp_path / "photo.png"
    found = (Portrait(np.zeros((9, 9, 3), np.uint8), None),)
    sessions.remember("anna", photo, found)
    assert sessions.recall("anna", photo) is found
    assert sessions.recall("anna", tmp_path / "other.png") is None and sessions.recall("ben", photo) is None
    sessions.remember("ben", photo, found)
    sessions.forget("ben")
    assert sessions.recall("ben", photo) is None
    time.sleep(0.5)
    assert sessions.recall("anna", photo) is None


def test_nothing_outside_the_private_folder_is_removed(tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    sessions, outside = Sessions(tmp_path / "uploads"), upload(tmp_path)
    sessions.hold("anna", "photo", [outside])
    with pytest.raises(ValueError, match="does not lie in"):
        sessions.forget("anna")
    assert outside.is_file()


def test_many_users_at_once_lose_nothing_and_leave_nothing(sessions: Sessions, tmp_path: Path) -> None:
    shared = upload(tmp_path)
    lost: list[str] = []

    def use(name: str) -> None:
        for _ in range(20):
            sessions.hold(name, "photo", [shared])
            folder = sessions.new_folder(name, "voice")
            if not (folder.is_dir() and shared.is_file()):
                lost.append(name)
            sessions.hold(name, "voice", [])

    sessions.hold("first", "photo", [shared])
    users = [threading.Thread(target=use, args=(f"user {number}",)) for number in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not lost
    for number in range(8):
        sessions.forget(f"user {number}")
    sessions.forget("first")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_private_folder_is_private_and_goes_with_all_that_is_in_it(temporary: Path) -> None:
    with private_folder() as folder:
        upload(folder)
        assert folder.parent == temporary and folder.stat().st_mode & 0o777 == 0o700
    assert not list(temporary.iterdir())


def test_a_killed_runs_folder_is_removed_by_the_next_and_a_living_ones_is_not(temporary: Path) -> None:
    code = "import os\nfrom clients.web.sessions import private_folder\n"
    code += "with private_folder() as folder:\n    print(folder, flush=True)\n    input()\n    os._exit(9)"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"TMPDIR": str(temporary)}
    )
    assert child.stdin is not None and child.stdout is not None
    left = Path(child.stdout.readline().decode().strip())
    upload(left)
    with private_folder():
        assert left.is_dir(), "its command still runs"
    child.communicate(b"\n")
    assert child.returncode == 9 and left.is_dir()
    with private_folder():
        assert not left.exists()


def test_what_a_command_was_killed_while_removing_is_removed_by_the_next(temporary: Path) -> None:
    with private_folder() as half:
        name = half.name
    (temporary / name).mkdir()  # its lock went first
    upload(temporary / name)
    with private_folder():
        assert not (temporary / name).exists()


def test_an_error_is_told_in_four_parts_with_the_files_own_name(tmp_path: Path) -> None:
    given = Upload(tmp_path / "0a1b" / "<img src=x onerror=alert(1)>.png", "<img src=x onerror=alert(1)>.png")
    error = BadInput(f"{given.path} is <damaged>", "a picture", "pixels & colours are lost", "copy it again")
    html = explain(error, given, None)
    text = re.sub(r"<[^>]+>", " ", html)
    assert 'role="alert"' in html and "<img" not in html and "&lt;damaged&gt;" in html and "&amp;" in html
    assert str(tmp_path) not in html and "onerror=alert(1)&gt;.png is" in text
    assert [text.index(part) for part in ("Wanted:", "Why it matters:", "What to do:")] == sorted(
        text.index(part) for part in ("Wanted:", "Why it matters:", "What to do:")
    )


def test_the_commands_options_become_the_pages_fields() -> None:
    with pytest.raises(BadInput) as none:
        find_faces(np.full((200, 200, 3), 90, np.uint8))
    assert "--face-crop" in str(none.value), "the library's words have changed"
    assert "--" not in explain(none.value) and "The photo shows the face alone" in explain(none.value)
    away = ServerUnavailable("No server", "one", "it answers", "start it with `avedge serve`, or check --url")
    assert "--url of `avedge web`" in explain(away)
    assert "--" not in warnings_html(["a 16-bit file is lowered by 2.0 dB, and --float32 keeps it"])
    assert "/tmp" not in warnings_html(["/tmp/0a1b/a.wav is short"], Upload(Path("/tmp/0a1b/a.wav"), "a.wav"))


def test_what_nobody_expected_shows_no_traceback_and_is_logged(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    gone = tmp_path / "secret.wav"
    try:
        gone.read_bytes()
    except FileNotFoundError as error:
        html = explain(error)
    assert "unexpected" in html and "secret" not in html and "Traceback" not in html
    assert "unexpected FileNotFoundError" in caplog.text and "in test_what_nobody_expected" in caplog.text
    assert str(gone) not in caplog.text, "the log names an upload"


def test_a_result_that_cannot_be_written_is_said_without_its_place(temporary: Path) -> None:
    with private_folder() as folder:
        gone = folder / "tmp0a1b"
        with pytest.raises(OutputFailed, match="face_1.jpg: No such file") as lost:
            write_face_views([Portrait(np.zeros((9, 9, 3), np.uint8), None)], gone)
    html = explain(lost.value)
    assert "written to face_1.jpg: No such file" in html and str(temporary) not in html and "--" not in html


def test_an_upload_that_is_gone_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="talk.wav is no longer here"):
        require_upload(Upload(tmp_path / "gone.wav", "talk.wav"))


def test_figures_are_written_for_people() -> None:
    assert [clock(seconds) for seconds in (0, 65.9, 3_723)] == ["0:00", "1:05", "1:02:03"]
    assert facts_html({"a < b": "1 & 2"}) == (
        '<dl class="ave-facts"><div><dt>a &lt; b</dt><dd>1 &amp; 2</dd></div></dl>'
    )
    assert warnings_html([]) == ""

"""The page's command and its web server, without a browser: who may ask, for what, and what is said beforehand."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from clients.errors import BadSetting
from clients.extras import MissingExtra
from clients.web.command import require_host, run
from clients.web.site import Site


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_this_machine_may_always_be_listened_on(host: str) -> None:
    require_host(host, allowed=False)


def test_other_machines_may_ask_only_where_that_was_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadSetting, match="--allow-remote"):
        require_host("0.0.0.0", allowed=False)
    require_host("0.0.0.0", allowed=True)
    assert "no login" in capsys.readouterr().err
    with pytest.raises(BadSetting, match="an IP address"):
        require_host("example", allowed=True)


def arguments(*words: str) -> object:
    import avedge

    return avedge.build_parser("web").parse_args(["web", *words])


def test_a_taken_port_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    import avedge

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert avedge.main(["web", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be listened on" in capsys.readouterr().err


def test_what_cannot_be_right_is_said_before_the_page_is_served(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import avedge

    monkeypatch.setattr("clients.web.site.Site", None)  # whoever makes one fails
    for words in (["--url", "127.0.0.1:port"], ["--tls-ca", "/nowhere/ca.pem"], ["--port", "x"]):
        with suppress(SystemExit):
            assert avedge.main(["web", "--port", "0", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and all(word in said.err for word in ("'127.0.0.1:port'", "ca.pem", "invalid port value"))


def test_without_gradio_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)  # as where it is not installed
    with pytest.raises(MissingExtra, match=r"avedge\[web\]"):
        run(arguments("--port", "0"))  # type: ignore[arg-type]
    assert not list(temporary.iterdir())


def test_help_loads_no_gradio(root: Path) -> None:
    code = "import sys, avedge, contextlib\nwith contextlib.suppress(SystemExit): avedge.main(['web', '--help'])\n"
    code += "sys.exit('gradio' in sys.modules or 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False)
    assert done.returncode == 0 and b"--allow-remote" in done.stdout


@pytest.fixture(scope="module")
def away(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a page whose server is away."""
    command = [sys.executable, "-m", "avedge", "web", "--port", "0", "--url", "127.0.0.1:9"]
    environment = os.environ | {"TMPDIR": str(tmp_path_factory.mktemp("uploads")), "GRADIO_SHARE": "True"}
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[2].rpartition(":")[2])
        process.terminate()


def mounted(site: Site) -> tuple[Any, Any]:
    """Gradio's own application within a site, and its page."""
    (gradio,) = (route.app for route in site._app.routes if hasattr(getattr(route, "app", None), "state_holder"))
    return gradio, gradio.get_blocks()


@pytest.fixture
def site(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for variable in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "")  # so that they are given back
    with Site({"url": "127.0.0.1:9"}, examples=temporary / "none", host="127.0.0.2") as site:
        yield site


def test_what_a_page_showed_is_forgotten_when_it_is_closed(site: Site) -> None:
    gradio, page = mounted(site)
    assert gradio.state_holder["anna"] is not gradio.state_holder["ben"]
    (leave,) = (event.fn for event in page.fns.values() if any(target[1] == "unload" for target in event.targets))
    leave(SimpleNamespace(session_hash="anna"))
    assert set(gradio.state_holder.session_data) == {"ben"}


def test_an_upload_that_nobody_lets_go_of_is_removed_in_time(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from clients.web import page

    assert (page.KEPT_S, page._LOOKED_S) == (3_600, 60)
    monkeypatch.setattr(page, "KEPT_S", 1.0)
    monkeypatch.setattr(page, "_LOOKED_S", 0.2)
    site: Site = request.getfixturevalue("site")
    with TestClient(site._app, base_url="http://127.0.0.1") as client:
        given = client.post("/gradio_api/upload", files={"files": ("voice.wav", b"sound")})
        (path,) = map(Path, given.json())
        assert path.is_relative_to(temporary) and path.is_file()
        deadline = time.monotonic() + 10
        while path.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not path.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.0.0.2"])
def test_the_page_answers_to_the_address_that_it_listens_on(site: Site, host: str) -> None:
    assert TestClient(site._app, base_url=f"http://{host}:7860").get("/").status_code == 200


def answer(port: int, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=headers)
    return connection.getresponse()


def test_the_browser_is_told_to_load_nothing_from_elsewhere(away: int) -> None:
    said = answer(away, "GET", "/")
    policy = said.headers["content-security-policy"]
    assert said.status == 200 and "default-src 'self' data: blob:" in policy and "http" not in policy
    assert said.headers["referrer-policy"] == "no-referrer" and said.headers["cache-control"] == "no-store"


def test_another_name_for_this_machine_is_refused(away: int) -> None:
    assert answer(away, "GET", "/", Host="elsewhere.example").status == 400


@pytest.mark.parametrize(("origin", "taken"), [("cross-site", False), ("same-site", False), ("same-origin", True)])
def test_what_another_sites_page_sends_is_refused(away: int, origin: str, taken: bool) -> None:
    said = answer(away, "POST", "/gradio_api/upload", **{"Sec-Fetch-Site": origin})
    assert (said.status != 403) == taken
    assert answer(away, "GET", "/", **{"Sec-Fetch-Site": origin}).status == 200, "a link may lead here"


def test_files_beside_the_uploads_are_not_served(away: int, root: Path) -> None:
    assert answer(away, "GET", f"/gradio_api/file={root / 'README.md'}").status == 403
    assert answer(away, "GET", "/gradio_api/file=/etc/hostname").status == 403


def test_the_page_is_no_programming_interface(away: int) -> None:
    said = answer(away, "GET", "/gradio_api/info")
    assert said.status == 200 and b'"named_endpoints":{},"unnamed_endpoints":{}' in said.read().replace(b" ", b"")

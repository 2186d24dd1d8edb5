"""The web page in a real headless Chromium, answered by the real server; what it shows is what the library gives."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from web_browser import BEYOND, expected_voice, give, served_page, voice_of, write_picture, write_video

from clients import CrowdCounter
from clients.media.sound import load_sound
from serve.launcher import EmbeddedTriton

sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested through Playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to show the page in")

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
)
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
NewPage = Callable[..., "sync_api.Page"]


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def address(root: Path, uploads: Path, server: EmbeddedTriton) -> Iterator[str]:
    with served_page(root, uploads, server.grpc_url) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: sync_api.Browser, address: str) -> Iterator[NewPage]:
    """Opens the page as another user each time, and sees that it asks no other host and throws no error."""
    contexts, asked, thrown = [], [], []

    def open_page(at: str = address, **options: object) -> sync_api.Page:
        context = chromium.new_context(**{"viewport": DESK, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.goto(at)
        page.get_by_role("tab", name="Count").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not thrown
    assert asked and not [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]


@pytest.fixture(scope="module")
def two_faces(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of two people: the one of mixture 2 at the right."""
    path = tmp_path_factory.mktemp("faces") / "two_faces.png"
    cv2.imwrite(str(path), np.hstack([cv2.imread(str(samples / f"portrait_{number}.png")) for number in (1, 2)]))
    return path


def test_a_recording_and_a_photo_give_the_voice_that_the_library_gives(
    new_page: NewPage, server: EmbeddedTriton, samples: Path, tmp_path: Path
) -> None:
    page = new_page()
    give(page, "Recording of several people", samples / "mixture_2.wav")
    give(page, "Photo of the person to hear", samples / "portrait_2.png")
    page.get_by_text("One face was found.").wait_for()
    page.get_by_role("button", name="Separate", exact=True).click()
    heard, rate_hz, name = voice_of(page)
    wanted = expected_voice(server, tmp_path, samples / "mixture_2.wav", samples / "portrait_2.png")
    assert (rate_hz, name) == (16_000, "mixture_2.voice.wav")
    np.testing.assert_allclose(heard, wanted, atol=1e-3)
    for player in ("Before: the recording", "After: the chosen voice"):
        assert page.get_by_role("group", name=player).get_by_role("button", name="Play", exact=True).is_enabled()
    plot = page.get_by_role("img", name="Spectrograms of the recording")
    assert plot.evaluate("image => image.complete && image.naturalWidth") >= 1_000
    assert re.search(r"\d s, of it \d", page.get_by_text("on the server").inner_text())


def test_the_face_that_is_clicked_chooses_the_voice(
    new_page: NewPage, server: EmbeddedTriton, samples: Path, two_faces: Path, tmp_path: Path
) -> None:
    mixed = load_sound(samples / "mixture_2.wav").samples
    film = write_video(tmp_path / "talk.mp4", [cv2.imread(str(two_faces))] * (5 * len(mixed) // 16_000), mixed)
    page = new_page()
    page.get_by_role("radio", name="Video").check()
    give(page, "Video with sound", film)
    page.get_by_text("Face 1 of 2 is chosen").wait_for()
    page.get_by_role("button", name="Thumbnail 2 of 2").click()
    page.get_by_text("Face 2 of 2 is chosen").wait_for()
    page.get_by_role("button", name="Separate", exact=True).click()
    heard = voice_of(page)[0]
    wanted, other = (expected_voice(server, tmp_path, film, face_index=index) for index in (1, 0))
    np.testing.assert_allclose(heard, wanted, atol=1e-3)
    assert np.abs(wanted - other).max() > 0.02, "both faces give one voice, so the choice shows nothing"


def test_sound_and_photo_can_be_recorded_in_the_page(new_page: NewPage) -> None:
    page = new_page()
    page.get_by_role("tab", name="Count").click()
    photo = page.get_by_role("group", name="Photo of the crowd")
    photo.get_by_role("button", name="Capture from camera").click()
    photo.get_by_role("button", name="Access Webcam").click()
    page.wait_for_function("document.querySelector('#crowd-photo video')?.videoWidth > 0")
    photo.get_by_role("button", name="capture photo").click()
    photo.get_by_role("button", name="Remove Image").wait_for()
    sound = page.get_by_role("group", name="Sound of the place")
    sound.get_by_role("button", name="Record audio").click()
    sound.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1_500)
    with page.expect_response("**/queue/join*"):  # once it is uploaded, the page says that it holds it
        sound.get_by_role("button", name="Stop", exact=True).click()
    sound.get_by_role("button", name="Play", exact=True).wait_for()
    page.get_by_role("button", name="Count", exact=True).click()
    page.get_by_text("used: a sound was given").wait_for()


def test_the_slider_changes_the_overlay_and_asks_nobody(
    new_page: NewPage, server: EmbeddedTriton, samples: Path
) -> None:
    page = new_page()
    page.get_by_role("tab", name="Count").click()
    give(page, "Photo of the crowd", samples / "scene_3.jpg")
    page.get_by_role("button", name="Count", exact=True).click()
    page.get_by_text("not used: no sound was given").wait_for()
    with CrowdCounter(server.grpc_url) as counter:
        alone = counter.count(samples / "scene_3.jpg")
        heard = counter.count(samples / "scene_3.jpg", samples / "scene_3.wav")
    assert page.locator("#number strong").inner_text() == f"{alone.count:.1f}"
    assert page.locator("#patches td").all_inner_texts()[1:] == [f"{value:.1f}" for value in alone.patch_counts.flat]

    stack, asked = page.locator(".ave-stack"), []
    page.on("request", lambda request: asked.append(request.url))
    seen = []
    for percent in (0, 50, 100):
        page.get_by_role("spinbutton", name="Strength of the overlay").fill(str(percent))
        page.keyboard.press("Tab")
        sync_api.expect(page.locator(".ave-heat")).to_have_css("opacity", f"{percent / 100:g}")
        seen.append(cv2.imdecode(np.frombuffer(stack.screenshot(), np.uint8), cv2.IMREAD_COLOR).astype(int))
    assert not asked
    assert all(np.abs(seen[0] - later).mean() > 5 for later in seen[1:])
    photo = cv2.resize(cv2.imread(str(samples / "scene_3.jpg")), seen[0].shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(seen[0] - photo)[20:-20, 20:-20].mean() < 6, "without strength it is the photo itself"

    give(page, "Sound of the place", samples / "scene_3.wav")
    page.get_by_role("button", name="Count", exact=True).click()
    page.get_by_text("used: a sound was given").wait_for()
    assert page.locator("#number strong").inner_text() == f"{heard.count:.1f}"


def test_a_video_is_counted_over_time(new_page: NewPage, samples: Path, tmp_path: Path) -> None:
    scenes = [cv2.resize(cv2.imread(str(samples / f"scene_{number}.jpg")), (512, 288)) for number in (1, 3, 2)]
    sound = load_sound(samples / "scene_3.wav").samples[:16_000]
    film = write_video(tmp_path / "place.mp4", [scene for scene in scenes for _ in range(5)], np.tile(sound, 3))
    page = new_page()
    page.get_by_role("tab", name="Count").click()
    page.get_by_role("radio", name="Video").check()
    give(page, "Video, with or without sound", film)
    page.get_by_role("button", name="Count", exact=True).click()
    page.get_by_text("3, one every 1 s").wait_for()
    assert "at 0:01, when most were seen" in page.locator("#number").inner_text()
    assert page.get_by_text("used with 3 of 3 pictures").is_visible()
    assert page.get_by_role("img", name="The count over time").evaluate("image => image.naturalWidth") > 500


def test_a_long_video_can_be_stopped_and_shows_what_was_counted(
    new_page: NewPage, samples: Path, tmp_path: Path
) -> None:
    scene = cv2.resize(cv2.imread(str(samples / "scene_2.jpg")), (256, 144))
    film = write_video(tmp_path / "long.mp4", [scene] * 600, np.zeros(16_000, np.float32))
    page = new_page()
    page.get_by_role("tab", name="Count").click()
    page.get_by_role("radio", name="Video").check()
    give(page, "Video, with or without sound", film)
    page.get_by_role("button", name="Options").click()
    page.get_by_label("From one look at a video").fill("0.1")
    page.get_by_role("button", name="Count", exact=True).click()
    page.get_by_text(re.compile(r"^at 0:0[1-9] of 2:00")).wait_for()  # the button has been there for a while
    page.get_by_role("button", name="Stop").click()
    page.get_by_text(re.compile(r"^\d+, one every 0\.1 s, stopped at [01]:\d\d$")).wait_for()
    assert not page.get_by_role("button", name="Stop").is_visible()
    page.get_by_role("radio", name="Photo").check()
    give(page, "Photo of the crowd", samples / "scene_2.jpg")
    page.get_by_role("button", name="Count", exact=True).click()
    page.get_by_text("not used: no sound was given").wait_for()


@pytest.mark.parametrize("bad", ["recording", "photo"])
def test_a_bad_file_is_refused_in_words_and_the_page_lives_on(
    new_page: NewPage, samples: Path, tmp_path: Path, bad: str
) -> None:
    broken = {"recording": tmp_path / "talk.wav", "photo": tmp_path / "<b>face.png"}
    broken[bad].write_bytes(b"neither sound nor picture " * 40)
    given = {"recording": samples / "mixture_2.wav", "photo": samples / "portrait_2.png"}
    page = new_page()
    for field, part in (("Recording of several people", "recording"), ("Photo of the person to hear", "photo")):
        path = broken[bad] if part == bad else given[part]
        page.get_by_role("group", name=field).locator("input[type=file]").set_input_files(path)
    if bad == "photo":
        page.locator("#choice").get_by_role("alert").wait_for()  # before anything is asked
    page.get_by_role("button", name="Separate", exact=True).click()
    said = page.locator("#separate-message").get_by_role("alert").inner_text()
    assert ("talk.wav" if bad == "recording" else "face.png") in said
    assert all(part in said for part in ("Wanted:", "Why it matters:", "What to do:"))
    assert "Traceback" not in said and "/" not in said.replace("and/or", "") and "--" not in said
    assert not page.get_by_role("button", name="Download the voice").is_visible()


def test_two_users_at_once_see_their_own_answers(new_page: NewPage, server: EmbeddedTriton, samples: Path) -> None:
    numbers, pages = (1, 4, 2), [new_page() for _ in range(3)]
    for page, number in zip(pages, numbers, strict=True):
        page.get_by_role("tab", name="Count").click()
        give(page, "Photo of the crowd", samples / f"scene_{number}.jpg")
    pages[2].get_by_role("radio", name="Video").check()  # has given none: one user's mistake
    for page in pages:
        page.get_by_role("button", name="Count", exact=True).click()
    with CrowdCounter(server.grpc_url) as counter:
        for page, number in zip(pages[:2], numbers, strict=False):
            wanted = f"{counter.count(samples / f'scene_{number}.jpg').count:.1f}"
            sync_api.expect(page.locator("#number strong")).to_have_text(wanted)
    assert "No video was given" in pages[2].get_by_role("alert").inner_text()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(new_page: NewPage, samples: Path, tmp_path: Path, colours: str) -> None:
    page = new_page(viewport=PHONE, color_scheme=colours, has_touch=True, is_mobile=True)
    give(page, "Recording of several people", samples / "mixture_2.wav")
    give(page, "Photo of the person to hear", samples / "portrait_2.png")
    page.get_by_role("button", name="Separate", exact=True).click()
    page.get_by_role("button", name="Download the voice").wait_for()
    assert page.evaluate(BEYOND) == []
    page.get_by_role("tab", name="Count").click()
    tall = tmp_path / "tall.png"
    cv2.imwrite(str(tall), cv2.imread(str(samples / "scene_3.jpg"))[:, :192])
    give(page, "Photo of the crowd", tall)
    page.get_by_role("button", name="Count", exact=True).click()
    page.locator("#number").wait_for()
    assert page.evaluate(BEYOND) == []
    shown = page.locator(".ave-stack").bounding_box()
    assert shown["height"] < PHONE["height"] and shown["width"] / shown["height"] == pytest.approx(192 / 576, rel=0.02)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (colours == "dark")
    page.evaluate("document.querySelector('#number p').style.width = '900px'")
    assert len(page.evaluate(BEYOND)) == 1, "this would be found"


def test_what_was_uploaded_is_gone_when_the_page_is_closed(new_page: NewPage, uploads: Path, samples: Path) -> None:
    def held() -> set[str]:
        names = {
            name for _, _, names in os.walk(uploads) for name in names
        }  # lets folders go meanwhile, as glob does not
        return {name for name in names if name.endswith((".wav", ".png", ".jpg", ".mp4"))}

    def becomes(right: Callable[[set[str]], bool]) -> bool:
        deadline = time.monotonic() + 10
        while not right(held()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return right(held())

    assert becomes(lambda names: not names), "the pages of earlier tests left something"
    page = new_page()
    give(page, "Recording of several people", samples / "mixture_1.wav")
    give(page, "Photo of the person to hear", samples / "portrait_1.png")
    page.get_by_role("button", name="Separate", exact=True).click()
    page.get_by_role("button", name="Download the voice").wait_for()
    results = {"face_1.jpg", "mixture_1.mixture.wav", "mixture_1.voice.wav", "spectrograms.png"}
    assert held() == {"mixture_1.wav", "portrait_1.png", *results}
    give(page, "Photo of the person to hear", samples / "portrait_3.png")
    assert becomes(lambda names: "portrait_1.png" not in names and "portrait_3.png" in names)
    page.context.close()
    assert becomes(lambda names: not names)
    assert all(path.stat().st_mode & 0o077 == 0 for path in uploads.glob("avedge-web-*"))


def test_a_server_that_is_away_is_said_at_once_with_how_to_start_it(
    root: Path, tmp_path: Path, new_page: NewPage, samples: Path
) -> None:
    with served_page(root, tmp_path, "127.0.0.1:9") as address:
        page = new_page(address)
        page.get_by_role("alert").wait_for()
        assert "avedge serve" in page.get_by_role("alert").inner_text()
        page.get_by_role("tab", name="Count").click()
        give(page, "Photo of the crowd", samples / "scene_3.jpg")
        page.get_by_role("button", name="Count", exact=True).click()
        said = page.locator("#count-message").get_by_role("alert")
        said.wait_for()
        assert "127.0.0.1:9" in said.inner_text() and "avedge serve" in said.inner_text()
        page.context.close()


@pytest.mark.skipif("AVEDGE_WEB_PICTURES" not in os.environ, reason="writes pictures for the README where it says")
def test_a_picture_of_each_tab(new_page: NewPage, samples: Path, two_faces: Path) -> None:
    folder = Path(os.environ["AVEDGE_WEB_PICTURES"])
    page = new_page(viewport={"width": 1100, "height": 800})
    give(page, "Recording of several people", samples / "mixture_2.wav")
    give(page, "Photo of the person to hear", two_faces)
    page.get_by_role("button", name="Thumbnail 2 of 2").click()
    page.get_by_text("Face 2 of 2 is chosen").wait_for()
    page.get_by_role("button", name="Separate", exact=True).click()
    page.get_by_role("group", name="After").get_by_role("button", name="Play", exact=True).wait_for()
    write_picture(folder / "web_separate.png", page)
    page.get_by_role("tab", name="Count").click()
    give(page, "Photo of the crowd", samples / "scene_4.jpg")
    give(page, "Sound of the place", samples / "scene_4.wav")
    page.get_by_role("button", name="Count", exact=True).click()
    page.locator("#number").wait_for()
    write_picture(folder / "web_count.png", page)

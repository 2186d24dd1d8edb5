"""The tab Count: a photo or a video, with or without sound; number, density, patches, and the count over time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from clients.media.limits import MAX_TILES_PER_SIDE
from clients.media.tiles import Tiles
from clients.web.asking import (
    AT_ONCE,
    PRIVATE,
    Asking,
    FileData,
    Updates,
    keep,
    no_message,
    offer_examples,
    owner,
    shown,
    upload_of,
)
from clients.web.count_work import Answer, Looking, VideoCount, count_photo
from clients.web.messages import explain, missing

PHOTO, VIDEO = "Photo", "Video"
_EMPTY = '<p class="ave-empty">The number and the density will be here.</p>'
_STRENGTH = 70  # per cent, at first
_SET_STRENGTH = "(percent) => { document.documentElement.style.setProperty('--strength', percent / 100); }"
_SHOWN_EVERY_S = 0.5  # how far a video is
_LEAST_EVERY_S = 0.1
_TILES: list[tuple[str, Tiles]] = [
    ("one look at the whole picture", 1),
    ("the picture's own resolution", "auto"),
    *((f"{number} × {number} tiles", number) for number in range(2, MAX_TILES_PER_SIDE + 1)),
]


@dataclass(frozen=True)
class _Question:
    """What the user gives."""

    source: gr.Radio
    apart: gr.Column
    photo: gr.Image
    sound: gr.Audio
    video: gr.Video
    tiles: gr.Dropdown
    flip: gr.Checkbox
    start: gr.Number
    every: gr.Number
    button: gr.Button
    stop: gr.Button


@dataclass(frozen=True)
class _Answer:
    """What the page gives."""

    message: gr.HTML
    empty: gr.HTML
    progress: gr.HTML
    result: gr.Column
    number: gr.HTML
    overlay: gr.HTML
    history: gr.Image
    facts: gr.HTML
    patches: gr.HTML


def add_count_tab(asking: Asking, examples: Path) -> None:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            question = _lay_question(examples)
        with gr.Column(scale=7, min_width=320, elem_classes="ave-answer"):
            answer = _lay_answer()
    _Actions(asking, question, answer).connect()


def _lay_question(examples: Path) -> _Question:
    source = gr.Radio([PHOTO, VIDEO], value=PHOTO, label="What you have", elem_id="count-source")
    with gr.Column() as apart:
        photo = gr.Image(
            sources=["upload", "webcam", "clipboard"],
            type="filepath",
            label="Photo of the crowd",
            height=280,
            buttons=[],
            elem_id="crowd-photo",
        )
        sound = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Sound of the place (may be left out)",
            editable=False,
            buttons=[],
            elem_id="crowd-sound",
        )
        pairs = [(scene, scene.with_suffix(".wav")) for scene in sorted(examples.glob("scene_*.jpg"))]
        offer_examples(pairs, [photo, sound], "Scene")
    video = gr.Video(
        sources=["upload", "webcam"],
        include_audio=True,
        label="Video, with or without sound",
        visible=False,
        height=340,
        buttons=[],
        elem_id="crowd-video",
    )
    with gr.Accordion("Options", open=False):
        tiles = gr.Dropdown(_TILES, value=1, label="How closely to look", info="Tiles see small heads better.")
        flip = gr.Checkbox(label="Mean with the mirror image (twice the time)")
        start = gr.Number(0, minimum=0, label="Where the heard second of a photo's sound begins (seconds)")
        every = gr.Number(1, minimum=_LEAST_EVERY_S, label="From one look at a video to the next (seconds)")
    button = gr.Button("Count", variant="primary", elem_id="count")
    stop = gr.Button("Stop", visible=False, elem_id="stop")
    return _Question(source, apart, photo, sound, video, tiles, flip, start, every, button, stop)


def _lay_answer() -> _Answer:
    message = gr.HTML(visible=False, elem_id="count-message")
    empty = gr.HTML(_EMPTY)
    progress = gr.HTML(visible=False, elem_id="count-progress")
    with gr.Column(visible=False, elem_id="crowd") as result:
        number = gr.HTML(elem_id="number")
        overlay = gr.HTML(elem_id="overlay")
        strength = gr.Slider(0, 100, _STRENGTH, step=1, label="Strength of the overlay (%)", elem_id="strength")
        history = gr.Image(
            show_label=False,
            alt_text="The count over time",
            interactive=False,
            visible=False,
            buttons=["fullscreen"],
            elem_id="history",
        )
        facts = gr.HTML(elem_id="count-facts")
        patches = gr.HTML(elem_id="patches")
    strength.change(None, strength, None, js=_SET_STRENGTH)
    return _Answer(message, empty, progress, result, number, overlay, history, facts, patches)


@dataclass(frozen=True)
class _Actions:
    """What happens when something is given or pressed."""

    asking: Asking
    question: _Question
    answer: _Answer

    def connect(self) -> None:
        """Tie the actions to the components."""
        ask, said = self.question, self.answer
        ask.source.change(self.choose_source, ask.source, [ask.apart, ask.video], show_progress="hidden", **PRIVATE)
        for field, purpose in ((ask.photo, "crowd photo"), (ask.sound, "crowd sound"), (ask.video, "crowd video")):
            hold = keep(self.asking, purpose)
            field.change(hold, field, None, preprocess=False, show_progress="hidden", **PRIVATE)
        ask.button.click(
            self.run,
            [ask.source, ask.photo, ask.sound, ask.video, ask.tiles, ask.flip, ask.start, ask.every],
            [*vars(said).values(), ask.stop],
            preprocess=False,
            concurrency_limit=AT_ONCE,
            concurrency_id="server",
            show_progress_on=[said.empty, said.number],
            **PRIVATE,
        )
        ask.stop.click(self.stop, None, ask.stop, show_progress="hidden", **PRIVATE)

    def choose_source(self, source: str) -> Updates:
        """Show the fields of what the user has."""
        ask = self.question
        return {ask.apart: gr.update(visible=source == PHOTO), ask.video: gr.update(visible=source == VIDEO)}

    def stop(self, request: gr.Request) -> Any:
        """Leave off counting a video; what was counted until then is shown."""
        self.asking.sessions.stop(owner(request))
        return gr.update(visible=False)

    def run(
        self,
        source: str,
        photo: FileData | None,
        sound: FileData | None,
        video: FileData | None,
        tiles: Tiles,
        flip: bool,
        start_s: float | None,
        every_s: float | None,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Count, and show the answer or what went wrong; a video tells how far it is."""
        looking = Looking(tiles, flip, start_s or 0.0, max(every_s or 1.0, _LEAST_EVERY_S))
        picture, ambience, film = upload_of(photo), upload_of(sound), upload_of(video)
        try:
            if source == PHOTO:
                if picture is None:
                    raise missing("photo", "add one in its field")
                answer = count_photo(self.asking.server, picture, ambience, looking)
            else:
                if film is None:
                    raise missing("video", "add one in its field")
                counting = VideoCount(self.asking.server, film, looking)
                yield from self._progress(counting, owner(request))
                answer = counting.answer(self.asking.sessions.new_folder(owner(request), "count"))
        except Exception as error:
            yield self._ended(explain(error, picture, ambience, film), None)
        else:
            yield self._ended("", answer)

    def _progress(self, counting: VideoCount, name: str) -> Iterator[Updates]:
        """How far a video is, now and then, until its end or until nobody waits for it any more."""
        said, last = self.answer, 0.0
        self.asking.sessions.begin(name)
        yield {said.message: no_message(), said.empty: gr.update(visible=False), said.result: gr.update(visible=False)}
        with closing(counting.counts()) as counts:
            for one in counts:
                if not self.asking.sessions.may_go_on(name):
                    counting.stopped_s = one.time_s
                    break
                if time.monotonic() - last > _SHOWN_EVERY_S:
                    last, progress = time.monotonic(), counting.progress_html(one)
                    yield {said.progress: shown(progress), self.question.stop: gr.update(visible=True)}

    def _ended(self, trouble: str, answer: Answer | None) -> Updates:
        said = self.answer
        updates = {
            said.progress: gr.update(visible=False),
            self.question.stop: gr.update(visible=False),
            said.message: shown(trouble) if trouble else no_message(),
            said.empty: gr.update(visible=False),
            said.result: gr.update(visible=answer is not None),
        }
        if answer is None:
            return updates
        return {
            **updates,
            said.number: answer.number,
            said.overlay: answer.overlay,
            said.history: gr.update(visible=answer.history is not None, value=_text(answer.history)),
            said.facts: answer.facts,
            said.patches: answer.patches,
        }


def _text(path: Path | None) -> Any:
    return None if path is None else str(path)

"""The tab Separate: a recording and a photo, or a video; which face; the voice before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from clients.separator import Portrait, find_faces
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
from clients.web.messages import Upload, explain, missing, require_upload
from clients.web.separate_work import choice_html, separate, write_face_views

RECORDING, VIDEO = "Recording and photo", "Video"
_EMPTY = '<p class="ave-empty">The voice, before and after, will be here.</p>'
_WAVE = gr.WaveformOptions(waveform_color="#64748b", waveform_progress_color="#0f766e")


@dataclass(frozen=True)
class _Question:
    """What the user gives."""

    source: gr.Radio
    apart: gr.Column
    recording: gr.Audio
    photo: gr.Image
    video: gr.Video
    gallery: gr.Gallery
    choice: gr.HTML
    chosen: gr.State  # index of the chosen face, and how many were found
    is_crop: gr.Checkbox
    button: gr.Button


@dataclass(frozen=True)
class _Answer:
    """What the page gives."""

    message: gr.HTML
    empty: gr.HTML
    result: gr.Column
    before: gr.Audio
    after: gr.Audio
    download: gr.DownloadButton
    plot: gr.Image
    facts: gr.HTML


def add_separate_tab(asking: Asking, examples: Path) -> None:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            question = _lay_question(examples)
        with gr.Column(scale=7, min_width=320, elem_classes="ave-answer"):
            answer = _lay_answer()
    _Actions(asking, question, answer).connect()


def _lay_question(examples: Path) -> _Question:
    chosen = gr.State((0, 0))
    source = gr.Radio([RECORDING, VIDEO], value=RECORDING, label="What you have", elem_id="separate-source")
    with gr.Column() as apart:
        recording = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Recording of several people",
            editable=False,
            buttons=[],
            waveform_options=_WAVE,
            elem_id="recording",
        )
        photo = gr.Image(
            sources=["upload", "webcam", "clipboard"],
            type="filepath",
            label="Photo of the person to hear",
            height=240,
            buttons=[],
            elem_id="photo",
        )
        pairs = [(mixture, _portrait_of(mixture)) for mixture in sorted(examples.glob("mixture_*.wav"))]
        offer_examples(pairs, [recording, photo], "Two talkers")
    video = gr.Video(
        sources=["upload", "webcam"],
        include_audio=True,
        label="Video with sound",
        visible=False,
        height=340,
        buttons=[],
        elem_id="separate-video",
    )
    gallery = gr.Gallery(
        label="Whose voice? Choose a face",
        columns=4,
        fit_columns=False,
        height="auto",
        allow_preview=False,
        interactive=False,
        visible=False,
        buttons=[],
        elem_id="faces",
    )
    choice = gr.HTML(visible=False, elem_id="choice")
    is_crop = gr.Checkbox(label="The photo shows the face alone (look for none in it)", elem_id="is-crop")
    button = gr.Button("Separate", variant="primary", elem_id="separate")
    return _Question(source, apart, recording, photo, video, gallery, choice, chosen, is_crop, button)


def _portrait_of(mixture: Path) -> Path:
    """The demonstration's portrait of the person to hear in a mixture."""
    return mixture.with_name(f"{mixture.stem.replace('mixture', 'portrait')}.png")


def _lay_answer() -> _Answer:
    message = gr.HTML(visible=False, elem_id="separate-message")
    empty = gr.HTML(_EMPTY)
    with gr.Column(visible=False, elem_id="voice") as result:
        before, after = (
            gr.Audio(label=label, interactive=False, buttons=[], waveform_options=_WAVE, elem_id=word)
            for label, word in (("Before: the recording", "before"), ("After: the chosen voice", "after"))
        )
        download = gr.DownloadButton("Download the voice (WAV)", elem_id="download")
        plot = gr.Image(
            show_label=False,
            alt_text="Spectrograms of the recording and of the voice, and the attention over time",
            interactive=False,
            buttons=["fullscreen"],
            elem_id="plot",
        )
        facts = gr.HTML(elem_id="separate-facts")
    return _Answer(message, empty, result, before, after, download, plot, facts)


@dataclass(frozen=True)
class _Actions:
    """What happens when something is given, chosen or pressed."""

    asking: Asking
    question: _Question
    answer: _Answer

    def connect(self) -> None:
        """Tie the actions to the components."""
        ask, said = self.question, self.answer
        ask.source.change(self.choose_source, ask.source, [ask.apart, ask.video], show_progress="hidden", **PRIVATE)
        hold = keep(self.asking, "recording")
        ask.recording.change(hold, ask.recording, None, preprocess=False, show_progress="hidden", **PRIVATE)
        gr.on(
            [ask.photo.change, ask.video.change, ask.source.change],
            self.show_faces,
            [ask.source, ask.photo, ask.video],
            [ask.gallery, ask.chosen, ask.choice],
            preprocess=False,
            show_progress="minimal",
            show_progress_on=[ask.gallery],
            concurrency_limit=AT_ONCE,
            **PRIVATE,
        )
        ask.gallery.select(self.choose_face, ask.chosen, [ask.chosen, ask.choice], show_progress="hidden", **PRIVATE)
        ask.button.click(
            self.run,
            [ask.source, ask.recording, ask.photo, ask.video, ask.chosen, ask.is_crop],
            list(vars(said).values()),
            preprocess=False,
            concurrency_limit=AT_ONCE,
            concurrency_id="server",
            show_progress_on=[said.empty, said.before],
            **PRIVATE,
        )

    def choose_source(self, source: str) -> Updates:
        """Show the fields of what the user has."""
        return {
            self.question.apart: gr.update(visible=source == RECORDING),
            self.question.video: gr.update(visible=source == VIDEO),
        }

    def show_faces(self, source: str, photo: FileData | None, video: FileData | None, request: gr.Request) -> Updates:
        """Look for faces in what was given, and offer them."""
        ask = self.question
        keep(self.asking, "photo")(photo, request)
        keep(self.asking, "video")(video, request)
        nothing = {
            ask.gallery: gr.update(visible=False, value=None),
            ask.chosen: (0, 0),
            ask.choice: no_message(),
        }
        upload = upload_of(video if source == VIDEO else photo)
        if upload is None:
            return nothing
        try:
            portraits = self._portraits(upload, request)
            views = write_face_views(portraits, self.asking.sessions.new_folder(owner(request), "faces"))
        except Exception as error:
            return {**nothing, ask.choice: shown(explain(error, upload))}
        return {
            **nothing,
            ask.gallery: gr.update(visible=True, value=views, selected_index=0),
            ask.chosen: (0, len(portraits)),
            ask.choice: shown(choice_html(0, len(portraits))),
        }

    def _portraits(self, upload: Upload, request: gr.Request) -> tuple[Portrait, ...]:
        """Everybody in a photo or video, found once.

        Raises:
            BadInput: nobody is.
        """
        known = self.asking.sessions.recall(owner(request), upload.path)
        if known is None:
            require_upload(upload)
            known = find_faces(upload.path)
            self.asking.sessions.remember(owner(request), upload.path, known)
        return known

    def choose_face(self, before: tuple[int, int], selected: gr.SelectData) -> Updates:
        """Take the face that was clicked."""
        index, found = int(selected.index), before[1]
        return {self.question.chosen: (index, found), self.question.choice: shown(choice_html(index, found))}

    def run(
        self,
        source: str,
        recording: FileData | None,
        photo: FileData | None,
        video: FileData | None,
        chosen: tuple[int, int],
        is_crop: bool,
        request: gr.Request,
    ) -> Updates:
        """Separate, and show the voice or what went wrong."""
        said, from_video = self.answer, source == VIDEO
        mixture, shows = upload_of(video if from_video else recording), upload_of(video if from_video else photo)
        hidden = {said.empty: gr.update(visible=False), said.result: gr.update(visible=False)}
        try:
            if mixture is None:
                raise missing("video" if from_video else "recording", "upload one, or record one here")
            if shows is None:
                raise missing("photo of the person to hear", "add one, or choose a video, which has its own pictures")
            face = shows if is_crop else _chosen(self._portraits(shows, request), *chosen)
            folder = self.asking.sessions.new_folder(owner(request), "voice")
            voice = separate(self.asking.server, mixture, face, folder)
        except Exception as error:
            return {**hidden, said.message: shown(explain(error, mixture, shows))}
        return {
            **hidden,
            said.message: no_message(),
            said.result: gr.update(visible=True),
            said.before: str(voice.before),
            said.after: str(voice.after),
            said.download: str(voice.after),
            said.plot: str(voice.plot),
            said.facts: voice.facts,
        }


def _chosen(portraits: Sequence[Portrait], index: int, found: int) -> Portrait:
    """The face that was chosen; the first where the choice was made in another picture, just replaced."""
    return portraits[index if found == len(portraits) else 0]

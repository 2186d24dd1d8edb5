"""The page as a whole: what stands above the tabs, and what happens when it is opened and closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from clients.counter import CrowdCounter
from clients.errors import ClientError
from clients.separator import SpeechSeparator
from clients.web.asking import Asking, owner
from clients.web.count_tab import add_count_tab
from clients.web.messages import explain
from clients.web.separate_tab import add_separate_tab
from clients.web.sessions import KEPT_S

STYLE, SCRIPT = Path(__file__).with_name("page.css"), Path(__file__).with_name("page.js")
_LOOKED_S = 60  # how often it is looked after that no upload is kept for too long
_WAITING = 32  # questions in the queue; the next is told to come later
_HEAD = """
<header class="ave-head">
<h1>avedge</h1>
<p>Bring one person’s voice out of a recording by a photo of the face, or count a crowd by its picture and sound.</p>
</header>
"""
_FOOT = """
<footer class="ave-foot"><p>What you upload goes to this machine’s page and its server, and nowhere else. It is removed
when you choose something else or close the page, and after an hour at the latest. Choosing a voice by a face is
biometric processing: ask the people concerned.</p></footer>
"""


def build_page(asking: Asking, examples: Path) -> gr.Blocks:
    """Both tabs.

    Args:
        asking: whom they ask.
        examples: folder with the demonstration's samples; none are offered where it is absent.
    """
    page = gr.Blocks(title="avedge", analytics_enabled=False, fill_width=True, delete_cache=(_LOOKED_S, int(KEPT_S)))
    with page:
        gr.HTML(_HEAD)
        with gr.Column(visible=False, elem_id="away") as away:
            status = gr.HTML()
            again = gr.Button("Look again", size="sm")
        with gr.Tabs():
            with gr.Tab("Separate", id="separate"):
                add_separate_tab(asking, examples)
            with gr.Tab("Count", id="count"):
                add_count_tab(asking, examples)
        gr.HTML(_FOOT)

        def look() -> tuple[Any, str]:
            trouble = _trouble(asking)
            return gr.update(visible=bool(trouble)), trouble

        for event in (page.load, again.click):
            event(look, None, [away, status], show_progress="hidden", api_visibility="private")

        def leave(request: gr.Request) -> None:
            asking.sessions.forget(owner(request))
            # Gradio would keep what the page showed, photos among it, for as long as the command runs.
            page.state_holder.session_data.pop(owner(request), None)

        page.unload(leave)
    asking.sessions.spare_what_is_there()
    page.queue(max_size=_WAITING, api_open=False)
    return page


def theme() -> gr.themes.Base:
    """Colours with the contrast that small letters need, and the system's own fonts: nothing is loaded for them."""
    chosen = gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif"],
        font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"],
    )
    return chosen.set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        slider_color="*primary_600",
        slider_color_dark="*primary_500",
    )


def _trouble(asking: Asking) -> str:
    """What keeps the server from answering, as HTML; empty where nothing does."""
    try:
        with SpeechSeparator(**asking.server) as separator:
            separator.check()
        with CrowdCounter(**asking.server) as counter:
            counter.check(with_sound=True)
            counter.check(with_sound=False)
    except ClientError as error:
        return explain(error)
    return ""

"""What the tab Count shows: a number, a density over its photo, the patches, and for a video the count over time."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from clients.counter import CrowdCounter
from clients.counting.figures import draw_history
from clients.counting.history import History
from clients.counting.regions import TOTAL
from clients.crowd_count import CrowdCount, TimedCount
from clients.media.tiles import Tiles
from clients.media.video import VideoReader
from clients.outputs import write_whole
from clients.web.facts import clock, facts_html
from clients.web.messages import Upload, require_upload, warnings_html
from clients.web.overlay import overlay_html


class Looking(NamedTuple):
    """How pictures are looked at; see `CrowdCounter.count` and `count_stream`."""

    tiles: Tiles
    flip: bool
    sound_start_s: float  # of a photo's sound
    every_s: float  # of a video

    def options(self) -> dict[str, Any]:
        """For both."""
        return {"tiles": None if self.tiles == 1 else self.tiles, "flip": self.flip}


class Answer(NamedTuple):
    """One answer, as the page shows it; HTML, and the picture of a video's counts over time."""

    number: str
    overlay: str
    patches: str
    facts: str
    history: Path | None = None


def count_photo(server: Mapping[str, Any], photo: Upload, sound: Upload | None, looking: Looking) -> Answer:
    """Ask the server about one picture.

    Raises:
        ClientError: as `CrowdCounter.count`.
    """
    for upload in (photo, sound):
        if upload is not None:
            require_upload(upload)
    with CrowdCounter(**server) as counter:
        start_s = looking.sound_start_s if sound else 0.0
        path = sound.path if sound else None
        result = counter.count(photo.path, path, sound_start_s=start_s, **looking.options())
    facts = {
        "Time taken": f"{result.timings_s['total']:.2f} s, of it {result.timings_s['server']:.2f} s on the server",
        "Sound": f"{'used' if result.fallback is None else 'not used'}: {result.why_model}",
        "Picture": f"{result.picture.shape[1]} × {result.picture.shape[0]} pixels",
        "Model": f"{result.model.name} {', '.join(result.model.versions)}",
    }
    said = facts_html(facts) + warnings_html(result.warnings, photo, sound)
    return Answer(_number_html(f"{result.count:.1f}", _sure(result)), overlay_html(result), patches_html(result), said)


@dataclass
class VideoCount:
    """The counting of a video on its way: go through its counts, then ask for the answer.

    Args:
        server: what the client's constructor takes.
        video: with or without sound.
        looking: how.
    """

    server: Mapping[str, Any]
    video: Upload
    looking: Looking
    history: History = field(default_factory=lambda: History((TOTAL,)))
    busiest: TimedCount | None = None
    duration_s: float | None = None
    stopped_s: float | None = None  # where in the video it was left off
    models: set[str] = field(default_factory=set)
    warnings: dict[str, None] = field(default_factory=dict)  # each once, in their order

    def counts(self) -> Generator[TimedCount, None, None]:
        """Every count as it comes; close it to leave off.

        Raises:
            ClientError: as `VideoReader` and `CrowdCounter.count_stream`.
        """
        require_upload(self.video)
        with VideoReader(self.video.path) as reader, CrowdCounter(**self.server) as counter:
            self.duration_s = reader.duration_s
            options = self.looking.options()
            with closing(counter.count_stream(reader, every_s=self.looking.every_s, **options)) as counts:
                for one in counts:
                    self._take(one)
                    yield one

    def _take(self, one: TimedCount) -> None:
        self.history.add(one.time_s, one.count.counts, one.count.fallback)
        self.models.add(f"{one.count.model.name} {', '.join(one.count.model.versions)}")
        self.warnings.update(dict.fromkeys(one.count.warnings))
        if self.busiest is None or one.count.count > self.busiest.count.count:
            self.busiest = one

    def progress_html(self, one: TimedCount) -> str:
        """How far it is, and how many people there are then."""
        whole = f" of {clock(self.duration_s)}" if self.duration_s else ""
        return _number_html(f"{one.count.count:.1f}", f"at {clock(one.time_s)}{whole}")

    def answer(self, folder: Path) -> Answer:
        """What is known in the end; the picture is written into the folder."""
        if self.busiest is None:
            raise ValueError("no picture of the video was counted")
        history, summary, top = folder / "count_over_time.png", self.history.summary(), self.busiest
        mean = summary["counts"][TOTAL]["mean"]
        write_whole(history, lambda aside: draw_history(aside, self.history))
        sure = f"at {clock(top.time_s)}, when most were seen; {mean:.1f} on average"
        facts = {
            "Pictures": f"{summary['samples']}, one every {self.looking.every_s:g} s{self._left_off()}",
            "Sound": self._heard(summary["heard_samples"]),
            "Shown": f"the picture at {clock(top.time_s)}, {top.count.picture.shape[1]} × {top.count.picture.shape[0]}",
            "Model": "; ".join(sorted(self.models)),
        }
        return Answer(
            _number_html(f"{top.count.count:.1f}", sure),
            overlay_html(top.count),
            patches_html(top.count),
            facts_html(facts) + warnings_html(self.warnings, self.video),
            history,
        )

    def _left_off(self) -> str:
        return "" if self.stopped_s is None else f", stopped at {clock(self.stopped_s)}"

    def _heard(self, heard: int) -> str:
        """Whether the sound was used, and why not where it was not."""
        reasons = [f"{number} × {reason.sentence}" for reason, number in self.history.fallbacks.items()]
        used = "not used" if heard == 0 else f"used with {heard} of {self.history.samples} pictures"
        return f"{used}: {'; '.join(reasons)}" if reasons else used


def _sure(result: CrowdCount) -> str:
    """How sure a count is."""
    if result.interval is None:
        return "no interval is known for this way of counting"
    low, high = result.interval
    share = result.model.number("count_interval_share")
    return f"between {low:.0f} and {high:.0f} in {100 * share:.3g} % of such pictures"


def _number_html(number: str, sure: str) -> str:
    """A count, and what is to be said of it."""
    return f'<div class="ave-number" role="status"><p><strong>{number}</strong> people</p><p>{escape(sure)}</p></div>'


def patches_html(result: CrowdCount) -> str:
    """People in each patch, as a table whose cells are as dark as they are full."""
    counts = result.patch_counts
    top = max(float(counts.max()), 1e-6)
    plain = result.patch_importance is not None
    place = "the network's frame, in whose top left corner the picture lies" if plain else "the picture"
    head = "".join(f'<th scope="col">{column}</th>' for column in range(1, counts.shape[1] + 1))
    rows = []
    for number, row in enumerate(counts, 1):
        cells = "".join(f'<td style="--share:{max(0.0, value) / top:.3f}">{value:.1f}</td>' for value in row)
        rows.append(f'<tr><th scope="row">{number}</th>{cells}</tr>')
    return (
        f'<div class="ave-patches"><table><caption>People in the patches of {place}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )

"""How many people pictures show, and where: clients of the ensembles `crowd_counting` and `crowd_counting_vision`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from clients.client import AsyncServedClient, ServedClient
from clients.contract import ServedModel
from clients.counting.hearing import Fallback, Heard, hear, sound_at
from clients.counting.moments import Moment, Seconds, StreamItem, moment_of, moments_of
from clients.counting.question import MODEL, MODEL_VISION, OUTPUTS, Question, View, ask, require_fit
from clients.counting.regions import Region, require_distinct
from clients.crowd_count import CrowdCount, TimedCount
from clients.errors import BadSetting
from clients.media.picture import load_picture
from clients.media.tiles import Tiles
from clients.tasks import end_all, in_thread
from clients.transport.connection import IN_FLIGHT, Tensors
from clients.transport.options import require_in_flight

Media = str | Path | NDArray[Any]


class CrowdCounter(ServedClient):
    """Client of the served crowd counters.

        with CrowdCounter() as counter:
            print(counter.count("square.jpg", "square.wav").count)
            for second in counter.count_stream("square.mp4"):
                print(second.time_s, second.count.count)

    The arguments are those of `ServedClient`; one request is a picture, or one tile of it.
    """

    def check(self, *, with_sound: bool = True) -> ServedModel:
        """See that the server answers, is ready, and serves what this client needs.

        Raises:
            ServerUnavailable, ContractMismatch, Timeout: it does not.
        """
        served = self._connection.served(MODEL if with_sound else MODEL_VISION)
        require_fit(served, with_sound=with_sound)
        return served

    def count(
        self,
        picture: Media,
        sound: Media | None = None,
        *,
        sample_rate_hz: int | None = None,
        sound_start_s: float = 0.0,
        tiles: Tiles | None = None,
        flip: bool = False,
        regions: Sequence[Region] = (),
    ) -> CrowdCount:
        """Count the people of a photo.

        Args:
            picture: JPEG or PNG, or RGB array (H, W, 3).
            sound: recording or video of the place, or an array with its `sample_rate_hz`; one second of it is heard,
                with every tile the same. A silent second is left out, and the result says so.
            sample_rate_hz: of an array.
            sound_start_s: where that second begins, seconds.
            tiles: cut the photo into at most n x n tiles (1 to 8), which show it at about n times the resolution of
                one frame; "auto" for its own resolution. Some tiles are on the way at once.
            flip: take the mean over the photo and its mirror image, which asks twice as much.
            regions: polygons whose people are counted too, see `clients.counting.regions.Region`.

        Raises:
            BadInput: a picture or recording that nothing can be done with, tiles outside 1 to 8, or a region beyond
                the photo.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
        """
        began, view = time.monotonic(), _view(tiles, flip, regions)
        moment = _moment(picture, sound, sample_rate_hz, sound_start_s)
        question = self._question(moment, view, began)
        return question.finish(self._connection.infer_all(question.model.name, question.requests, OUTPUTS))

    def count_stream(
        self,
        source: str | Path | Seconds | Iterable[StreamItem],
        *,
        every_s: float = 1.0,
        use_sound: bool = True,
        sample_rate_hz: int | None = None,
        tiles: Tiles | None = None,
        flip: bool = False,
        regions: Sequence[Region] = (),
        live: bool = False,
        in_flight: int = IN_FLIGHT,
    ) -> Generator[TimedCount, None, None]:
        """Count picture after picture, of an input as long as it likes; memory holds those on the way.

        Args:
            source: a video, or an open one, a camera or a network stream (`clients.media.video`), whose own sound is
                heard second by second; or pictures as they come: RGB arrays (H, W, 3) or files, `every_s` apart; or
                (time_s, picture, sound), where the sound is an array that begins with the second to hear, a `Sound`,
                None, or a `Fallback`.
            every_s: seconds from one picture to the next.
            use_sound: hear a video's sound.
            sample_rate_hz: of sounds that are arrays.
            tiles: see `count`.
            flip: see `count`.
            regions: see `count`.
            live: answer each picture before the next one is taken, so that no answer waits for what is yet to happen.
            in_flight: most requests on the way at once.

        Yields:
            the counts in the pictures' order.

        Raises:
            BadInput: a picture or sound that nothing can be done with; what was yielded before stays right.
            BadSetting: `every_s` or `in_flight` of 0 or less.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
        """
        view = _view(tiles, flip, regions)
        _require_steps(every_s, in_flight)
        with closing(moments_of(source, every_s, sample_rate_hz, use_sound)) as moments:
            asked = ((moment, self._question(moment, view, time.monotonic())) for moment in moments)
            if live:
                for moment, question in asked:
                    answers = self._connection.infer_all(question.model.name, question.requests, OUTPUTS, in_flight)
                    yield TimedCount(moment.time_s, question.finish(answers))
                return
            # One stream of requests per stretch of one model: where the sound falls silent, the other one is asked.
            for model, stretch in groupby(asked, key=lambda pair: pair[1].model.name):
                yield from self._count_stretch(model, stretch, in_flight)

    def _count_stretch(
        self, model: str, stretch: Iterable[tuple[Moment, Question]], in_flight: int
    ) -> Iterator[TimedCount]:
        """Count pictures that one model is asked for."""
        waiting: deque[tuple[Moment, Question]] = deque()

        def requests() -> Iterator[Tensors]:
            for pair in stretch:
                waiting.append(pair)
                yield from pair[1].requests

        answers = []
        for answer in self._connection.infer_stream(model, requests(), OUTPUTS, in_flight):
            answers.append(answer)
            moment, question = waiting[0]
            if len(answers) == len(question.requests):
                waiting.popleft()
                yield TimedCount(moment.time_s, question.finish(answers))
                answers = []

    def _question(self, moment: Moment, view: View, began: float) -> Question:
        sound = moment.sound
        heard = sound if isinstance(sound, Fallback) else hear(sound, self.check())
        return ask(moment.picture, heard, self.check(with_sound=isinstance(heard, Heard)), view, began=began)


class AsyncCrowdCounter(AsyncServedClient):
    """The same for asyncio programs.

        async with AsyncCrowdCounter() as counter:
            print((await counter.count("square.jpg", "square.wav")).count)

    Reading files and pictures happens in threads, so that the event loop goes on.
    """

    async def check(self, *, with_sound: bool = True) -> ServedModel:
        """See that the server serves what this client needs; see `CrowdCounter.check`."""
        served = await self._connection.served(MODEL if with_sound else MODEL_VISION)
        require_fit(served, with_sound=with_sound)
        return served

    async def count(
        self,
        picture: Media,
        sound: Media | None = None,
        *,
        sample_rate_hz: int | None = None,
        sound_start_s: float = 0.0,
        tiles: Tiles | None = None,
        flip: bool = False,
        regions: Sequence[Region] = (),
    ) -> CrowdCount:
        """Count the people of a photo; see `CrowdCounter.count`."""
        began, view = time.monotonic(), _view(tiles, flip, regions)
        moment = await asyncio.to_thread(_moment, picture, sound, sample_rate_hz, sound_start_s)
        return await self._count(moment, view, IN_FLIGHT, began)

    async def count_stream(
        self,
        source: str | Path | Seconds | Iterable[StreamItem] | AsyncIterable[StreamItem],
        *,
        every_s: float = 1.0,
        use_sound: bool = True,
        sample_rate_hz: int | None = None,
        tiles: Tiles | None = None,
        flip: bool = False,
        regions: Sequence[Region] = (),
        live: bool = False,
        in_flight: int = IN_FLIGHT,
    ) -> AsyncGenerator[TimedCount, None]:
        """Count picture after picture; see `CrowdCounter.count_stream`.

        Leave an iteration early within `contextlib.aclosing`, so that what is on the way is given up at once.
        """
        view = _view(tiles, flip, regions)
        _require_steps(every_s, in_flight)
        at_once, each = (1, in_flight) if live else (in_flight, 1)
        waiting: deque[tuple[Moment, asyncio.Task[CrowdCount]]] = deque()
        try:
            async with aclosing(_moments_of(source, every_s, sample_rate_hz, use_sound)) as moments:
                async for moment in moments:
                    waiting.append((moment, asyncio.create_task(self._count(moment, view, each, time.monotonic()))))
                    if len(waiting) >= at_once:
                        yield TimedCount(waiting[0][0].time_s, await waiting[0][1])
                        waiting.popleft()
            while waiting:
                yield TimedCount(waiting[0][0].time_s, await waiting[0][1])
                waiting.popleft()
        finally:
            await end_all(task for _, task in waiting)

    async def _count(self, moment: Moment, view: View, in_flight: int, began: float) -> CrowdCount:
        sound = moment.sound
        heard = sound if isinstance(sound, Fallback) else await asyncio.to_thread(hear, sound, await self.check())
        served = await self.check(with_sound=isinstance(heard, Heard))
        question = await asyncio.to_thread(ask, moment.picture, heard, served, view, began=began)
        answers = await self._connection.infer_all(served.name, question.requests, OUTPUTS, in_flight)
        return await asyncio.to_thread(question.finish, answers)


def _view(tiles: Tiles | None, flip: bool, regions: Sequence[Region]) -> View:
    require_distinct(regions)
    return View(tiles, flip, tuple(regions))


def _require_steps(every_s: float, in_flight: int) -> None:
    if not 0 < every_s < float("inf"):
        raise BadSetting(
            f"every_s is {every_s}", "a number of seconds above 0", "the same picture would come for ever", "give one"
        )
    require_in_flight(in_flight)


def _moment(picture: Media, sound: Media | None, sample_rate_hz: int | None, sound_start_s: float) -> Moment:
    """A photo with the recording from the moment on that is to be heard."""
    photo = load_picture(picture)
    if sound is None:
        return Moment(0.0, photo, Fallback.NO_SOUND_GIVEN)
    return Moment(0.0, photo, sound_at(sound, sound_start_s, sample_rate_hz))


async def _moments_of(
    source: str | Path | Seconds | Iterable[StreamItem] | AsyncIterable[StreamItem],
    every_s: float,
    sample_rate_hz: int | None,
    use_sound: bool,
) -> AsyncGenerator[Moment, None]:
    """The moments of any source; reading one happens in a thread."""
    if isinstance(source, AsyncIterable):
        number = 0
        async for item in source:
            yield await asyncio.to_thread(moment_of, item, number * every_s, sample_rate_hz)
            number += 1
        return
    moments = moments_of(source, every_s, sample_rate_hz, use_sound)
    is_ours = isinstance(source, (str, Path)) or not isinstance(source, Iterable)
    try:
        while (moment := await (in_thread if is_ours else asyncio.to_thread)(next, moments, None)) is not None:
            yield moment
    finally:
        with suppress(ValueError):  # the caller's own pictures, of which the next one may never come
            moments.close()

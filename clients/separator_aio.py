"""`SpeechSeparator` for asyncio; what is said of its methods holds here too.

    async with AsyncSpeechSeparator() as separator:
        result = await separator.separate("talk.wav", "anna.jpg")
        async for block in separator.separate_stream(microphone, "anna.jpg", sample_rate_hz=16_000, live=True):
            play(block.speech)

Reading, resampling and looking for faces go on in threads, so the event loop is never held up by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.client import AsyncServedClient
from clients.contract import ServedModel
from clients.media.picture import Picture
from clients.media.sound import Samples, open_sound
from clients.outputs import lack_of_room_explained, require_places, staging_in
from clients.separation.files import PLOT, VIDEO, VOICE, FileJob, Wanted, moved, tell_nobody
from clients.separation.identity import FaceIdentity, probe_picture
from clients.separation.job import Job, MemoryJob, Recording, Speaker, SpeakerChoice, model_of
from clients.separation.live import Blocks, live_stream
from clients.separation.result import SeparatedFile, SeparatedSpeech
from clients.separation.served import FACE_NETWORK, OUTPUTS, SeparationModel, separation_model
from clients.separation.speaker import Portrait, Source, find_portrait
from clients.separation.stream import SpeechBlock, VoiceStream
from clients.tasks import in_thread
from clients.transport.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, IN_FLIGHT, Tensors
from clients.transport.options import SHARED_MEMORY, require_in_flight
from clients.transport.shared_regions import SharedMemory
from clients.transport.tls import Tls

Threaded = Callable[..., Awaitable[list[Tensors]]]  # calls in a thread


class AsyncSpeechSeparator(AsyncServedClient):
    """Client of the served FaceFilter, for the tasks of one event loop; arguments are those of `SpeechSeparator`."""

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        in_flight: int = IN_FLIGHT,
        tls: Tls | None = None,
        shared_memory: SharedMemory = SHARED_MEMORY,
    ) -> None:
        super().__init__(url, timeout_s=timeout_s, tls=tls, shared_memory=shared_memory)
        require_in_flight(in_flight)
        self._in_flight = in_flight

    async def check(self, identity: FaceIdentity | None = None) -> ServedModel:
        """See that the server answers, is ready, and serves what this client needs; see `SpeechSeparator.check`."""
        return (await self._model(identity)).served

    async def separate(
        self,
        mixture: Source,
        face: Source | Portrait | None = None,
        *,
        identity: FaceIdentity | None = None,
        sample_rate_hz: int | None = None,
        face_index: int | None = None,
        face_crop: bool = False,
    ) -> SeparatedSpeech:
        """Separate the voice of the person whose face is given; see `SpeechSeparator.separate`."""
        choice = SpeakerChoice(face, identity, face_index, face_crop)
        job = await asyncio.to_thread(MemoryJob, mixture, sample_rate_hz, choice)
        await self._carry_out(job)
        return await asyncio.to_thread(job.result)

    async def separate_file(
        self,
        recording: str | Path,
        voice: str | Path,
        face: Source | Portrait | None = None,
        *,
        plot: str | Path | None = None,
        video: str | Path | None = None,
        identity: FaceIdentity | None = None,
        face_index: int | None = None,
        face_crop: bool = False,
        float32: bool = False,
    ) -> SeparatedFile:
        """Separate from file to file, in memory that does not depend on the length; see `SpeechSeparator`."""
        choice = SpeakerChoice(face, identity, face_index, face_crop)
        named = {VOICE: voice, PLOT: plot, VIDEO: video}
        targets = {kind: Path(path) for kind, path in named.items() if path is not None}
        require_places(targets.values())
        speaker = await asyncio.to_thread(choice.find, recording)
        wanted = Wanted(float32=float32, plot=PLOT in targets, video=VIDEO in targets)
        folder = targets[VOICE].parent
        with (
            staging_in(folder) as staging,
            lack_of_room_explained(folder),
            await in_thread(open_sound, recording) as reader,
        ):
            job = await in_thread(FileJob, Path(recording), reader, speaker, staging, wanted, tell_nobody)
            await self._carry_out(job)
            return await in_thread(lambda: moved(job.result(), targets, staging))

    async def separate_stream(
        self,
        source: Source | Iterable[NDArray[Any]] | AsyncIterable[NDArray[Any]],
        face: Source | Portrait | None = None,
        *,
        identity: FaceIdentity | None = None,
        sample_rate_hz: int | None = None,
        face_index: int | None = None,
        face_crop: bool = False,
        level_rms: float | None = None,
        live: bool = False,
    ) -> AsyncGenerator[SpeechBlock, None]:
        """Separate sound block by block; see `SpeechSeparator.separate_stream`.

        Blocks may come asynchronously; those of an ordinary iterable are taken in a thread. Leave the iteration early
        within `contextlib.aclosing`.
        """
        choice = SpeakerChoice(face, identity, face_index, face_crop)
        in_flight = 1 if live else self._in_flight
        blocks: Iterable[Samples] | AsyncIterable[Samples]
        if isinstance(source, (str, Path)):
            recording = Recording.of_file(await asyncio.to_thread(open_sound, source))
            job = Job(recording, await asyncio.to_thread(choice.find, source))
            stream = await self._started(job, live=live)
            blocks = job.blocks()
        else:
            checked = Blocks(sample_rate_hz)
            speaker = await asyncio.to_thread(choice.find, None)
            stream = live_stream(await self._model(speaker, live=live), speaker, checked.rate_hz, level_rms)
            whole = [source] if isinstance(source, np.ndarray) else source
            blocks = checked.each_of(whole) if isinstance(whole, AsyncIterable) else checked.all_of(whole)
        async with aclosing(self._voice(stream, blocks, in_flight)) as voice:
            async for block in voice:
                yield block

    async def enroll(
        self, photo: Source | Portrait, *, face_index: int | None = None, face_crop: bool = False
    ) -> FaceIdentity:
        """Make a face's identity; see `SpeechSeparator.enroll`."""
        portrait = await asyncio.to_thread(find_portrait, None, photo, face_index, face_crop)
        model = await self._model(None)
        network = await self._connection.described(FACE_NETWORK)
        values = await self._identify(portrait.crop(model.face_size))
        probe = await self._identify(probe_picture(model.face_size))
        return FaceIdentity.of(values, probe, model.served, ", ".join(network.versions))

    async def _carry_out(self, job: Job) -> None:
        """All of a recording."""
        stream = await self._started(job)
        async with aclosing(self._voice(stream, job.blocks(), self._in_flight, in_thread)) as voice:
            async for block in voice:
                await in_thread(job.take, block)

    async def _started(self, job: Job, *, live: bool = False) -> VoiceStream:
        model = await self._model(job.speaker, live=live)
        return await in_thread(job.start, model)

    async def _model(self, speaker: Speaker | None, *, live: bool = False) -> SeparationModel:
        """The served ensemble for a speaker, checked; an identity must be of its own network."""
        model = separation_model(await self._connection.served(model_of(speaker)), live=live)
        if isinstance(speaker, FaceIdentity):
            speaker.require_contract(model.served, model.identity_size)
            speaker.require_network(await self._identify(probe_picture(model.face_size)))
        return model

    async def _identify(self, crop: Picture) -> NDArray[np.float32]:
        """What the served face network makes of a picture now; it may be another one by the next recording."""
        return (await self._connection.infer(FACE_NETWORK, {"face": crop}, ("identity",)))["identity"]

    async def _voice(
        self,
        stream: VoiceStream,
        blocks: Iterable[Samples] | AsyncIterable[Samples],
        in_flight: int,
        threaded: Threaded = asyncio.to_thread,
    ) -> AsyncGenerator[SpeechBlock, None]:
        """Blocks of the voice, in order, with blocks of the recording in, which are read as `threaded` has it."""
        requests = _requests(stream, blocks, threaded)
        answers = self._connection.infer_stream(stream.model.name, requests, OUTPUTS, in_flight)
        async with aclosing(answers), aclosing(requests):
            async for answer in answers:
                yield await asyncio.to_thread(stream.take, answer)
        yield await asyncio.to_thread(stream.rest)


async def _requests(
    stream: VoiceStream, blocks: Iterable[Samples] | AsyncIterable[Samples], threaded: Threaded
) -> AsyncGenerator[Tensors, None]:
    """A stream's requests; ordinary blocks are read and turned into requests in a thread."""
    if isinstance(blocks, AsyncIterable):
        async for block in blocks:
            for request in await threaded(_some, stream.push(block)):
                yield request
        for request in await threaded(_some, stream.end()):
            yield request
        return
    requests = stream.requests(blocks)
    while coming := await threaded(_some, requests, 1):
        yield coming[0]


def _some(requests: Iterator[Tensors], most: int | None = None) -> list[Tensors]:
    """The next ones; all where nothing else is said."""
    return list(islice(requests, most))

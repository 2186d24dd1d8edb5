"""One person's voice out of a recording while it is read or heard: the core that all clients of separation share.

    blocks ──rate──> level ──> windows ──> requests ──> server ──> answers ──joined──> level back ──rate──> blocks

N: samples of a block at the recording's rate; T: frames of 10 ms. Memory holds the windows on the way, however long the
recording is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.media import windows
from clients.media.resampling import Resampler, Samples, fitted
from clients.separation.level import Level
from clients.separation.served import SeparationModel
from clients.transport.connection import Tensors


@dataclass(frozen=True, eq=False)
class SpeechBlock:
    """The next stretch of a voice."""

    start_s: float  # where it begins in the recording
    speech: Samples = field(repr=False)  # (N,), of the recording's rate and level; may exceed 1
    # (T,), 0..1, of the frames that begin in it; frame t of a recording at t x 10 ms
    attention: NDArray[np.float32] = field(repr=False)


class VoiceStream:
    """Turns blocks into requests and answers into blocks; knows no server.

    Args:
        model: the served ensemble.
        speaker: the tensor that chooses the voice, by name.
        rate_hz: sample rate of the recording.
        level: what the network is to hear it at.
    """

    def __init__(self, model: SeparationModel, speaker: Tensors, rate_hz: int, level: Level) -> None:
        self.model = model
        self._speaker, self._rate_hz, self._level = speaker, rate_hz, level
        self._heard_by = Resampler(rate_hz, model.rate_hz)
        self._given_by = Resampler(model.rate_hz, rate_hz)
        self._cutter = windows.Cutter(model.layout)
        self._joiner = windows.Joiner(model.layout)
        self._attention_joiner = windows.Joiner(model.layout, model.layout.hop)
        self._without_gain, self._gains, self._attention = _Queue(), _Queue(), _Queue()
        self._on_way: deque[windows.Window] = deque()
        self._heard, self._given, self._frames_given = 0, 0, 0
        self.windows = 0  # requests so far

    def requests(self, blocks: Iterable[Samples]) -> Iterator[Tensors]:
        """All requests of a recording; its blocks are taken as the requests are."""
        for block in blocks:
            yield from self.push(block)
        yield from self.end()

    def push(self, block: Samples) -> Iterator[Tensors]:
        """Take the next samples (N,); gives the requests that can be sent now."""
        self._heard += len(block)
        heard = self._heard_by.push(block)
        self._without_gain.put(heard)
        yield from self._requests(self._cutter.push(self._levelled(self._level.push(heard))))

    def end(self) -> Iterator[Tensors]:
        """The recording is over; gives the last requests."""
        rest = self._heard_by.end()
        self._without_gain.put(rest)
        levelled = [self._levelled(self._level.push(rest)), self._levelled(self._level.end())]
        yield from self._requests(self._cutter.push(np.concatenate(levelled)))
        yield from self._requests(self._cutter.end())

    def take(self, answer: dict[str, NDArray[Any]]) -> SpeechBlock:
        """Take the answer to the oldest request without one; gives what no later answer can change.

        Raises:
            ContractMismatch: it has another length than its request.
        """
        window = self._on_way.popleft()
        self.model.require_lengths(answer, len(window.samples))
        self._attention.put(self._attention_joiner.push(answer["attention"], window.valid))
        joined = self._joiner.push(answer["speech"], window.valid)
        return self._block(self._given_by.push(joined / self._gains.take(len(joined))))

    def rest(self) -> SpeechBlock:
        """What was kept for answers that will not come; with it the voice has the recording's length."""
        self._attention.put(self._attention_joiner.end())
        joined = self._joiner.end()
        last = self._given_by.push(joined / self._gains.take(len(joined)))
        speech = np.concatenate((last, self._given_by.end()))
        return self._block(fitted(speech, self._heard - self._given), last=True)

    def _levelled(self, gains: NDArray[np.float32]) -> Samples:
        """The next samples with their gains, which are kept to undo them."""
        self._gains.put(gains)
        return self._without_gain.take(len(gains)) * gains

    def _requests(self, cut: Iterator[windows.Window]) -> Iterator[Tensors]:
        for window in cut:
            self._on_way.append(window)
            self.windows += 1
            yield {"mixture": window.samples, **self._speaker}

    def _block(self, speech: Samples, *, last: bool = False) -> SpeechBlock:
        start_s = self._given / self._rate_hz
        self._given += len(speech)
        begun = -(-self._given * self.model.rate_hz // (self._rate_hz * self.model.layout.hop))  # frames before it
        frames = len(self._attention) if last else min(len(self._attention), begun - self._frames_given)
        self._frames_given += frames
        return SpeechBlock(start_s, speech, self._attention.take(frames))


class _Queue:
    """Samples that are put in at one end in pieces and taken from the other in other pieces."""

    def __init__(self) -> None:
        self._pieces: deque[NDArray[np.float32]] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, piece: NDArray[np.float32]) -> None:
        if len(piece):
            self._pieces.append(piece)
            self._length += len(piece)

    def take(self, count: int) -> NDArray[np.float32]:
        """The oldest `count` of them."""
        taken, missing = [np.zeros(0, np.float32)], count
        while missing:
            piece = self._pieces.popleft()
            taken.append(piece[:missing])
            if len(piece) > missing:
                self._pieces.appendleft(piece[missing:])
            missing -= len(taken[-1])
        self._length -= count
        return np.concatenate(taken)

"""One recording and one speaker from the reading to the result: what the clients share, whether they wait or await."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.errors import BadSetting
from clients.media.picture import Picture
from clients.media.sound import Samples, Sound, SoundReader, load_sound
from clients.separation.identity import FaceIdentity
from clients.separation.level import FixedLevel
from clients.separation.measure import RecordingMeasure, VoiceMeasure
from clients.separation.result import SeparatedSpeech, level_change_db, warnings_of
from clients.separation.served import BY_FACE, BY_IDENTITY, SeparationModel
from clients.separation.speaker import Portrait, Source, find_portrait
from clients.separation.stream import SpeechBlock, VoiceStream
from clients.transport.connection import Tensors

Speaker = Portrait | FaceIdentity
_BLOCK_SAMPLES = 1 << 15


@dataclass(frozen=True)
class SpeakerChoice:
    """How the caller names the speaker; see `SpeechSeparator.separate` for the words."""

    face: Source | Portrait | None = None
    identity: FaceIdentity | None = None
    face_index: int | None = None
    face_crop: bool = False

    def find(self, mixture: Source | None) -> Speaker:
        """The speaker.

        Raises:
            BadInput: no face, or several and none chosen.
            BadSetting: a face and an identity.
        """
        if self.identity is not None:
            if self.face is not None:
                raise BadSetting(
                    "A face and an identity were given",
                    "one of them",
                    "each chooses the voice alone",
                    "leave one of them out",
                )
            return self.identity
        return find_portrait(mixture, self.face, self.face_index, self.face_crop)


def model_of(speaker: Speaker | None) -> str:
    """The served ensemble that takes such a speaker; that of faces where there is none yet."""
    return BY_IDENTITY if isinstance(speaker, FaceIdentity) else BY_FACE


def tensors_of(speaker: Speaker, model: SeparationModel) -> Tensors:
    """The speaker as the ensemble takes it."""
    if isinstance(speaker, FaceIdentity):
        return {"identity": speaker.values}
    return {"face": speaker.crop(model.face_size)}


@dataclass(frozen=True)
class Recording:
    """What is separated; its blocks can be read as often as wanted."""

    rate_hz: int
    blocks: Callable[[], Iterator[Samples]]  # mono, each (n,)

    @classmethod
    def of_sound(cls, sound: Sound) -> Recording:
        """A recording in memory."""
        starts = range(0, len(sound.samples), _BLOCK_SAMPLES)
        return cls(sound.sample_rate_hz, lambda: (sound.samples[start : start + _BLOCK_SAMPLES] for start in starts))

    @classmethod
    def of_file(cls, reader: SoundReader) -> Recording:
        """A recording that is read block by block."""
        return cls(reader.sample_rate_hz, lambda: reader.blocks(_BLOCK_SAMPLES))


class Job:
    """The separation of a recording that can be read twice: once for its level, once for the voice.

    Args:
        recording: what is separated.
        speaker: whose voice is wanted.
        began: `time.monotonic()` when reading began; now where it did not yet.
    """

    def __init__(self, recording: Recording, speaker: Speaker, began: float | None = None) -> None:
        self.recording, self.speaker = recording, speaker
        now = time.monotonic()
        self._began = now if began is None else began
        self._read_s = now - self._began
        self._voice = VoiceMeasure()

    def start(self, model: SeparationModel) -> VoiceStream:
        """Measure the recording; gives the stream that its blocks are to go through.

        Raises:
            BadInput: it is too short, silent or damaged.
        """
        self._model = model
        self._tensors = tensors_of(self.speaker, model)
        reading = time.monotonic()
        self.heard = RecordingMeasure(self.recording.rate_hz, model.rate_hz).take(self.recording.blocks())
        level = FixedLevel(self.heard.gain_to(model.mixture_rms))
        self._stream = VoiceStream(model, self._tensors, self.recording.rate_hz, level)
        self._asked = time.monotonic()
        self._read_s += self._asked - reading
        return self._stream

    @property
    def face(self) -> Picture | None:
        """The crop that chooses the voice; None where an identity does."""
        return self._tensors.get("face")

    def blocks(self) -> Iterator[Samples]:
        """The recording, for the voice."""
        return self.recording.blocks()

    def take(self, block: SpeechBlock) -> SpeechBlock:
        """Measure the next block of the voice, and give it back."""
        self._voice.push(block.speech, block.attention)
        return block

    def facts(self, *, is_integer: bool = True) -> dict[str, Any]:
        """Fields of `SeparatedVoice`, after the last block."""
        ended = time.monotonic()
        portrait = self.speaker if isinstance(self.speaker, Portrait) else None
        return {
            "sample_rate_hz": self.recording.rate_hz,
            "samples": self._voice.samples,
            "level_change_db": level_change_db(self.heard, self._voice),
            "attention_mean": self._voice.attention_mean,
            "frame_s": self._model.frame_s,
            "face": self.face,
            "face_box": portrait.place if portrait else None,
            "face_time_s": portrait.time_s if portrait else None,
            "windows": self._stream.windows,
            "model": self._model.served,
            "timings_s": {"read": self._read_s, "server": ended - self._asked, "total": ended - self._began},
            "warnings": (
                *(portrait.warnings() if portrait else ()),
                *warnings_of(self.heard, self._voice, is_integer=is_integer),
            ),
        }


class MemoryJob(Job):
    """A job whose recording and voice are held in memory.

    Raises:
        BadInput: a recording or photo that nothing can be done with.
    """

    def __init__(self, mixture: Source, sample_rate_hz: int | None, choice: SpeakerChoice) -> None:
        began = time.monotonic()
        self._sound = load_sound(mixture, sample_rate_hz)
        super().__init__(Recording.of_sound(self._sound), choice.find(mixture), began)
        self._speech: list[Samples] = []
        self._attention: list[NDArray[np.float32]] = []

    def take(self, block: SpeechBlock) -> SpeechBlock:
        """Keep the next block of the voice."""
        self._speech.append(block.speech)
        self._attention.append(block.attention)
        return super().take(block)

    def result(self) -> SeparatedSpeech:
        """The voice, after its last block."""
        return SeparatedSpeech(
            speech=np.concatenate(self._speech),
            mixture=self._sound.samples,
            attention=np.concatenate(self._attention),
            **self.facts(),
        )

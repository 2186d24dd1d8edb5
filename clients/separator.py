"""One person's voice out of a recording, chosen by a photo of the face, through the served ensemble `facefilter`.

N: samples of the recording; T: frames of 10 ms.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.client import ServedClient
from clients.contract import ANY_LENGTH, ServedModel, TensorSpec
from clients.errors import BadInput, ContractMismatch, printable
from clients.media import faces, video, windows
from clients.media.picture import Picture, load_picture
from clients.media.sound import Samples, Sound, fitted, gain_to, load_sound, resample, write_wav
from clients.outputs import write_whole
from clients.transport.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, IN_FLIGHT, Tensors

MODEL = "facefilter"


@dataclass(frozen=True)
class SeparatedSpeech:
    """One person's voice."""

    speech: Samples  # (N,), of the recording's length, rate and level; may exceed 1
    mixture: Samples  # (N,), the recording as it was heard, mono
    sample_rate_hz: int
    attention: NDArray[np.float32]  # (T,), 0..1: how much of the face went into each frame
    frame_s: float  # seconds from one frame to the next
    face: Picture  # the crop that was sent
    face_box: faces.FaceBox | None  # where it was in the photo; None for a given crop
    windows: int  # requests that the recording was cut into
    model: ServedModel = field(repr=False)
    timings_s: dict[str, float]
    warnings: tuple[str, ...]

    def save(self, path: str | Path, *, float32: bool = False) -> None:
        """Write a mono WAV of 16-bit integers, or of 32-bit floats.

        Nothing is clipped: a peak above full scale lowers the whole voice in the integer format.

        Raises:
            OutputFailed: it cannot be written.
        """
        write_whole(Path(path), lambda aside: write_wav(aside, self.speech, self.sample_rate_hz, float32=float32))

    def plot(self, path: str | Path) -> None:
        """Draw the spectrograms before and after, with the attention, as a PNG.

        Raises:
            OutputFailed: it cannot be written.
        """
        write_whole(Path(path), self.write_plot)

    def write_plot(self, path: Path) -> None:
        """Draw the same without care for what stands there."""
        from clients.spectrograms import VoicePicture  # matplotlib takes a second to load

        picture = VoicePicture(len(self.mixture), self.sample_rate_hz, self.frame_s)
        picture.hear(self.mixture)
        picture.speak(self.speech, self.attention)
        picture.draw(path)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: no samples and no pixels."""
        return {
            "sample_rate_hz": self.sample_rate_hz,
            "samples": len(self.speech),
            "seconds": round(len(self.speech) / self.sample_rate_hz, 6),
            "level_change_db": _level_change_db(self.mixture, self.speech),
            "attention_mean": round(float(self.attention.mean()), 6),
            "face_box": self.face_box.to_dict() if self.face_box else None,
            "windows": self.windows,
            "model": self.model.name,
            "model_versions": list(self.model.versions),
            "contract_digest": self.model.digest,
        }


class SpeechSeparator(ServedClient):
    """Client of the served FaceFilter.

        with SpeechSeparator() as separator:
            separator.separate("talk.wav", "face.jpg").save("voice.wav")

    Args:
        url: host and port of the server's gRPC front end.
        timeout_s: the most that one request (up to eight seconds of sound) may take.
        in_flight: most requests of one recording on the way at once.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, timeout_s: float = DEFAULT_TIMEOUT_S, in_flight: int = IN_FLIGHT
    ) -> None:
        super().__init__(url, timeout_s=timeout_s)
        self._in_flight = in_flight

    def check(self) -> ServedModel:
        """See that the server answers, is ready, and serves what this client needs.

        Raises:
            ServerUnavailable, ContractMismatch, Timeout: it does not.
        """
        served = self._connection.served(MODEL)
        size = served.integer("face_size")
        waveform = (ANY_LENGTH,)
        served.require_tensors(
            (TensorSpec("mixture", "FP32", waveform), TensorSpec("face", "UINT8", (size, size, 3))),
            (TensorSpec("speech", "FP32", waveform), TensorSpec("attention", "FP32", waveform)),
        )
        return served

    def separate(
        self,
        mixture: str | Path | NDArray[Any],
        face: str | Path | NDArray[Any] | None = None,
        *,
        sample_rate_hz: int | None = None,
        face_index: int | None = None,
        face_crop: bool = False,
    ) -> SeparatedSpeech:
        """Separate the voice of the person whose face is given.

        Args:
            mixture: recording or video; or an array (N,) or (N, channels) with its `sample_rate_hz`.
            face: photo, or RGB array (H, W, 3); a video gives one of its frames. May be left out when the mixture is a
                video.
            sample_rate_hz: of an array.
            face_index: which face, where the photo shows several, from left to right, counted from 0.
            face_crop: the photo is cut to the face already and is only resized.

        Returns:
            the voice, at the length and rate of the recording; what it holds above 8 kHz is lost.

        Raises:
            BadInput: a recording or photo that nothing can be done with.
            ServerUnavailable, ContractMismatch, Timeout: the server's side.
        """
        began = time.monotonic()
        sound = load_sound(mixture, sample_rate_hz)
        photo, box = _find_face(mixture, face, face_index, face_crop)
        read = time.monotonic()
        served = self.check()
        size = served.integer("face_size")
        crop = faces.crop_face(photo, box, size) if box else faces.resized(photo, size)
        heard = time.monotonic()
        speech, attention, requests = self._infer(served, sound, crop)
        ended = time.monotonic()
        return SeparatedSpeech(
            speech=speech,
            mixture=sound.samples,
            sample_rate_hz=sound.sample_rate_hz,
            attention=attention,
            frame_s=served.integer("hop_samples") / served.integer("sample_rate_hz"),
            face=crop,
            face_box=box,
            windows=requests,
            model=served,
            timings_s={"read": read - began, "server": ended - heard, "total": ended - began},
            warnings=_warnings(sound, speech),
        )

    def _infer(self, served: ServedModel, sound: Sound, face: Picture) -> tuple[Samples, NDArray[np.float32], int]:
        """The voice at the recording's rate, the attention, and how many requests it took."""
        rate_hz, hop = served.integer("sample_rate_hz"), served.integer("hop_samples")
        heard = resample(sound.samples, sound.sample_rate_hz, rate_hz)
        # One gain for the whole recording: the network knows mixtures of one level, and windows must agree on theirs.
        gain = gain_to(heard, served.number("mixture_rms"))
        try:
            layout = windows.layout_of(
                served.integers("padded_samples"), hop=hop, halo_frames=served.integer("halo_frames")
            )
        except ValueError as error:
            raise _unfit(served, str(error)) from error
        cutter = windows.Cutter(layout)
        plan = [*cutter.push(heard * np.float32(gain)), *cutter.end()]
        requests: list[Tensors] = [{"mixture": window.samples, "face": face} for window in plan]
        answers = self._connection.infer_all(MODEL, requests, ("speech", "attention"), self._in_flight)
        voices, weights = windows.Joiner(layout), windows.Joiner(layout, hop)
        spoken, attended = [], []
        for window, answer in zip(plan, answers, strict=True):
            _require_lengths(served, answer, len(window.samples), len(window.samples) // hop + 1)
            spoken.append(voices.push(answer["speech"], window.valid))
            attended.append(weights.push(answer["attention"], window.valid))
        attention = np.concatenate([*attended, weights.end()])
        speech = np.concatenate([*spoken, voices.end()]) / np.float32(gain)
        back = resample(speech, rate_hz, sound.sample_rate_hz, len(sound.samples))
        return fitted(back, len(sound.samples)), attention, len(requests)


def _find_face(
    mixture: str | Path | NDArray[Any], face: str | Path | NDArray[Any] | None, index: int | None, is_crop: bool
) -> tuple[Picture, faces.FaceBox | None]:
    """The photo, and the face's box in it; no box for a crop."""
    source = mixture if face is None else face
    if face is None and isinstance(mixture, np.ndarray):
        raise _no_face("A mixture came as an array without a face")
    if not isinstance(source, np.ndarray) and Path(source).is_file() and video.has_pictures(Path(source)):
        return _face_of_video(Path(source), index, is_crop)
    if face is None:
        raise _no_face(f"{printable(str(mixture))} is a recording without pictures, and no face was given")
    photo = load_picture(face)
    if is_crop:
        return photo, None
    name = "the array" if isinstance(face, np.ndarray) else printable(str(face))
    return photo, faces.choose_face(photo, name, index)


def _face_of_video(path: Path, index: int | None, is_crop: bool) -> tuple[Picture, faces.FaceBox | None]:
    """The first of the video's sampled frames in which the face can be told; the last failure if there is none."""
    failure: BadInput | None = None
    for frame in video.read_frames(path):
        if is_crop:
            return frame, None
        try:
            return frame, faces.choose_face(frame, f"a frame of {printable(path)}", index)
        except BadInput as error:
            failure = error
    raise failure or _no_face(f"{printable(path)} has no whole picture")


def _no_face(seen: str) -> BadInput:
    return BadInput(seen, "a photo of the person to hear", "the voice is chosen by the face", "give one with --face")


def _warnings(sound: Sound, speech: Samples) -> tuple[str, ...]:
    """What the reader should know of this result."""
    peak = float(np.max(np.abs(speech)))
    clipped = float(np.mean(np.abs(sound.samples) >= 0.999))
    found = []
    if peak > 1:
        found.append(
            f"the voice peaks at {peak:.2f} of full scale; a 16-bit file is lowered by {20 * np.log10(peak):.1f} dB"
        )
    if clipped > 1e-3:
        found.append(f"{100 * clipped:.1f} % of the recording is at full scale, so it was probably clipped")
    return tuple(found)


def _level_change_db(before: Samples, after: Samples) -> float | None:
    """Level of the voice against the recording; None for a silent voice."""
    powers = [float(np.mean(np.square(samples, dtype=np.float64))) for samples in (before, after)]
    return round(10 * float(np.log10(powers[1] / powers[0])), 3) if min(powers) > 0 else None


def _require_lengths(served: ServedModel, answer: dict[str, NDArray[Any]], samples: int, frames: int) -> None:
    """Refuse an answer of another length: joined to the others it would be in the wrong place."""
    seen = answer["speech"].shape, answer["attention"].shape
    if seen != ((samples,), (frames,)):
        raise _unfit(served, f"speech and attention have the shapes {seen[0]} and {seen[1]} for {samples} samples")


def _unfit(served: ServedModel, seen: str) -> ContractMismatch:
    return ContractMismatch(
        f"The server's model {served.name} does not fit these clients: {seen}",
        "the contract's lengths",
        "windows of a recording could not be joined",
        "export and serve the models again",
    )

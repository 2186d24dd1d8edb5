"""Spectrograms before and after, drawn from a recording while it is read: memory does not grow with its length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from clients.media.resampling import Samples
from clients.plots import DPI, INK, save_figure

_WINDOW_S, _FRAME_S = 0.025, 0.010
_MOST_COLUMNS = 2_000  # of a picture; in a longer recording each is the mean of several frames
_DYNAMIC_DB = 80
_TOP_HZ = 8_000  # what the networks hear
_FRAMES_AT_ONCE = 128
_FLOOR = 1e-18  # power; -180 dB


class VoicePicture:
    """Recording, voice and attention under each other, on one time axis and one colour scale.

    Args:
        samples: length of the recording.
        rate_hz: of recording and voice.
        attention_frame_s: seconds from one value of the attention to the next.
    """

    def __init__(self, samples: int, rate_hz: int, attention_frame_s: float) -> None:
        self._seconds, self._frame_s = samples / rate_hz, attention_frame_s
        self._before, self._after = Spectrogram(samples, rate_hz), Spectrogram(samples, rate_hz)
        self._attention = _Means(-(-int(self._seconds / attention_frame_s) // _MOST_COLUMNS))

    def hear(self, mixture: Samples) -> None:
        """The next samples of the recording."""
        self._before.push(mixture)

    def speak(self, speech: Samples, attention: NDArray[np.float32]) -> None:
        """The next samples of the voice, and the next values of the attention."""
        self._after.push(speech)
        self._attention.push(attention[:, None])

    def draw(self, path: Path) -> None:
        """Write a PNG of all that came."""
        figure = Figure(figsize=(10, 6.4), dpi=DPI, layout="constrained")
        before, after, line = figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 1])
        heard, spoken = self._before.levels_db(), self._after.levels_db()
        top_db = float(heard.max())
        self._panel(before, heard - top_db, self._before.top_khz, "Recording")
        image = self._panel(after, spoken - top_db, self._after.top_khz, "The voice that belongs to the face")
        figure.colorbar(image, ax=[before, after], label="dB below the recording's loudest", pad=0.01, aspect=40)
        weights = self._attention.rows()[:, 0]
        places = (np.arange(len(weights)) + 0.5) * self._attention.per_row * self._frame_s
        line.plot(places, weights, color="#21618c", linewidth=0.9)
        line.set(ylim=(-0.05, 1.05), yticks=[0, 1], ylabel="attention", xlabel="seconds")
        line.set_xlim(0, self._seconds)
        line.spines[["top", "right"]].set_visible(False)
        save_figure(figure, path)

    def _panel(self, axes: Axes, levels_db: NDArray[np.float32], top_khz: float, title: str) -> AxesImage:
        axes.set(ylabel="kHz", ylim=(0, top_khz))
        axes.set_title(title, loc="left", fontsize=11, color=INK)
        return axes.imshow(
            levels_db,
            cmap="magma",
            vmin=-_DYNAMIC_DB,
            vmax=0,
            aspect="auto",
            origin="lower",
            extent=(0, self._seconds, 0, top_khz),
            interpolation="nearest",
        )


class Spectrogram:
    """Level of every frequency up to 8 kHz, in windows of 25 ms every 10 ms.

    Args:
        samples: how many will come.
        rate_hz: of them.
    """

    def __init__(self, samples: int, rate_hz: int) -> None:
        self._window, self._hop = max(8, round(_WINDOW_S * rate_hz)), max(1, round(_FRAME_S * rate_hz))
        self._taper = np.hanning(self._window).astype(np.float32)
        self._rows = min(self._window // 2 + 1, _TOP_HZ * self._window // rate_hz + 1)
        self.top_khz = (self._rows - 1) * rate_hz / self._window / 1_000
        self._frames_left = -(-samples // self._hop)
        self._powers = _Means(-(-self._frames_left // _MOST_COLUMNS))
        self._held = np.zeros(self._window // 2, np.float32)  # the first frame's middle is the first sample

    def push(self, samples: Samples) -> None:
        """Take the next samples (N,)."""
        self._held = np.concatenate((self._held, samples))
        while self._frames_left and len(self._held) >= self._window:
            frames = min((len(self._held) - self._window) // self._hop + 1, self._frames_left, _FRAMES_AT_ONCE)
            views = np.lib.stride_tricks.sliding_window_view(self._held, self._window)[:: self._hop][:frames]
            magnitude = np.abs(np.fft.rfft(views * self._taper, axis=1)[:, : self._rows]) * (2 / self._taper.sum())
            self._powers.push(np.square(magnitude, dtype=np.float32))
            self._held = self._held[frames * self._hop :]
            self._frames_left -= frames

    def levels_db(self) -> NDArray[np.float32]:
        """(frequencies, columns) in dB re a sine at full scale; what did not come was silent."""
        self.push(np.zeros(self._frames_left * self._hop + self._window, np.float32))
        return np.asarray(10 * np.log10(self._powers.rows().T + _FLOOR), np.float32)


class _Means:
    """Rows, each the mean of so many that came.

    Args:
        per_row: how many; at least 1 is taken.
    """

    def __init__(self, per_row: int) -> None:
        self.per_row = max(1, per_row)
        self._done: list[NDArray[np.float32]] = []
        self._held: NDArray[np.float32] | None = None

    def push(self, values: NDArray[np.float32]) -> None:
        """Take the next (n, width) values."""
        held = values if self._held is None else np.concatenate((self._held, values))
        whole = len(held) // self.per_row * self.per_row
        self._done.append(held[:whole].reshape(-1, self.per_row, held.shape[1]).mean(axis=1))
        self._held = held[whole:]

    def rows(self) -> NDArray[np.float32]:
        """All of them; the last may be the mean of fewer."""
        if self._held is None:
            return np.zeros((0, 1), np.float32)
        rest = self._held.mean(axis=0, keepdims=True) if len(self._held) else self._held
        return np.concatenate([*self._done, rest])

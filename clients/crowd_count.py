"""How many people a photo shows, and where: the answer of `clients.counter.CrowdCounter`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.contract import ServedModel
from clients.counting.hearing import Fallback
from clients.counting.overlay import STRENGTH, greyed, heat, laid_over, shrunk, size_of
from clients.counting.regions import TOTAL, RegionCount
from clients.extras import require
from clients.media.letterbox import Letterbox
from clients.media.picture import Picture
from clients.media.tiles import TilePlan
from clients.outputs import write_whole

LONGEST_SIDE = 1_600  # pixels of a photo in a picture


@dataclass(frozen=True, eq=False)
class CrowdCount:
    """How many people, and where. P: patches per side.

    The plain answer's patches are those of the network's frame; where several answers were joined (tiles, a mirror
    image) they are those of the photo, and what the network says of the patches itself is left out.
    """

    count: float  # people in the photo: the sum of its density
    interval: tuple[float, float] | None  # that the true count lies in, where the served weights were calibrated
    density: NDArray[np.float32]  # (rows, columns), people per cell; cells of the photo, from its top left corner
    cell_size: tuple[float, float]  # height and width of a cell, pixels of the photo
    patch_counts: NDArray[np.float32]  # (P, P), people in each patch, summed from the density
    patch_importance: NDArray[np.float32] | None  # (P, P), PIR: share of the people in the patch
    patch_estimates: NDArray[np.float32] | None  # (P, P), PCE: people in the patch, regressed
    people_in_padding: float  # left out: counted in the frame beyond the photo, where nobody can be
    letterbox: Letterbox
    tiles: TilePlan | None  # None where none were asked for
    flip: bool  # whether it is the mean over the photo and its mirror image
    regions: tuple[RegionCount, ...]  # those that were asked for, in their order
    picture: Picture = field(repr=False)
    model: ServedModel = field(repr=False)
    fallback: Fallback | None  # why the model that only sees was asked; None where the sound was heard
    timings_s: dict[str, float]
    warnings: tuple[str, ...]

    @property
    def why_model(self) -> str:
        """Why this model was asked, a sentence without its full stop."""
        return "a sound was given with the picture" if self.fallback is None else self.fallback.sentence

    @property
    def counts(self) -> dict[str, float]:
        """People in the photo, under "total", and in each region."""
        return {TOTAL: self.count, **{one.region.name: one.people for one in self.regions}}

    @property
    def interval_text(self) -> str:
        """The interval for people, as in "90 %: 240 to 384"; empty where there is none."""
        if self.interval is None:
            return ""
        low, high = self.interval
        return f"{100 * self.model.number('count_interval_share'):.3g} %: {low:.0f} to {high:.0f}"

    def save(self, path: str | Path) -> None:
        """Write the density as a NumPy file (rows, columns), people per cell.

        Raises:
            OutputFailed: it cannot be written.
        """
        write_whole(Path(path), self.write_density)

    def write_density(self, path: Path) -> None:
        """Write the density at this very place."""
        with path.open("wb") as file:  # given a name, NumPy would add an ending
            np.save(file, self.density, allow_pickle=False)

    def overlay(self, *, strength: float = STRENGTH, colour: bool = False) -> Picture:
        """The photo with the density's colours over it, (H, W, 3) RGB, at most 1,600 pixels a side.

        Args:
            strength: 0 for the photo alone to 1 for colour alone where most people are.
            colour: leave the photo its own colours; without it, it is grey under the density's.
        """
        shown = shrunk(self.picture, LONGEST_SIDE)
        colours, cover = heat(
            self.density,
            cell_size=self.cell_size,
            photo_size=size_of(self.picture),
            shown_size=size_of(shown),
            strength=strength,
        )
        return laid_over(shown if colour else greyed(shown), colours, cover)

    def plot(self, path: str | Path, *, strength: float = STRENGTH) -> None:
        """Draw the density over the photo, with a colour bar, the count and the regions, as a PNG.

        Args:
            path: where the picture belongs; its folder must exist.
            strength: see `overlay`.

        Raises:
            OutputFailed: it cannot be written.
        """
        require("matplotlib")
        from clients.counting.figures import draw_density  # matplotlib takes a second to load

        write_whole(Path(path), lambda aside: draw_density(aside, self, strength=strength))

    def summary(self) -> dict[str, Any]:
        """The answer in a few words, as JSON can hold it: count, interval, regions, model and why it was asked."""
        regions = {
            one.region.name: {"count": round(one.people, 3), "area_share": round(one.area_share, 6)}
            for one in self.regions
        }
        return {
            "count": round(self.count, 3),
            **self._interval_dict(),
            **({"regions": regions} if regions else {}),
            "model": self.model.name,
            "fallback_reason": None if self.fallback is None else self.fallback.code,
        }

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; the density goes into its own file."""
        height, width = self.picture.shape[:2]
        return {
            **self.summary(),
            "picture": {"width": width, "height": height},
            "density": {
                "rows": self.density.shape[0],
                "columns": self.density.shape[1],
                "cell_height_pixels": round(self.cell_size[0], 4),
                "cell_width_pixels": round(self.cell_size[1], 4),
                "people_in_padding": round(self.people_in_padding, 3),
            },
            **self._tiles_dict(),
            **self._patches_dict(),
            "why_model": self.why_model,
            "model_versions": list(self.model.versions),
            "contract_digest": self.model.digest,
        }

    def _interval_dict(self) -> dict[str, Any]:
        if self.interval is None:
            return {}
        low, high = self.interval
        share = self.model.number("count_interval_share")
        return {"interval": {"share": share, "low": round(low, 3), "high": round(high, 3)}}

    def _tiles_dict(self) -> dict[str, Any]:
        """How the photo was seen, where it was not the plain way."""
        said: dict[str, Any] = {}
        if self.tiles is not None:
            rows, columns = len(self.tiles.rows), len(self.tiles.columns)
            said["tiles"] = {"rows": rows, "columns": columns, "scale": round(self.tiles.scale, 4)}
        if self.flip:
            said["flip"] = True
        return said

    def _patches_dict(self) -> dict[str, Any]:
        said: dict[str, Any] = {"patch_counts": _rounded(self.patch_counts)}
        if self.patch_importance is None or self.patch_estimates is None:
            note = "patches of the photo; the network's own importance and estimates are of the plain answer only"
            return {**said, "patches_note": note}
        return {
            **said,
            "patch_importance": _rounded(self.patch_importance),
            "patch_estimates": _rounded(self.patch_estimates),
        }


@dataclass(frozen=True, eq=False)
class TimedCount:
    """One count of a stream."""

    time_s: float  # of the picture, from the stream's beginning
    count: CrowdCount

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold, in short."""
        return {"time_s": round(self.time_s, 3), **self.count.summary()}


def _rounded(values: NDArray[np.float32]) -> list[list[float]]:
    return [[round(float(value), 4) for value in row] for row in values]

"""How many people a photo shows, and where: the answer of `clients.counter.CrowdCounter`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.contract import ServedModel
from clients.media.letterbox import Letterbox
from clients.media.picture import Picture
from clients.media.tiles import TilePlan
from clients.outputs import write_whole


@dataclass(frozen=True)
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
    picture: Picture = field(repr=False)
    model: ServedModel = field(repr=False)
    why_model: str
    timings_s: dict[str, float]
    warnings: tuple[str, ...]

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

    def plot(self, path: str | Path) -> None:
        """Draw the density over the photo, with a colour bar and the count, as a PNG.

        Raises:
            OutputFailed: it cannot be written.
        """
        from clients.plots import draw_density  # matplotlib takes a second to load

        write_whole(Path(path), lambda aside: draw_density(aside, self))

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; the density goes into its own file."""
        height, width = self.picture.shape[:2]
        return {
            "count": round(self.count, 3),
            **self._interval_dict(),
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
            "model": self.model.name,
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


def _rounded(values: NDArray[np.float32]) -> list[list[float]]:
    return [[round(float(value), 4) for value in row] for row in values]

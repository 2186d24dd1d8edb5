"""A density over its photo as HTML: two pictures upon each other, of which the upper one is as strong as the page says.

The strength is the CSS variable `--strength` (0 to 1) of any element around them, so that a slider changes it without
asking anybody.
"""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from clients.counting.overlay import density_top, heat, shrunk, size_of
from clients.crowd_count import LONGEST_SIDE, CrowdCount
from clients.extras import cv2

_HEAT_SIDE = 512  # pixels; colours are smooth, and the browser makes them larger
_JPEG_QUALITY = 85


def overlay_html(result: CrowdCount) -> str:
    """The photo with its density, and the scale of the colours."""
    height, width = size_of(result.picture)
    shown = f"Density of {result.count:.0f} people over the picture: brighter where more people stand"
    return (
        f'<figure class="ave-overlay"><div class="ave-stack" style="--width:{width};--height:{height}">'
        f'<img class="ave-photo" alt="The picture" src="{_photo_url(result)}">'
        f'<img class="ave-heat" alt="{shown}" src="{_heat_url(result)}"></div>'
        '<figcaption><span>0</span><span class="ave-scale" aria-hidden="true"></span>'
        f"<span>{density_top(result.density):.2g} people in a cell of {result.cell_size[1]:.0f} × "
        f"{result.cell_size[0]:.0f} pixels</span></figcaption></figure>"
    )


def _photo_url(result: CrowdCount) -> str:
    bgr = cv2.cvtColor(shrunk(result.picture, LONGEST_SIDE), cv2.COLOR_RGB2BGR)
    return _data_url("jpeg", ".jpg", np.asarray(bgr, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def _heat_url(result: CrowdCount) -> str:
    shown = size_of(shrunk(result.picture, _HEAT_SIDE))
    colours, cover = heat(
        result.density,
        cell_size=result.cell_size,
        photo_size=size_of(result.picture),
        shown_size=shown,
        strength=1.0,
    )
    opacity = np.round(255 * cover).astype(np.uint8)
    return _data_url("png", ".png", np.dstack([cv2.cvtColor(colours, cv2.COLOR_RGB2BGR), opacity]), [])


def _data_url(kind: str, ending: str, pixels: NDArray[np.uint8], options: list[int]) -> str:
    data = bytes(cv2.imencode(ending, pixels, options)[1])
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

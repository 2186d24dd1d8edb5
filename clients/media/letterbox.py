"""A photo of any size in the network's frame, and the way back.

The photo keeps its aspect, lies in the top left corner, and the rest is zero, as in the paper's zero-padding. With the
corner shared, a network pixel and a photo pixel differ by one factor and no offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.extras import cv2
from clients.media.picture import Picture


@dataclass(frozen=True)
class Letterbox:
    """Where a photo lies in the frame; all pixels are the network's."""

    width: int  # of the photo in the frame
    height: int
    frame_width: int
    frame_height: int
    photo_width: int  # pixels of the photo itself
    photo_height: int

    @classmethod
    def fit(cls, picture: Picture, *, frame_width: int, frame_height: int) -> Letterbox:
        """The largest place with the photo's aspect."""
        height, width = picture.shape[:2]
        scale = min(frame_width / width, frame_height / height)
        inside = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(*inside, frame_width, frame_height, width, height)

    def place(self, picture: Picture) -> Picture:
        """Bring the photo into the frame; pixels are averaged when it shrinks.

        Returns:
            (frame_height, frame_width, 3) RGB.
        """
        frame = np.zeros((self.frame_height, self.frame_width, 3), np.uint8)
        if picture.shape[:2] != (self.height, self.width):
            method = cv2.INTER_AREA if self.width < self.photo_width else cv2.INTER_LINEAR
            picture = np.asarray(cv2.resize(picture, (self.width, self.height), interpolation=method), np.uint8)
        frame[: self.height, : self.width] = picture
        return frame

    def cells(self, cell_pixels: int) -> tuple[int, int]:
        """Rows and columns of density cells that touch the photo."""
        return -(-self.height // cell_pixels), -(-self.width // cell_pixels)

    def remove(self, density: NDArray[np.float32], cell_pixels: int) -> NDArray[np.float32]:
        """The density's cells that touch the photo.

        Args:
            density: (rows, columns) of the whole frame.
            cell_pixels: side of a cell, network pixels.
        """
        rows, columns = self.cells(cell_pixels)
        return density[:rows, :columns]

    def cell_size(self, cell_pixels: int) -> tuple[float, float]:
        """Height and width of a density cell in pixels of the photo."""
        return cell_pixels * self.photo_height / self.height, cell_pixels * self.photo_width / self.width
